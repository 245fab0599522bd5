/** The live table of links: the map's accessible twin. A real table; only the rows near the view are in the page. */
import { useSignal } from '@preact/signals';
import { useRef } from 'preact/hooks';
import { bytes, count, percent, rate, service, shortName } from './format';
import type { Graph } from './graph';
import { isLossy, lossRatio } from './health';
import { LossIcon } from './icons';
import { duration, failed, roundTrips } from './known';
import { Why } from './panels/banners';
import { order, type Sort, type SortKey } from './rows';
import { useScroller } from './scroller';
import * as store from './store';
import type { Edge, Vertex } from './view';

const COLUMNS: readonly { key: SortKey; title: string; number?: boolean }[] = [
  { key: 'client', title: 'Client' },
  { key: 'server', title: 'Server' },
  { key: 'port', title: 'Port' },
  { key: 'rate', title: 'Packets/s', number: true },
  { key: 'bytes', title: 'Bytes/s', number: true },
  { key: 'rtt', title: 'RTT p50', number: true },
  { key: 'failed', title: 'Failed', number: true },
  { key: 'loss', title: 'Lost between', number: true },
];
/** Rows change places no more often than this, so that one can be read and clicked. */
const REORDER_MS = 2000;

function Name({ vertex, id }: { vertex: Vertex | undefined; id: string }) {
  if (vertex === undefined) return <span class="cut">{id}</span>;
  return (
    <span class="cut" title={vertex.name}>
      {vertex.namespace !== null && <small>{vertex.namespace}/</small>}
      {store.narrow.value ? shortName(vertex) : vertex.name}
    </span>
  );
}

function LossCell({ edge }: { edge: Edge }) {
  if (isLossy(edge))
    return (
      <span class="bad lossy">
        <LossIcon />
        {percent(lossRatio(edge))}
      </span>
    );
  if (edge.loss.status === 'measured') return <span>0%</span>;
  return (
    <span class="muted" title={edge.loss.why ?? ''}>
      {edge.loss.status}
    </span>
  );
}

/** Failed connects since the edge was first seen; in colour while they go on. */
function FailedCell({ edge }: { edge: Edge }) {
  const total = failed(edge);
  const ill = store.sick.value.get(edge.id)?.find((one) => one.kind === 'connects');
  if (total === null)
    return (
      <span class="muted" title="No socket told">
        –
      </span>
    );
  return <span class={ill?.tone ?? ''}>{count(total)}</span>;
}

function Row({ edge, graph, index, active }: { edge: Edge; graph: Graph; index: number; active: boolean }) {
  const picked = store.selection.value?.kind === 'edge' && store.selection.value.id === edge.id;
  const pick = () => store.select(picked ? null : { kind: 'edge', id: edge.id });
  return (
    <tr
      data-testid="edge-row"
      data-edge-id={edge.id}
      data-rate={edge.rate.forwardSkbs}
      data-state={edge.state}
      data-loss={lossRatio(edge)}
      aria-rowindex={index + 2}
      aria-selected={picked}
      tabIndex={active ? 0 : -1}
      class={edge.state === 'live' ? '' : 'stale'}
      onClick={pick}
      onKeyDown={(event) => {
        if (event.key === 'Enter' || event.key === ' ') {
          event.preventDefault();
          pick();
        }
      }}
    >
      <td>
        <Name vertex={graph.vertices.get(edge.client)} id={edge.client} />
      </td>
      <td>
        <Name vertex={graph.vertices.get(edge.server)} id={edge.server} />
      </td>
      <td>
        <span class="cut">
          {service(edge)}
          {edge.guessed && <em title="Who is the client was guessed from the ports"> guessed</em>}
          {edge.own && <em title="Orrery's own reports"> own</em>}
          {edge.tunnel !== null && <em title="Carries other traffic"> {edge.tunnel}</em>}
        </span>
      </td>
      <td class="number">{rate(edge.rate.forwardSkbs)}</td>
      <td class="number">{bytes(edge.rate.forwardBytes + edge.rate.reverseBytes)}</td>
      <td class="number">{duration(roundTrips(edge)?.p50Us ?? null)}</td>
      <td class="number">
        <FailedCell edge={edge} />
      </td>
      <td class="number">{edge.state === 'live' ? <LossCell edge={edge} /> : <em>{edge.state}</em>}</td>
    </tr>
  );
}

function Head({ sort, onSort }: { sort: Sort; onSort: (key: SortKey) => void }) {
  return (
    <thead>
      <tr aria-rowindex={1}>
        {COLUMNS.map(({ key, title, number }) => (
          <th
            key={key}
            scope="col"
            class={number ? 'number' : ''}
            aria-sort={sort.key === key ? (sort.descending ? 'descending' : 'ascending') : 'none'}
          >
            <button type="button" data-testid={`sort-${key}`} onClick={() => onSort(key)}>
              {title}
              <i aria-hidden="true">{sort.key === key ? (sort.descending ? '↓' : '↑') : ''}</i>
            </button>
          </th>
        ))}
      </tr>
    </thead>
  );
}

/** The table with its own scrolling. */
export function EdgeTable() {
  const sort = useSignal<Sort>({ key: 'rate', descending: true });
  const scroller = useScroller();
  const kept = useRef<{ ids: string[]; at: number; by: unknown[] }>({ ids: [], at: 0, by: [] });
  const graph = store.graph.value;
  if (graph === null) return <p class="empty">Waiting for the collector's first picture.</p>;
  const rowHeight = store.narrow.value ? 44 : 30;
  const now = performance.now();
  const by = [sort.value, store.shown.value, graph.edges.size];
  if (now - kept.current.at > REORDER_MS || by.some((value, index) => value !== kept.current.by[index]))
    kept.current = { ids: order(graph, sort.value), at: now, by };
  store.listed.ids = kept.current.ids;
  const ids = kept.current.ids.filter((id) => graph.edges.has(id));
  const { first, end, reachable } = scroller.window(ids.length, rowHeight);
  const onSort = (key: SortKey) => {
    const before = sort.value;
    const text = key === 'client' || key === 'server' || key === 'port';
    sort.value = { key, descending: before.key === key ? !before.descending : !text };
  };
  return (
    <section
      class="table-box"
      ref={scroller.box}
      tabIndex={0}
      onKeyDown={(event) => scroller.move(event, ids.length, rowHeight)}
      aria-label="Links"
    >
      <table data-testid="edge-table" aria-rowcount={ids.length + 1}>
        <caption class="hidden">Links of the cluster, {count(ids.length)} in all</caption>
        <Head sort={sort.value} onSort={onSort} />
        <tbody>
          {first > 0 && <tr aria-hidden="true" class="filler" style={{ height: `${first * rowHeight}px` }} />}
          {ids.slice(first, end).map((id, index) => {
            const edge = graph.edges.get(id);
            if (edge === undefined) return null;
            return (
              <Row
                key={id}
                edge={edge}
                graph={graph}
                index={first + index}
                active={first + index === reachable}
              />
            );
          })}
          {end < ids.length && (
            <tr aria-hidden="true" class="filler" style={{ height: `${(ids.length - end) * rowHeight}px` }} />
          )}
        </tbody>
      </table>
      {store.empty.value !== null && (
        <div class="empty">
          <Why reason={store.empty.value} />
        </div>
      )}
    </section>
  );
}
