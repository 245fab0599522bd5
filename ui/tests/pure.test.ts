/** The small pure rooms: address, rows, camera, words. */
import { describe, expect, it } from 'vitest';
import { between, fit, toWorld, zoomAt } from '../src/camera';
import * as format from '../src/format';
import { firstGrouping, groupsOf } from '../src/groups';
import { troubles } from '../src/health';
import { LAYERS } from '../src/layers';
import { busiest } from '../src/links';
import { order, visibleRows } from '../src/rows';
import { readPlace, writePlace } from '../src/url';
import { edge, graphOf, node, pod } from './make';

const BARE = {
  grouping: null,
  selection: null,
  at: null,
  table: false,
  events: false,
  query: '',
  underlay: false,
  comparing: false,
  hideNoise: false,
  layers: LAYERS,
  top: 1500,
} as const;

describe('the address', () => {
  it.each([
    {
      ...BARE,
      grouping: 'node',
      selection: { kind: 'edge', id: 'a b>c:80/tcp' },
      at: 1_795_000_000,
      table: true,
      events: true,
      query: 'ns:"x y" -port:443',
      underlay: true,
      comparing: true,
      hideNoise: true,
      layers: ['l4', 'drops'],
      top: 500,
    },
    BARE,
    { ...BARE, layers: [] },
    {
      ...BARE,
      grouping: 'workload',
      selection: {
        kind: 'link',
        from: { kind: 'group', id: '~world' },
        to: { kind: 'vertex', id: 'pod:a/b' },
      },
    },
    {
      ...BARE,
      selection: {
        kind: 'link',
        from: { kind: 'workload', id: 'shop/web' },
        to: { kind: 'workload', id: 'shop/cart' },
      },
    },
    { ...BARE, grouping: 'namespace', selection: { kind: 'group', id: 'shop' } },
    { ...BARE, grouping: 'namespace', selection: { kind: 'workload', id: 'shop/web' } },
    { ...BARE, grouping: 'namespace', selection: { kind: 'node', id: 'n1' } },
  ] as const)('keeps %j', (place) => {
    expect(readPlace(writePlace(place))).toEqual(place);
  });

  it('takes no nonsense, and says nothing of what is as it comes', () => {
    const text = '?group=planet&from=x&to=v:a&table=yes&noise=loud&top=7&layers=l4,dns,drops,http';
    expect(readPlace(text)).toEqual(BARE);
    expect(writePlace(BARE)).toBe('');
  });
});

describe('the table', () => {
  const graph = graphOf(
    [pod('a'), pod('b'), pod('c')],
    [edge('a', 'b', 5), edge('b', 'c', 50, 0.1), edge('c', 'a', 500)],
  );

  it('sorts by any column, both ways', () => {
    const by = (key: Parameters<typeof order>[1]['key'], descending: boolean) =>
      order(graph, { key, descending }).map((id) => id[0]);
    expect(by('rate', true)).toEqual(['c', 'b', 'a']);
    expect(by('client', false)).toEqual(['a', 'b', 'c']);
    expect(by('loss', true)[0]).toBe('b');
  });

  it('has only the rows near the view in the page', () => {
    expect(visibleRows(12_000, 30_000, 600, 30)).toEqual({ first: 992, end: 1028 });
    expect(visibleRows(3, 0, 600, 30)).toEqual({ first: 0, end: 3 });
    expect(visibleRows(0, 0, 600, 30)).toEqual({ first: 0, end: 0 });
    expect(visibleRows(5, 90_000, 600, 30)).toEqual({ first: 4, end: 5 });
  });
});

describe('the camera', () => {
  const size = { width: 1000, height: 700 };
  it('fits an area inside its margins', () => {
    const camera = fit({ x: 0, y: 0, width: 500, height: 200 }, size, { top: 10, side: 20, bottom: 50 }, 9);
    expect(camera.zoom).toBeCloseTo(960 / 500);
    expect(toWorld(camera, 20, 350).x).toBeCloseTo(0);
  });
  it('zooms around what is under the pointer', () => {
    const camera = { zoom: 1, x: 30, y: -10 };
    const before = toWorld(camera, 400, 300);
    const after = toWorld(zoomAt(camera, 400, 300, 2), 400, 300);
    expect(after.x).toBeCloseTo(before.x);
    expect(after.y).toBeCloseTo(before.y);
  });
  it('glides from one place to another', () => {
    const from = { zoom: 1, x: 0, y: 0 };
    const to = { zoom: 4, x: -300, y: 80 };
    expect(between(from, to, 0)).toEqual(from);
    expect(between(from, to, 1).x).toBeCloseTo(to.x);
  });
});

