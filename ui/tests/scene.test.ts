/** What is drawn: the spacing formula, bundling by zoom, the bound on links, loss, dimming. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fan } from '../src/fan';
import { distance, measure, pointAt } from '../src/geometry';
import type { Graph } from '../src/graph';
import { groupsOf } from '../src/groups';
import { LAYERS, type Layer } from '../src/layers';
import { arrange } from '../src/layout';
import { KEEP } from '../src/links';
import { hit } from '../src/pick';
import { FLAG, type Scene, type SceneInput, TONE } from '../src/picture';
import { activity, lineWidth, spacing } from '../src/rate';
import { compose } from '../src/scene';
import type { Selection } from '../src/select';
import { edge, graphOf, node, pod } from './make';

describe('spacing', () => {
  it.each([
    [1, 120],
    [10, 68.85],
    [100, 39.5],
    [1000, 22.66],
    [10_000, 13],
    [100_000, 13],
    [0.5, 120],
  ])('at %d packets per second is %d px', (rate, gap) => {
    expect(spacing(rate)).toBeCloseTo(gap, 1);
  });

  it('is none where nothing moves', () => {
    expect(spacing(0)).toBeNull();
    expect(spacing(0.1)).toBeNull();
    expect(spacing(Number.NaN)).toBeNull();
  });

  it('never widens with a higher rate and stays within its bounds', () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0.2, max: 1e7, noNaN: true }),
        fc.double({ min: 1, max: 50, noNaN: true }),
        (rate, times) => {
          const gap = spacing(rate) ?? Number.NaN;
          expect(gap).toBeGreaterThanOrEqual(13);
          expect(gap).toBeLessThanOrEqual(120);
          expect(spacing(rate * times) ?? Number.NaN).toBeLessThanOrEqual(gap);
        },
      ),
    );
  });
});

it('lines are 0.55 to 1.7 px, activity has four steps', () => {
  expect(lineWidth(0)).toBeCloseTo(0.55);
  expect(lineWidth(10_000)).toBeCloseTo(1.7);
  expect(lineWidth(1e9)).toBeCloseTo(1.7);
  expect([0, 1, 50, 1000].map(activity)).toEqual([0, 1, 2, 3]);
});

const TOP = 1500;
const ROOM = { width: 1000, height: 700 };
function draw(
  graph: Graph,
  more: {
    zoom?: number;
    selection?: Selection;
    sick?: SceneInput['sick'];
    layers?: readonly Layer[];
    top?: number;
    before?: ReadonlySet<string>;
  } = {},
): Scene {
  const groups = groupsOf(graph, 'namespace');
  return compose({
    graph,
    grouping: 'namespace',
    groups,
    layout: arrange(null, groups, ROOM),
    zoom: more.zoom ?? 0,
    selection: more.selection ?? null,
    layers: new Set(more.layers ?? LAYERS),
    top: more.top ?? TOP,
    before: more.before ?? new Set(),
    sick: more.sick ?? new Map(),
  });
}

/** Two namespaces of so many pods. */
function two(size: number) {
  return ['a', 'b'].flatMap((namespace) =>
    Array.from({ length: size }, (_, index) =>
      pod(`${namespace}${index}`, { namespace, workload: `${namespace}w` }),
    ),
  );
}

