/** Pure: what is wrong, in which words. Amber and red mean only this. */
import { count, percent } from './format';
import type { Graph } from './graph';
import { type Ails, growth, type Recent } from './recent';
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

/** What can be wrong with an edge beside loss; each has a shape of its own. */
export type SickKind = 'connects' | 'drops' | 'dns';

/** One thing that is wrong with an edge, in words; red or amber. */
export interface Sickness {
  readonly kind: SickKind;
  readonly tone: 'bad' | 'warning';
  readonly words: string;
}

/** Failed connects are amber from this share of all attempts on, if there are two. */
export const FAILED_SHARE = 0.05;
/** Drops, queries without an answer: fewer within a minute are nobody's concern. */
export const FEW = 3;
/** Dropped segments are red from this share of all that passed on. */
export const DROPPED_SHARE = 0.01;
/** Queries without a good answer are amber from this share on. */
export const UNANSWERED_SHARE = 0.05;
/**
 * Answers of "no such name" are amber from this share on: resolvers that try a pod's search domains first get three of them,
 * or five, for each good answer, and all is well.
 */
export const NAMELESS_SHARE = 0.9;

/**
 * What is wrong by the growth of the last minute, the worst first:
 * half of the connects failed, or every hundredth segment was dropped, or half of the queries got no good answer: red.
 * Two connects and 5% failed; three segments dropped; three queries and 5% without a good answer; three answers and 90%
 * of "no such name": amber.
 */
export function sicknesses(grown: Ails): Sickness[] {
  const found: Sickness[] = [];
  const add = (kind: SickKind, bad: boolean, words: string) =>
    found.push({ kind, tone: bad ? 'bad' : 'warning', words });
  const tried = grown.failed + grown.established;
  const failed = tried === 0 ? 0 : grown.failed / tried;
  if (grown.failed > 0 && (failed >= 0.5 || (grown.failed >= 2 && failed >= FAILED_SHARE)))
    add('connects', failed >= 0.5, `${count(grown.failed)} of ${count(tried)} connects failed`);
  if (grown.dropped >= FEW) {
    const share = grown.dropped / Math.max(grown.segments, grown.dropped);
    add('drops', share >= DROPPED_SHARE, `${count(grown.dropped)} segments dropped`);
  }
  const asked = Math.max(grown.queries, grown.unanswered, grown.nameless);
  const share = (of: number) => (asked === 0 ? 0 : of / asked);
  if (grown.unanswered >= FEW && share(grown.unanswered) >= UNANSWERED_SHARE)
    add('dns', share(grown.unanswered) >= 0.5, `${percent(share(grown.unanswered))} of DNS queries fail`);
  else if (grown.nameless >= FEW && share(grown.nameless) >= NAMELESS_SHARE)
    add('dns', false, `${percent(share(grown.nameless))} of DNS names do not exist`);
  return found.sort((a, b) => Number(a.tone !== 'bad') - Number(b.tone !== 'bad'));
}

/** The edges that live and are sick, each with all that is wrong. */
export function findSick(
  graph: Graph,
  recent: Recent,
  nowMs: number,
): ReadonlyMap<string, readonly Sickness[]> {
  const sick = new Map<string, readonly Sickness[]>();
  for (const id of recent.readings.keys()) {
    const edge = graph.edges.get(id);
    if (edge === undefined || edge.state !== 'live') continue;
    const grown = growth(recent, edge, nowMs);
    const found = grown === null ? [] : sicknesses(grown);
    if (found.length > 0) sick.set(id, found);
  }
  return sick;
}

/** Everything unhealthy, worst first. */
export interface Troubles {
  readonly sick: readonly Edge[];
  readonly lossy: readonly Edge[];
  readonly nodes: readonly NodeView[];
  readonly failing: readonly Vertex[];
  readonly pending: readonly Vertex[];
}

/** Collects what is unhealthy. */
export function troubles(graph: Graph, sick: ReadonlyMap<string, readonly Sickness[]>): Troubles {
  const rank = { lost: 0, lossy: 1, late: 2, live: 3, unknown: 4 };
  const vertices = [...graph.vertices.values()];
  const red = (edge: Edge) => Number(sick.get(edge.id)?.[0]?.tone === 'bad');
  return {
    sick: [...graph.edges.values()].filter((edge) => sick.has(edge.id)).sort((a, b) => red(b) - red(a)),
    lossy: [...graph.edges.values()].filter(isLossy).sort((a, b) => lossRatio(b) - lossRatio(a)),
    nodes: [...graph.nodes.values()].filter(isTroubled).sort((a, b) => rank[a.state] - rank[b.state]),
    failing: vertices.filter((vertex) => vertex.phase === 'failing'),
    pending: vertices.filter((vertex) => vertex.phase === 'pending'),
  };
}
