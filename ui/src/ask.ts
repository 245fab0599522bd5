/** Asks the collector for a view: its addresses, and what it says of a filter. */
import { effect } from '@preact/signals';
import type { Wish } from './empty';
import * as store from './store';

/** Typing that rests for this long is looked at. */
const REST_MS = 220;

/** Where the stream of a wish is. */
export function streamUrl({ filter, hideNoise }: Wish): string {
  const of = new URLSearchParams({ view: 'pod' });
  if (filter !== '') of.set('filter', filter);
  if (hideNoise) of.set('noise', 'hide');
  return `api/v1/stream?${of}`;
}

/** Why a stream was refused, in the collector's words; null where it is not. */
export async function explain(wish: Wish): Promise<string | null> {
  const hangUp = new AbortController();
  const answer = await fetch(streamUrl(wish), { signal: hangUp.signal });
  if (answer.ok) {
    hangUp.abort();
    return null;
  }
  if (answer.status === 400) {
    const wrong = problemOf(await answer.json());
    store.problem.value = wrong;
    return `the filter is none: ${wrong.message}`;
  }
  return (await answer.text()).trim() || `it answers with ${answer.status}`;
}

function problemOf(json: unknown): { column: number; message: string; hint: string } {
  const { column, message, hint } = json as Record<string, unknown>;
  return { column: Number(column) || 1, message: String(message ?? ''), hint: String(hint ?? '') };
}

/** Keeps what is asked for in step with the search box: a text that is no filter changes nothing and says why. */
export function keepAsked(): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  return effect(() => {
    const text = store.query.value.trim();
    clearTimeout(timer);
    if (text === store.asked.peek().filter) {
      if (store.problem.peek() !== null && store.connection.peek().kind === 'live')
        store.problem.value = null;
      return;
    }
    const take = () => {
      store.problem.value = null;
      store.asked.value = { ...store.asked.peek(), filter: text };
    };
    if (text === '') take();
    else
      timer = setTimeout(async () => {
        const answer = await fetch(`api/v1/filter?${new URLSearchParams({ filter: text })}`).catch(
          () => null,
        );
        if (text !== store.query.peek().trim()) return;
        // Without an answer the stream will say what is wrong.
        if (answer?.status === 400) store.problem.value = problemOf(await answer.json());
        else take();
      }, REST_MS);
  });
}