describe('links', () => {
  const edges = [
    edge('a0', 'b0', 10),
    edge('a1', 'b1', 30),
    edge('a0', 'b1', 2),
    edge('b0', 'a0', 5),
    edge('a0', 'a1', 7),
  ];
  const graph = graphOf(two(100), edges);

  it('stand for tiles from afar, their rate the sum of their edges', () => {
    const { links } = draw(graph);
    expect(links.map((link) => [link.from.id, link.to.id, link.rate])).toEqual([
      ['a', 'b', 42],
      ['b', 'a', 5],
    ]);
    expect(links[0]?.edges).toHaveLength(3);
  });

  it('end at pods when near', () => {
    const near = draw(graph, { zoom: 2 }).links;
    expect(near).toHaveLength(5);
    expect(near.every((link) => link.from.kind === 'vertex')).toBe(true);
  });

  it('of several ports between the same pods are one', () => {
    const links = draw(graphOf(two(2), [edge('a0', 'b0', 1, 0, 80), edge('a0', 'b0', 2, 0, 443)])).links;
    expect(links.map((link) => link.rate)).toEqual([3]);
  });

  it('leave a tile by its edge', () => {
    const tiles = new Map([
      ['a', { x: 0, y: 0, width: 100, height: 80 }],
      ['b', { x: 400, y: 10, width: 100, height: 80 }],
      ['c', { x: 107, y: 0, width: 100, height: 80 }],
    ]);
    const group = (id: string) => ({ kind: 'group' as const, id });
    const links = [
      { from: group('a'), to: group('b') },
      { from: group('b'), to: group('a') },
      { from: group('a'), to: group('c') },
    ];
    const [there, back, near] = fan(
      links,
      (end) => tiles.get(end.id),
      () => undefined,
      3,
    );
    expect(there?.[0].x).toBe(100);
    expect(there?.[1].x).toBe(400);
    expect(back?.[0].x).toBe(400);
    expect(back?.[1].y).not.toBe(there?.[0].y);
    // Neighbours: the ends reach into the tiles, or the link would vanish in the gap.
    expect((near?.[1].x ?? 0) - (near?.[0].x ?? 0)).toBeGreaterThan(50);
  });

  it('are bounded, but every unhealthy one is drawn', () => {
    const pods = two(60);
    const many = [];
    for (let a = 0; a < 60; a++)
      for (let b = 0; b < 60; b++) many.push(edge(`a${a}`, `b${b}`, 10 + b, a === 59 ? 0.1 : 0));
    const scene = draw(graphOf(pods, many), { zoom: 2 });
    expect(scene.links.length).toBeLessThanOrEqual(TOP + 60);
    expect(scene.links.filter((link) => link.loss > 0)).toHaveLength(60);
    expect(scene.hiddenLinks).toBe(3600 - scene.links.length);
  });
});

describe('loss', () => {
  it('is red, labelled, and outlines both tiles', () => {
    const scene = draw(graphOf(two(100), [edge('a0', 'b0', 84, 0.124), edge('a1', 'b1', 5)]));
    expect(scene.links[0]).toMatchObject({ tone: 'bad', loss: 0.124, label: '12.4% lost' });
    expect(scene.tiles.map((tile) => tile.tone)).toEqual(['bad', 'bad']);
  });

  it('inside one tile is drawn from afar, too', () => {
    expect(draw(graphOf(two(100), [edge('a0', 'a1', 84, 0.124)])).links).toHaveLength(1);
  });

  it('is not shown for one-sided edges', () => {
    const one = edge('a0', 'b0', 84, 0.124);
    const scene = draw(graphOf(two(2), [{ ...one, loss: { ...one.loss, status: 'one-sided' } }]));
    expect(scene.links[0]).toMatchObject({ tone: 'l4', loss: 0, label: null });
  });
});

describe('what is wrong beside loss', () => {
  const red = { kind: 'connects', tone: 'bad', words: '9 of 9 connects failed' } as const;
  const amber = { kind: 'dns', tone: 'warning', words: '20% of DNS queries fail' } as const;
  const graph = graphOf(two(100), [edge('a0', 'b0', 5), edge('a1', 'b1', 5), edge('a2', 'b2', 5)]);

  it('is marked with the worst of a bundle, and red outlines both tiles', () => {
    const one = draw(graph, { sick: new Map([['a0>b0:80/tcp', [amber]]]) });
    expect(one.links[0]).toMatchObject({ tone: 'warning', mark: amber, label: amber.words });
    expect(one.tiles.map((tile) => tile.tone)).toEqual(['plain', 'plain']);
    const both = new Map([
      ['a0>b0:80/tcp', [amber]],
      ['a1>b1:80/tcp', [red]],
    ]);
    const two = draw(graph, { sick: both });
    expect(two.links[0]).toMatchObject({ tone: 'bad', mark: red, label: `2 links: ${red.words}`, loss: 0 });
    expect(two.tiles.map((tile) => tile.tone)).toEqual(['bad', 'bad']);
  });

  it('is on the picked edge, too, and inside one tile from afar', () => {
    const sick = new Map([['a0>a1:80/tcp', [red]]]);
    const inner = graphOf(two(100), [edge('a0', 'a1', 5)]);
    expect(draw(inner, { sick }).links[0]).toMatchObject({ mark: red });
    const focus = draw(inner, { sick, selection: { kind: 'edge', id: 'a0>a1:80/tcp' } }).links.at(-1);
    expect(focus).toMatchObject({ focus: true, tone: 'bad', label: red.words });
  });
});

