/** Pure: what the collector says of Hubble beside it. The contract is the collector's `hubble::compare`. */
import * as decode from './decode';

/** Who saw an edge. */
export const SEEN = ['only-hubble', 'only-orrery', 'both'] as const;
export type Seen = (typeof SEEN)[number] | 'unknown';

/** One thing in which the two differ. */
export interface Difference {
  readonly what: string;
  readonly reason: string;
  readonly why: string;
}

/** What Hubble says of an edge. */
export interface HubbleSide {
  readonly verdict: string | null;
  readonly reasons: ReadonlyMap<string, number>;
  readonly policies: readonly string[];
  readonly nodes: readonly string[];
}

/** One edge of either. */
export interface Row {
  readonly seen: Seen;
  readonly client: string;
  readonly server: string;
  readonly port: number;
  readonly protocol: string;
  readonly differences: readonly Difference[];
  readonly hubble: HubbleSide | null;
  /** Ours: ids of edges. */
  readonly edges: readonly string[];
}

/** The whole comparison, or a part of its rows. */
export interface Beside {
  readonly server: string;
  readonly connected: boolean;
  readonly error: string | null;
  readonly overlay: boolean;
  readonly both: number;
  readonly onlyHubble: number;
  readonly onlyOrrery: number;
  readonly unexplained: number;
  /** Shares of 1; null where there is nothing to compare. */
  readonly agreement: number | null;
  readonly besideExplained: number | null;
  readonly verdictsAgree: number;
  readonly verdictsCompared: number;
  /** How often each reason was given. */
  readonly reasons: ReadonlyMap<string, number>;
  readonly lostEvents: number;
  readonly startMs: number;
  readonly endMs: number;
  readonly rows: readonly Row[];
}

function counts(value: unknown, path: string): Map<string, number> {
  const of = decode.fields(value, path);
  return new Map(Object.keys(of).map((key) => [key, decode.number(of, key, path)]));
}

function row(value: unknown, path: string): Row {
  const of = decode.fields(value, path);
  const hubble = of.hubble === null ? null : decode.fields(of.hubble, `${path}.hubble`);
  const orrery = of.orrery === null ? null : decode.fields(of.orrery, `${path}.orrery`);
  return {
    seen: decode.word(decode.text(of, 'seen', path), SEEN),
    client: decode.text(of, 'client', path),
    server: decode.text(of, 'server', path),
    port: decode.number(of, 'port', path),
    protocol: decode.text(of, 'protocol', path),
    differences: decode.list(of, 'differences', path, (item, at) => {
      const one = decode.fields(item, at);
      return {
        what: decode.text(one, 'what', at),
        reason: decode.text(one, 'reason', at),
        why: decode.text(one, 'why', at),
      };
    }),
    hubble:
      hubble === null
        ? null
        : {
            verdict: decode.maybeText(hubble, 'verdict', `${path}.hubble`),
            reasons: counts(hubble.reasons, `${path}.hubble.reasons`),
            policies: decode.list(hubble, 'policies', `${path}.hubble`, decode.string),
            nodes: decode.list(hubble, 'nodes', `${path}.hubble`, decode.string),
          },
    edges: orrery === null ? [] : decode.list(orrery, 'edges', `${path}.orrery`, decode.string),
  };
}

/** Reads an answer of `GET /api/v1/compare`. */
export function readBeside(value: unknown): Beside {
  const of = decode.fields(value, 'compare');
  const report = decode.fields(of.report, 'report');
  const summary = decode.fields(report.summary, 'summary');
  const edges = decode.fields(summary.edges, 'summary.edges');
  const hidden = decode.fields(summary.hidden, 'summary.hidden');
  return {
    server: decode.text(of, 'server', 'compare'),
    connected: decode.flag(of, 'connected', 'compare'),
    error: decode.maybeText(of, 'error', 'compare'),
    overlay: decode.flag(of, 'overlay', 'compare'),
    both: decode.number(edges, 'both', 'edges'),
    onlyHubble: decode.number(edges, 'only_hubble', 'edges'),
    onlyOrrery: decode.number(edges, 'only_orrery', 'edges'),
    unexplained: decode.number(edges, 'unexplained', 'edges'),
    agreement: decode.maybeNumber(edges, 'agreement', 'edges'),
    besideExplained: decode.maybeNumber(edges, 'beside_explained', 'edges'),
    verdictsAgree: decode.number(summary, 'verdicts_agree', 'summary'),
    verdictsCompared: decode.number(summary, 'verdicts_compared', 'summary'),
    reasons: counts(summary.reasons, 'summary.reasons'),
    lostEvents: decode.number(hidden, 'lost_events', 'hidden'),
    startMs: decode.number(report, 'start_ms', 'report'),
    endMs: decode.number(report, 'end_ms', 'report'),
    rows: decode.list(report, 'rows', 'report', row),
  };
}

/** Whether the collector says that it follows no Hubble. */
export function isNone(value: unknown): boolean {
  return typeof value === 'object' && value !== null && 'server' in value && value.server === null;
}

/** What of the rows is looked at: of whom, and with which reason; null: all. */
export interface Choice {
  readonly seen: Seen | null;
  readonly reason: string | null;
}

/** Rows that fit. */
export function chosen(rows: readonly Row[], { seen, reason }: Choice): readonly Row[] {
  return rows.filter(
    (one) =>
      (seen === null || one.seen === seen) &&
      (reason === null || one.differences.some((difference) => difference.reason === reason)),
  );
}

/** A share in percent; never 100 where something is missing. */
export function share(of: number | null): string {
  if (of === null) return '–';
  const percent = Math.floor(of * 10000) / 100;
  return `${percent}%`;
}

/** A vertex' id without its kind. */
export function plain(id: string): string {
  return id.slice(id.indexOf(':') + 1);
}
