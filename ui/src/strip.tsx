/** Bottom strip: is this live, what passed since the page was opened, what time is it. */
import { clock, rate, span } from './format';
import { BAR_MS, type Bar, MAX_BARS } from './history';
import * as store from './store';

const WIDTH = 1200;
const HEIGHT = 30;
const STEP = WIDTH / MAX_BARS;

/** Packets per second as bars; what was lost between nodes on top in red. */
function Bars({ bars }: { bars: readonly Bar[] }) {
  const most = Math.max(1, ...bars.map((bar) => bar.rate));
  return (
    <svg class="bars" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" aria-hidden="true">
      {Array.from({ length: MAX_BARS - bars.length }, (_, index) => (
        <rect
          key={`empty-${index}`}
          class="bar-empty"
          x={index * STEP}
          y={HEIGHT - 2}
          width={STEP - 3}
          height="2"
        />
      ))}
      {bars.map((bar, index) => {
        const x = (MAX_BARS - bars.length + index) * STEP;
        const height = Math.max(2, (bar.rate / most) * (HEIGHT - 4));
        const lost = bar.lost > 0 ? Math.max(2, (bar.lost / most) * (HEIGHT - 4)) : 0;
        return (
          <g key={bar.atMs}>
            <rect class="bar" x={x} y={HEIGHT - height} width={STEP - 3} height={height} />
            {lost > 0 && <rect class="bar-lost" x={x} y={HEIGHT - height} width={STEP - 3} height={lost} />}
          </g>
        );
      })}
    </svg>
  );
}

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

/** The whole strip. */
export function Strip() {
  const { bars } = store.history.value;
  const newest = bars[bars.length - 1];
  const now = store.nowMs.value;
  const window = MAX_BARS * BAR_MS;
  return (
    <footer class="strip">
      <State />
      <div
        class="timeline"
        title="Packets per second over all links since this page was opened; the red part was lost between nodes"
      >
        <Bars bars={bars} />
        <div class="ticks" aria-hidden="true">
          {store.narrow.value ? (
            <>
              <span>−60 min</span>
              <span>−30</span>
            </>
          ) : (
            <>
              <span>{clock(now - window).slice(0, 5)}</span>
              <span>{clock(now - window * 0.75).slice(0, 5)}</span>
              <span>{clock(now - window * 0.5).slice(0, 5)}</span>
              <span>{clock(now - window * 0.25).slice(0, 5)}</span>
            </>
          )}
          <span>now</span>
        </div>
      </div>
      {!store.narrow.value && (
        <>
          <div class="total">
            <span>
              <b data-testid="total-rate">{rate(newest?.rate ?? 0)}</b> packets/s
            </span>
            {store.graph.value?.sinceMs != null && (
              <small>counting for {span(now - store.graph.value.sinceMs)}</small>
            )}
          </div>
          <time class="clock" data-testid="clock" dateTime={new Date(now).toISOString()}>
            <b>{clock(now)}</b> UTC
          </time>
        </>
      )}
    </footer>
  );
}
