/** Contract: the fixtures that the collector's tests decode, too. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { DecodeError } from '../src/decode';
import { decodeDelta, decodeSnapshot } from '../src/view';

const fixture = (name: string): unknown =>
  JSON.parse(readFileSync(new URL(`../fixtures/${name}.json`, import.meta.url), 'utf8'));

describe('the shared fixtures', () => {
  it('decode as a snapshot', () => {
    const snapshot = decodeSnapshot(fixture('snapshot'));
    expect(snapshot).toMatchObject({ run: '18f3a2b4c5d6e7f8', revision: 41, cluster: 'lab' });
    expect(snapshot.nodes.map((node) => [node.name, node.state])).toEqual([
      ['n1', 'live'],
      ['n2', 'lossy'],
    ]);
    expect(snapshot.nodes[1]?.blindSpots).toEqual([{ device: 'veth9', reason: 'attach tcx: device busy' }]);
    expect(snapshot.vertices.map((vertex) => vertex.kind)).toEqual([
      'pod',
      'pod',
      'node',
      'node',
      'external',
    ]);
    const [lossy, oneSided] = snapshot.edges;
    expect(lossy?.clientSide?.forward.skbs).toBe(1000);
    expect(lossy?.serverSide?.forward.skbs).toBe(880);
    expect(lossy?.loss.forwardRatio).toBe(0.12);
    expect(oneSided?.serverSide).toBeNull();
    expect(snapshot.names?.ambiguous).toBe(1);
    expect(snapshot.events.map((event) => [event.kind, event.text])).toEqual([
      ['node-late', 'late: 3 reports overdue'],
      ['workload-scaled', '2 → 8'],
    ]);
    expect(oneSided?.loss).toMatchObject({ status: 'one-sided', forwardRatio: null });
  });

  it('decode with the facts beside packets', () => {
    const { nodes, vertices, edges } = decodeSnapshot(fixture('snapshot'));
    expect(nodes[0]?.hooks[2]).toMatchObject({ fact: 'drop', form: 'none' });
    expect(nodes[0]).toMatchObject({ reattached: 2, tiers: [{ tier: 'tcx', devices: 4 }] });
    expect(nodes[0]?.drops[0]).toMatchObject({ reason: 'no_socket', segments: 7 });
    expect(vertices[4]).toMatchObject({ dnsNames: ['api.example.com', 'cdn.example.net'] });
    const [lossy, failing, dns, tunnel] = edges;
    expect(lossy?.drops[1]).toMatchObject({ reason: 'tc_ingress', by: 'tc', forward: false });
    expect(lossy?.serverSide).toMatchObject({ points: ['pod', 'tunnel'], pathChanged: true, sockets: null });
    expect(failing?.clientSide?.sockets).toMatchObject({
      attempts: 9,
      timedOut: 1,
      rtt: { count: 40, p95Us: 1900 },
    });
    expect(failing?.clientSide?.owners[0]).toMatchObject({ pod: 'shop/payments-7f9c6d5b8-x2k4p' });
    expect(dns?.dns).toMatchObject({ timeouts: 2, latency: { count: 22 } });
    expect(dns?.dns?.questions[2]).toMatchObject({ type: 'A', lastRcode: 'none' });
    expect(tunnel).toMatchObject({ tunnel: 'vxlan', dns: null, drops: [] });
  });

  it('decode as a delta', () => {
    const delta = decodeDelta(fixture('delta'));
    expect(delta).toMatchObject({ base: 41, revision: 42, names: { state: 'stale' } });
    expect(delta.vertices.upsert[0]).toMatchObject({ phase: 'pending', addresses: [] });
    expect(delta.edges.remove).toHaveLength(1);
    expect(delta.events).toEqual([
      {
        timeMs: 1795233127150,
        kind: 'pod-added',
        subject: 'shop/cart-6c4b9-new01',
        text: 'added on n2',
      },
    ]);
  });
});

describe('the decoder', () => {
  const broken = (change: (of: Record<string, unknown>) => void): unknown => {
    const of = fixture('snapshot') as Record<string, unknown>;
    change(of);
    return of;
  };

  const first = (list: unknown): Record<string, unknown> => {
    const [one] = list as Record<string, unknown>[];
    if (one === undefined) throw new Error('empty list');
    return one;
  };

  it.each([
    ['not an object', () => 7, 'snapshot'],
    ['an array', () => [], 'snapshot'],
    [
      'a missing revision',
      () =>
        broken((of) => {
          delete of.revision;
        }),
      'snapshot.revision',
    ],
    [
      'edges as an object',
      () =>
        broken((of) => {
          of.edges = {};
        }),
      'snapshot.edges',
    ],
    [
      'a rate that is text',
      () =>
        broken((of) => {
          (first(of.edges).rate as Record<string, unknown>).forward_skbs = 'fast';
        }),
      'snapshot.edges[0].rate.forward_skbs',
    ],
    [
      'an address that is a number',
      () =>
        broken((of) => {
          first(of.vertices).addresses = [1];
        }),
      'snapshot.vertices[0].addresses[0]',
    ],
  ])('refuses %s and names its path', (_, make, path) => {
    expect(() => decodeSnapshot(make())).toThrow(DecodeError);
    expect(() => decodeSnapshot(make())).toThrow(path);
  });

  it('takes fields and words it does not know', () => {
    const snapshot = decodeSnapshot(
      broken((of) => {
        of.weather = 'fine';
        first(of.nodes).state = 'sleepy';
        first(of.vertices).phase = 'hatching';
      }),
    );
    expect(snapshot.nodes[0]?.state).toBe('unknown');
    expect(snapshot.vertices[0]?.phase).toBe('unknown');
  });
});
