/** The tables, links or events, with what copies them; a drawer under the map, or a phone's whole page. */
import { useSignal } from '@preact/signals';
import { csv, eventsSheet, json, linksSheet } from './copy';
import { EventTable, listedEvents } from './eventlist';
import { CloseIcon } from './icons';
import * as store from './store';
import { EdgeTable } from './table';

const LISTS = [
  ['links', 'Links'],
  ['events', 'Events'],
] as const;

function Lists() {
  return (
    <div class="lists" role="group" aria-label="Which table">
      {LISTS.map(([id, title]) => (
        <button
          type="button"
          key={id}
          data-testid={`list-${id}`}
          aria-pressed={store.listing.value === id}
          onClick={() => {
            store.listing.value = id;
          }}
        >
          {title}
        </button>
      ))}
    </div>
  );
}

function Copy() {
  const copied = useSignal('');
  const copy = async (form: 'CSV' | 'JSON') => {
    const graph = store.graph.value;
    const links = store.listing.value === 'links';
    if (links && graph === null) return;
    const sheet = links && graph !== null ? linksSheet(graph, store.listed.ids) : eventsSheet(listedEvents());
    const text = form === 'CSV' ? csv(sheet) : json(sheet);
    try {
      await navigator.clipboard.writeText(text);
      copied.value = `${sheet.rows.length} rows copied as ${form}`;
    } catch {
      // Without a secure context there is no clipboard: the browser saves it as a file.
      const link = document.createElement('a');
      link.href = `data:text/plain;charset=utf-8,${encodeURIComponent(text)}`;
      link.download = `orrery-${store.listing.value}.${form.toLowerCase()}`;
      link.click();
      copied.value = `${sheet.rows.length} rows saved as ${form}`;
    }
    setTimeout(() => {
      copied.value = '';
    }, 2500);
  };
  return (
    <>
      <span class="muted" role="status" data-testid="copied">
        {copied.value}
      </span>
      {(['CSV', 'JSON'] as const).map((form) => (
        <button
          type="button"
          key={form}
          class="copy"
          data-testid={`copy-${form.toLowerCase()}`}
          aria-label={`Copy the table as ${form}`}
          onClick={() => copy(form)}
        >
          {form}
        </button>
      ))}
    </>
  );
}

/** The chosen table under its head. */
export function Tables({ close }: { close: boolean }) {
  return (
    <div class={close ? 'drawer' : 'drawer whole'}>
      <div class="drawer-head">
        <Lists />
        <div class="grow" />
        <Copy />
        {close && (
          <button
            type="button"
            class="icon-button"
            aria-label="Close the table"
            onClick={() => {
              store.tableOpen.value = false;
            }}
          >
            <CloseIcon />
          </button>
        )}
      </div>
      {store.listing.value === 'links' ? <EdgeTable /> : <EventTable />}
    </div>
  );
}
