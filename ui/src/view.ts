/**
 * What the collector tells browsers: the types, and a decoder that checks every field.
 *
 * Unknown fields are ignored and unknown words of an enumeration become `unknown`, because collector and page
 * are upgraded at different times; a missing or mistyped field is refused with its path.
 */

import { type ClusterEvent, event, type Names, names } from './cluster';
import {
  type Fields,
  fields,
  flag,
  list,
  maybeNumber,
  maybeText,
  number,
  string,
  text,
  word,
} from './decode';
import {
  type Dns,
  type Drop,
  dns,
  drop,
  type Hook,
  hook,
  type Owner,
  owner,
  type Sockets,
  sockets,
  type TierCount,
  tierCount,
  type Via,
  via,
} from './facts';

export type { ClusterEvent, Names } from './cluster';

/** What a filtered view leaves out: edges and vertices by the filter, edges by kind of noise. */
export interface Hidden {
  readonly edges: number;
  readonly vertices: number;
  readonly noise: {
    readonly own: number;
    readonly dns: number;
    readonly scrapes: number;
    readonly probes: number;
    readonly kubeSystem: number;
  };
}

/** State of a machine's agent. */
export type NodeState = 'live' | 'late' | 'lost' | 'lossy' | 'unknown';

/** A machine and what its agent can and cannot see. */
export interface NodeView {
  readonly name: string;
  readonly state: NodeState;
  readonly why: string | null;
  readonly lastReportMs: number | null;
  readonly tickMs: number | null;
  readonly clockOffsetMs: number | null;
  readonly clockErrorMs: number | null;
  readonly agentVersion: string | null;
  readonly tier: string | null;
  readonly tiers: readonly TierCount[];
  readonly devices: number;
  /** How often our programs were removed by somebody else and attached again. */
  readonly reattached: number;
  readonly blindSpots: readonly { readonly device: string; readonly reason: string }[];
  readonly refusedHooks: readonly string[];
  readonly hooks: readonly Hook[];
  /** Drops that belong to no edge. */
  readonly drops: readonly Drop[];
  readonly seenSkbs: number;
  readonly unseenSkbs: number;
  readonly unaccountedSkbs: number;
  readonly otherSkbs: number;
  readonly losses: readonly { readonly cause: string; readonly count: number }[];
}

/** What a vertex stands for. */
export type VertexKind = 'pod' | 'external' | 'node' | 'service' | 'unknown';
/** Life of a pod, as far as the names' source knows. */
export type Phase = 'running' | 'pending' | 'failing' | 'succeeded' | 'gone' | 'unknown';

/** A pod, a machine, a service or an address of the world. */
export interface Vertex {
  readonly id: string;
  readonly kind: VertexKind;
  readonly name: string;
  readonly namespace: string | null;
  readonly workload: string | null;
  readonly workloadKind: string | null;
  readonly node: string | null;
  readonly addresses: readonly string[];
  /** Names that DNS answers gave to its address, newest first. */
  readonly dnsNames: readonly string[];
  readonly phase: Phase;
  readonly ready: boolean;
  readonly hostNetwork: boolean;
  readonly createdMs: number | null;
}

/** Counts in the three units, never mixed, and payload beside them. */
export interface Amount {
  readonly skbs: number;
  readonly segments: number;
  readonly l3Bytes: number;
  readonly payloadBytes: number;
}

/** What one end of an edge saw. */
export interface Side {
  readonly nodes: readonly string[];
  readonly stale: boolean;
  /** Classes of hooks its packets were counted at. */
  readonly points: readonly string[];
  /** The packets took another way past the hooks in mid-life. */
  readonly pathChanged: boolean;
  readonly forward: Amount;
  readonly reverse: Amount;
  readonly opened: number;
  readonly established: number;
  readonly closed: number;
  readonly resets: number;
  readonly icmpErrors: number;
  /** What its sockets told; null where no hook told anything. */
  readonly sockets: Sockets | null;
  readonly owners: readonly Owner[];
}

/** Per-second rates of an edge; forward is client to server. */
export interface Rate {
  readonly forwardSkbs: number;
  readonly reverseSkbs: number;
  readonly forwardBytes: number;
  readonly reverseBytes: number;
  readonly connections: number;
}

/** What was sent on one side and did not arrive on the other, or why that cannot be said. */
export interface Loss {
  readonly status: string;
  readonly why: string | null;
  readonly forwardLost: number | null;
  readonly reverseLost: number | null;
  readonly forwardRatio: number | null;
  readonly reverseRatio: number | null;
}

