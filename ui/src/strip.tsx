/** Bottom strip: is this live or the past, the last hour, what time is it. */
import { clock, rate, span } from './format';
import * as store from './store';
import { Timeline } from './timeline';

function State() {
  const connection = store.connection.value;
  const word =
    connection.kind === 'live' ? 'Live' : connection.kind === 'connecting' ? 'Connecting' : 'Offline';
  return (
    <div
      class={`live ${connection.kind}`}
      data-testid="connection"
      data-state={connection.kind}
      role="status"
    >
      <i />
      <b>{word}</b>
    </div>
  );
}

/** In the past: when, what is wrong with it, and the way back. */
function Past({ at }: { at: number }) {
  const state = store.pastState.value;
  const wrong = state !== 'asking' && state !== 'shown';
  return (
    <div class="past" data-testid="past" data-state={wrong ? 'broken' : state} role="status">
      <button
        type="button"
        class="live back"
        data-testid="back-to-live"
        onClick={() => {
          store.at.value = null;
        }}
      >
        <i />
        <b>Live</b>
      </button>
      <b class={wrong ? 'bad' : 'then'} title={wrong ? state : 'The graph as it was'}>
        {clock(at * 1000)}
        {wrong && ' ⊘'}
      </b>
    </div>
  );
}

/** Packets per second of the picture at hand, both ways. */
function total(): number {
  let sum = 0;
  // What carries other traffic would count it twice.
  for (const edge of store.graph.value?.edges.values() ?? [])
    if (edge.tunnel === null) sum += edge.rate.forwardSkbs + edge.rate.reverseSkbs;
  return sum;
}

/** The whole strip. */
export function Strip() {
  const now = store.nowMs.value;
  const at = store.at.value;
  const since = store.graph.value?.sinceMs ?? null;
  return (
    <footer class={at === null ? 'strip' : 'strip rewound'}>
      {at === null ? <State /> : <Past at={at} />}
      <Timeline />
      {!store.narrow.value && (
        <>
          <div class="total">
            <span>
              <b data-testid="total-rate">{rate(total())}</b> packets/s
            </span>
            {since !== null && at === null && <small>counting for {span(now - since)}</small>}
            {at !== null && <small>mean of {(store.course.value?.bucketMs ?? 0) / 1000} s then</small>}
          </div>
          <time class="clock" data-testid="clock" dateTime={new Date(now).toISOString()}>
            <b>{clock(now)}</b> UTC
          </time>
        </>
      )}
    </footer>
  );
}
