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

/** Parses `data-focus-path`: start, control and end of a quadratic curve, in pixels of the map. */
export function parsePath(text: string): [Point, Point, Point] {
  const points = text.split(' ').map((pair) => {
    const [x, y] = pair.split(',').map(Number);
    if (x === undefined || y === undefined || Number.isNaN(x + y)) throw new Error(`no path: ${text}`);
    return { x, y };
  });
  const [a, control, b] = points;
  if (a === undefined || control === undefined || b === undefined) throw new Error(`no path: ${text}`);
  return [a, control, b];
}

/** Points one pixel apart along a quadratic curve. */
function walk([a, control, b]: [Point, Point, Point]): Point[] {
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
export function particlesAlong(pixels: Pixels, path: [Point, Point, Point], margin = 14): number[] {
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
