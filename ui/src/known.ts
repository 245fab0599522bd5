/** Pure: what is known of an edge beside packets, in words, and why what is not known is not. */
import type { Histogram, Sockets } from './facts';
import { micros } from './format';
import type { Graph } from './graph';
import type { Edge } from './view';

/** Facts that agents look for, by the names they give them. */
export type FactName = 'connect' | 'rtt' | 'retransmit' | 'drop' | 'owner' | 'dns';

/** Whether some node of the edge can tell this fact: then nothing told means nothing happened. */
export function canTell(edge: Edge, graph: Graph, fact: FactName): boolean {
  return nodesOf(edge).some((name) =>
    graph.nodes.get(name)?.hooks.some((hook) => hook.fact === fact && hook.form !== 'none'),
  );
}

/** What a picture of the past has no word of: not kept, or not told then. */
const THEN: Readonly<Record<FactName, string>> = {
  connect: 'No connect was told of in that time.',
  rtt: 'Round trips are not kept for the past. Go back to Live to see them.',
  retransmit: 'No segment was told to be sent again in that time.',
  drop: 'None that a kernel told of in that time. Of very many links no drops are kept.',
  owner: 'Processes and containers are not kept for the past. Go back to Live to see them.',
  dns: 'No query was told of in that time.',
};

/** Why a fact is not known of an edge, now or in a picture of the past. */
export function whyNot(edge: Edge, graph: Graph, fact: FactName, past = false): string {
  if (past) return THEN[fact];
  const names = nodesOf(edge);
  if (names.length === 0) return 'Not known: no node sees this link.';
  const reasons = new Map<string, string[]>();
  for (const name of names) {
    const hook = graph.nodes.get(name)?.hooks.find((one) => one.fact === fact);
    const why =
      hook === undefined
        ? 'the agent does not look for it'
        : hook.form === 'none'
          ? `no hook tells it (${hook.refused ?? 'none is granted'})`
          : 'nothing was told yet';
    reasons.set(why, [...(reasons.get(why) ?? []), name]);
  }
  const words = [...reasons].map(([why, on]) => `${why} on ${on.join(', ')}`);
  return `Not known: ${words.join('; ')}.`;
}

function nodesOf(edge: Edge): string[] {
  return [...new Set([...(edge.clientSide?.nodes ?? []), ...(edge.serverSide?.nodes ?? [])])];
}

/** A median or other quantile; a dash where nothing was counted. */
export function duration(us: number | null): string {
  return us === null ? '–' : micros(us);
}

/** The client's round trips, else the server's; null where there are none. */
export function roundTrips(edge: Edge): Histogram | null {
  const rtt = [edge.clientSide, edge.serverSide].map((side) => side?.sockets?.rtt);
  return rtt.find((one) => one !== undefined && one.count > 0) ?? null;
}

/** Connections that failed, by cause. */
export function failures(sockets: Sockets): readonly (readonly [string, number])[] {
  return [
    ['refused', sockets.refused],
    ['timed out', sockets.timedOut],
    ['unreachable', sockets.unreachable],
    ['failed otherwise', sockets.failedOtherwise],
  ];
}

/** Failed connections of the end that opens them; null where no socket told. */
export function failed(edge: Edge): number | null {
  const sockets = edge.clientSide?.sockets ?? edge.serverSide?.sockets ?? null;
  return sockets === null ? null : failures(sockets).reduce((sum, [, count]) => sum + count, 0);
}

const POINTS: Readonly<Record<string, string>> = {
  pod: "at the pod's device",
  cgroup: "at the pod's cgroup",
  tunnel: "at the tunnel's device",
  uplink: "at the node's uplink",
  socket: 'by sockets only, no packets',
};

/** Where packets were counted. */
export function pointWords(points: readonly string[]): string {
  return points.length === 0 ? 'not known' : points.map((point) => POINTS[point] ?? point).join(', ');
}

const TIERS: Readonly<Record<string, string>> = {
  tcx: 'every packet, before all other programs',
  clsact: 'every packet that filters before ours let on',
  cgroup_skb: 'no ICMP, no forwarded packets, no device accounts',
  sockets: 'connections only: no packets, no loss',
  unwatched: 'nothing: a blind spot',
};

/** What a tier sees, or does not. */
export function tierWords(tier: string): string {
  return TIERS[tier] ?? 'not known to this page';
}

/** A drop's reason without underscores. */
export function reasonWords(reason: string): string {
  return reason.replaceAll('_', ' ');
}
