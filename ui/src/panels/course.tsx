/** The last hour of an edge or a vertex, as the collector remembers it. */
import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { count, percent, rate, span } from '../format';
import { type Course, lineOf } from '../past';
import { courseOf } from '../rewind';
import * as store from '../store';
import { Chart } from './parts';

/** Asks again after this long, where the collector does not answer. */
const RETRY_MS = 15_000;

function useCourse(of: Readonly<Record<string, string>>): Course | null {
  const course = useSignal<Course | null>(null);
  const key = new URLSearchParams(of).toString();
  useEffect(() => {
    const hangUp = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    course.value = null;
    const look = async () => {
      try {
        course.value = await courseOf(Object.fromEntries(new URLSearchParams(key)), hangUp.signal);
      } catch {
        // The line stays as it was; the strip says whether the collector is there.
      }
      if (!hangUp.signal.aborted)
        timer = setTimeout(look, Math.max(1000, course.value?.bucketMs ?? RETRY_MS));
    };
    void look();
    return () => {
      hangUp.abort();
      clearTimeout(timer);
    };
  }, [course, key]);
  return course.value;
}

/** Sparklines of the last hour: packets, and what went wrong where anything did. `of` names an edge or a vertex. */
export function LastHour({ of }: { of: Readonly<Record<string, string>> }) {
  const course = useCourse(of);
  if (course === null || course.atMs.length < 2) return null;
  const seconds = course.bucketMs / 1000;
  const first = course.atMs[0] ?? 0;
  const last = (course.atMs[course.atMs.length - 1] ?? 0) + course.bucketMs;
  const when = `last ${span(last - first)}`;
  const at = store.at.value;
  const hand = at === null ? null : (at * 1000 - first) / (last - first);
  const value = (list: readonly number[]) => (index: number) => list[index] ?? 0;
  const packets = lineOf(course, (index) => value(course.skbs)(index) / seconds);
  const known = packets.filter((one) => one !== null);
  const sum = (list: readonly number[]) => list.reduce((all, one) => all + one, 0);
  const share = (index: number) =>
    value(course.lost)(index) / Math.max(1, value(course.lost)(index), value(course.segments)(index));
  const troubles = [
    { title: 'Lost between', of: course.lost, line: share, words: (all: number) => count(all) },
    { title: 'Dropped', of: course.dropped, line: value(course.dropped), words: (all: number) => count(all) },
    {
      title: 'Connects failed',
      of: course.failed,
      line: value(course.failed),
      words: (all: number) => count(all),
    },
  ].filter((trouble) => sum(trouble.of) > 0);
  return (
    <section data-testid="last-hour" data-buckets={course.atMs.length}>
      <h3>
        Packets/s{' '}
        <span>
          {rate(known[0] ?? 0)} → {rate(known[known.length - 1] ?? 0)} · {when}
        </span>
      </h3>
      <Chart values={packets} tone="l4" label={`Packets per second, ${when}`} hand={hand} />
      {troubles.map((trouble) => {
        const line = lineOf(course, trouble.line);
        const most = Math.max(...line.map((one) => one ?? 0));
        return (
          <div key={trouble.title}>
            <h3 class="bad">
              {trouble.title}{' '}
              <span>
                {trouble.words(sum(trouble.of))}
                {trouble.of === course.lost && ` · ${percent(most)} at the most`} · {when}
              </span>
            </h3>
            <Chart values={line} tone="bad" label={`${trouble.title}, ${when}`} hand={hand} />
          </div>
        );
      })}
    </section>
  );
}
