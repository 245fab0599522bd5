/** The last hour: bars, lines, signs, steps through time, and what is copied. */
import { describe, expect, it } from 'vitest';
import { csv, eventsSheet, json, linksSheet } from '../src/copy';
import {
  barsOf,
  type Course,
  clamped,
  decodeCourse,
  HOUR_MS,
  lineOf,
  marksOf,
  sickThen,
  stepped,
  subjectOf,
  together,
} from '../src/past';
import { sortEvents } from '../src/rows';
import { edge, graphOf, pod } from './make';

const BUCKET = 15_000;
const START = 1_795_000_005_000 - (1_795_000_005_000 % BUCKET);

function course(buckets: readonly number[], more: Partial<Course> = {}): Course {
  const zero = buckets.map(() => 0);
  return {
    bucketMs: BUCKET,
    edges: 1,
    atMs: buckets.map((index) => START + index * BUCKET),
    skbs: buckets.map((index) => index * 15),
    segments: buckets.map(() => 100),
    lost: zero,
    dropped: zero,
    failed: zero,
    ...more,
  };
}

const event = (timeMs: number, kind: string, subject = 'shop/cart', text = kind) => ({
  timeMs,
  kind,
  subject,
  text,
});

describe('the hour', () => {
  it('is read from the collector, and what is wrong is named', () => {
    const wire = {
      bucket_ms: 15_000,
      edges: 2,
      at_ms: [0],
      skbs: [1],
      segments: [1],
      lost: [0],
      dropped: [0],
    };
    expect(() => decodeCourse(wire)).toThrow('history.failed');
    expect(decodeCourse({ ...wire, failed: [3], later: true }).failed).toEqual([3]);
    expect(() => decodeCourse({ ...wire, failed: ['x'] })).toThrow('failed');
  });

  it('has a bar for every span, and none where nobody watched', () => {
    const now = START + 4 * BUCKET;
    const bars = barsOf(course([0, 1, 3], { lost: [0, 50, 0] }), now, 240);
    expect(bars).toHaveLength(240);
    expect(bars.slice(-5).map((bar) => bar?.rate ?? null)).toEqual([0, 1, null, 3, null]);
    expect(bars.slice(-4)[0]?.lost).toBe(0.5);
    // Two buckets a bar: the mean of those that are known.
    expect(barsOf(course([0, 1, 2, 3]), START - (START % (2 * BUCKET)) + 4 * BUCKET, 120)).toHaveLength(120);
  });

  it('breaks a line where nobody watched', () => {
    expect(lineOf(course([2, 3, 5]), (index) => index)).toEqual([0, 1, null, 2]);
    expect(lineOf(course([]), () => 1)).toEqual([]);
  });

  it('is walked through in steps that stay in it', () => {
    const hour = course([0, 1, 2, 3]);
    const now = START + 4 * BUCKET + 5_000;
    const second = (index: number) => (START + index * BUCKET) / 1000;
    expect(stepped(null, -15, hour, now)).toBe(second(3));
    expect(stepped(second(3), -15, hour, now)).toBe(second(2));
    expect(stepped(second(2), 15, hour, now)).toBe(second(3));
    expect(stepped(second(3), 15, hour, now)).toBeNull();
    expect(stepped(second(3), -300, hour, now)).toBe(second(0));
    expect(clamped(0, hour)).toBe(second(0));
    expect(clamped(second(9), hour)).toBeNull();
    expect(stepped(null, -15, course([]), now)).toBeNull();
  });
});

describe('signs', () => {
  it('stand where something happened, the worst of those close together, and not for every pod', () => {
    const now = START + HOUR_MS;
    const marks = marksOf(
      [
        event(START - 1, 'node-lost'),
        event(START + HOUR_MS / 2, 'workload-scaled', 'shop/cart', '2 → 8'),
        event(START + HOUR_MS / 2 + 10, 'pod-added'),
        event(START + HOUR_MS / 2 + 20, 'edge-dropping', 'pod:shop/a>pod:shop/b:80/tcp', 'lost'),
        event(START + HOUR_MS - 60_000, 'edge-recovered'),
      ],
      now,
    );
    expect(marks.map((mark) => [mark.tone, mark.at.toFixed(2)])).toEqual([
      ['bad', '0.50'],
      ['good', '0.98'],
    ]);
    expect(marks[0]?.words).toBe('shop/cart: 2 → 8\nshop/a → shop/b:80: lost');
  });

  it('tell a link by its ends', () => {
    expect(subjectOf('pod:shop/a>external:1.2.3.4:443/tcp')).toBe('shop/a → 1.2.3.4:443');
    expect(subjectOf('n1')).toBe('n1');
  });

  it('of the hour and of the stream are one list', () => {
    const kept = [event(1, 'a'), event(3, 'b')];
    expect(together(kept, [event(3, 'b')])).toBe(kept);
    expect(together(kept, [event(2, 'c')]).map((one) => one.kind)).toEqual(['a', 'c', 'b']);
  });

  it('are filtered word by word and sorted', () => {
    const all = [
      event(1, 'pod-added', 'shop/cart'),
      event(2, 'node-lost', 'n1'),
      event(3, 'pod-ready', 'shop/web'),
    ];
    const kinds = (wanted: string, key: 'time' | 'kind', descending: boolean) =>
      sortEvents(all, wanted, { key, descending }).map((one) => one.kind);
    expect(kinds('', 'time', true)).toEqual(['pod-ready', 'node-lost', 'pod-added']);
    expect(kinds('', 'kind', false)).toEqual(['node-lost', 'pod-added', 'pod-ready']);
    expect(kinds('POD cart', 'time', true)).toEqual(['pod-added']);
  });
});

it('what is wrong in the past is what its bucket says', () => {
  const drops = [{ reason: 'NETFILTER_DROP', by: 'stack', forward: true, segments: 50, nodes: [] }];
  const sick = { ...edge('a', 'b', 1), drops };
  const found = sickThen(graphOf([pod('a'), pod('b')], [sick, edge('b', 'a', 1)]));
  expect([...found.keys()]).toEqual([sick.id]);
});

describe('copies', () => {
  const evil = '=HYPERLINK("http://x","y")';
  it('keep a text a text, in a spreadsheet too', () => {
    const graph = graphOf([pod('a', { name: evil }), pod('b', { name: 'b,"c' })], [edge('a', 'b', 1)]);
    const sheet = linksSheet(graph, [...graph.edges.keys(), 'gone']);
    const [head, row, end] = csv(sheet).split('\r\n');
    expect(head?.split(',')).toHaveLength(sheet.columns.length);
    expect(row).toContain(`"'=HYPERLINK(""http://x"",""y"")"`);
    expect(row).toContain('"b,""c"');
    expect(end).toBe('');
    expect(JSON.parse(json(sheet))).toMatchObject([{ client: evil, server: 'b,"c', rtt_p50_us: null }]);
  });

  it('have events', () => {
    expect(csv(eventsSheet([event(0, 'node-lost', 'n1', 'lost')]))).toBe(
      'time,kind,subject,text\r\n1970-01-01T00:00:00.000Z,node-lost,n1,lost\r\n',
    );
  });
});
