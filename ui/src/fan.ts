/** Pure: where links touch tiles. Ends are spread along the tile's edge so that they can be told apart. */
import type { Point } from './geometry';
import type { Rect } from './layout';
import type { End } from './select';

interface Ends {
  readonly from: End;
  readonly to: End;
}
type Side = 'left' | 'right' | 'top' | 'bottom';
interface Touch {
  readonly link: number;
  readonly end: 0 | 1;
  readonly wanted: number;
}

/** Nearest that two ends on one tile edge come, in world units. */
const STEP = 7;
/** Links are at least this long where their tiles allow it, in world units. */
const SHORTEST = 90;
/** Kept free at a tile's corners. */
const CORNER = 10;

/** Both ends of every link; pods are touched at a small distance from their centre. */
export function fan(
  links: readonly Ends[],
  rectOf: (end: End) => Rect | undefined,
  podOf: (id: string) => Point | undefined,
  podRadius: number,
): [Point, Point][] {
  const centre = (end: End): Point => {
    if (end.kind === 'vertex') return podOf(end.id) ?? { x: 0, y: 0 };
    const rect = rectOf(end);
    return rect === undefined ? { x: 0, y: 0 } : { x: rect.x + rect.width / 2, y: rect.y + rect.height / 2 };
  };
  const touches = new Map<string, { rect: Rect; side: Side; list: Touch[] }>();
  const result: [Point, Point][] = links.map((link, index) => {
    const centres = [centre(link.from), centre(link.to)] as const;
    const points: [Point, Point] = [centres[0], centres[1]];
    for (const end of [0, 1] as const) {
      const own = end === 0 ? link.from : link.to;
      const here = centres[end];
      const there = centres[end === 0 ? 1 : 0];
      if (own.kind === 'vertex') {
        points[end] = towards(here, there, podRadius);
        continue;
      }
      const rect = rectOf(own);
      if (rect === undefined) continue;
      const { side, wanted } = crossing(rect, here, there);
      const key = `${own.kind}\n${own.id}\n${side}`;
      const group = touches.get(key) ?? { rect, side, list: [] };
      touches.set(key, group);
      group.list.push({ link: index, end, wanted });
    }
    return points;
  });
  for (const { rect, side, list } of touches.values()) {
    const upright = side === 'left' || side === 'right';
    const low = (upright ? rect.y : rect.x) + CORNER;
    const high = (upright ? rect.y + rect.height : rect.x + rect.width) - CORNER;
    list.sort((a, b) => a.wanted - b.wanted || a.link - b.link);
    spread(list, low, high).forEach((along, index) => {
      const touch = list[index];
      const points = touch === undefined ? undefined : result[touch.link];
      if (touch === undefined || points === undefined) return;
      points[touch.end] = upright
        ? { x: side === 'left' ? rect.x : rect.x + rect.width, y: along }
        : { x: along, y: side === 'top' ? rect.y : rect.y + rect.height };
    });
  }
  return result.map((points, index) => {
    const link = links[index];
    return link === undefined ? points : reached(points, centre(link.from), centre(link.to));
  });
}

/** Between tiles that touch a link would vanish in the gap: its ends then reach into the tiles. */
function reached([a, b]: [Point, Point], from: Point, to: Point): [Point, Point] {
  const short = SHORTEST - Math.hypot(b.x - a.x, b.y - a.y);
  if (short <= 0) return [a, b];
  const inwards = (point: Point, middle: Point): Point => {
    const far = Math.hypot(middle.x - point.x, middle.y - point.y);
    const share = far === 0 ? 0 : Math.min(short / 2 / far, 0.6);
    return { x: point.x + (middle.x - point.x) * share, y: point.y + (middle.y - point.y) * share };
  };
  return [inwards(a, from), inwards(b, to)];
}

function towards(here: Point, there: Point, by: number): Point {
  const distance = Math.hypot(there.x - here.x, there.y - here.y);
  if (distance < by * 2) return here;
  return {
    x: here.x + ((there.x - here.x) * by) / distance,
    y: here.y + ((there.y - here.y) * by) / distance,
  };
}

/** Which side of a tile a line from its centre leaves by, and where along it. */
function crossing(rect: Rect, here: Point, there: Point): { side: Side; wanted: number } {
  const dx = there.x - here.x;
  const dy = there.y - here.y;
  if (Math.abs(dx) * rect.height > Math.abs(dy) * rect.width)
    return {
      side: dx < 0 ? 'left' : 'right',
      wanted: here.y + (dy * rect.width) / 2 / Math.max(Math.abs(dx), 1),
    };
  return {
    side: dy < 0 ? 'top' : 'bottom',
    wanted: here.x + (dx * rect.height) / 2 / Math.max(Math.abs(dy), 1),
  };
}

/** Positions in order, near where wanted, at least a step apart if the edge is long enough. */
function spread(list: readonly Touch[], low: number, high: number): number[] {
  const room = Math.max(high - low, 0);
  const step = Math.min(STEP, list.length > 1 ? room / (list.length - 1) : STEP);
  const at = list.map((touch) => Math.min(Math.max(touch.wanted, low), low + room));
  for (let i = 1; i < at.length; i++) at[i] = Math.max(at[i] ?? 0, (at[i - 1] ?? 0) + step);
  let limit = low + room;
  for (let i = at.length - 1; i >= 0; i--) {
    at[i] = Math.min(at[i] ?? 0, limit);
    limit = (at[i] ?? 0) - step;
  }
  return at;
}
