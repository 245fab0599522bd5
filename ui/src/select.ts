/** Pure: what is selected, and which vertices and edges that concerns. */
import { type Graph, workloadKey } from './graph';
import { type Grouping, groupOf } from './groups';
import type { Edge } from './view';

/** One end of an aggregated link: a group's tile, a workload in it or a single vertex. */
export interface End {
  readonly kind: 'group' | 'workload' | 'vertex';
  readonly id: string;
}

/** What the user picked. */
export type Selection =
  | { readonly kind: 'edge'; readonly id: string }
  | { readonly kind: 'vertex'; readonly id: string }
  | { readonly kind: 'group'; readonly id: string }
  | { readonly kind: 'workload'; readonly id: string }
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
    case 'workload':
    case 'node':
      return at(selection, edge.client, graph, grouping) || at(selection, edge.server, graph, grouping);
    case 'link':
      return (
        at(selection.from, edge.client, graph, grouping) && at(selection.to, edge.server, graph, grouping)
      );
  }
}

function at(
  end: { readonly kind: End['kind'] | 'node'; readonly id: string },
  vertexId: string,
  graph: Graph,
  grouping: Grouping,
): boolean {
  if (end.kind === 'vertex') return vertexId === end.id;
  const vertex = graph.vertices.get(vertexId);
  if (vertex === undefined) return false;
  if (end.kind === 'workload') return workloadKey(vertex) === end.id;
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
