/** Pure: tables as text, for other programs. */
import type { ClusterEvent } from './cluster';
import type { Graph } from './graph';
import { failed, roundTrips } from './known';

/** A table: names of columns, and rows. */
export interface Sheet {
  readonly columns: readonly string[];
  readonly rows: readonly (readonly (string | number | null)[])[];
}

/** Links in the order of `ids`. */
export function linksSheet(graph: Graph, ids: readonly string[]): Sheet {
  const rows = ids.flatMap((id) => {
    const edge = graph.edges.get(id);
    if (edge === undefined) return [];
    const end = (of: string) => {
      const vertex = graph.vertices.get(of);
      return [vertex?.namespace ?? '', vertex?.name ?? of];
    };
    const { rate, loss } = edge;
    return [
      [
        ...end(edge.client),
        ...end(edge.server),
        edge.port,
        edge.protocol,
        edge.state,
        rate.forwardSkbs,
        rate.reverseSkbs,
        rate.forwardBytes,
        rate.reverseBytes,
        roundTrips(edge)?.p50Us ?? null,
        failed(edge),
        loss.status,
        loss.forwardLost,
        loss.reverseLost,
        loss.forwardRatio,
        loss.reverseRatio,
        edge.drops.reduce((sum, drop) => sum + drop.segments, 0),
        new Date(edge.firstSeenMs).toISOString(),
        new Date(edge.lastSeenMs).toISOString(),
      ],
    ];
  });
  const columns =
    'client_namespace client server_namespace server port protocol state forward_packets_s reverse_packets_s forward_bytes_s reverse_bytes_s rtt_p50_us failed_connects loss_status forward_lost reverse_lost forward_loss_ratio reverse_loss_ratio dropped first_seen last_seen';
  return { columns: columns.split(' '), rows };
}

/** Events in their order. */
export function eventsSheet(events: readonly ClusterEvent[]): Sheet {
  return {
    columns: ['time', 'kind', 'subject', 'text'],
    rows: events.map((event) => [
      new Date(event.timeMs).toISOString(),
      event.kind,
      event.subject,
      event.text,
    ]),
  };
}

/** RFC 4180. A text that a spreadsheet would take for a formula is kept from being one: names come from the cluster. */
export function csv(sheet: Sheet): string {
  const cell = (value: string | number | null) => {
    if (value === null) return '';
    if (typeof value === 'number') return String(value);
    const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [sheet.columns, ...sheet.rows].map((row) => `${row.map(cell).join(',')}\r\n`).join('');
}

/** One object a row. */
export function json(sheet: Sheet): string {
  const object = (row: Sheet['rows'][number]) =>
    Object.fromEntries(sheet.columns.map((column, index) => [column, row[index] ?? null]));
  return JSON.stringify(sheet.rows.map(object), null, 1);
}
