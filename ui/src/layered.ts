/** Pure: a map that is never changed in place, with a cheap next one: what changed lies over what was. */

/** Maps smaller than this are copied. */
const SMALL = 512;
/** What lies over a map is at most this share of it; then both are made one. */
const MOST = 0.25;
/** Lies over what is removed. */
const GONE = Symbol('gone');

/** A map, and what changed since. */
class Layered<T> implements ReadonlyMap<string, T> {
  /** Both as one, once somebody wanted them so. */
  private one: ReadonlyMap<string, T> | null = null;

  constructor(
    readonly base: ReadonlyMap<string, T>,
    readonly over: ReadonlyMap<string, T | typeof GONE>,
    readonly size: number,
  ) {}

  flat(): ReadonlyMap<string, T> {
    this.one ??= whole(this.base, this.over);
    return this.one;
  }

  /** What the next map is made of: no more lies over what was made one. */
  ground(): {
    readonly base: ReadonlyMap<string, T>;
    readonly over: ReadonlyMap<string, T | typeof GONE> | null;
  } {
    return this.one === null ? this : { base: this.one, over: null };
  }

  get(id: string): T | undefined {
    const over = this.over.get(id);
    return over === undefined ? this.base.get(id) : over === GONE ? undefined : over;
  }

  has(id: string): boolean {
    const over = this.over.get(id);
    return over === undefined ? this.base.has(id) : over !== GONE;
  }

  *entries(): MapIterator<[string, T]> {
    for (const entry of this.base) {
      const over = this.over.get(entry[0]);
      if (over === undefined) yield entry;
      else if (over !== GONE) yield [entry[0], over];
    }
    for (const [id, over] of this.over) if (over !== GONE && !this.base.has(id)) yield [id, over];
  }

  *keys(): MapIterator<string> {
    for (const [id] of this.entries()) yield id;
  }

  *values(): MapIterator<T> {
    for (const [, value] of this.entries()) yield value;
  }

  [Symbol.iterator](): MapIterator<[string, T]> {
    return this.entries();
  }

  forEach(each: (value: T, id: string, map: ReadonlyMap<string, T>) => void): void {
    for (const [id, value] of this.entries()) each(value, id, this);
  }
}

/** The map after a change; the same one if nothing changed. */
export function changed<T>(
  before: ReadonlyMap<string, T>,
  upsert: readonly T[],
  remove: readonly string[],
  key: (item: T) => string,
): ReadonlyMap<string, T> {
  if (upsert.length === 0 && remove.length === 0) return before;
  const { base, over } =
    before instanceof Layered ? (before as Layered<T>).ground() : { base: before, over: null };
  if (base.size < SMALL || (over?.size ?? 0) + upsert.length + remove.length > base.size * MOST) {
    const after = whole(base, over);
    for (const id of remove) after.delete(id);
    for (const item of upsert) after.set(key(item), item);
    return after;
  }
  const next = new Map<string, T | typeof GONE>(over);
  let { size } = before;
  const has = (id: string) => {
    const lies = next.get(id);
    return lies === undefined ? base.has(id) : lies !== GONE;
  };
  for (const id of remove) {
    if (!has(id)) continue;
    size -= 1;
    next.set(id, GONE);
  }
  for (const item of upsert) {
    const id = key(item);
    if (!has(id)) size += 1;
    next.set(id, item);
  }
  return new Layered(base, next, size);
}

/** A copy with what lies over it. */
function whole<T>(
  base: ReadonlyMap<string, T>,
  over: ReadonlyMap<string, T | typeof GONE> | null,
): Map<string, T> {
  const after = new Map(base);
  for (const [id, lies] of over ?? []) {
    if (lies === GONE) after.delete(id);
    else after.set(id, lies);
  }
  return after;
}

/** The same as one map, for those who walk through all of it. */
export function flat<T>(map: ReadonlyMap<string, T>): ReadonlyMap<string, T> {
  return map instanceof Layered ? (map as Layered<T>).flat() : map;
}
