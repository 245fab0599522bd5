/** Asks the collector for the past: the hour's course, its events, and the graph as it was. */
import { effect } from '@preact/signals';
import { event } from './cluster';
import { fields, list } from './decode';
import type { Wish } from './empty';
import { fromSnapshot } from './graph';
import { type Course, decodeCourse, sickThen } from './past';
import * as store from './store';
import { decodeSnapshot } from './view';

async function ask(path: string, signal?: AbortSignal): Promise<unknown> {
  const answer = await fetch(path, signal === undefined ? {} : { signal });
  if (answer.ok) return answer.json();
  const text = await answer.text();
  let why = text.trim();
  try {
    why = String((JSON.parse(text) as { message?: unknown }).message ?? why);
  } catch {
    // Plain text says it as well.
  }
  throw new Error(why === '' ? `the collector answers with ${answer.status}` : why);
}

/** The course of an edge or a vertex; of everything when neither is named. */
export async function courseOf(of: Readonly<Record<string, string>>, signal?: AbortSignal): Promise<Course> {
  return decodeCourse(await ask(`api/v1/history?${new URLSearchParams(of)}`, signal));
}

/** Keeps the timeline in step: its bars and the events of the hour. */
export function keepCourse(): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let stopped = false;
  const look = async () => {
    let waitMs = 5000;
    try {
      const course = await courseOf({});
      const told = fields(await ask('api/v1/events'), 'answer');
      store.course.value = course;
      store.hourEvents.value = list(told, 'events', 'answer', event);
      waitMs = Math.max(1000, course.bucketMs / 2);
    } catch {
      // The stream says whether the collector is there; the timeline waits.
    }
    if (!stopped) timer = setTimeout(look, document.hidden ? 60_000 : waitMs);
  };
  void look();
  return () => {
    stopped = true;
    clearTimeout(timer);
  };
}

/** Shows the graph as it was at `at`; whoever drags gets the last one asked for. */
export function showThen(at: number, wish: Wish): () => void {
  const hangUp = new AbortController();
  const of = new URLSearchParams({ view: 'pod', at: String(at) });
  if (wish.filter !== '') of.set('filter', wish.filter);
  if (wish.hideNoise) of.set('noise', 'hide');
  store.pastState.value = 'asking';
  ask(`api/v1/graph?${of}`, hangUp.signal).then(
    (json) => {
      if (hangUp.signal.aborted) return;
      const graph = fromSnapshot(null, decodeSnapshot(json));
      store.sick.value = sickThen(graph);
      store.show(graph, wish);
      store.pastState.value = 'shown';
      store.connection.value = { kind: 'live' };
    },
    (error: unknown) => {
      if (hangUp.signal.aborted) return;
      store.pastState.value = error instanceof Error ? error.message : String(error);
    },
  );
  return () => hangUp.abort();
}

/** Follows what time is looked at: `live` for now, and the past otherwise. */
export function keepTime(live: (wish: Wish) => () => void): () => void {
  return effect(() => {
    const at = store.at.value;
    const wish = store.asked.value;
    if (at !== null) return showThen(at, wish);
    return store.asleep.value ? undefined : live(wish);
  });
}
