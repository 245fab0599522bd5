/** Feeds the store: the stream, thinned to what the eye needs, the clock, and what the browser says of itself. */
import { effect } from '@preact/signals';
import { explain, keepAsked, streamUrl } from './ask';
import type { Wish } from './empty';
import { elapse, type Graph } from './graph';
import { findSick } from './health';
import { flat } from './layered';
import { NOTHING, notice } from './recent';
import { keepCourse, keepTime } from './rewind';
import * as store from './store';
import { follow } from './stream';

/** The page takes new data at most four times a second. */
const DATA_MS = 250;
/** A page in the background draws nothing; after this long it hangs up, too. */
const SLEEP_MS = 60_000;

/** Starts everything that comes from outside. */
export function startFeed(): void {
  let waiting: { graph: Graph; wish: Wish } | null = null;
  let timer: ReturnType<typeof setTimeout> | null = null;
  let shownAt = 0;
  let offsetMs = 0;
  let recent = NOTHING;

  const show = () => {
    timer = null;
    // In the background the newest picture waits until somebody looks.
    if (waiting === null || store.pageHidden.peek()) return;
    shownAt = performance.now();
    // All who look at it walk through all of it.
    const { vertices, edges } = waiting.graph;
    store.show({ ...waiting.graph, vertices: flat(vertices), edges: flat(edges) }, waiting.wish);
    waiting = null;
  };
  const followWish = (wish: Wish) =>
    follow({
      open: () => new EventSource(streamUrl(wish)),
      explain: () => explain(wish),
      onGraph: (graph) => {
        waiting = { graph, wish };
        offsetMs = graph.timeMs - Date.now();
        const rest = DATA_MS - (performance.now() - shownAt);
        if (rest <= 0 && timer === null) show();
        else timer ??= setTimeout(show, Math.max(rest, 0));
      },
      onConnection: (connection) => {
        if (connection.kind !== store.connection.peek().kind || connection.kind === 'broken')
          store.connection.value = connection;
      },
      later: (run, ms) => setTimeout(run, ms),
      now: () => Date.now(),
    });
  const live = (wish: Wish) => {
    const stop = followWish(wish);
    return () => {
      // What came last is not shown over a picture of the past.
      waiting = null;
      stop();
    };
  };
  keepTime(live);
  keepCourse();
  keepAsked();
  setInterval(() => {
    const now = Date.now() + offsetMs;
    store.nowMs.value = now;
    const graph = store.received.peek();
    if (store.pageHidden.peek()) return;
    if (graph === null || store.at.peek() !== null || store.connection.peek().kind !== 'live') return;
    const later = elapse(graph, now);
    if (later !== graph && waiting === null) store.received.value = later;
    recent = notice(recent, graph, now);
    const sick = findSick(graph, recent, now);
    // An equal answer is no news: the picture is not made again for it.
    if (JSON.stringify([...sick]) !== JSON.stringify([...store.sick.peek()])) store.sick.value = sick;
    store.unfollowed.value = recent.unfollowed;
  }, 1000);

  watch('(max-width: 720px), (max-height: 480px)', (matches) => {
    store.narrow.value = matches;
  });
  watch('(prefers-reduced-motion: reduce)', (matches) => {
    store.reducedMotion.value = matches;
  });
  let bed: ReturnType<typeof setTimeout> | undefined;
  const visible = () => {
    store.pageHidden.value = document.hidden;
    clearTimeout(bed);
    if (document.hidden)
      bed = setTimeout(() => {
        store.asleep.value = true;
      }, SLEEP_MS);
    else {
      // Awake it follows again, from a fresh snapshot.
      store.asleep.value = false;
      show();
    }
  };
  document.addEventListener('visibilitychange', visible);
  visible();
  effect(() => {
    document.documentElement.dataset.theme = store.theme.value;
  });
  effect(() => {
    const name = store.graph.value?.cluster ?? '';
    document.title = name === '' ? 'Orrery' : `${name} · Orrery`;
  });
  store.keepAddress();
}

function watch(media: string, tell: (matches: boolean) => void): void {
  const list = matchMedia(media);
  list.addEventListener('change', () => tell(list.matches));
  tell(list.matches);
}
