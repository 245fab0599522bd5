/** The reducer: snapshot and deltas give the next snapshot; gaps ask for a new one; sizes are announced. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  applyDelta,
  elapse,
  fromSnapshot,
  type Graph,
  MAX_EVENTS,
  MAX_NOTICES,
  NEW_FOR_MS,
  NOTICE_FOR_MS,
} from '../src/graph';
import type { Change, Delta, Snapshot } from '../src/view';
import { edge, HIDDEN, node, pod, snapshot } from './make';

function delta(changes: Partial<Delta>): Delta {
  const none = { upsert: [], remove: [] };
  return {
    run: 'r',
    revision: 2,
    base: 1,
    timeMs: 100_200,
    names: null,
    hidden: HIDDEN,
    nodes: none,
    vertices: none,
    edges: none,
    events: [],
    ...changes,
  };
}

function apply(graph: Graph, step: Delta): Graph {
  const result = applyDelta(graph, step);
  if (result.kind !== 'applied') throw new Error(result.why);
  return result.graph;
}

function difference<T>(before: readonly T[], after: readonly T[], key: (item: T) => string): Change<T> {
  const was = new Map(before.map((item) => [key(item), JSON.stringify(item)]));
  const is = new Set(after.map(key));
  return {
    upsert: after.filter((item) => was.get(key(item)) !== JSON.stringify(item)),
    remove: before.map(key).filter((id) => !is.has(id)),
  };
}

const ids = fc.uniqueArray(fc.integer({ min: 0, max: 12 }), { maxLength: 10 });
const moment = fc.record({
  vertices: ids,
  edges: fc.uniqueArray(fc.tuple(fc.nat(6), fc.nat(6), fc.nat(1000)), {
    maxLength: 12,
    selector: ([a, b]) => `${a} ${b}`,
  }),
  nodes: fc.uniqueArray(fc.tuple(fc.nat(4), fc.constantFrom('live' as const, 'lost' as const)), {
    selector: ([name]) => name,
  }),
});

interface Moment {
  vertices: number[];
  edges: [number, number, number][];
  nodes: [number, 'live' | 'lost'][];
}

function at(revision: number, of: Moment): Snapshot {
  return snapshot({
    revision,
    timeMs: 100_000 + revision * 200,
    vertices: of.vertices.map((id) => pod(`p${id}`, { workload: `w${id % 3}` })),
    edges: of.edges.map(([a, b, rate]) => edge(`p${a}`, `p${b}`, rate)),
    nodes: of.nodes.map(([name, state]) => node(`n${name}`, { state })),
  });
}

describe('snapshot and deltas', () => {
  it('give what the next snapshot says', () => {
    fc.assert(
      fc.property(fc.array(moment, { minLength: 2, maxLength: 8 }), (moments) => {
        const frames = moments.map((of, index) => at(index + 1, of));
        const [first, ...rest] = frames;
        if (first === undefined) return;
        let graph = fromSnapshot(null, first);
        let before = first;
        for (const frame of rest) {
          graph = apply(
            graph,
            delta({
              base: before.revision,
              revision: frame.revision,
              timeMs: frame.timeMs,
              vertices: difference(before.vertices, frame.vertices, (one) => one.id),
              edges: difference(before.edges, frame.edges, (one) => one.id),
              nodes: difference(before.nodes, frame.nodes, (one) => one.name),
            }),
          );
          before = frame;
        }
        const fresh = fromSnapshot(null, before);
        expect(graph.revision).toBe(fresh.revision);
        expect(sorted(graph.vertices)).toEqual(sorted(fresh.vertices));
        expect(sorted(graph.edges)).toEqual(sorted(fresh.edges));
        expect(sorted(graph.nodes)).toEqual(sorted(fresh.nodes));
      }),
    );
  });

  it('never change the graph they start from', () => {
    const graph = fromSnapshot(null, snapshot({ vertices: [pod('a')] }));
    apply(graph, delta({ vertices: { upsert: [pod('b')], remove: ['a'] } }));
    expect([...graph.vertices.keys()]).toEqual(['a']);
  });

  it('ask for a fresh snapshot at a gap or another run', () => {
    const graph = fromSnapshot(null, snapshot());
    expect(applyDelta(graph, delta({ base: 2, revision: 3 })).kind).toBe('resync');
    expect(applyDelta(graph, delta({ run: 'other' })).kind).toBe('resync');
  });
});

describe('events', () => {
  const event = (timeMs: number) => ({ timeMs, kind: 'pod-added', subject: 'shop/a', text: 'added' });

  it('come with the snapshot, grow with deltas and are bounded', () => {
    let graph = fromSnapshot(null, snapshot({ events: [event(1)] }));
    graph = apply(graph, delta({ events: [event(2), event(3)] }));
    expect(graph.events.map((one) => one.timeMs)).toEqual([1, 2, 3]);
    const many = Array.from({ length: MAX_EVENTS }, (_, index) => event(10 + index));
    graph = apply(graph, delta({ base: 2, revision: 3, events: many }));
    expect(graph.events).toHaveLength(MAX_EVENTS);
    expect(graph.events[0]?.timeMs).toBe(10);
  });
});

describe('announcements', () => {
  const web = (count: number) => Array.from({ length: count }, (_, index) => pod(`web-${index}`));

  it('name a workload that changed its size, once for pods that come one by one', () => {
    let graph = fromSnapshot(null, snapshot({ vertices: web(2) }));
    for (let size = 3; size <= 8; size++)
      graph = apply(
        graph,
        delta({
          base: size - 2,
          revision: size - 1,
          timeMs: 100_000 + size * 300,
          vertices: { upsert: [pod(`web-${size - 1}`)], remove: [] },
        }),
      );
    expect(graph.notices).toMatchObject([{ workload: 'web', from: 2, to: 8 }]);
    expect(graph.born.size).toBe(6);
  });

  it('run out, between frames as well', () => {
    const before = fromSnapshot(null, snapshot({ vertices: web(1) }));
    const graph = apply(before, delta({ vertices: { upsert: web(2), remove: [] } }));
    expect(elapse(graph, graph.timeMs + 100)).toBe(graph);
    const later = elapse(graph, graph.timeMs + Math.max(NOTICE_FOR_MS, NEW_FOR_MS));
    expect(later.notices).toEqual([]);
    expect(later.born.size).toBe(0);
  });

  it('come with a snapshot after a gap, but not with the first one', () => {
    const first = fromSnapshot(null, snapshot({ vertices: web(2) }));
    expect(first.notices).toEqual([]);
    expect(fromSnapshot(first, snapshot({ vertices: web(3) })).notices).toMatchObject([{ from: 2, to: 3 }]);
  });

  it('are bounded', () => {
    const many = Array.from({ length: MAX_NOTICES * 3 }, (_, index) =>
      pod(`p${index}`, { workload: `w${index}` }),
    );
    const graph = apply(fromSnapshot(null, snapshot()), delta({ vertices: { upsert: many, remove: [] } }));
    expect(graph.notices).toHaveLength(MAX_NOTICES);
  });
});

function sorted<T>(map: ReadonlyMap<string, T>): [string, T][] {
  return [...map].sort(([a], [b]) => (a < b ? -1 : 1));
}
