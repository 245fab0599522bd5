/** The stream: what is applied, what makes it start anew. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { Graph } from '../src/graph';
import { type Connection, follow, type Source } from '../src/stream';

const fixture = (name: string): Record<string, unknown> =>
  JSON.parse(readFileSync(new URL(`../fixtures/${name}.json`, import.meta.url), 'utf8'));

class Wire implements Source {
  readyState = 1;
  onopen: ((event: Event) => void) | null = null;
  onerror: ((event: Event) => void) | null = null;
  closed = false;
  private readonly listeners = new Map<string, (event: MessageEvent<string>) => void>();
  addEventListener(type: string, listener: (event: MessageEvent<string>) => void): void {
    this.listeners.set(type, listener);
  }
  close(): void {
    this.closed = true;
  }
  say(type: string, data: unknown): void {
    this.listeners.get(type)?.({
      data: typeof data === 'string' ? data : JSON.stringify(data),
    } as MessageEvent<string>);
  }
}

function start(why: string | null = null) {
  const wires: Wire[] = [];
  const graphs: Graph[] = [];
  const states: Connection[] = [];
  const waits: number[] = [];
  let pending: (() => void)[] = [];
  const stop = follow({
    open: () => {
      const wire = new Wire();
      wires.push(wire);
      return wire;
    },
    explain: () => Promise.resolve(why),
    onGraph: (graph) => graphs.push(graph),
    onConnection: (state) => states.push(state),
    later: (run, ms) => {
      waits.push(ms);
      pending.push(run);
    },
    now: () => 1,
  });
  const pass = () => {
    const now = pending;
    pending = [];
    for (const run of now) run();
  };
  return { wires, graphs, states, waits, pass, stop };
}

describe('the stream', () => {
  it('applies a snapshot, then deltas', () => {
    const { wires, graphs, states } = start();
    wires[0]?.say('snapshot', fixture('snapshot'));
    wires[0]?.say('delta', fixture('delta'));
    expect(graphs.map((graph) => graph.revision)).toEqual([41, 42]);
    expect(graphs[1]?.vertices.has('external:192.0.2.10')).toBe(false);
    expect(states.at(-1)?.kind).toBe('live');
    expect(wires).toHaveLength(1);
  });

  it.each([
    ['a gap', { ...fixture('delta'), base: 40 }],
    ['another run', { ...fixture('delta'), run: 'other' }],
    ['a frame that is not JSON', '{'],
    ['a frame that is not the contract', { run: 1 }],
  ])('starts anew after %s', (_, frame) => {
    const { wires, graphs, pass } = start();
    wires[0]?.say('snapshot', fixture('snapshot'));
    wires[0]?.say('delta', frame);
    expect(wires[0]?.closed).toBe(true);
    wires[0]?.say('delta', fixture('delta'));
    expect(graphs).toHaveLength(1);
    pass();
    expect(wires).toHaveLength(2);
    wires[1]?.say('snapshot', fixture('snapshot'));
    expect(graphs).toHaveLength(2);
  });

  it('leaves reconnecting to the browser, and starts anew only when it gave up', () => {
    const { wires, states, pass } = start();
    const [wire] = wires;
    if (wire === undefined) throw new Error('not opened');
    wire.readyState = 0;
    wire.onerror?.({} as Event);
    expect(states.at(-1)).toMatchObject({ kind: 'broken' });
    pass();
    expect(wires).toHaveLength(1);
    wire.readyState = 2;
    wire.onerror?.({} as Event);
    pass();
    expect(wires).toHaveLength(2);
  });

  it('waits longer each time, up to a bound, and no more once stopped', () => {
    const { wires, waits, pass, stop } = start();
    for (let round = 0; round < 8; round++) {
      wires.at(-1)?.say('snapshot', 'broken');
      pass();
    }
    expect(waits).toEqual([500, 1000, 2000, 4000, 8000, 8000, 8000, 8000]);
    wires.at(-1)?.say('snapshot', 'broken');
    stop();
    const opened = wires.length;
    pass();
    expect(wires).toHaveLength(opened);
  });

  it('says why it was refused, in the words of who refused it', async () => {
    const { wires, states, pass } = start('64 different views are open; hint: close one');
    const [wire] = wires;
    if (wire === undefined) throw new Error('no source');
    Object.assign(wire, { readyState: 2 });
    wire.onerror?.(new Event('error'));
    await Promise.resolve();
    expect(states.at(-1)).toMatchObject({
      kind: 'broken',
      why: '64 different views are open; hint: close one',
    });
    pass();
    expect(wires).toHaveLength(2);
  });
});
