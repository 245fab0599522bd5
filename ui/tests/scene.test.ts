/** What is drawn: the spacing formula, bundling by zoom, the bound on links, loss, dimming. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fan } from '../src/fan';
import { distance, measure, pointAt } from '../src/geometry';
import type { Graph } from '../src/graph';
import { groupsOf } from '../src/groups';
import { arrange } from '../src/layout';
import { MAX_LINKS } from '../src/links';
import { hit } from '../src/pick';
import { FLAG, type Scene, type SceneInput, TONE } from '../src/picture';
import { activity, lineWidth, spacing } from '../src/rate';
import { compose } from '../src/scene';
import { type Selection, search } from '../src/select';
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

const ROOM = { width: 1000, height: 700 };
function draw(
  graph: Graph,
  more: { zoom?: number; selection?: Selection; query?: string; sick?: SceneInput['sick'] } = {},
): Scene {
  const groups = groupsOf(graph, 'namespace');
  return compose({
    graph,
    grouping: 'namespace',
    groups,
    layout: arrange(null, groups, ROOM),
    zoom: more.zoom ?? 0,
    selection: more.selection ?? null,
    found: more.query === undefined ? null : search(graph, more.query),
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
      (id) => tiles.get(id),
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
    expect(scene.links.length).toBeLessThanOrEqual(MAX_LINKS + 60);
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

describe('what is picked or searched', () => {
  const graph = graphOf(two(3), [edge('a0', 'b0', 100), edge('a1', 'b1', 9, 0, 5432)]);

  it('a name that DNS gave is found', () => {
    const named = graphOf([pod('x', { dnsNames: ['api.pay.example.com'] }), pod('y')], [edge('y', 'x')]);
    expect([...(search(named, 'pay.example')?.vertices ?? [])]).toEqual(['x']);
  });

  it('a picked edge is a link of its own; the rest has no particles', () => {
    const id = 'a0>b0:80/tcp';
    const { links } = draw(graph, { selection: { kind: 'edge', id } });
    expect(links.filter((link) => !link.dim).map((link) => link.edges)).toEqual([[id]]);
    expect(links.find((link) => link.focus)).toMatchObject({ rate: 100, width: 1.7, alpha: 1 });
  });

  it('a search dims what does not match', () => {
    const scene = draw(graph, { query: '5432', zoom: 2 });
    expect(scene.links.map((link) => link.dim)).toEqual([false, true]);
    const lit = scene.pods.ids.filter((_, index) => ((scene.pods.flags[index] ?? 0) & FLAG.Dim) === 0);
    expect([...lit].sort()).toEqual(['a1', 'b1']);
  });

  it('a search takes several words', () => {
    expect(search(graph, 'b B1')?.vertices).toEqual(new Set(['b1']));
    expect(search(graph, '  ')).toBeNull();
    expect(search(graph, 'nothing-like-it')?.vertices.size).toBe(0);
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