describe('layers', () => {
  it('links to name servers have a colour of their own', () => {
    const graph = graphOf(two(3), [edge('a0', 'b0', 5, 0, 53)]);
    expect(draw(graph).links[0]).toMatchObject({ tone: 'dns' });
    const picked = draw(graph, { selection: { kind: 'edge', id: 'a0>b0:53/tcp' } });
    expect(picked.links.at(-1)).toMatchObject({ tone: 'dns', focus: true });
  });

  it('what carries other traffic is a link of its own and brightens nobody', () => {
    const carrier = { ...edge('a1', 'b1', 5000), id: 'a1>b1:8472/udp/vxlan', tunnel: 'vxlan' };
    const graph = graphOf(two(100), [edge('a0', 'b0', 5), carrier]);
    const { links, pods } = draw(graph);
    expect(links.map((link) => link.tone).sort()).toEqual(['l4', 'underlay']);
    expect(links.find((link) => link.tone === 'l4')?.rate).toBe(5);
    expect(pods.tone[pods.ids.indexOf('a1')]).toBe(0);
  });
});

describe('what is picked', () => {
  const graph = graphOf(two(3), [edge('a0', 'b0', 100), edge('a1', 'b1', 9, 0, 5432)]);

  it('a picked edge is a link of its own; the rest has no particles', () => {
    const id = 'a0>b0:80/tcp';
    const { links } = draw(graph, { selection: { kind: 'edge', id } });
    expect(links.filter((link) => !link.dim).map((link) => link.edges)).toEqual([[id]]);
    expect(links.find((link) => link.focus)).toMatchObject({ rate: 100, width: 1.7, alpha: 1 });
  });
});

it('squares tell phase, activity and silent nodes', () => {
  const graph = graphOf(
    [
      pod('a', { phase: 'failing' }),
      pod('b', { phase: 'pending' }),
      pod('c', { node: 'n2' }),
      pod('d', { createdMs: 99_000 }),
    ],
    [edge('c', 'a', 20_000)],
    [node('n1'), node('n2', { state: 'lost' })],
  );
  const { pods } = draw(graph);
  const at = (id: string) => pods.ids.indexOf(id);
  expect(pods.tone[at('a')]).toBe(TONE.Failing);
  expect(pods.tone[at('b')]).toBe(TONE.Pending);
  expect(pods.tone[at('c')]).toBe(3);
  expect(pods.tone[at('d')]).toBe(TONE.New);
  expect(pods.flags[at('c')]).toBe(FLAG.Hatched);
});

describe('geometry', () => {
  const curve = { a: { x: 0, y: 0 }, control: { x: 50, y: 40 }, b: { x: 100, y: 0 } };

  it('measures a curve on the screen', () => {
    const path = measure(curve, 2, 10, 20);
    expect(path.x[0]).toBe(10);
    expect(path.x[path.x.length - 1]).toBe(210);
    expect(path.length).toBeGreaterThan(200);
    expect(path.length).toBeLessThan(230);
  });

  it('knows how far a point is', () => {
    expect(distance(curve, pointAt(curve, 0.5))).toBeLessThan(0.5);
    expect(distance(curve, { x: 50, y: -30 })).toBeGreaterThan(40);
  });
});

it('what is under the pointer: pod, then link, then tile', () => {
  const scene = draw(graphOf(two(100), [edge('a0', 'b0', 10)]));
  const camera = { zoom: 1, x: 0, y: 0 };
  const link = scene.links[0];
  if (link === undefined) throw new Error('nothing drawn');
  const middle = pointAt(link.curve, 0.5);
  expect(hit(scene, camera, scene.pods.x[0] ?? 0, scene.pods.y[0] ?? 0, 6)).toMatchObject({ kind: 'vertex' });
  expect(hit(scene, camera, middle.x, middle.y, 6)).toMatchObject({ kind: 'link' });
  expect(
    hit(scene, camera, (scene.tiles[0]?.rect.x ?? 0) + 2, (scene.tiles[0]?.rect.y ?? 0) + 2, 6),
  ).toMatchObject({
    kind: 'tile',
  });
  expect(hit(scene, camera, -500, -500, 6)).toBeNull();
});

