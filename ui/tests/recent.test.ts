/** Health by what grew within the last minute, and never by one old failure. */
import { describe, expect, it } from 'vitest';
import type { Dns, Sockets } from '../src/facts';
import type { Graph } from '../src/graph';
import { findSick, sicknesses } from '../src/health';
import {
  type Ails,
  ails,
  growth,
  MAX_FOLLOWED,
  NOTHING,
  notice,
  type Recent,
  WINDOW_MS,
} from '../src/recent';
import type { Edge } from '../src/view';
import { edge, graphOf, pod, side } from './make';

const NONE: Ails = {
  established: 0,
  failed: 0,
  segments: 0,
  dropped: 0,
  queries: 0,
  unanswered: 0,
  nameless: 0,
};

describe('the rules', () => {
  it.each([
    ['nothing', {}, []],
    ['one connect that failed, and no other', { failed: 1 }, [['connects', 'bad']]],
    ['one of many', { failed: 1, established: 99 }, []],
    ['two of forty-one', { failed: 2, established: 39 }, []],
    ['two of forty', { failed: 2, established: 38 }, [['connects', 'warning']]],
    ['half', { failed: 20, established: 20 }, [['connects', 'bad']]],
    ['two drops', { dropped: 2, segments: 10 }, []],
    ['three of a thousand', { dropped: 3, segments: 1000 }, [['drops', 'warning']]],
    ['three of three hundred', { dropped: 3, segments: 300 }, [['drops', 'bad']]],
    ['drops of what was never counted', { dropped: 3 }, [['drops', 'bad']]],
    ['two queries in vain', { queries: 2, unanswered: 2 }, []],
    ['three of sixty-one', { queries: 61, unanswered: 3 }, []],
    ['three of sixty', { queries: 60, unanswered: 3 }, [['dns', 'warning']]],
    ['three of six', { queries: 6, unanswered: 3 }, [['dns', 'bad']]],
    ['search domains tried in vain', { queries: 100, nameless: 84 }, []],
    ['hardly a name that exists', { queries: 100, nameless: 90 }, [['dns', 'warning']]],
    [
      'red before amber',
      { failed: 2, established: 38, dropped: 9, segments: 9 },
      [
        ['drops', 'bad'],
        ['connects', 'warning'],
      ],
    ],
  ] as const)('%s', (_, grown, expected) => {
    expect(sicknesses({ ...NONE, ...grown }).map((one) => [one.kind, one.tone])).toEqual(expected);
  });

  it('say it in words', () => {
    const words = sicknesses({ ...NONE, failed: 31, established: 3, queries: 10, unanswered: 5 });
    expect(words.map((one) => one.words)).toEqual(['31 of 34 connects failed', '50.0% of DNS queries fail']);
  });
});

const SOCKETS: Sockets = {
  attempts: 0,
  established: 0,
  refused: 0,
  timedOut: 0,
  unreachable: 0,
  failedOtherwise: 0,
  retransmitted: 0,
  aborted: 0,
  rtt: { count: 0, meanUs: null, p50Us: null, p95Us: null },
};

function failing(refused: number, changes: Partial<Edge> = {}): Edge {
  const sockets = { ...SOCKETS, attempts: refused, refused };
  return { ...edge('a', 'b'), firstSeenMs: -1e9, clientSide: side({ sockets }), ...changes };
}

const ID = 'a>b:80/tcp';
const graphAt = (one: Edge | null): Graph => graphOf([pod('a'), pod('b')], one === null ? [] : [one]);

/** Shows the page one edge at some seconds. */
function watch(shown: readonly (readonly [number, Edge | null])[]): { recent: Recent; graph: Graph } {
  let recent = NOTHING;
  let graph = graphAt(null);
  for (const [second, one] of shown) {
    graph = graphAt(one);
    recent = notice(recent, graph, second * 1000);
  }
  return { recent, graph };
}

function grown(shown: readonly (readonly [number, Edge | null])[], second: number): number | undefined {
  const { recent, graph } = watch(shown);
  const now = graph.edges.get(ID);
  return now === undefined ? undefined : growth(recent, now, second * 1000)?.failed;
}

