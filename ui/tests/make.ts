/** Small things to test with. */
import { fromSnapshot, type Graph } from '../src/graph';
import type { Edge, NodeView, Side, Snapshot, Vertex } from '../src/view';

/** Nothing is left out. */
export const HIDDEN = {
  edges: 0,
  vertices: 0,
  noise: { own: 0, dns: 0, scrapes: 0, probes: 0, kubeSystem: 0 },
};

export function pod(id: string, changes: Partial<Vertex> = {}): Vertex {
  return {
    id,
    kind: 'pod',
    name: id,
    namespace: 'shop',
    workload: 'web',
    workloadKind: 'Deployment',
    node: 'n1',
    addresses: [],
    dnsNames: [],
    phase: 'running',
    ready: true,
    hostNetwork: false,
    createdMs: null,
    ...changes,
  };
}

export function edge(client: string, server: string, forwardSkbs = 10, ratio = 0, port = 80): Edge {
  return {
    id: `${client}>${server}:${port}/tcp`,
    client,
    server,
    port,
    protocol: 'tcp',
    tunnel: null,
    via: [],
    translated: false,
    guessed: false,
    own: false,
    state: 'live',
    firstSeenMs: 0,
    lastSeenMs: 0,
    clientSide: null,
    serverSide: null,
    rate: { forwardSkbs, reverseSkbs: 0, forwardBytes: 0, reverseBytes: 0, connections: 0 },
    loss: {
      status: 'measured',
      why: null,
      forwardLost: ratio > 0 ? 100 : 0,
      reverseLost: 0,
      forwardRatio: ratio,
      reverseRatio: 0,
    },
    drops: [],
    dns: null,
  };
}

export function side(changes: Partial<Side> = {}): Side {
  const none = { skbs: 0, segments: 0, l3Bytes: 0, payloadBytes: 0 };
  return {
    nodes: ['n1'],
    stale: false,
    points: ['pod'],
    pathChanged: false,
    forward: none,
    reverse: none,
    opened: 0,
    established: 0,
    closed: 0,
    resets: 0,
    icmpErrors: 0,
    sockets: null,
    owners: [],
    ...changes,
  };
}

export function node(name: string, changes: Partial<NodeView> = {}): NodeView {
  return {
    name,
    state: 'live',
    why: null,
    lastReportMs: null,
    tickMs: 200,
    clockOffsetMs: null,
    clockErrorMs: null,
    agentVersion: null,
    tier: 'tcx',
    tiers: [{ tier: 'tcx', devices: 1 }],
    reattached: 0,
    devices: 1,
    blindSpots: [],
    refusedHooks: [],
    hooks: [],
    drops: [],
    seenSkbs: 0,
    unseenSkbs: 0,
    unaccountedSkbs: 0,
    otherSkbs: 0,
    losses: [],
    ...changes,
  };
}

export function snapshot(changes: Partial<Snapshot> = {}): Snapshot {
  return {
    run: 'r',
    revision: 1,
    timeMs: 100_000,
    sinceMs: null,
    cluster: 'test',
    names: null,
    hidden: HIDDEN,
    nodes: [],
    vertices: [],
    edges: [],
    events: [],
    ...changes,
  };
}

export function graphOf(
  vertices: readonly Vertex[],
  edges: readonly Edge[] = [],
  nodes: readonly NodeView[] = [],
): Graph {
  return fromSnapshot(null, snapshot({ vertices, edges, nodes }));
}
