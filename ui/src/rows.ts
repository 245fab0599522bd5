/** Pure: the table's rows and their order. */
import type { Graph } from './graph';
import { lossRatio } from './health';
import { failed, roundTrips } from './known';
import type { Edge } from './view';

/** What the table can be sorted by. */
export type SortKey = 'client' | 'server' | 'port' | 'rate' | 'bytes' | 'rtt' | 'failed' | 'loss';
/** Sorting of the table. */
export interface Sort {
  readonly key: SortKey;
  readonly descending: boolean;
}

/** How many rows around the visible ones are in the page as well. */
const OVERSCAN = 8;

/** Ids of edges to list, in order. */
export function order(graph: Graph, sort: Sort): string[] {
  const name = (id: string) => graph.vertices.get(id)?.name ?? id;
  const value: Record<SortKey, (edge: Edge) => number | string> = {
    client: (edge) => name(edge.client),
    server: (edge) => name(edge.server),
    port: (edge) => edge.port,
    rate: (edge) => edge.rate.forwardSkbs,
    bytes: (edge) => edge.rate.forwardBytes + edge.rate.reverseBytes,
    // What is not known sorts below all that is.
    rtt: (edge) => roundTrips(edge)?.p50Us ?? -1,
    failed: (edge) => failed(edge) ?? -1,
    loss: lossRatio,
  };
  const read = value[sort.key];
  const rows = [...graph.edges.values()].map((edge) => ({ id: edge.id, by: read(edge) }));
  const sign = sort.descending ? -1 : 1;
  rows.sort((a, b) => (a.by < b.by ? -sign : a.by > b.by ? sign : a.id < b.id ? -1 : 1));
  return rows.map((row) => row.id);
}

/** Which rows are in the page for a scroll position. */
export function visibleRows(
  total: number,
  scrollTop: number,
  height: number,
  rowHeight: number,
): { first: number; end: number } {
  const first = Math.max(0, Math.floor(scrollTop / rowHeight) - OVERSCAN);
  const end = Math.min(total, Math.ceil((scrollTop + height) / rowHeight) + OVERSCAN);
  return { first: Math.min(first, Math.max(0, end - 1)), end };
}
