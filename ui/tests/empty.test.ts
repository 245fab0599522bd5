/** Each empty state says why it is empty, and what would show more. */
import { describe, expect, it } from 'vitest';
import { type Situation, whyEmpty } from '../src/empty';
import { fromSnapshot } from '../src/graph';
import { edge, HIDDEN, node, pod, snapshot } from './make';

const live = { kind: 'live' } as const;
const EVERYTHING = { filter: '', hideNoise: false };
const situation = (changes: Parameters<typeof snapshot>[0], more: Partial<Situation> = {}): Situation => ({
  graph: fromSnapshot(null, snapshot(changes)),
  connection: live,
  shown: EVERYTHING,
  ...more,
});
const heard = node('n1', { lastReportMs: 1 });

describe('an empty picture', () => {
  it.each<[string, Situation, string, string | null]>([
    ['connects', { graph: null, connection: { kind: 'connecting' }, shown: EVERYTHING }, 'Connecting', null],
    [
      'is refused',
      {
        graph: null,
        connection: { kind: 'broken', why: '64 different views are open', sinceMs: 0 },
        shown: EVERYTHING,
      },
      '64 different views are open. The page tries again',
      null,
    ],
    ['has no agents', situation({}), 'no agent has reported', null],
    ['has only a pod list', situation({ nodes: [node('n1')] }), 'nothing came from any of them', null],
    ['is silent', situation({ nodes: [{ ...heard, state: 'lost' }] }), 'No agent reports any more', null],
    ['has no devices', situation({ nodes: [{ ...heard, devices: 0 }] }), 'found no pod-facing device', null],
    ['has no names', situation({ nodes: [heard] }), 'no source of names', null],
    [
      'has no traffic',
      situation({
        nodes: [heard],
        vertices: [pod('a')],
        names: { source: 'file', state: 'fresh', error: null, readMs: 1, ambiguous: 0 },
      }),
      'no packet passed since',
      null,
    ],
    [
      'is filtered',
      situation(
        { nodes: [heard], hidden: { ...HIDDEN, edges: 12 } },
        { shown: { filter: 'ns:none', hideNoise: false } },
      ),
      '12 links are there, but “ns:none” matches none',
      'clear-filter',
    ],
    [
      'is noise',
      situation({ nodes: [heard], hidden: { ...HIDDEN, noise: { ...HIDDEN.noise, dns: 3, probes: 2 } } }),
      '3 to the name service, 2 probes',
      'show-noise',
    ],
  ])('that %s', (_, given, words, remedy) => {
    const reason = whyEmpty(given);
    expect(`${reason?.title} ${reason?.text}`).toContain(words);
    expect(reason?.remedy).toBe(remedy);
  });

  it('is none where a link is', () => {
    expect(whyEmpty(situation({ nodes: [heard], edges: [edge('a', 'b')] }))).toBeNull();
  });
});