/** Traffic of one client with one server's port. */
export interface Edge {
  readonly id: string;
  readonly client: string;
  readonly server: string;
  readonly port: number;
  readonly protocol: string;
  /** Kind of tunnel, for traffic between nodes that carries other traffic. */
  readonly tunnel: string | null;
  /** Virtual addresses that the client named instead of the server. */
  readonly via: readonly Via[];
  /** Counted before and after a translation, on two edges that could not be joined. */
  readonly translated: boolean;
  readonly guessed: boolean;
  readonly own: boolean;
  readonly state: string;
  readonly firstSeenMs: number;
  readonly lastSeenMs: number;
  readonly clientSide: Side | null;
  readonly serverSide: Side | null;
  readonly rate: Rate;
  readonly loss: Loss;
  readonly drops: readonly Drop[];
  readonly dns: Dns | null;
}

/** The whole picture at one revision. */
export interface Snapshot {
  readonly run: string;
  readonly revision: number;
  readonly timeMs: number;
  readonly sinceMs: number | null;
  readonly cluster: string;
  readonly names: Names | null;
  readonly hidden: Hidden;
  readonly nodes: readonly NodeView[];
  readonly vertices: readonly Vertex[];
  readonly edges: readonly Edge[];
  /** The newest, oldest first. */
  readonly events: readonly ClusterEvent[];
}

/** What entered or changed, and what left. */
export interface Change<T> {
  readonly upsert: readonly T[];
  readonly remove: readonly string[];
}

/** The step from revision `base` to `revision`. */
export interface Delta {
  readonly run: string;
  readonly revision: number;
  readonly base: number;
  readonly timeMs: number;
  readonly names: Names | null;
  readonly hidden: Hidden;
  readonly nodes: Change<NodeView>;
  readonly vertices: Change<Vertex>;
  readonly edges: Change<Edge>;
  /** Those since `base`, oldest first. */
  readonly events: readonly ClusterEvent[];
}

function hidden(value: unknown, path: string): Hidden {
  const of = fields(value, path);
  const noise = fields(of.noise, `${path}.noise`);
  return {
    edges: number(of, 'edges', path),
    vertices: number(of, 'vertices', path),
    noise: {
      own: number(noise, 'own', path),
      dns: number(noise, 'dns', path),
      scrapes: number(noise, 'scrapes', path),
      probes: number(noise, 'probes', path),
      kubeSystem: number(noise, 'kube_system', path),
    },
  };
}

function node(value: unknown, path: string): NodeView {
  const of = fields(value, path);
  return {
    name: text(of, 'name', path),
    state: word(text(of, 'state', path), ['live', 'late', 'lost', 'lossy']),
    why: maybeText(of, 'why', path),
    lastReportMs: maybeNumber(of, 'last_report_ms', path),
    tickMs: maybeNumber(of, 'tick_ms', path),
    clockOffsetMs: maybeNumber(of, 'clock_offset_ms', path),
    clockErrorMs: maybeNumber(of, 'clock_error_ms', path),
    agentVersion: maybeText(of, 'agent_version', path),
    tier: maybeText(of, 'tier', path),
    tiers: list(of, 'tiers', path, tierCount),
    reattached: number(of, 'reattached', path),
    devices: number(of, 'devices', path),
    blindSpots: list(of, 'blind_spots', path, (entry, at) => {
      const spot = fields(entry, at);
      return { device: text(spot, 'device', at), reason: text(spot, 'reason', at) };
    }),
    refusedHooks: list(of, 'refused_hooks', path, string),
    hooks: list(of, 'hooks', path, hook),
    drops: list(of, 'drops', path, drop),
    seenSkbs: number(of, 'seen_skbs', path),
    unseenSkbs: number(of, 'unseen_skbs', path),
    unaccountedSkbs: number(of, 'unaccounted_skbs', path),
    otherSkbs: number(of, 'other_skbs', path),
    losses: list(of, 'losses', path, (entry, at) => {
      const loss = fields(entry, at);
      return { cause: text(loss, 'cause', at), count: number(loss, 'count', at) };
    }),
  };
}

function vertex(value: unknown, path: string): Vertex {
  const of = fields(value, path);
  return {
    id: text(of, 'id', path),
    kind: word(text(of, 'kind', path), ['pod', 'external', 'node', 'service']),
    name: text(of, 'name', path),
    namespace: maybeText(of, 'namespace', path),
    workload: maybeText(of, 'workload', path),
    workloadKind: maybeText(of, 'workload_kind', path),
    node: maybeText(of, 'node', path),
    addresses: list(of, 'addresses', path, string),
    dnsNames: list(of, 'dns_names', path, string),
    phase: word(text(of, 'phase', path), ['running', 'pending', 'failing', 'succeeded', 'gone']),
    ready: flag(of, 'ready', path),
    hostNetwork: flag(of, 'host_network', path),
    createdMs: maybeNumber(of, 'created_ms', path),
  };
}

