/** Pure: what is selected or searched for, and which vertices and edges that concerns. */
import type { Graph } from './graph';
import { type Grouping, groupOf } from './groups';
import type { Edge, Vertex } from './view';

/** One end of an aggregated link: a group's tile or a single vertex. */
export interface End {
  readonly kind: 'group' | 'vertex';
  readonly id: string;
}

/** What the user picked. */
export type Selection =
  | { readonly kind: 'edge'; readonly id: string }
  | { readonly kind: 'vertex'; readonly id: string }
  | { readonly kind: 'group'; readonly id: string }
  | { readonly kind: 'node'; readonly id: string }
  | { readonly kind: 'link'; readonly from: End; readonly to: End };

/** Whether an edge belongs to what is selected. */
export function concerns(selection: Selection, edge: Edge, graph: Graph, grouping: Grouping): boolean {
  switch (selection.kind) {
    case 'edge':
      return edge.id === selection.id;
    case 'vertex':
      return edge.client === selection.id || edge.server === selection.id;
    case 'group':
    case 'node':
      return at(selection, edge.client, graph, grouping) || at(selection, edge.server, graph, grouping);
    case 'link':
      return (
        at(selection.from, edge.client, graph, grouping) && at(selection.to, edge.server, graph, grouping)
      );
  }
}

function at(
  end: { readonly kind: 'group' | 'vertex' | 'node'; readonly id: string },
  vertexId: string,
  graph: Graph,
  grouping: Grouping,
): boolean {
  if (end.kind === 'vertex') return vertexId === end.id;
  const vertex = graph.vertices.get(vertexId);
  if (vertex === undefined) return false;
  if (end.kind === 'node')
    return vertex.node === end.id || (vertex.kind === 'node' && vertex.name === end.id);
  return groupOf(vertex, grouping).id === end.id;
}

/** The edges a selection is about, heaviest first. */
export function edgesOf(selection: Selection, graph: Graph, grouping: Grouping): Edge[] {
  return [...graph.edges.values()]
    .filter((edge) => concerns(selection, edge, graph, grouping))
    .sort((a, b) => b.rate.forwardSkbs - a.rate.forwardSkbs || (a.id < b.id ? -1 : 1));
}

/** Whether what is selected still exists. */
export function exists(selection: Selection, graph: Graph): boolean {
  if (selection.kind === 'edge') return graph.edges.has(selection.id);
  if (selection.kind === 'vertex') return graph.vertices.has(selection.id);
  if (selection.kind === 'node') return graph.nodes.has(selection.id);
  return true;
}

/** What a search found. */
export interface Found {
  readonly vertices: ReadonlySet<string>;
  readonly edges: ReadonlySet<string>;
}

/** Searches free text: every word must occur in a vertex, or be an edge's port or protocol. Null for no search. */
export function search(graph: Graph, query: string): Found | null {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return null;
  const texts = new Map<string, string>();
  for (const vertex of graph.vertices.values()) texts.set(vertex.id, haystack(vertex));
  const vertices = new Set<string>();
  const edges = new Set<string>();
  for (const [id, text] of texts) if (words.every((word) => text.includes(word))) vertices.add(id);
  for (const edge of graph.edges.values()) {
    const port = String(edge.port);
    const service = `${port}/${edge.protocol}`;
    const ends = `${texts.get(edge.client) ?? edge.client} ${texts.get(edge.server) ?? edge.server}`;
    const byPort = (word: string) =>
      word === port || word === `:${port}` || word === edge.protocol || word === service;
    if (vertices.has(edge.client) || vertices.has(edge.server)) edges.add(edge.id);
    else if (words.every((word) => byPort(word) || ends.includes(word)) && words.some(byPort))
      edges.add(edge.id);
  }
  // Found by port: its two ends are what to look at.
  if (vertices.size === 0) {
    for (const id of edges) {
      const edge = graph.edges.get(id);
      if (edge !== undefined) vertices.add(edge.client).add(edge.server);
    }
  }
  return { vertices, edges };
}

function haystack(vertex: Vertex): string {
  return [
    vertex.name,
    vertex.namespace,
    vertex.workload,
    vertex.node,
    vertex.namespace !== null && vertex.workload !== null ? `${vertex.namespace}/${vertex.workload}` : null,
    ...vertex.addresses,
    ...vertex.dnsNames,
  ]
    .filter((part) => part !== null)
    .join(' ')
    .toLowerCase();
}