describe('growth', () => {
  it('of what had failed before the page was opened is nothing', () => {
    expect(grown([[0, failing(7)]], 0)).toBe(0);
    expect(
      grown(
        [
          [0, failing(7)],
          [9, failing(9)],
        ],
        9,
      ),
    ).toBe(2);
  });

  it('begins where the edge stood before its first trouble', () => {
    expect(
      grown(
        [
          [0, failing(0)],
          [1, failing(3)],
        ],
        1,
      ),
    ).toBe(3);
    expect(grown([[0, failing(0)]], 0)).toBeUndefined();
  });

  it('of an edge that is new is all of it', () => {
    expect(grown([[500, failing(4, { firstSeenMs: 499_000 })]], 500)).toBe(4);
    expect(grown([[500, failing(4, { firstSeenMs: 400_000 })]], 500)).toBe(0);
  });

  it('is over after a minute: one old failure is not for ever', () => {
    const seconds = Array.from({ length: 70 }, (_, index) => index + 1);
    const shown = [[0, failing(0)] as const, ...seconds.map((second) => [second, failing(3)] as const)];
    expect(grown(shown.slice(0, 50), 50)).toBe(3);
    expect(grown(shown, 70)).toBe(0);
  });

  it('goes on while failures do, and readings stay few', () => {
    const shown = Array.from({ length: 300 }, (_, second) => [second, failing(second)] as const);
    const { recent, graph } = watch(shown);
    const now = growth(recent, graph.edges.get(ID) as Edge, 299_000)?.failed ?? 0;
    expect(now).toBeGreaterThanOrEqual(WINDOW_MS / 1000);
    expect(now).toBeLessThanOrEqual(WINDOW_MS / 1000 + 5);
    expect(recent.readings.get(ID)?.length).toBeLessThanOrEqual(14);
  });

  it('never is negative, and begins anew with another run of the collector', () => {
    expect(
      grown(
        [
          [0, failing(9)],
          [1, failing(2)],
        ],
        1,
      ),
    ).toBe(0);
    const { recent } = watch([[0, failing(0)]]);
    const other = { ...graphAt(failing(5)), run: 'another' };
    expect(growth(notice(recent, other, 1000), failing(5), 1000)?.failed).toBe(0);
  });

  it('is followed for so many edges, and the others are counted', () => {
    const many = Array.from({ length: MAX_FOLLOWED + 10 }, (_, index) => failing(1, { id: `${index}` }));
    const recent = notice(NOTHING, graphOf([], many), 0);
    expect([recent.readings.size, recent.unfollowed]).toEqual([MAX_FOLLOWED, 10]);
  });

  it('is made of both ways, all causes, and DNS by code', () => {
    const dns: Dns = {
      queries: 20,
      answers: 17,
      timeouts: 3,
      unparsed: 0,
      rcodes: [
        { rcode: 'NOERROR', count: 9 },
        { rcode: 'NXDOMAIN', count: 6 },
        { rcode: 'SERVFAIL', count: 2 },
      ],
      latency: SOCKETS.rtt,
      questions: [],
    };
    const drop = { reason: 'no_socket', by: 'stack', nodes: [], forward: true, segments: 2 };
    const sockets = {
      ...SOCKETS,
      established: 5,
      refused: 1,
      timedOut: 2,
      unreachable: 3,
      failedOtherwise: 4,
    };
    const of = ails(
      failing(0, { dns, drops: [drop, { ...drop, forward: false }], clientSide: side({ sockets }) }),
    );
    expect(of).toMatchObject({
      established: 5,
      failed: 10,
      dropped: 4,
      queries: 20,
      unanswered: 5,
      nameless: 6,
    });
  });
});

it('only live edges are sick', () => {
  const { recent } = watch([
    [0, failing(0)],
    [1, failing(9)],
  ]);
  expect([...findSick(graphAt(failing(9)), recent, 1000).keys()]).toEqual([ID]);
  expect(findSick(graphAt(failing(9, { state: 'stale' })), recent, 1000).size).toBe(0);
  expect(findSick(graphAt(null), recent, 1000).size).toBe(0);
});
