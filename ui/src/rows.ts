/** Pure: the table's rows and their order. */
import type { ClusterEvent } from './cluster';
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

/** What events can be sorted by. */
export type EventKey = 'time' | 'kind' | 'subject' | 'text';
/** Sorting of the events. */
export interface EventSort {
  readonly key: EventKey;
  readonly descending: boolean;
}

/** The events in which every word is found, in order. */
export function sortEvents(
  events: readonly ClusterEvent[],
  wanted: string,
  sort: EventSort,
): readonly ClusterEvent[] {
  const words = wanted.toLowerCase().split(' ').filter(Boolean);
  const fits = ({ kind, subject, text }: ClusterEvent) => {
    const all = `${kind} ${subject} ${text}`.toLowerCase();
    return words.every((word) => all.includes(word));
  };
  const read = (event: ClusterEvent) => (sort.key === 'time' ? event.timeMs : event[sort.key]);
  const sign = sort.descending ? -1 : 1;
  return events
    .filter(fits)
    .sort((a, b) => (read(a) < read(b) ? -sign : read(a) > read(b) ? sign : b.timeMs - a.timeMs));
}
