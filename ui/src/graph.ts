/**
 * Pure reducer: the graph after a snapshot or a delta, and what just happened to its workloads.
 *
 * No clock: time is the collector's, carried by the frames themselves.
 */
import { changed } from './layered';
import type { Change, ClusterEvent, Delta, Edge, Hidden, Names, NodeView, Snapshot, Vertex } from './view';

/** How long a pod counts as new. */
export const NEW_FOR_MS = 10_000;
/** How long a change of a workload's size stays announced. */
export const NOTICE_FOR_MS = 9_000;
/** Announcements held at once; older ones make room. */
export const MAX_NOTICES = 24;

/** Events kept; as many as a snapshot brings. */
export const MAX_EVENTS = 256;

/** A workload changed its number of pods. */
export interface Notice {
  /** `namespace/workload`. */
  readonly key: string;
  readonly workload: string;
  readonly from: number;
  readonly to: number;
  readonly atMs: number;
}

/** Everything known at one revision. Never changed in place. */
export interface Graph {
  readonly run: string;
  readonly revision: number;
  readonly cluster: string;
  readonly timeMs: number;
  readonly sinceMs: number | null;
  readonly names: Names | null;
  readonly hidden: Hidden;
  readonly nodes: ReadonlyMap<string, NodeView>;
  readonly vertices: ReadonlyMap<string, Vertex>;
  readonly edges: ReadonlyMap<string, Edge>;
  /** When a vertex was first seen, for those that appeared while we watched. */
  readonly born: ReadonlyMap<string, number>;
  readonly notices: readonly Notice[];
  /** What happened to pods, workloads and nodes, oldest first. */
  readonly events: readonly ClusterEvent[];
}

/** A delta either applies, or the page must ask for a fresh snapshot. */
export type Step =
  | { readonly kind: 'applied'; readonly graph: Graph }
  | { readonly kind: 'resync'; readonly why: string };

/** Workload identity across namespaces, or null for what has none. */
export function workloadKey(vertex: Vertex): string | null {
  if (vertex.kind !== 'pod' || vertex.workload === null) return null;
  return `${vertex.namespace ?? ''}/${vertex.workload}`;
}

/** Whether a pod is there, not finished and not only remembered by an edge. */
export function isPresent(vertex: Vertex): boolean {
  return vertex.phase !== 'succeeded' && vertex.phase !== 'gone';
}

/** Starts from a snapshot; what an earlier graph knew of arrivals and sizes is carried over. */
export function fromSnapshot(previous: Graph | null, snapshot: Snapshot): Graph {
  const vertices = new Map(snapshot.vertices.map((vertex) => [vertex.id, vertex]));
  const born = new Map<string, number>();
  for (const vertex of vertices.values()) {
    const earlier = previous?.born.get(vertex.id);
    if (earlier !== undefined && snapshot.timeMs - earlier < NEW_FOR_MS) born.set(vertex.id, earlier);
    else if (vertex.createdMs !== null && snapshot.timeMs - vertex.createdMs < NEW_FOR_MS)
      born.set(vertex.id, vertex.createdMs);
  }
  const watched = previous !== null && previous.cluster === snapshot.cluster;
  return {
    run: snapshot.run,
    revision: snapshot.revision,
    cluster: snapshot.cluster,
    timeMs: snapshot.timeMs,
    sinceMs: snapshot.sinceMs,
    names: snapshot.names,
    hidden: snapshot.hidden,
    nodes: new Map(snapshot.nodes.map((node) => [node.name, node])),
    vertices,
    edges: new Map(snapshot.edges.map((edge) => [edge.id, edge])),
    born,
    notices: watched ? announce(previous, vertices, snapshot.timeMs) : [],
    events: snapshot.events,
  };
}

