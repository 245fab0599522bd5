/** Pure: what passed since the page was opened, for the strip and the small charts. Everything is bounded. */
import type { Graph } from './graph';
import { isLossy, lossRatio } from './health';

/** Length of one bar of the strip. */
export const BAR_MS = 30_000;
/** Bars kept: an hour. */
export const MAX_BARS = 120;
/** Points of an edge's small chart: two minutes. */
export const MAX_POINTS = 120;
/** Edges whose small charts are kept. */
export const MAX_TRAILS = 1500;

/** Packets per second over one bar's time, and the share of them lost between nodes. */
export interface Bar {
  readonly atMs: number;
  readonly rate: number;
  readonly lost: number;
  readonly samples: number;
}

/** Rates of one edge, once a second. */
export interface Trail {
  readonly rate: readonly number[];
  readonly loss: readonly number[];
  /** Its last hour in bars; `lost` is the share. */
  readonly hour: readonly Bar[];
}

/** All that is remembered. */
export interface History {
  readonly bars: readonly Bar[];
  readonly trails: ReadonlyMap<string, Trail>;
}

/** Nothing yet. */
export const EMPTY: History = { bars: [], trails: new Map() };

/** Adds what the graph shows now; call it once a second. */
export function remember(history: History, graph: Graph, nowMs: number): History {
  let rate = 0;
  let lost = 0;
  const atMs = Math.floor(nowMs / BAR_MS) * BAR_MS;
  const trails = new Map<string, Trail>();
  for (const edge of graph.edges.values()) {
    const packets = edge.rate.forwardSkbs + edge.rate.reverseSkbs;
    // What carries other traffic would count it twice.
    if (edge.tunnel === null) rate += packets;
    if (edge.tunnel === null && isLossy(edge)) lost += packets * lossRatio(edge);
    const before = history.trails.get(edge.id);
    if (before === undefined && trails.size >= MAX_TRAILS) continue;
    trails.set(edge.id, {
      rate: [...(before?.rate ?? []), edge.rate.forwardSkbs].slice(-MAX_POINTS),
      loss: [...(before?.loss ?? []), lossRatio(edge)].slice(-MAX_POINTS),
      hour: extended(before?.hour ?? [], atMs, edge.rate.forwardSkbs, lossRatio(edge)),
    });
  }
  return { bars: extended(history.bars, atMs, rate, lost), trails };
}

/** The mean of a bar's samples goes on while its time does. */
function extended(bars: readonly Bar[], atMs: number, rate: number, lost: number): readonly Bar[] {
  const last = bars[bars.length - 1];
  if (last === undefined || last.atMs !== atMs)
    return [...bars, { atMs, rate, lost, samples: 1 }].slice(-MAX_BARS);
  const samples = last.samples + 1;
  const mean = (before: number, now: number) => before + (now - before) / samples;
  return [...bars.slice(0, -1), { atMs, rate: mean(last.rate, rate), lost: mean(last.lost, lost), samples }];
}

/** Bars after which the long chart tells more than the short one. */
const LONG_FROM = 6;

/** What a small chart shows: the last two minutes, or the last hour once the page has seen more. */
export function chartOf(trail: Trail): {
  readonly rate: readonly number[];
  readonly loss: readonly number[];
  readonly span: string;
} {
  if (trail.hour.length < LONG_FROM) return { rate: trail.rate, loss: trail.loss, span: 'last 2 min' };
  const first = trail.hour[0]?.atMs ?? 0;
  const last = trail.hour[trail.hour.length - 1]?.atMs ?? 0;
  return {
    rate: trail.hour.map((bar) => bar.rate),
    loss: trail.hour.map((bar) => bar.lost),
    span: `last ${Math.max(1, Math.round((last - first + BAR_MS) / 60_000))} min`,
  };
}

/** The rates of several edges added up, as far back as the page knows all of them. */
export function summed(trails: readonly Trail[]): Trail {
  const sum = (of: (trail: Trail) => readonly number[], worst: boolean): number[] => {
    const lists = trails.map(of);
    const length = Math.max(0, ...lists.map((list) => list.length));
    return Array.from({ length }, (_, index) => {
      const values = lists.map((list) => list[list.length - length + index] ?? 0);
      return worst ? Math.max(0, ...values) : values.reduce((all, value) => all + value, 0);
    });
  };
  const bars = new Map<number, Bar>();
  for (const trail of trails)
    for (const { atMs, rate, lost } of trail.hour) {
      const before = bars.get(atMs);
      const all = (before?.rate ?? 0) + rate;
      bars.set(atMs, { atMs, rate: all, lost: Math.max(before?.lost ?? 0, lost), samples: 1 });
    }
  return {
    rate: sum((trail) => trail.rate, false),
    loss: sum((trail) => trail.loss, true),
    hour: [...bars.values()].sort((a, b) => a.atMs - b.atMs),
  };
}
