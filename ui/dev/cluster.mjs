/** Invents a cluster that talks, for looking at the page without one. Deterministic but for time. */

const random = (seed) => () => {
  seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
  return seed / 4294967296;
};
const amount = (skbs, size) => ({
  skbs,
  segments: skbs,
  l3_bytes: skbs * (size + 28),
  payload_bytes: skbs * size,
});

function node(name, now, changes = {}) {
  return {
    name,
    state: 'live',
    why: null,
    last_report_ms: now,
    tick_ms: 200,
    clock_offset_ms: -1.2,
    clock_error_ms: 0.3,
    agent_version: '0.1.0',
    epoch_ms: now - 600_000,
    tier: 'tcx',
    tiers: [{ tier: 'tcx', devices: 8 }],
    reattached: 0,
    devices: 8,
    blind_spots: [],
    refused_hooks: [],
    hooks: [
      { fact: 'connect', form: 'tp_btf', refused: null },
      { fact: 'rtt', form: 'tp_btf', refused: null },
      { fact: 'retransmit', form: 'tracepoint', refused: 'tp_btf: operation not permitted' },
      { fact: 'drop', form: 'tp_btf', refused: null },
      { fact: 'owner', form: 'tp_btf', refused: null },
      { fact: 'dns', form: 'tc', refused: null },
    ],
    drops: [{ reason: 'no_socket', by: 'stack', forward: false, segments: 7, nodes: [name] }],
    seen_skbs: 1_204_551,
    unseen_skbs: 0,
    unaccounted_skbs: 0,
    other_skbs: 0,
    losses: [],
    ...changes,
  };
}

let address = 0;
function pod(namespace, workload, kind, suffix, on, now, changes = {}) {
  const name = `${workload}-${suffix}`;
  address += 1;
  return {
    id: `pod:${namespace}/${name}`,
    kind: 'pod',
    name,
    namespace,
    workload,
    workload_kind: kind,
    node: on,
    addresses: [`10.1.${address >> 8}.${address & 255}`],
    dns_names: [],
    phase: 'running',
    ready: true,
    host_network: false,
    created_ms: now - 3_600_000,
    ...changes,
  };
}

function edge(client, server, port, protocol, rate, now, changes = {}) {
  const ratio = changes.ratio ?? null;
  const two = server.kind === 'pod' && client.kind === 'pod';
  const sent = Math.round(rate * 60);
  const arrived = Math.round(sent * (1 - (ratio ?? 0)));
  const side = (nodes, forward, reverse) => ({
    nodes,
    stale: false,
    points: ['pod'],
    path_changed: false,
    forward: amount(forward, 180),
    reverse: amount(reverse, 640),
    opened: protocol === 'tcp' ? Math.round(sent / 9) : 0,
    established: protocol === 'tcp' ? Math.round(sent / 9) : 0,
    closed: protocol === 'tcp' ? Math.round(sent / 9) : 0,
    resets: 0,
    icmp_errors: 0,
    sockets: null,
    owners: [],
  });
  return {
    id: `${client.id}>${server.id}:${port}/${protocol}${changes.tunnel ? `/${changes.tunnel}` : ''}`,
    client: client.id,
    server: server.id,
    port,
    protocol,
    tunnel: changes.tunnel ?? null,
    via: [],
    translated: false,
    guessed: changes.guessed ?? false,
    own: changes.own ?? false,
    state: changes.state ?? 'live',
    first_seen_ms: now - 300_000,
    last_seen_ms: now,
    client_side: client.node === null ? null : side([client.node], sent, arrived),
    server_side: two ? side([server.node], arrived, arrived) : null,
    rate: {
      forward_skbs: rate,
      reverse_skbs: rate * (1 - (ratio ?? 0)),
      forward_bytes: rate * 208,
      reverse_bytes: rate * 668,
      connections: protocol === 'tcp' ? rate / 9 : 0,
    },
    loss: two
      ? {
          status: 'measured',
          why: null,
          forward_lost: sent - arrived,
          reverse_lost: 0,
          forward_ratio: ratio ?? 0,
          reverse_ratio: 0,
        }
      : {
          status: 'one-sided',
          why: `no agent sees ${server.name}`,
          forward_lost: null,
          reverse_lost: null,
          forward_ratio: null,
          reverse_ratio: null,
        },
    drops: [],
    dns: null,
  };
}