function amount(value: unknown, path: string): Amount {
  const of = fields(value, path);
  return {
    skbs: number(of, 'skbs', path),
    segments: number(of, 'segments', path),
    l3Bytes: number(of, 'l3_bytes', path),
    payloadBytes: number(of, 'payload_bytes', path),
  };
}

function side(value: unknown, path: string): Side | null {
  if (value === null || value === undefined) return null;
  const of = fields(value, path);
  return {
    nodes: list(of, 'nodes', path, string),
    stale: flag(of, 'stale', path),
    points: list(of, 'points', path, string),
    pathChanged: flag(of, 'path_changed', path),
    forward: amount(of.forward, `${path}.forward`),
    reverse: amount(of.reverse, `${path}.reverse`),
    opened: number(of, 'opened', path),
    established: number(of, 'established', path),
    closed: number(of, 'closed', path),
    resets: number(of, 'resets', path),
    icmpErrors: number(of, 'icmp_errors', path),
    sockets: of.sockets === null ? null : sockets(of.sockets, `${path}.sockets`),
    owners: list(of, 'owners', path, owner),
  };
}

function edge(value: unknown, path: string): Edge {
  const of = fields(value, path);
  const rate = fields(of.rate, `${path}.rate`);
  const loss = fields(of.loss, `${path}.loss`);
  return {
    id: text(of, 'id', path),
    client: text(of, 'client', path),
    server: text(of, 'server', path),
    port: number(of, 'port', path),
    protocol: text(of, 'protocol', path),
    tunnel: maybeText(of, 'tunnel', path),
    via: list(of, 'via', path, via),
    translated: flag(of, 'translated', path),
    guessed: flag(of, 'guessed', path),
    own: flag(of, 'own', path),
    state: text(of, 'state', path),
    firstSeenMs: number(of, 'first_seen_ms', path),
    lastSeenMs: number(of, 'last_seen_ms', path),
    clientSide: side(of.client_side, `${path}.client_side`),
    serverSide: side(of.server_side, `${path}.server_side`),
    rate: {
      forwardSkbs: number(rate, 'forward_skbs', `${path}.rate`),
      reverseSkbs: number(rate, 'reverse_skbs', `${path}.rate`),
      forwardBytes: number(rate, 'forward_bytes', `${path}.rate`),
      reverseBytes: number(rate, 'reverse_bytes', `${path}.rate`),
      connections: number(rate, 'connections', `${path}.rate`),
    },
    loss: {
      status: text(loss, 'status', `${path}.loss`),
      why: maybeText(loss, 'why', `${path}.loss`),
      forwardLost: maybeNumber(loss, 'forward_lost', `${path}.loss`),
      reverseLost: maybeNumber(loss, 'reverse_lost', `${path}.loss`),
      forwardRatio: maybeNumber(loss, 'forward_ratio', `${path}.loss`),
      reverseRatio: maybeNumber(loss, 'reverse_ratio', `${path}.loss`),
    },
    drops: list(of, 'drops', path, drop),
    dns: of.dns === null ? null : dns(of.dns, `${path}.dns`),
  };
}

function change<T>(of: Fields, key: string, item: (value: unknown, path: string) => T): Change<T> {
  const value = fields(of[key], key);
  return { upsert: list(value, 'upsert', key, item), remove: list(value, 'remove', key, string) };
}

/** Decodes an already parsed `snapshot` event. */
export function decodeSnapshot(value: unknown): Snapshot {
  const of = fields(value, 'snapshot');
  return {
    run: text(of, 'run', 'snapshot'),
    revision: number(of, 'revision', 'snapshot'),
    timeMs: number(of, 'time_ms', 'snapshot'),
    sinceMs: maybeNumber(of, 'since_ms', 'snapshot'),
    cluster: maybeText(of, 'cluster', 'snapshot') ?? '',
    names: names(of.names, 'snapshot.names'),
    hidden: hidden(of.hidden, 'snapshot.hidden'),
    nodes: list(of, 'nodes', 'snapshot', node),
    vertices: list(of, 'vertices', 'snapshot', vertex),
    edges: list(of, 'edges', 'snapshot', edge),
    events: list(of, 'events', 'snapshot', event),
  };
}

/** Decodes an already parsed `delta` event. */
export function decodeDelta(value: unknown): Delta {
  const of = fields(value, 'delta');
  return {
    run: text(of, 'run', 'delta'),
    revision: number(of, 'revision', 'delta'),
    base: number(of, 'base', 'delta'),
    timeMs: number(of, 'time_ms', 'delta'),
    names: names(of.names, 'delta.names'),
    hidden: hidden(of.hidden, 'delta.hidden'),
    nodes: change(of, 'nodes', node),
    vertices: change(of, 'vertices', vertex),
    edges: change(of, 'edges', edge),
    events: list(of, 'events', 'delta', event),
  };
}
