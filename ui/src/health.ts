/** Pure: what is wrong, in which words. Amber and red mean only this. */
import type { Graph } from './graph';
import type { Edge, NodeView, Vertex } from './view';

/** The worse of both directions' measured loss, 0 to 1; 0 when none was measured. */
export function lossRatio(edge: Edge): number {
  if (edge.loss.status !== 'measured') return 0;
  return Math.max(edge.loss.forwardRatio ?? 0, edge.loss.reverseRatio ?? 0);
}

/** Packets lost between the two sides, both directions; 0 when none were measured. */
export function lostPackets(edge: Edge): number {
  if (edge.loss.status !== 'measured') return 0;
  return Math.max(edge.loss.forwardLost ?? 0, 0) + Math.max(edge.loss.reverseLost ?? 0, 0);
}

/** Whether an edge is losing packets now: of what no longer moves nothing can be said. */
export function isLossy(edge: Edge): boolean {
  return edge.state === 'live' && lossRatio(edge) > 0 && lostPackets(edge) > 0;
}

/** Whether a node's telemetry needs attention. */
export function isTroubled(node: NodeView): boolean {
  return node.state === 'late' || node.state === 'lost' || node.state === 'lossy' || node.unaccountedSkbs > 0;
}

/** Whether nothing fresh comes from a node. */
export function isSilent(node: NodeView | undefined): boolean {
  return node !== undefined && (node.state === 'late' || node.state === 'lost');
}

/** Everything unhealthy, worst first. */
export interface Troubles {
  readonly lossy: readonly Edge[];
  readonly nodes: readonly NodeView[];
  readonly failing: readonly Vertex[];
  readonly pending: readonly Vertex[];
}

/** Collects what is unhealthy. */
export function troubles(graph: Graph): Troubles {
  const rank = { lost: 0, lossy: 1, late: 2, live: 3, unknown: 4 };
  const vertices = [...graph.vertices.values()];
  return {
    lossy: [...graph.edges.values()].filter(isLossy).sort((a, b) => lossRatio(b) - lossRatio(a)),
    nodes: [...graph.nodes.values()].filter(isTroubled).sort((a, b) => rank[a.state] - rank[b.state]),
    failing: vertices.filter((vertex) => vertex.phase === 'failing'),
    pending: vertices.filter((vertex) => vertex.phase === 'pending'),
  };
}