const histogram = (count, mean) => ({ count, mean_us: mean, p50_us: mean * 0.8, p95_us: mean * 2.6 });

/** What sockets and kernels know of an edge: it works, but for what `bad` says. */
export function known(edge, bad = {}) {
  const attempts = edge.client_side?.opened ?? 0;
  const side = (of, end) =>
    of && {
      ...of,
      sockets: {
        attempts,
        established: attempts - (bad.refused ?? 0) - (bad.timed_out ?? 0),
        refused: bad.refused ?? 0,
        timed_out: bad.timed_out ?? 0,
        unreachable: 0,
        failed_otherwise: 0,
        retransmitted: bad.retransmitted ?? 2,
        aborted: 1,
        rtt: histogram(attempts, bad.rtt_us ?? 640),
      },
      owners: [
        {
          process: end.split(':').pop().split('/').pop().split('-')[0],
          container: '9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08',
          pod_uid: '0d6c7e0e-6d0f-4c37-9a0b-2f3a1c5d7e11',
          pod: end.startsWith('pod:') ? end.slice(4) : null,
        },
      ],
    };
  return {
    ...edge,
    client_side: side(edge.client_side, edge.client),
    server_side: side(edge.server_side, edge.server),
  };
}

/** An edge to a name server; `bad` counts per answer that goes well. */
function asked(edge, names, bad = {}) {
  const questions = names.map(([name, type, queries, failures, last_rcode]) => ({
    name,
    type,
    queries,
    failures,
    last_rcode,
    last_ms: edge.last_seen_ms,
  }));
  const queries = questions.reduce((sum, question) => sum + question.queries, 0);
  return {
    ...edge,
    dns: {
      queries,
      answers: queries - (bad.timeouts ?? 0),
      timeouts: bad.timeouts ?? 0,
      unparsed: 0,
      rcodes: [
        { rcode: 'NOERROR', count: queries - (bad.timeouts ?? 0) - (bad.servfail ?? 0) },
        { rcode: 'SERVFAIL', count: bad.servfail ?? 0 },
      ].filter(({ count }) => count > 0),
      latency: histogram(queries, 420),
      questions,
    },
  };
}

/** What one step of time adds to what is counted: an edge that fails goes on to fail. */
export function grow(edge) {
  const socks = edge.client_side?.sockets ?? null;
  const failing = socks !== null && socks.refused > 0;
  const client_side =
    socks === null
      ? edge.client_side
      : {
          ...edge.client_side,
          sockets: {
            ...socks,
            attempts: socks.attempts + 1,
            refused: socks.refused + (failing ? 1 : 0),
            established: socks.established + (failing ? 0 : 1),
          },
        };
  const drops = edge.drops.map((drop) => ({ ...drop, segments: drop.segments + 2 }));
  const dns = edge.dns && {
    ...edge.dns,
    queries: edge.dns.queries + 4,
    answers: edge.dns.answers + 4,
    rcodes: edge.dns.rcodes.map((one) => ({ ...one, count: one.count + (one.rcode === 'NOERROR' ? 3 : 1) })),
  };
  return { ...edge, client_side, drops, dns };
}

const external = (name, dns_names = []) => ({
  id: `external:${name}`,
  kind: 'external',
  name: dns_names[0] ?? name,
  namespace: null,
  workload: null,
  workload_kind: null,
  node: null,
  addresses: [name],
  dns_names,
  phase: 'unknown',
  ready: true,
  host_network: false,
  created_ms: null,
});

