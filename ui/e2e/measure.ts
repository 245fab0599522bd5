/**
 * Measures the gap between particles in a screenshot, along the path of the picked link.
 *
 * Only the link's path is taken from the page; where the particles are is read from the pixels.
 */
import type { Pixels } from './browser';

/** A point on the screen. */
interface Point {
  readonly x: number;
  readonly y: number;
}

/** Start, control and end of a quadratic curve. */
export type Path = readonly [Point, Point, Point];

/** Parses `data-focus-path`: start, control and end of a quadratic curve, in pixels of the map. */
export function parsePath(text: string): Path {
  const points = text.split(' ').map((pair) => {
    const [x, y] = pair.split(',').map(Number);
    if (x === undefined || y === undefined || Number.isNaN(x + y)) throw new Error(`no path: ${text}`);
    return { x, y };
  });
  const [a, control, b] = points;
  if (a === undefined || control === undefined || b === undefined) throw new Error(`no path: ${text}`);
  return [a, control, b];
}

/** The part of the screen a path needs, in whole pixels. */
export function around(path: Path): { x: number; y: number; width: number; height: number } {
  const xs = path.map((point) => point.x);
  const ys = path.map((point) => point.y);
  const x = Math.max(0, Math.floor(Math.min(...xs)) - 6);
  const y = Math.max(0, Math.floor(Math.min(...ys)) - 6);
  return { x, y, width: Math.ceil(Math.max(...xs)) + 6 - x, height: Math.ceil(Math.max(...ys)) + 6 - y };
}

/** A path seen from the corner of an area. */
export function shifted([a, control, b]: Path, from: Point): Path {
  const move = (point: Point) => ({ x: point.x - from.x, y: point.y - from.y });
  return [move(a), move(control), move(b)];
}

/** Points one pixel apart along a quadratic curve. */
function walk([a, control, b]: Path): Point[] {
  const points: Point[] = [];
  let last: Point | null = null;
  let rest = 0;
  for (let step = 0; step <= 20_000; step++) {
    const t = step / 20_000;
    const u = 1 - t;
    const at = {
      x: u * u * a.x + 2 * u * t * control.x + t * t * b.x,
      y: u * u * a.y + 2 * u * t * control.y + t * t * b.y,
    };
    if (last !== null) rest += Math.hypot(at.x - last.x, at.y - last.y);
    if (last === null || rest >= 1) {
      points.push(at);
      rest = last === null ? 0 : rest - 1;
    }
    last = at;
  }
  return points;
}

/** Where particles are along the path, in pixels from its start. Particles are the brightest thing there. */
export function particlesAlong(pixels: Pixels, path: Path, margin = 14): number[] {
  const light = walk(path).map((point) => {
    let sum = 0;
    let brightest = 0;
    for (let dy = -2; dy <= 2; dy++)
      for (let dx = -2; dx <= 2; dx++) {
        const at = (Math.round(point.y + dy) * pixels.width + Math.round(point.x + dx)) * 4;
        const lowest = Math.min(pixels.data[at] ?? 0, pixels.data[at + 1] ?? 0, pixels.data[at + 2] ?? 0);
        sum += Math.max(0, lowest - 130);
        brightest = Math.max(brightest, lowest);
      }
    return brightest > 200 ? sum : 0;
  });
  const found: number[] = [];
  let weight = 0;
  let moment = 0;
  light.forEach((value, at) => {
    if (value > 0) {
      weight += value;
      moment += value * at;
    } else if (weight > 0) {
      found.push(moment / weight);
      weight = 0;
      moment = 0;
    }
  });
  // Ends lie under the pods' squares and names.
  return found.filter((at) => at > margin && at < light.length - margin);
}

/** The middle one of the gaps between neighbours over several screenshots. */
export function medianGap(rows: readonly (readonly number[])[]): number {
  const gaps = rows
    .flatMap((row) => row.slice(1).map((at, index) => at - (row[index] ?? 0)))
    .sort((a, b) => a - b);
  const middle = gaps[Math.floor(gaps.length / 2)];
  if (middle === undefined) throw new Error('fewer than two particles on the link');
  return middle;
}
