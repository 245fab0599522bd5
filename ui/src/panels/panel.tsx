/** The panel beside or below the map: details of what is selected, else the overview. */
import { CloseIcon } from '../icons';
import { lazy } from '../lazy';
import * as store from '../store';
import { Overview } from './overview';

const Details = lazy(async () => (await import('./details')).Details);
const ComparePanel = lazy(async () => (await import('./compare')).ComparePanel);

/** The whole panel. */
export function Panel() {
  const graph = store.graph.value;
  const selection = store.selection.value;
  return (
    <aside
      class={store.narrow.value ? 'sheet' : 'panel'}
      aria-label="Details"
      data-testid="panel"
      tabIndex={0}
    >
      {store.narrow.value && <i class="grip" />}
      {selection !== null && (
        <button
          type="button"
          class="icon-button close"
          aria-label="Close details"
          data-testid="close-details"
          onClick={() => store.select(null)}
        >
          <CloseIcon />
        </button>
      )}
      {graph === null ? (
        <article>
          <h2>Waiting for the collector</h2>
          <p class="note">The first picture comes as soon as the stream opens.</p>
        </article>
      ) : selection === null && store.comparing.value ? (
        <ComparePanel />
      ) : selection === null ? (
        <Overview graph={graph} />
      ) : (
        <Details selection={selection} graph={graph} />
      )}
    </aside>
  );
}