/** Three nodes, a small shop, one lossy link, links at 1, 100 and 10,000 packets a second. */
export function small(now) {
  const nodes = [
    node('n1', now),
    node('n2', now, { clock_offset_ms: 0.4 }),
    node('n3', now, {
      clock_offset_ms: 2.1,
      tier: 'partial',
      tiers: [
        { tier: 'cgroup_skb', devices: 2 },
        { tier: 'tcx', devices: 5 },
        { tier: 'unwatched', devices: 1 },
      ],
      blind_spots: [{ device: 'eth1', reason: 'attach tcx: device busy' }],
      reattached: 2,
      hooks: [
        { fact: 'connect', form: 'tracepoint', refused: 'tp_btf: operation not permitted' },
        {
          fact: 'rtt',
          form: 'none',
          refused: 'tp_btf: operation not permitted; kprobe: no such file or directory',
        },
        { fact: 'dns', form: 'tc', refused: null },
      ],
    }),
  ];
  const machines = ['n1', 'n2', 'n3'].map((name, i) => ({
    ...external(`10.9.0.${i + 1}`),
    id: `node:${name}`,
    kind: 'node',
    name,
    node: name,
  }));
  const make = (namespace, workload, kind, count, first = 0) =>
    Array.from({ length: count }, (_, i) =>
      pod(
        namespace,
        workload,
        kind,
        kind === 'StatefulSet'
          ? `${i}`
          : `7f9c6d5b8-${(0x2a5c1 + i * 7919 + workload.length * 1337).toString(36).slice(-5)}`,
        `n${((first + i) % 3) + 1}`,
        now,
      ),
    );
  const web = make('shop', 'web', 'Deployment', 2);
  const cart = make('shop', 'cart', 'Deployment', 2, 1);
  const catalog = make('shop', 'catalog', 'Deployment', 2, 2);
  const payments = make('shop', 'payments', 'Deployment', 1);
  const ledger = make('shop', 'ledger', 'StatefulSet', 1, 1);
  const redis = make('data', 'redis', 'StatefulSet', 1, 2);
  const postgres = make('data', 'postgres', 'StatefulSet', 1, 0);
  const dns = make('kube-system', 'coredns', 'Deployment', 2, 1);
  const gen = make('load', 'generator', 'Deployment', 1, 0);
  const sinks = [1, 100, 10000].map((rate, i) =>
    pod('load', `sink-${rate}`, 'Deployment', `6d5b-${i}q8zt`, `n${i + 1}`, now),
  );
  const syslog = make('load', 'syslog', 'DaemonSet', 3, 0);
  const world = [
    external('192.0.2.10', [
      'api.pay.example.com',
      'edge-7.a-very-long-name-of-a-content-network.example.net',
    ]),
    external('2001:db8::17'),
  ];
  const vertices = [
    ...web,
    ...cart,
    ...catalog,
    ...payments,
    ...ledger,
    ...redis,
    ...postgres,
    ...dns,
    ...gen,
    ...sinks,
    ...syslog,
    ...world,
    ...machines,
  ];
  const edges = [
    ...web.flatMap((a) => [
      ...cart.map((b) => known(edge(a, b, 8080, 'tcp', 42, now))),
      ...catalog.map((b) => edge(a, b, 8080, 'tcp', 130, now)),
    ]),
    ...cart.flatMap((a) => [
      edge(a, redis[0], 6379, 'tcp', 310, now),
      edge(a, payments[0], 8443, 'tcp', 12, now),
    ]),
    ...catalog.map((a) => edge(a, postgres[0], 5432, 'tcp', 85, now)),
    {
      ...edge(payments[0], ledger[0], 8443, 'udp', 84, now, { ratio: 0.124, guessed: true }),
      drops: [
        { reason: 'netfilter_drop', by: 'stack', forward: true, segments: 611, nodes: ['n2'] },
        { reason: 'tc_ingress', by: 'tc', forward: false, segments: 3, nodes: ['n1'] },
      ],
    },
    edge(ledger[0], postgres[0], 5432, 'tcp', 22, now),
    ...[...web, ...cart, ...payments].map((a, i) =>
      asked(
        edge(a, dns[i % 2], 53, 'udp', 2.4, now),
        [
          ['ledger.shop.svc.cluster.local', 'A', 90, 0, 'NOERROR'],
          ['a-name-that-is-much-longer-than-its-column.eu-central-1.example.com', 'AAAA', 30, 9, 'SERVFAIL'],
          ['gone.example.com', 'A', 2, 2, 'none'],
        ],
        i === 0 ? { servfail: 9, timeouts: 2 } : {},
      ),
    ),
    edge(machines[0], machines[1], 8472, 'udp', 400, now, { tunnel: 'vxlan' }),
    edge(machines[1], machines[2], 8472, 'udp', 240, now, { tunnel: 'vxlan' }),
    ...sinks.map((b, i) => edge(gen[0], b, 9000 + i, 'udp', [1, 100, 10000][i], now)),
    ...syslog.map((a) => edge(a, web[0], 514, 'udp', 0.6, now)),
    known(edge(payments[0], world[0], 443, 'tcp', 6, now), { refused: 31, timed_out: 4, rtt_us: 23_400 }),
    edge(web[1], world[1], 443, 'tcp', 3, now, { state: 'stale' }),
  ];
  return { nodes, vertices, edges, cart, cluster: 'lab' };
}

