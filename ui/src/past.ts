/** Pure: the last hour as the collector remembers it: its course in buckets, marks of events, steps through time. */
import type { ClusterEvent } from './cluster';
import { fields, list, number } from './decode';
import type { Graph } from './graph';
import { type Sickness, sicknesses } from './health';
import { ails } from './recent';

/** What the timeline shows at once. */
export const HOUR_MS = 3_600_000;

/** One number a bucket, oldest first; a bucket that is missing was watched by nobody. */
export interface Course {
  readonly bucketMs: number;
  readonly edges: number;
  readonly atMs: readonly number[];
  readonly skbs: readonly number[];
  readonly segments: readonly number[];
  readonly lost: readonly number[];
  readonly dropped: readonly number[];
  readonly failed: readonly number[];
}

const numeral = (value: unknown, path: string): number => number({ value }, 'value', path);

/** Reads the collector's answer. */
export function decodeCourse(value: unknown): Course {
  const of = fields(value, 'history');
  const numbers = (key: string) => list(of, key, 'history', numeral);
  return {
    bucketMs: Math.max(1, number(of, 'bucket_ms', 'history')),
    edges: number(of, 'edges', 'history'),
    atMs: numbers('at_ms'),
    skbs: numbers('skbs'),
    segments: numbers('segments'),
    lost: numbers('lost'),
    dropped: numbers('dropped'),
    failed: numbers('failed'),
  };
}

/** One bar of the timeline; null where nobody watched. */
export interface Bar {
  readonly atMs: number;
  /** Packets a second. */
  readonly rate: number;
  /** The share of its segments that was lost between nodes. */
  readonly lost: number;
}

/** The hour before `untilMs` as bars, several buckets in one where there are more than `most`. */
export function barsOf(course: Course, untilMs: number, most: number): readonly (Bar | null)[] {
  const each = Math.max(1, Math.ceil(HOUR_MS / course.bucketMs / most)) * course.bucketMs;
  const end = Math.floor(untilMs / each) * each;
  const length = Math.round(HOUR_MS / each);
  const sums = Array.from({ length }, () => ({ buckets: 0, skbs: 0, segments: 0, lost: 0 }));
  course.atMs.forEach((atMs, index) => {
    const sum = sums[length - 1 - (end - Math.floor(atMs / each) * each) / each];
    if (sum === undefined) return;
    sum.buckets += 1;
    sum.skbs += course.skbs[index] ?? 0;
    sum.segments += course.segments[index] ?? 0;
    sum.lost += course.lost[index] ?? 0;
  });
  return sums.map(({ buckets, skbs, segments, lost }, index) =>
    buckets === 0
      ? null
      : {
          atMs: end - (length - 1 - index) * each,
          rate: (skbs * 1000) / (buckets * course.bucketMs),
          lost: Math.min(1, lost / Math.max(segments, 1)),
        },
  );
}

/** A course as a line: a value a bucket from the first to the last, null where nobody watched. */
export function lineOf(course: Course, of: (index: number) => number): readonly (number | null)[] {
  const first = course.atMs[0];
  const last = course.atMs[course.atMs.length - 1];
  if (first === undefined || last === undefined) return [];
  const line: (number | null)[] = Array(Math.round((last - first) / course.bucketMs) + 1).fill(null);
  course.atMs.forEach((atMs, index) => {
    line[Math.round((atMs - first) / course.bucketMs)] = of(index);
  });
  return line;
}

/** A sign on the timeline: of several events close together the worst one's. */
export interface Mark {
  /** 0 at the left end, 1 at now. */
  readonly at: number;
  readonly timeMs: number;
  readonly tone: 'bad' | 'warning' | 'good' | 'plain';
  readonly words: string;
}

/** Signs closer than this share of the timeline are one. */
const APART = 0.008;

/** Health colours are for what is unhealthy; the words say it, too. */
export function toneOf(kind: string): 'bad' | 'warning' | '' {
  if (kind === 'pod-failed' || kind === 'node-lost' || kind === 'edge-dropping') return 'bad';
  return kind === 'node-late' || kind === 'edge-failing' ? 'warning' : '';
}

const RANK = { bad: 3, warning: 2, good: 1, plain: 0 } as const;

/** What of the events is marked: health, sizes of workloads, nodes; not every single pod. */
export function marksOf(events: readonly ClusterEvent[], untilMs: number): readonly Mark[] {
  const marks: Mark[] = [];
  for (const event of events) {
    const at = 1 - (untilMs - event.timeMs) / HOUR_MS;
    const single = event.kind === 'pod-added' || event.kind === 'pod-removed' || event.kind === 'pod-ready';
    if (single || at < 0 || at > 1) continue;
    const well = event.kind === 'edge-recovered' || event.kind === 'node-back';
    const tone = toneOf(event.kind) || (well ? ('good' as const) : ('plain' as const));
    const words = `${subjectOf(event.subject)}: ${event.text}`;
    const before = marks[marks.length - 1];
    if (before !== undefined && at - before.at < APART) {
      const worse = RANK[tone] > RANK[before.tone];
      marks[marks.length - 1] = {
        ...(worse ? { at, timeMs: event.timeMs, tone } : before),
        words: before.words.length < 300 ? `${before.words}\n${words}` : before.words,
      };
    } else marks.push({ at, timeMs: event.timeMs, tone, words });
  }
  return marks;
}

/** A subject in words: of a link's id the ends and the port. */
export function subjectOf(subject: string): string {
  const edge = /^[a-z]+:(.+)>[a-z]+:(.+):(\d+)\/([a-z0-9/]+)$/.exec(subject);
  return edge === null ? subject : `${edge[1]} → ${edge[2]}:${edge[3]}`;
}

/** Where a step leads: null is now. Times are whole seconds. */
export function stepped(at: number | null, byS: number, course: Course, nowMs: number): number | null {
  const bucketS = course.bucketMs / 1000;
  const last = course.atMs[course.atMs.length - 1];
  const first = course.atMs[0];
  if (first === undefined || last === undefined) return null;
  const from = at ?? Math.floor(nowMs / 1000);
  const step = Math.sign(byS) * Math.max(Math.abs(byS), bucketS);
  return clamped(Math.floor((from + step) / bucketS) * bucketS, course);
}

/** A time within what is remembered; null where it is newer than all of it: that is now. */
export function clamped(at: number, course: Course): number | null {
  const first = course.atMs[0];
  const last = course.atMs[course.atMs.length - 1];
  if (first === undefined || last === undefined || at * 1000 >= last + course.bucketMs) return null;
  return Math.max(at, Math.ceil(first / 1000));
}

/** What is wrong in a picture of the past: its totals are the growth of one bucket. */
export function sickThen(graph: Graph): ReadonlyMap<string, readonly Sickness[]> {
  const sick = new Map<string, readonly Sickness[]>();
  for (const edge of graph.edges.values()) {
    const found = sicknesses(ails(edge));
    if (found.length > 0) sick.set(edge.id, found);
  }
  return sick;
}

/** Events of two lists in the order of time, each once. */
export function together(
  kept: readonly ClusterEvent[],
  newer: readonly ClusterEvent[],
): readonly ClusterEvent[] {
  const key = (event: ClusterEvent) => `${event.timeMs}/${event.kind}/${event.subject}/${event.text}`;
  const known = new Set(kept.map(key));
  const more = newer.filter((event) => !known.has(key(event)));
  return more.length === 0 ? kept : [...kept, ...more].sort((a, b) => a.timeMs - b.timeMs);
}
