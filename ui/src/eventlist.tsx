/** The events of the last hour as a table: sorted, filtered, and only the rows near the view in the page. */
import { signal } from '@preact/signals';
import type { ClusterEvent } from './cluster';
import { clock, count } from './format';
import { targetOf } from './panels/events';
import { subjectOf, together, toneOf } from './past';
import { type EventKey, type EventSort, sortEvents } from './rows';
import { useScroller } from './scroller';
import * as store from './store';

const COLUMNS: readonly { key: EventKey; title: string }[] = [
  { key: 'time', title: 'Time' },
  { key: 'kind', title: 'Kind' },
  { key: 'subject', title: 'What' },
  { key: 'text', title: 'Happened' },
];

const wanted = signal('');
const sort = signal<EventSort>({ key: 'time', descending: true });

/** What the table shows, in its order. */
export function listedEvents(): readonly ClusterEvent[] {
  const all = together(store.hourEvents.value, store.graph.value?.events ?? []);
  return sortEvents(all, wanted.value, sort.value);
}

/** Selects what an event is about, if it is on the map. */
function go(event: ClusterEvent): void {
  const graph = store.graph.peek();
  const to = graph === null ? null : targetOf(event, graph);
  if (to !== null) store.select(to);
}

/** The table with its own scrolling. */
export function EventTable() {
  const scroller = useScroller();
  const events = listedEvents();
  const rowHeight = store.narrow.value ? 44 : 30;
  const { first, end, reachable } = scroller.window(events.length, rowHeight);
  const { key: by, descending } = sort.value;
  return (
    <>
      <label class="event-filter">
        <span class="hidden">Filter events</span>
        <input
          type="search"
          data-testid="event-filter"
          placeholder="Filter events: node-lost, cart, 2 → 8"
          value={wanted.value}
          onInput={(event) => {
            wanted.value = event.currentTarget.value;
          }}
        />
      </label>
      <section
        class="table-box"
        ref={scroller.box}
        tabIndex={0}
        onKeyDown={(event) => scroller.move(event, events.length, rowHeight)}
        aria-label="Events"
      >
        <table data-testid="event-table" class="events-table" aria-rowcount={events.length + 1}>
          <caption class="hidden">Events of the last hour, {count(events.length)} in all</caption>
          <thead>
            <tr aria-rowindex={1}>
              {COLUMNS.map(({ key, title }) => (
                <th
                  key={key}
                  scope="col"
                  aria-sort={by === key ? (descending ? 'descending' : 'ascending') : 'none'}
                >
                  <button
                    type="button"
                    data-testid={`sort-event-${key}`}
                    onClick={() => {
                      sort.value = { key, descending: by === key ? !descending : key === 'time' };
                    }}
                  >
                    {title}
                    <i aria-hidden="true">{by === key ? (descending ? '↓' : '↑') : ''}</i>
                  </button>
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {first > 0 && (
              <tr aria-hidden="true" class="filler" style={{ height: `${first * rowHeight}px` }} />
            )}
            {events.slice(first, end).map((event, index) => (
              <tr
                key={`${event.timeMs}/${event.kind}/${event.subject}/${event.text}`}
                data-testid="event-row"
                data-kind={event.kind}
                aria-rowindex={first + index + 2}
                tabIndex={first + index === reachable ? 0 : -1}
                onClick={() => go(event)}
                onKeyDown={(press) => {
                  if (press.key !== 'Enter' && press.key !== ' ') return;
                  press.preventDefault();
                  go(event);
                }}
              >
                <td>{clock(event.timeMs)}</td>
                <td class={toneOf(event.kind)}>{event.kind}</td>
                <td>
                  <span class="cut" title={event.subject}>
                    {subjectOf(event.subject)}
                  </span>
                </td>
                <td>
                  <span class="cut" title={event.text}>
                    {event.text}
                  </span>
                </td>
              </tr>
            ))}
            {end < events.length && (
              <tr
                aria-hidden="true"
                class="filler"
                style={{ height: `${(events.length - end) * rowHeight}px` }}
              />
            )}
          </tbody>
        </table>
        {events.length === 0 && <p class="empty">Nothing of this happened within the last hour.</p>}
      </section>
    </>
  );
}
