/**
 * Pure: how much an edge's troubles grew within the last minute, as far as the page saw it. Totals of the collector only grow,
 * so an old failure must not show for ever: what counts is the change.
 *
 * An edge first seen less than a minute ago grew from nothing. Of any other edge that has troubles already when the page
 * opens, only what comes after that is growth.
 */
import type { Graph } from './graph';
import type { Edge } from './view';

/** How far back growth is looked for. */
export const WINDOW_MS = 60_000;
/** Readings of an edge are at least this far apart. */
const STEP_MS = 5000;
/** Edges with troubles that are followed; those beyond are counted. */
export const MAX_FOLLOWED = 4096;

/** Troubles of an edge and what they are shares of, as totals or as growth. */
export interface Ails {
  /** Connections that were opened. */
  readonly established: number;
  /** Connections that were not. */
  readonly failed: number;
  /** Segments that passed, both ways. */
  readonly segments: number;
  /** Segments that a kernel dropped. */
  readonly dropped: number;
  readonly queries: number;
  /** Queries without an answer, or answered by neither NOERROR nor NXDOMAIN. */
  readonly unanswered: number;
  /** Answers that there is no such name. */
  readonly nameless: number;
}

const NONE: Ails = {
  established: 0,
  failed: 0,
  segments: 0,
  dropped: 0,
  queries: 0,
  unanswered: 0,
  nameless: 0,
};

/** Totals at a time. */
interface Reading {
  readonly atMs: number;
  readonly ails: Ails;
}

/** What is remembered: of edges with troubles only. */
export interface Recent {
  readonly run: string;
  readonly before: Graph | null;
  readonly readings: ReadonlyMap<string, readonly Reading[]>;
  /** Edges with troubles for which there was no room. */
  readonly unfollowed: number;
}

/** Nothing yet. */
export const NOTHING: Recent = { run: '', before: null, readings: new Map(), unfollowed: 0 };

/** An edge's totals. Connections are the client's to open; its side counts, else the server's. */
export function ails(edge: Edge): Ails {
  const side = edge.clientSide ?? edge.serverSide;
  const sockets = edge.clientSide?.sockets ?? edge.serverSide?.sockets ?? null;
  const rcode = (pick: (name: string) => boolean) =>
    (edge.dns?.rcodes ?? []).reduce((sum, one) => sum + (pick(one.rcode) ? one.count : 0), 0);
  return {
    established: sockets?.established ?? 0,
    failed:
      sockets === null
        ? 0
        : sockets.refused + sockets.timedOut + sockets.unreachable + sockets.failedOtherwise,
    segments: (side?.forward.segments ?? 0) + (side?.reverse.segments ?? 0),
    dropped: edge.drops.reduce((sum, drop) => sum + drop.segments, 0),
    queries: edge.dns?.queries ?? 0,
    unanswered: (edge.dns?.timeouts ?? 0) + rcode((name) => name !== 'NOERROR' && name !== 'NXDOMAIN'),
    nameless: rcode((name) => name === 'NXDOMAIN'),
  };
}

const troubled = (of: Ails) => of.failed + of.dropped + of.unanswered + of.nameless > 0;

/** Takes in what the graph shows now; call it once a second. */
export function notice(recent: Recent, graph: Graph, nowMs: number): Recent {
  const known = recent.run === graph.run ? recent : NOTHING;
  const readings = new Map<string, readonly Reading[]>();
  let unfollowed = 0;
  for (const edge of graph.edges.values()) {
    const now = ails(edge);
    if (!troubled(now)) continue;
    if (readings.size >= MAX_FOLLOWED) {
      unfollowed += 1;
      continue;
    }
    const held = known.readings.get(edge.id) ?? begin(known.before, edge, now, nowMs);
    readings.set(edge.id, extend(held, now, nowMs));
  }
  return { run: graph.run, before: graph, readings, unfollowed };
}

/** Where an edge stood before its troubles were seen. */
function begin(before: Graph | null, edge: Edge, now: Ails, nowMs: number): readonly Reading[] {
  if (edge.firstSeenMs > nowMs - WINDOW_MS) return [{ atMs: edge.firstSeenMs, ails: NONE }];
  const earlier = before?.edges.get(edge.id);
  return [{ atMs: nowMs, ails: earlier === undefined ? now : ails(earlier) }];
}

function extend(held: readonly Reading[], now: Ails, nowMs: number): readonly Reading[] {
  const last = held[held.length - 1];
  const moved =
    last !== undefined && Object.entries(now).some(([key, value]) => last.ails[key as keyof Ails] !== value);
  const all = moved && nowMs - last.atMs >= STEP_MS ? [...held, { atMs: nowMs, ails: now }] : held;
  const base = all.findLastIndex((reading) => reading.atMs <= nowMs - WINDOW_MS);
  return base > 0 ? all.slice(base) : all;
}

/** The growth of an edge's totals within the last minute; null of an edge without troubles. */
export function growth(recent: Recent, edge: Edge, nowMs: number): Ails | null {
  const held = recent.readings.get(edge.id);
  const base = held?.findLast((reading) => reading.atMs <= nowMs - WINDOW_MS) ?? held?.[0];
  if (base === undefined) return null;
  const now = ails(edge);
  const grown = (key: keyof Ails) => Math.max(0, now[key] - base.ails[key]);
  return {
    established: grown('established'),
    failed: grown('failed'),
    segments: grown('segments'),
    dropped: grown('dropped'),
    queries: grown('queries'),
    unanswered: grown('unanswered'),
    nameless: grown('nameless'),
  };
}
