/** The cluster itself, beside its graph: where its names stand, and what happened to it. */
import { fields, maybeNumber, maybeText, number, text } from './decode';

/** Freshness of the source of names. */
export interface Names {
  readonly source: string;
  readonly state: string;
  readonly error: string | null;
  readonly readMs: number | null;
  /** Ends of links of which nothing could tell who held the address. */
  readonly ambiguous: number;
}

/** Something that happened to the cluster itself. */
export interface ClusterEvent {
  readonly timeMs: number;
  readonly kind: string;
  readonly subject: string;
  readonly text: string;
}

/** Decodes where the names stand. */
export function names(value: unknown, path: string): Names | null {
  if (value === null || value === undefined) return null;
  const of = fields(value, path);
  return {
    source: text(of, 'source', path),
    state: text(of, 'state', path),
    error: maybeText(of, 'error', path),
    readMs: maybeNumber(of, 'read_ms', path),
    ambiguous: maybeNumber(of, 'ambiguous', path) ?? 0,
  };
}

/** Decodes an event. */
export function event(value: unknown, path: string): ClusterEvent {
  const of = fields(value, path);
  return {
    timeMs: number(of, 'time_ms', path),
    kind: text(of, 'kind', path),
    subject: text(of, 'subject', path),
    text: text(of, 'text', path),
  };
}
