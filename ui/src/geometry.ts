/** Pure geometry of links: curves, lengths, distances. */

/** A point. */
export interface Point {
  readonly x: number;
  readonly y: number;
}

/** A quadratic curve. */
export interface Curve {
  readonly a: Point;
  readonly control: Point;
  readonly b: Point;
}

/** A curve as evenly readable points with the length up to each. */
export interface Path {
  readonly x: Float32Array;
  readonly y: Float32Array;
  readonly at: Float32Array;
  readonly length: number;
}

/** How much a link bends, as a share of its length. */
const BEND = 0.09;

/** A slightly bent link; both directions of a pair bend apart. */
export function bend(a: Point, b: Point): Curve {
  const dx = b.x - a.x;
  const dy = b.y - a.y;
  return { a, b, control: { x: (a.x + b.x) / 2 - dy * BEND, y: (a.y + b.y) / 2 + dx * BEND } };
}

/** The point of a curve at parameter `t`. */
export function pointAt(curve: Curve, t: number): Point {
  const u = 1 - t;
  return {
    x: u * u * curve.a.x + 2 * u * t * curve.control.x + t * t * curve.b.x,
    y: u * u * curve.a.y + 2 * u * t * curve.control.y + t * t * curve.b.y,
  };
}

/** Measures a curve after scaling and shifting it to the screen. */
export function measure(curve: Curve, zoom: number, offsetX: number, offsetY: number, steps = 20): Path {
  const x = new Float32Array(steps + 1);
  const y = new Float32Array(steps + 1);
  const at = new Float32Array(steps + 1);
  let length = 0;
  for (let step = 0; step <= steps; step++) {
    const point = pointAt(curve, step / steps);
    const px = point.x * zoom + offsetX;
    const py = point.y * zoom + offsetY;
    if (step > 0) length += Math.hypot(px - (x[step - 1] ?? 0), py - (y[step - 1] ?? 0));
    x[step] = px;
    y[step] = py;
    at[step] = length;
  }
  return { x, y, at, length };
}

/** How far a point is from a curve. */
export function distance(curve: Curve, point: Point, steps = 16): number {
  let nearest = Number.POSITIVE_INFINITY;
  let from = curve.a;
  for (let step = 1; step <= steps; step++) {
    const to = pointAt(curve, step / steps);
    nearest = Math.min(nearest, toSegment(from, to, point));
    from = to;
  }
  return nearest;
}

function toSegment(a: Point, b: Point, p: Point): number {
  const dx = b.x - a.x;
  const dy = b.y - a.y;
  const square = dx * dx + dy * dy;
  const t = square === 0 ? 0 : Math.max(0, Math.min(1, ((p.x - a.x) * dx + (p.y - a.y) * dy) / square));
  return Math.hypot(p.x - a.x - t * dx, p.y - a.y - t * dy);
}