describe('levels', () => {
  // One tile holds two workloads, another one.
  const pods = [
    ...Array.from({ length: 60 }, (_, i) => pod(`w${i}`, { namespace: 'shop', workload: 'web' })),
    ...Array.from({ length: 60 }, (_, i) => pod(`c${i}`, { namespace: 'shop', workload: 'cart' })),
    ...Array.from({ length: 60 }, (_, i) => pod(`d${i}`, { namespace: 'data', workload: 'db' })),
    pod('far', { kind: 'external', namespace: null, workload: null }),
  ];
  const graph = graphOf(pods, [
    edge('w0', 'd0', 5),
    edge('w1', 'd1', 6),
    edge('c0', 'd0', 7),
    edge('w0', 'c0', 8),
    edge('w0', 'w1', 9),
    edge('c1', 'far', 1),
  ]);
  const ends = (zoom: number) =>
    draw(graph, { zoom }).links.map(({ from, to, rate }) => `${from.id} ${to.id} ${rate}`);

  it('lead from tiles over workloads to pods', () => {
    expect(draw(graph).level).toBe('group');
    expect(ends(0)).toEqual(['shop data 18', 'shop ~world 1']);
    expect(draw(graph, { zoom: 1.2 }).level).toBe('workload');
    expect(ends(1.2)).toEqual([
      'shop/web data/db 11',
      'shop/web shop/cart 8',
      'shop/cart data/db 7',
      'shop/cart far 1',
    ]);
    expect(draw(graph, { zoom: 2 }).level).toBe('pod');
    expect(ends(2)).toHaveLength(6);
  });

  it('of workloads have outlines around all of their pods', () => {
    const scene = draw(graph, { zoom: 1.2 });
    expect(scene.areas).toHaveLength(3);
    const inside = (x: number, y: number) =>
      scene.areas.some(
        (area) => x >= area.x && y >= area.y && x <= area.x + area.width && y <= area.y + area.height,
      );
    const { x, y, ids } = scene.pods;
    expect(ids.filter((id, at) => id !== 'far' && !inside(x[at] ?? 0, y[at] ?? 0))).toEqual([]);
    expect(draw(graph).areas).toEqual([]);
  });

  it('keep rates: what is drawn of a pair of workloads is what its edges carry', () => {
    const sum = (zoom: number) => draw(graph, { zoom }).links.reduce((all, link) => all + link.rate, 0);
    expect(sum(1.2)).toBe(36 - 9);
    expect(sum(2)).toBe(36);
  });

  it('are picked like tiles', () => {
    const scene = draw(graph, { zoom: 1.2, selection: { kind: 'workload', id: 'shop/cart' } });
    expect(scene.links.filter((link) => !link.dim).map((link) => link.rate)).toEqual([8, 7, 1]);
  });
});

describe('the busiest', () => {
  const pods = two(100);
  const at = (rates: readonly number[]) =>
    graphOf(
      pods,
      rates.map((rate, index) => edge(`a${index}`, `b${index}`, rate)),
    );
  const ids = (scene: Scene) => new Set(scene.links.map((link) => link.id));

  it('stay while another is only a little busier', () => {
    const first = draw(at([10, 20, 30]), { zoom: 2, top: 2 });
    expect(first.links.map((link) => link.rate)).toEqual([30, 20]);
    expect(first.hiddenLinks).toBe(1);
    const close = draw(at([20 * KEEP - 1, 20, 30]), { zoom: 2, top: 2, before: ids(first) });
    expect(ids(close)).toEqual(ids(first));
    const over = draw(at([20 * KEEP + 1, 20, 30]), { zoom: 2, top: 2, before: ids(first) });
    expect(ids(over)).not.toEqual(ids(first));
    expect(over.links).toHaveLength(2);
  });
});

describe('layers', () => {
  const graph = graphOf(two(100), [
    edge('a0', 'b0', 10),
    edge('a1', 'b1', 20, 0, 53),
    edge('a2', 'b2', 30, 0.2),
  ]);
  const rates = (layers: readonly Layer[]) =>
    draw(graph, { zoom: 2, layers })
      .links.map((link) => link.rate)
      .sort();

  it('are drawn as asked for; what is unhealthy belongs to two of them', () => {
    expect(rates(LAYERS)).toEqual([10, 20, 30]);
    expect(rates(['l4'])).toEqual([10, 30]);
    expect(rates(['dns'])).toEqual([20]);
    expect(rates(['drops'])).toEqual([30]);
    expect(rates([])).toEqual([]);
  });
});
