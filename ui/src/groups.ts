/** Pure: which tile every vertex belongs to, for each way of grouping. */
import { type Graph, workloadKey } from './graph';
import type { Vertex } from './view';

/** Ways to group the map. */
export const GROUPINGS = ['node', 'namespace', 'workload'] as const;
/** One of the ways to group the map. */
export type Grouping = (typeof GROUPINGS)[number];

/** A vertex inside a group; `home` keeps a workload's pods together. */
export interface Member {
  readonly id: string;
  readonly home: string;
  /** Of a workload that is made to be scaled. */
  readonly elastic: boolean;
  /** It has ended, and is kept for what is still told of it. */
  readonly gone: boolean;
}

/** A tile's content. */
export interface Group {
  readonly id: string;
  readonly label: string;
  readonly members: readonly Member[];
}

/** Tiles that are no node, namespace or workload. */
const WORLD = 'world';
const HOSTS = 'nodes';
const SERVICES = 'services';
const UNNAMED = 'unnamed';

/** The group of one vertex: a stable id and the word shown on its tile. */
export function groupOf(vertex: Vertex, grouping: Grouping): { id: string; label: string } {
  if (vertex.kind === 'external') return { id: `~${WORLD}`, label: WORLD };
  if (vertex.kind === 'node') {
    if (grouping === 'node') return { id: vertex.name, label: vertex.name };
    return { id: `~${HOSTS}`, label: HOSTS };
  }
  if (vertex.kind === 'service') return { id: `~${SERVICES}`, label: SERVICES };
  if (vertex.kind === 'unknown') return { id: `~${UNNAMED}`, label: UNNAMED };
  const own =
    grouping === 'node' ? vertex.node : grouping === 'namespace' ? vertex.namespace : workloadKey(vertex);
  if (own === null) return { id: `~${UNNAMED}`, label: UNNAMED };
  return { id: own, label: grouping === 'workload' ? (vertex.workload ?? own) : own };
}

/** All groups in a stable order: by size, then by name; what is not a group of the cluster comes last. */
export function groupsOf(graph: Graph, grouping: Grouping): Group[] {
  const found = new Map<string, { id: string; label: string; members: Member[] }>();
  if (grouping === 'node')
    for (const name of graph.nodes.keys()) found.set(name, { id: name, label: name, members: [] });
  for (const vertex of graph.vertices.values()) {
    const { id, label } = groupOf(vertex, grouping);
    let group = found.get(id);
    if (group === undefined) {
      group = { id, label, members: [] };
      found.set(id, group);
    }
    group.members.push({
      id: vertex.id,
      home: workloadKey(vertex) ?? vertex.kind,
      elastic: vertex.workloadKind === 'Deployment',
      gone: vertex.phase === 'gone',
    });
  }
  const rank = (id: string) => (id.startsWith('~') ? 1 : 0);
  return [...found.values()].sort(
    (a, b) => rank(a.id) - rank(b.id) || b.members.length - a.members.length || compare(a.id, b.id),
  );
}

/** The grouping that tells most at first sight: namespaces where there are several, else workloads. */
export function firstGrouping(graph: Graph): Grouping {
  const namespaces = new Set<string>();
  for (const vertex of graph.vertices.values())
    if (vertex.namespace !== null) namespaces.add(vertex.namespace);
  return namespaces.size >= 4 ? 'namespace' : 'workload';
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
