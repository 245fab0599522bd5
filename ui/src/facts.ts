/** Pure: what is known of an edge or a node beside packets: sockets, owners, drops, DNS, hooks; types and decoders. */
import { fields, flag, list, maybeNumber, maybeText, number, string, text } from './decode';

/** Durations in microseconds, estimated by the collector; null where nothing was counted. */
export interface Histogram {
  readonly count: number;
  readonly meanUs: number | null;
  readonly p50Us: number | null;
  readonly p95Us: number | null;
}

/** What the sockets of one end told. */
export interface Sockets {
  readonly attempts: number;
  readonly established: number;
  readonly refused: number;
  readonly timedOut: number;
  readonly unreachable: number;
  readonly failedOtherwise: number;
  readonly retransmitted: number;
  readonly aborted: number;
  readonly rtt: Histogram;
}

/** Whose sockets they are. */
export interface Owner {
  readonly process: string;
  readonly container: string;
  readonly podUid: string;
  readonly pod: string | null;
}

/** Packets the kernel dropped, by its own reason. */
export interface Drop {
  readonly reason: string;
  readonly by: string;
  readonly forward: boolean;
  readonly segments: number;
  readonly nodes: readonly string[];
}

/** A question and what became of it. */
export interface Question {
  readonly name: string;
  readonly type: string;
  readonly queries: number;
  readonly failures: number;
  readonly lastRcode: string;
  readonly lastMs: number;
}

/** DNS messages of an edge. */
export interface Dns {
  readonly queries: number;
  readonly answers: number;
  readonly timeouts: number;
  readonly unparsed: number;
  readonly rcodes: readonly { readonly rcode: string; readonly count: number }[];
  readonly latency: Histogram;
  readonly questions: readonly Question[];
}

/** A virtual address that the client named instead of the server. */
export interface Via {
  readonly address: string;
  readonly port: number;
  readonly service: string | null;
}

export function via(value: unknown, path: string): Via {
  const of = fields(value, path);
  return {
    address: text(of, 'address', path),
    port: number(of, 'port', path),
    service: maybeText(of, 'service', path),
  };
}

/** A fact about the kernel and the hook that tells it. */
export interface Hook {
  readonly fact: string;
  readonly form: string;
  readonly refused: string | null;
}

/** Devices watched in one way. */
export interface TierCount {
  readonly tier: string;
  readonly devices: number;
}

function histogram(value: unknown, path: string): Histogram {
  const of = fields(value, path);
  return {
    count: number(of, 'count', path),
    meanUs: maybeNumber(of, 'mean_us', path),
    p50Us: maybeNumber(of, 'p50_us', path),
    p95Us: maybeNumber(of, 'p95_us', path),
  };
}

/** Decodes what sockets told. */
export function sockets(value: unknown, path: string): Sockets {
  const of = fields(value, path);
  return {
    attempts: number(of, 'attempts', path),
    established: number(of, 'established', path),
    refused: number(of, 'refused', path),
    timedOut: number(of, 'timed_out', path),
    unreachable: number(of, 'unreachable', path),
    failedOtherwise: number(of, 'failed_otherwise', path),
    retransmitted: number(of, 'retransmitted', path),
    aborted: number(of, 'aborted', path),
    rtt: histogram(of.rtt, `${path}.rtt`),
  };
}

/** Decodes an owner. */
export function owner(value: unknown, path: string): Owner {
  const of = fields(value, path);
  return {
    process: text(of, 'process', path),
    container: text(of, 'container', path),
    podUid: text(of, 'pod_uid', path),
    pod: maybeText(of, 'pod', path),
  };
}

/** Decodes a drop. */
export function drop(value: unknown, path: string): Drop {
  const of = fields(value, path);
  return {
    reason: text(of, 'reason', path),
    by: text(of, 'by', path),
    forward: flag(of, 'forward', path),
    segments: number(of, 'segments', path),
    nodes: list(of, 'nodes', path, string),
  };
}

function question(value: unknown, path: string): Question {
  const of = fields(value, path);
  return {
    name: text(of, 'name', path),
    type: text(of, 'type', path),
    queries: number(of, 'queries', path),
    failures: number(of, 'failures', path),
    lastRcode: text(of, 'last_rcode', path),
    lastMs: number(of, 'last_ms', path),
  };
}

/** Decodes DNS messages. */
export function dns(value: unknown, path: string): Dns {
  const of = fields(value, path);
  return {
    queries: number(of, 'queries', path),
    answers: number(of, 'answers', path),
    timeouts: number(of, 'timeouts', path),
    unparsed: number(of, 'unparsed', path),
    rcodes: list(of, 'rcodes', path, (entry, at) => {
      const rcode = fields(entry, at);
      return { rcode: text(rcode, 'rcode', at), count: number(rcode, 'count', at) };
    }),
    latency: histogram(of.latency, `${path}.latency`),
    questions: list(of, 'questions', path, question),
  };
}

/** Decodes a hook. */
export function hook(value: unknown, path: string): Hook {
  const of = fields(value, path);
  return {
    fact: text(of, 'fact', path),
    form: text(of, 'form', path),
    refused: maybeText(of, 'refused', path),
  };
}

/** Decodes a tier. */
export function tierCount(value: unknown, path: string): TierCount {
  const of = fields(value, path);
  return { tier: text(of, 'tier', path), devices: number(of, 'devices', path) };
}