describe('groups', () => {
  const graph = graphOf(
    [
      pod('a', { namespace: 'one', node: 'n1' }),
      pod('b', { namespace: null, workload: null, node: null }),
      pod('x', { kind: 'external', namespace: null, workload: null }),
      pod('h', { kind: 'node', name: 'n1', namespace: null, workload: null }),
      pod('s', { kind: 'service' }),
    ],
    [],
    [node('n1'), node('n2')],
  );
  const labels = (by: 'node' | 'namespace' | 'workload') => groupsOf(graph, by).map((group) => group.label);
  it('put what is no pod into tiles of its own, last', () => {
    expect(labels('namespace')).toEqual(['one', 'nodes', 'services', 'unnamed', 'world']);
    expect(labels('node')).toEqual(['n1', 'n2', 'services', 'unnamed', 'world']);
    expect(labels('workload')).toEqual(['web', 'nodes', 'services', 'unnamed', 'world']);
  });
  it('start with namespaces only where there are several', () => {
    expect(firstGrouping(graph)).toBe('workload');
    expect(firstGrouping(graphOf(['1', '2', '3', '4'].map((name) => pod(name, { namespace: name }))))).toBe(
      'namespace',
    );
  });
});

it('troubles are listed worst first', () => {
  const found = troubles(
    graphOf(
      [pod('a', { phase: 'failing' }), pod('b', { phase: 'pending' })],
      [edge('a', 'b', 1, 0.01), edge('b', 'a', 1, 0.3)],
      [node('n1', { state: 'late' }), node('n2', { state: 'lost' }), node('n3')],
    ),
    new Map(),
  );
  expect(found.lossy.map((one) => one.client)).toEqual(['b', 'a']);
  expect(found.nodes.map((one) => one.name)).toEqual(['n2', 'n1']);
  expect([found.failing.length, found.pending.length]).toEqual([1, 1]);
});

describe('words', () => {
  it.each([
    [0.4, '0.4 µs'],
    [420, '420 µs'],
    [999.6, '1.0 ms'],
    [1900, '1.9 ms'],
    [240_000, '240 ms'],
    [5_000_000, '5.0 s'],
  ])('duration %d', (value, text) => expect(format.micros(value)).toBe(text));
  it.each([
    [0, '0'],
    [0.01, '<0.1'],
    [1.26, '1.3'],
    [840.4, '840'],
    [9_999, '9,999'],
    [10_000, '10.0k'],
    [1_300_000, '1.3M'],
  ])('rate %d', (value, text) => expect(format.rate(value)).toBe(text));
  it.each([
    [0, '0%'],
    [0.00001, '<0.01%'],
    [0.0042, '0.42%'],
    [0.124, '12.4%'],
    [1, '100%'],
  ])('share %d', (value, text) => expect(format.percent(value)).toBe(text));
  it.each([
    [999, '999 B'],
    [1_500, '1.5 kB'],
    [123_456_789, '123 MB'],
  ])('bytes %d', (value, text) => expect(format.bytes(value)).toBe(text));
  it('short names drop the template hash only', () => {
    expect(format.shortName(pod('x', { name: 'web-7f9c-abcde' }))).toBe('web-abcde');
    expect(format.shortName(pod('x', { name: 'web-0' }))).toBe('web-0');
    expect(format.shortName(pod('x', { name: 'other' }))).toBe('other');
  });
});

describe('the busiest links', () => {
  it('are those of most packets, without chatter and what carries others', () => {
    const vertices = ['a', 'b', 'c'].map((id) => pod(id));
    const rates = [5, 50, 7, 0, 50, 9];
    const plain = rates.map((rate, at) => ({ ...edge('a', 'b', rate, 0, 1000 + at) }));
    const names = edge('a', 'c', 900, 0, 53);
    const tunnel = { ...edge('b', 'c', 900, 0, 4789), tunnel: 'vxlan' };
    const own = { ...edge('b', 'a', 900), own: true };
    const graph = graphOf(vertices, [names, ...plain, tunnel, own]);
    expect(busiest(graph, 3).map((one) => one.rate.forwardSkbs)).toEqual([50, 50, 9]);
    expect(busiest(graph, 9).map((one) => one.rate.forwardSkbs)).toEqual([50, 50, 9, 7, 5]);
  });
});
