/** Pure: what passed since the page was opened, for the strip and the small charts. Everything is bounded. */
import type { Graph } from './graph';
import { isLossy, lossRatio } from './health';

/** Length of one bar of the strip. */
export const BAR_MS = 5000;
/** Bars kept: ten minutes. */
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
    });
  }
  const atMs = Math.floor(nowMs / BAR_MS) * BAR_MS;
  const last = history.bars[history.bars.length - 1];
  const bars =
    last !== undefined && last.atMs === atMs
      ? [
          ...history.bars.slice(0, -1),
          {
            atMs,
            rate: (last.rate * last.samples + rate) / (last.samples + 1),
            lost: (last.lost * last.samples + lost) / (last.samples + 1),
            samples: last.samples + 1,
          },
        ]
      : [...history.bars, { atMs, rate, lost, samples: 1 }].slice(-MAX_BARS);
  return { bars, trails };
}