/** Applies a delta of the same run that starts at our revision. */
export function applyDelta(graph: Graph, delta: Delta): Step {
  if (delta.run !== graph.run) return { kind: 'resync', why: `run ${delta.run} is not ${graph.run}` };
  if (delta.base !== graph.revision)
    return { kind: 'resync', why: `delta starts at ${delta.base}, we are at ${graph.revision}` };
  const vertices = changed(
    graph.vertices,
    delta.vertices.upsert,
    delta.vertices.remove,
    (vertex) => vertex.id,
  );
  return {
    kind: 'applied',
    graph: {
      ...graph,
      revision: delta.revision,
      timeMs: delta.timeMs,
      names: delta.names ?? graph.names,
      hidden: delta.hidden,
      nodes: changed(graph.nodes, delta.nodes.upsert, delta.nodes.remove, (node) => node.name),
      vertices,
      edges: changed(graph.edges, delta.edges.upsert, delta.edges.remove, (edge) => edge.id),
      born: births(graph, delta),
      notices: resizes(graph, delta.vertices)
        ? announce(graph, vertices, delta.timeMs)
        : current(graph.notices, delta.timeMs),
      events:
        delta.events.length === 0 ? graph.events : [...graph.events, ...delta.events].slice(-MAX_EVENTS),
    },
  };
}

function births(graph: Graph, delta: Delta): ReadonlyMap<string, number> {
  const arrivals = delta.vertices.upsert.filter((vertex) => !graph.vertices.has(vertex.id));
  const keep = [...graph.born].filter(
    ([id, at]) => delta.timeMs - at < NEW_FOR_MS && !delta.vertices.remove.includes(id),
  );
  if (arrivals.length === 0 && keep.length === graph.born.size) return graph.born;
  return new Map([...keep, ...arrivals.map((vertex): [string, number] => [vertex.id, delta.timeMs])]);
}

function current(notices: readonly Notice[], nowMs: number): readonly Notice[] {
  const keep = notices.filter((notice) => nowMs - notice.atMs < NOTICE_FOR_MS);
  return keep.length === notices.length ? notices : keep;
}

/** Whether a change can make a workload larger or smaller: most only tell of pods what they did before. */
function resizes(graph: Graph, { upsert, remove }: Change<Vertex>): boolean {
  const counts = (vertex: Vertex | undefined) =>
    vertex !== undefined && isPresent(vertex) ? workloadKey(vertex) : null;
  return (
    remove.length > 0 || upsert.some((vertex) => counts(vertex) !== counts(graph.vertices.get(vertex.id)))
  );
}

/** Pods per workload, those finished or only remembered left out. */
function sizes(vertices: ReadonlyMap<string, Vertex>): Map<string, number> {
  const counts = new Map<string, number>();
  for (const vertex of vertices.values()) {
    const key = workloadKey(vertex);
    if (key !== null && isPresent(vertex)) counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  return counts;
}

function announce(before: Graph, vertices: ReadonlyMap<string, Vertex>, nowMs: number): readonly Notice[] {
  const was = sizes(before.vertices);
  const is = sizes(vertices);
  const notices = new Map(current(before.notices, nowMs).map((notice) => [notice.key, notice]));
  for (const key of new Set([...was.keys(), ...is.keys()])) {
    const from = was.get(key) ?? 0;
    const to = is.get(key) ?? 0;
    if (from === to) continue;
    // Pods of one scaling arrive over several frames: they are one announcement, from the first size on.
    const first = notices.get(key)?.from ?? from;
    notices.delete(key);
    if (first !== to)
      notices.set(key, { key, workload: key.slice(key.indexOf('/') + 1), from: first, to, atMs: nowMs });
  }
  return [...notices.values()].slice(-MAX_NOTICES);
}

/** Forgets announcements and newness that have run out by `nowMs`, for the time between frames. */
export function elapse(graph: Graph, nowMs: number): Graph {
  const notices = current(graph.notices, nowMs);
  const keep = [...graph.born].filter(([, at]) => nowMs - at < NEW_FOR_MS);
  if (notices === graph.notices && keep.length === graph.born.size) return graph;
  return { ...graph, notices, born: keep.length === graph.born.size ? graph.born : new Map(keep) };
}

/** The graph without the traffic that carries other traffic, and without the machines that only that led to. */
export function withoutUnderlay(graph: Graph): Graph {
  const carriers = [...graph.edges.values()].filter((edge) => edge.tunnel !== null);
  if (carriers.length === 0) return graph;
  const edges = new Map(graph.edges);
  for (const edge of carriers) edges.delete(edge.id);
  const ends = (all: Iterable<Edge>) => new Set([...all].flatMap((edge) => [edge.client, edge.server]));
  const still = ends(edges.values());
  const vertices = new Map(graph.vertices);
  for (const id of ends(carriers))
    if (!still.has(id) && graph.vertices.get(id)?.kind !== 'pod') vertices.delete(id);
  return { ...graph, edges, vertices };
}
