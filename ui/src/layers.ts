/** Pure: which kinds of links are drawn. */
import { isLossy, type Sickness } from './health';
import type { Edge } from './view';

/** Layers that can be switched; `drops` is every link that is unhealthy, whatever it carries. */
export const LAYERS = ['l4', 'dns', 'drops'] as const;
/** One of the layers. */
export type Layer = (typeof LAYERS)[number];

/** Whether an edge leads to a name server. */
export function isDns(edge: Edge): boolean {
  return edge.dns !== null || edge.port === 53;
}

/** Whether an edge is drawn: its own layer is on, or it is unhealthy and that is asked for. */
export function isDrawn(
  edge: Edge,
  layers: ReadonlySet<Layer>,
  sick: ReadonlyMap<string, readonly Sickness[]>,
): boolean {
  if (layers.has(isDns(edge) ? 'dns' : 'l4')) return true;
  return layers.has('drops') && (isLossy(edge) || sick.has(edge.id));
}