const NAMESPACES =
  'kube-system monitoring web-shop logging catalog mobile-bff orders checkout kafka search staging minio payments inventory auth recommendations cart accounts ci-runners postgres redis fraud elastic media pricing shipping feature-store partner-api ingress-nginx ml-serving ledger ml-batch notifications qa reports sandbox reviews cert-manager external-dns gatekeeper vault argocd'.split(
    ' ',
  );

/** 154 nodes, about 4,000 pods, 12,000 links. */
export function big(now) {
  const next = random(7);
  const nodes = Array.from({ length: 154 }, (_, i) => {
    const name = `n-${String(i).padStart(3, '0')}`;
    if (i === 17)
      return node(name, now, {
        state: 'lossy',
        why: 'event ring full: 17 lost in the last minute',
        losses: [{ cause: 'ring_full', count: 17 }],
      });
    if (i === 80)
      return node(name, now, { state: 'lost', why: 'no report for 41 s', last_report_ms: now - 41_000 });
    return node(name, now);
  });
  const vertices = [];
  NAMESPACES.forEach((namespace, n) => {
    const total = Math.round([520, 260, 180, 196, 168][n] ?? 20 + next() * 130);
    let left = total;
    for (let w = 0; left > 0; w++) {
      const size = Math.min(left, 2 + Math.floor(next() * 40));
      left -= size;
      for (let i = 0; i < size; i++) {
        const roll = next();
        const phase = roll < 0.004 ? 'failing' : roll < 0.009 ? 'pending' : 'running';
        const on = `n-${String(Math.floor(next() * 154)).padStart(3, '0')}`;
        vertices.push(
          pod(
            namespace,
            `${namespace}-${'abcdefghijklmnopqrst'[w % 20]}`,
            'Deployment',
            `7f9c-${(i * 7919 + 46656).toString(36)}`,
            on,
            now,
            { phase, ready: phase === 'running' },
          ),
        );
      }
    }
  });
  const workloads = new Map();
  for (const one of vertices) {
    const key = `${one.namespace}/${one.workload}`;
    workloads.set(key, [...(workloads.get(key) ?? []), one]);
  }
  const all = [...workloads.values()];
  const edges = new Map();
  // Every workload talks to a few others, mostly of a few near namespaces, as real ones do.
  for (let round = 0; edges.size < 12_000; round++) {
    const clients = all[round % all.length];
    const home = NAMESPACES.indexOf(clients[0].namespace);
    const near = NAMESPACES[(home + [0, 0, 0, 3, 7][Math.floor(next() * 5)]) % NAMESPACES.length];
    const targets = all.filter((pods) => pods[0].namespace === near);
    const servers = targets[Math.floor(next() * targets.length)];
    const scale = 10 ** (next() * 3.2 - 0.8);
    const port = [8080, 5432, 6379, 443, 53][Math.floor(next() * 5)];
    for (const client of clients)
      for (let i = 0; i < 2; i++) {
        const server = servers[Math.floor(next() * servers.length)];
        if (client === server) continue;
        const made = edge(client, server, port, 'tcp', (scale * (0.5 + next())) / clients.length, now);
        edges.set(made.id, made);
      }
  }
  const from = vertices.find((one) => one.namespace === 'payments');
  const to = vertices.find((one) => one.namespace === 'ledger');
  const lossy = edge(from, to, 8443, 'tcp', 840, now, { ratio: 0.124 });
  edges.set(lossy.id, lossy);
  const checkout = vertices.filter((one) => one.workload === 'checkout-a');
  return { nodes, vertices, edges: [...edges.values()], cart: checkout, cluster: 'prod-eu-1' };
}

/** One more pod of the workload of `like`. */
export function another(like, index, now) {
  return pod(like.namespace, like.workload, 'Deployment', `7f9c6d5b8-new${index}x`, like.node, now, {
    created_ms: now,
  });
}
