/** What is known of an edge, and why the rest is not: never a 0 for what nobody told. */
import { describe, expect, it } from 'vitest';
import { withoutUnderlay } from '../src/graph';
import { canTell, duration, failed, pointWords, roundTrips, tierWords, whyNot } from '../src/known';
import { order } from '../src/rows';
import { edge, graphOf, node, pod, side } from './make';

const rtt = (count: number, p50Us: number | null) => ({ count, meanUs: p50Us, p50Us, p95Us: p50Us });
const sockets = (count: number, p50Us: number | null, refused = 0) => ({
  attempts: 9,
  established: 9 - refused,
  refused,
  timedOut: 0,
  unreachable: 0,
  failedOtherwise: 0,
  retransmitted: 0,
  aborted: 0,
  rtt: rtt(count, p50Us),
});

describe('a fact that nobody told', () => {
  const link = {
    ...edge('a', 'b'),
    clientSide: side({ nodes: ['n1'] }),
    serverSide: side({ nodes: ['n2'] }),
  };
  const graph = (hooks: readonly (readonly [string, string, string | null])[]) =>
    graphOf(
      [],
      [link],
      [node('n1', { hooks: hooks.map(([fact, form, refused]) => ({ fact, form, refused })) }), node('n2')],
    );

  it('says which hook was refused, and where', () => {
    const refused = graph([['rtt', 'none', 'tp_btf: EPERM']]);
    expect(whyNot(link, refused, 'rtt')).toBe(
      'Not known: no hook tells it (tp_btf: EPERM) on n1; the agent does not look for it on n2.',
    );
    expect(canTell(link, refused, 'rtt')).toBe(false);
  });

  it('is told from one that did not happen', () => {
    const granted = graph([['drop', 'tracepoint', 'tp_btf: EPERM']]);
    expect(canTell(link, granted, 'drop')).toBe(true);
    expect(whyNot(link, granted, 'drop')).toContain('nothing was told yet on n1');
  });

  it('is not known where no node sees the link', () => {
    expect(whyNot(edge('a', 'b'), graph([]), 'dns')).toBe('Not known: no node sees this link.');
  });

  it('is a dash, and sorts below what is known', () => {
    expect([duration(null), duration(0)]).toEqual(['–', '0.0 µs']);
    expect([failed(edge('a', 'b')), roundTrips(edge('a', 'b'))]).toEqual([null, null]);
    const of = (client: string, refused: number) => ({
      ...edge(client, 'z'),
      clientSide: side({ sockets: sockets(1, 100 * refused, refused) }),
    });
    const all = graphOf([pod('z')], [edge('a', 'z'), of('b', 0), of('c', 4)]);
    const by = (key: 'rtt' | 'failed') => order(all, { key, descending: true }).map((id) => id[0]);
    expect([by('failed'), by('rtt')]).toEqual([
      ['c', 'b', 'a'],
      ['c', 'b', 'a'],
    ]);
  });
});

it("round trips are the client side's, else the server side's", () => {
  const client = { ...edge('a', 'b'), clientSide: side({ sockets: sockets(3, 700) }) };
  expect(roundTrips(client)?.p50Us).toBe(700);
  const server = {
    ...edge('a', 'b'),
    clientSide: side({ sockets: sockets(0, null) }),
    serverSide: side({ sockets: sockets(5, 90) }),
  };
  expect(roundTrips(server)?.p50Us).toBe(90);
});

it('points and tiers have words, those of a later version too', () => {
  expect(pointWords(['pod', 'uplink'])).toBe("at the pod's device, at the node's uplink");
  expect([pointWords([]), pointWords(['moon'])]).toEqual(['not known', 'moon']);
  expect([tierWords('sockets'), tierWords('moon')]).toEqual([
    'connections only: no packets, no loss',
    'not known to this page',
  ]);
});

it('underlay leaves the picture with the machines that only it led to', () => {
  const machine = (name: string) => pod(name, { kind: 'node', namespace: null, workload: null });
  const carrier = { ...edge('n1', 'n2'), id: 'n1>n2:8472/udp/vxlan', tunnel: 'vxlan' };
  const graph = graphOf([machine('n1'), machine('n2'), pod('a')], [carrier, edge('a', 'n2')]);
  const plain = withoutUnderlay(graph);
  expect([...plain.edges.keys()]).toEqual(['a>n2:80/tcp']);
  expect([...plain.vertices.keys()]).toEqual(['n2', 'a']);
  expect(withoutUnderlay(plain)).toBe(plain);
});
