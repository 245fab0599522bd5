/** Pure: reading untrusted JSON field by field; what is wrong is named with its path. */

/** Thrown when a frame is not what the contract says. */
export class DecodeError extends Error {
  constructor(path: string, expected: string) {
    super(`decode ${path}: expected ${expected}`);
    this.name = 'DecodeError';
  }
}

/** An object of unknown fields. */
export type Fields = Readonly<Record<string, unknown>>;

/** An object. */
export function fields(value: unknown, path: string): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new DecodeError(path, 'an object');
  return value as Fields;
}

/** A text field. */
export function text(of: Fields, key: string, path: string): string {
  const value = of[key];
  if (typeof value !== 'string') throw new DecodeError(`${path}.${key}`, 'a string');
  return value;
}

/** A finite number. */
export function number(of: Fields, key: string, path: string): number {
  const value = of[key];
  if (typeof value !== 'number' || !Number.isFinite(value))
    throw new DecodeError(`${path}.${key}`, 'a number');
  return value;
}

/** A boolean. */
export function flag(of: Fields, key: string, path: string): boolean {
  const value = of[key];
  if (typeof value !== 'boolean') throw new DecodeError(`${path}.${key}`, 'a boolean');
  return value;
}

/** A text, or null where it is absent. */
export function maybeText(of: Fields, key: string, path: string): string | null {
  return of[key] === null || of[key] === undefined ? null : text(of, key, path);
}

/** A number, or null where it is absent. */
export function maybeNumber(of: Fields, key: string, path: string): number | null {
  return of[key] === null || of[key] === undefined ? null : number(of, key, path);
}

/** An array, item by item. */
export function list<T>(
  of: Fields,
  key: string,
  path: string,
  item: (value: unknown, path: string) => T,
): T[] {
  const value = of[key];
  if (!Array.isArray(value)) throw new DecodeError(`${path}.${key}`, 'an array');
  return value.map((entry, index) => item(entry, `${path}.${key}[${index}]`));
}

/** A text by itself. */
export function string(value: unknown, path: string): string {
  if (typeof value !== 'string') throw new DecodeError(path, 'a string');
  return value;
}

/** A word of an enumeration; `unknown` for words of a later version. */
export function word<T extends string>(value: string, known: readonly T[]): T | 'unknown' {
  return (known as readonly string[]).includes(value) ? (value as T) : 'unknown';
}
