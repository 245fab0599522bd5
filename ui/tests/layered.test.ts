/** A map with changes over it is what a copied one would be. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { changed, flat } from '../src/layered';

interface Item {
  readonly id: string;
  readonly value: number;
}

const item = (number: number, value: number): Item => ({ id: `id-${number}`, value });
const start = new Map(Array.from({ length: 700 }, (_, at) => [`id-${at}`, item(at, 0)]));
const key = (one: Item) => one.id;

describe('a layered map', () => {
  it('is what a copied one would be, whatever comes and goes', () => {
    const change = fc.record({
      upsert: fc.array(fc.tuple(fc.nat(760), fc.nat()), { maxLength: 90 }),
      remove: fc.array(fc.nat(760), { maxLength: 40 }),
    });
    fc.assert(
      fc.property(fc.array(change, { maxLength: 12 }), (changes) => {
        let layered: ReadonlyMap<string, Item> = start;
        const copied = new Map(start);
        for (const { upsert, remove } of changes) {
          const items = upsert.map(([at, value]) => item(at, value));
          const ids = remove.map((at) => `id-${at}`);
          const before = [...layered];
          const next = changed(layered, items, ids, key);
          expect([...layered]).toEqual(before);
          layered = next;
          for (const id of ids) copied.delete(id);
          for (const one of items) copied.set(one.id, one);
          expect(layered.size).toBe(copied.size);
          expect(new Map(layered)).toEqual(copied);
          expect(flat(layered)).toEqual(copied);
          for (let at = 0; at < 760; at += 7) {
            expect(layered.get(`id-${at}`)).toBe(copied.get(`id-${at}`));
            expect(layered.has(`id-${at}`)).toBe(copied.has(`id-${at}`));
          }
        }
      }),
    );
  });

  it('is the same one where nothing changed, and flat where much did', () => {
    expect(changed(start, [], [], key)).toBe(start);
    const all = [...start.values()].map((one) => ({ ...one, value: 1 }));
    expect(changed(start, all, [], key)).toBeInstanceOf(Map);
    const few = changed(start, all.slice(0, 9), [], key);
    expect(few).not.toBeInstanceOf(Map);
    expect([...few.values()].filter((one) => one.value === 1)).toHaveLength(9);
    expect([...few.keys()]).toEqual([...start.keys()]);
  });
});
