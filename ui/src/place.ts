/** Pure: where words beside a sign find room. */
import type { Size } from './camera';

/** A box on the screen. */
export interface Box {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** How high words on a pill are. */
const HEIGHT = 24;
/** From the sign's middle to its words. */
const BESIDE = 14;
/** Between words and the screen's edge. */
const EDGE = 4;

/** The first free place: right of the sign, left, below, above, and the corners; null where all are taken. */
export function placeFor(
  at: { readonly x: number; readonly y: number },
  width: number,
  taken: readonly Box[],
  size: Size,
): Box | null {
  const right = at.x + BESIDE;
  const left = at.x - BESIDE - width;
  const middle = Math.max(EDGE, Math.min(at.x - width / 2, size.width - EDGE - width));
  const level = at.y - HEIGHT / 2;
  const below = at.y + BESIDE;
  const above = at.y - BESIDE - HEIGHT;
  const tries: readonly (readonly [number, number])[] = [
    [right, level],
    [left, level],
    [middle, below],
    [middle, above],
    [right, below],
    [right, above],
    [left, below],
    [left, above],
  ];
  for (const [x, y] of tries) {
    const box = { x, y, width, height: HEIGHT };
    const inside =
      x >= EDGE && x + width <= size.width - EDGE && y >= EDGE && y + HEIGHT <= size.height - EDGE;
    if (inside && !taken.some((other) => overlap(box, other))) return box;
  }
  return null;
}

function overlap(a: Box, b: Box): boolean {
  return a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;
}
