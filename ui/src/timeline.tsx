/** The last hour as bars, with what happened in it; dragging or the arrow keys show the graph of then. */
import { useRef } from 'preact/hooks';
import { clock, percent, rate } from './format';
import { type Bar, barsOf, clamped, HOUR_MS, type Mark, marksOf, stepped } from './past';
import * as store from './store';

const WIDTH = 1200;
const HEIGHT = 30;
/** Bars on a wide screen, and on a phone. */
const MOST = { wide: 120, narrow: 60 } as const;
/** Seconds that the arrow keys and the page keys go. */
const STEP_S = { arrow: 15, page: 300 } as const;

function Bars({ bars }: { bars: readonly (Bar | null)[] }) {
  const most = Math.max(1, ...bars.map((bar) => bar?.rate ?? 0));
  const step = WIDTH / bars.length;
  return (
    <svg class="bars" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" aria-hidden="true">
      {bars.map((bar, index) => {
        const place = { x: index * step, width: step - 3 };
        if (bar === null)
          return <rect key={`empty-${place.x}`} class="bar-empty" y={HEIGHT - 2} height="2" {...place} />;
        const height = Math.max(2, (bar.rate / most) * (HEIGHT - 4));
        // The share that was lost, enlarged: one in a hundred must be seen.
        const lost = bar.lost > 0 ? Math.max(3, height * Math.min(1, Math.sqrt(bar.lost))) : 0;
        return (
          <g key={bar.atMs}>
            <rect class="bar" y={HEIGHT - height} height={height} {...place} />
            {lost > 0 && <rect class="bar-lost" y={HEIGHT - height} height={lost} {...place} />}
          </g>
        );
      })}
    </svg>
  );
}

function Signs({ marks }: { marks: readonly Mark[] }) {
  return (
    <div class="signs" aria-hidden="true">
      {marks.map((mark) => (
        <i
          key={`${mark.timeMs} ${mark.words}`}
          class={`sign ${mark.tone}`}
          data-testid="sign"
          data-tone={mark.tone}
          title={`${clock(mark.timeMs)} ${mark.words}`}
          style={{ left: `${(mark.at * 100).toFixed(2)}%` }}
        />
      ))}
    </div>
  );
}

/** The hour; a slider for keyboards and screen readers. */
export function Timeline() {
  const course = store.course.value;
  const dragged = useRef(false);
  const now = store.nowMs.value;
  const at = store.at.value;
  if (course === null)
    return <div class="timeline" title="The collector has not told of its last hour yet" />;
  const bars = barsOf(course, now, store.narrow.value ? MOST.narrow : MOST.wide);
  const to = (event: PointerEvent) => {
    const { left, width } = (event.currentTarget as HTMLElement).getBoundingClientRect();
    const share = Math.max(0, Math.min(1, (event.clientX - left) / Math.max(width, 1)));
    store.at.value = clamped(Math.floor((now - (1 - share) * HOUR_MS) / 1000), course);
  };
  const keys: Readonly<Record<string, () => number | null>> = {
    ArrowLeft: () => stepped(at, -STEP_S.arrow, course, now),
    ArrowRight: () => (at === null ? null : stepped(at, STEP_S.arrow, course, now)),
    PageDown: () => stepped(at, -STEP_S.page, course, now),
    PageUp: () => (at === null ? null : stepped(at, STEP_S.page, course, now)),
    Home: () => clamped(0, course),
    End: () => null,
  };
  const share = at === null ? 1 : 1 - (now - at * 1000) / HOUR_MS;
  const then = at === null ? undefined : bars.findLast((bar) => bar !== null && bar.atMs <= at * 1000);
  const words =
    at === null
      ? 'now, live'
      : `${clock(at * 1000)} UTC${then ? `, ${rate(then.rate)} packets a second, ${percent(then.lost)} lost` : ''}`;
  return (
    <div
      class="timeline"
      role="slider"
      tabIndex={0}
      data-testid="timeline"
      data-at={at ?? ''}
      aria-label="Time within the last hour"
      aria-valuemin={Math.floor((now - HOUR_MS) / 1000)}
      aria-valuemax={Math.floor(now / 1000)}
      aria-valuenow={at ?? Math.floor(now / 1000)}
      aria-valuetext={words}
      title="Packets per second over the last hour; the red part was lost between nodes. Drag, or use the arrow keys, to see the graph of then"
      onPointerDown={(event) => {
        (event.currentTarget as HTMLElement).setPointerCapture(event.pointerId);
        dragged.current = true;
        to(event);
      }}
      onPointerMove={(event) => {
        if (dragged.current) to(event);
      }}
      onPointerUp={() => {
        dragged.current = false;
      }}
      onPointerCancel={() => {
        dragged.current = false;
      }}
      onKeyDown={(event) => {
        const go = keys[event.key];
        if (go === undefined) return;
        event.preventDefault();
        store.at.value = go();
      }}
    >
      <div class="track-box">
        <Bars bars={bars} />
        <Signs marks={marksOf(store.hourEvents.value, now)} />
        <i
          class={at === null ? 'hand now' : 'hand'}
          style={{ left: `${(Math.max(0, Math.min(1, share)) * 100).toFixed(2)}%` }}
        />
      </div>
      <Ticks now={now} />
    </div>
  );
}

function Ticks({ now }: { now: number }) {
  const back = (share: number) => clock(now - HOUR_MS * share).slice(0, 5);
  return (
    <div class="ticks" aria-hidden="true">
      {store.narrow.value ? (
        <>
          <span>−60 min</span>
          <span>−30</span>
        </>
      ) : (
        [1, 0.75, 0.5, 0.25].map((share) => <span key={share}>{back(share)}</span>)
      )}
      <span>now</span>
    </div>
  );
}
