/**
 * Pure slot grid: where tiles and their pods are.
 *
 * A tile has a quarter more slots than it needed; freed slots are used again, and nothing moves because
 * something else came or went. A pod that is gone stays until its slot is wanted: where pods replace each other
 * nothing grows. A tile that outgrows its slots grows in place if there is room below it, and only if there is
 * none does that one tile move.
 */
import { type Density, densityFor } from './density';
import type { Group, Member } from './groups';

/** Tiles sit on this grid. */
const GRID_X = 40;
const GRID_Y = 20;
const GAP = 7;
/** A picture is pulled no further than this to fill the view. */
const MOST_PULLED = 1.4;
/** Share of slots kept free for what comes. */
const HEADROOM = 0.25;

interface Slot {
  readonly pod: string | null;
  /** Whose place this is; empty when anybody's. */
  readonly home: string;
}

/** A group's place, in grid cells, and its slots. */
export interface TilePlace {
  readonly id: string;
  readonly column: number;
  readonly row: number;
  readonly width: number;
  readonly height: number;
  /** Slots in one row, and how far apart they are. */
  readonly across: number;
  readonly pitch: number;
  readonly slots: readonly Slot[];
}

/** Where everything is. */
export interface Layout {
  readonly density: Density;
  readonly columns: number;
  readonly tiles: ReadonlyMap<string, TilePlace>;
}

/** A rectangle in world units. */
export interface Rect {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** The room the picture has, in pixels. */
export interface Room {
  readonly width: number;
  readonly height: number;
}

/** Places groups: anew without a previous layout, else moving nothing that need not move. */
export function arrange(previous: Layout | null, groups: readonly Group[], room: Room): Layout {
  const count = groups.reduce((sum, { members }) => sum + members.filter(({ gone }) => !gone).length, 0);
  // A picture made for a handful of pods cannot hold hundreds: only then is it made again.
  if (previous === null || previous.tiles.size === 0 || count > previous.density.limit * 1.6)
    return fresh(groups, densityFor(count, room.width), room.width / room.height);
  const tiles = new Map<string, TilePlace>();
  const late: Group[] = [];
  for (const group of groups) {
    const tile = previous.tiles.get(group.id);
    if (tile === undefined) late.push(group);
    else tiles.set(group.id, tile);
  }
  for (const group of groups) {
    const tile = tiles.get(group.id);
    if (tile === undefined) continue;
    const slots = reseat(tile.slots, group.members);
    if (slots === tile.slots) continue;
    const rows = Math.ceil(slots.length / tile.across);
    const height = gridHeight(previous.density, rows);
    if (height <= tile.height) tiles.set(group.id, { ...tile, slots });
    else tiles.set(group.id, grown({ ...tile, slots }, height, tiles, previous));
  }
  for (const group of late) {
    const shaped = shape(group, previous.density);
    tiles.set(group.id, { ...shaped, ...firstFree(shaped, tiles.values(), previous.columns) });
  }
  return { density: previous.density, columns: previous.columns, tiles };
}

/** A tile's rectangle. */
export function tileRect(tile: TilePlace): Rect {
  return {
    x: tile.column * GRID_X,
    y: tile.row * GRID_Y,
    width: tile.width * GRID_X - GAP,
    height: tile.height * GRID_Y - GAP,
  };
}

/** The cell of a slot. */
export function slotRect(layout: Layout, tile: TilePlace, slot: number): Rect {
  const { density } = layout;
  const rect = tileRect(tile);
  return {
    x: rect.x + density.padding + (slot % tile.across) * tile.pitch,
    y: rect.y + density.header + Math.floor(slot / tile.across) * density.cellHeight,
    width: tile.pitch,
    height: density.cellHeight,
  };
}

/** Middle of a pod's square in its cell. */
export function podCentre(layout: Layout, cell: Rect): { x: number; y: number } {
  const { density } = layout;
  return {
    x: cell.x + density.pod / 2,
    y: cell.y + (density.beside ? cell.height / 2 : density.pod / 2),
  };
}

/** The rectangle around all tiles. */
export function bounds(layout: Layout): Rect {
  let width = 0;
  let height = 0;
  for (const tile of layout.tiles.values()) {
    const rect = tileRect(tile);
    width = Math.max(width, rect.x + rect.width);
    height = Math.max(height, rect.y + rect.height);
  }
  return { x: 0, y: 0, width, height };
}

function gridHeight(density: Density, rows: number): number {
  return Math.ceil((density.header + rows * density.cellHeight + density.padding + GAP) / GRID_Y);
}

function gridWidth(density: Density, across: number): number {
  const gutter = density.cellWidth - (density.beside ? density.cellWidth : density.pod);
  return Math.ceil((density.padding * 2 + across * density.cellWidth - gutter + GAP) / GRID_X);
}

/** Slots for a new tile: every workload's pods together, its spare places behind them, common ones at the end. */
function seat(members: readonly Member[], density: Density): Slot[] {
  const homes = new Map<string, string[]>();
  for (const member of members) {
    const pods = homes.get(member.home);
    if (pods === undefined) homes.set(member.home, [member.id]);
    else pods.push(member.id);
  }
  const slots: Slot[] = [];
  const spare = members.some((member) => member.elastic) ? density.elastic : density.spare;
  const wanted = members.length + Math.max(spare, Math.ceil(members.length * HEADROOM));
  for (const home of [...homes.keys()].sort()) {
    const pods = (homes.get(home) ?? []).sort();
    for (const pod of pods) slots.push({ pod, home });
    for (let free = Math.floor(pods.length * HEADROOM); free > 0; free--) slots.push({ pod: null, home });
  }
  while (slots.length < wanted) slots.push({ pod: null, home: '' });
  return slots;
}

/** The same slots with those gone taken out and those new put in; the same array if nothing changed. */
function reseat(slots: readonly Slot[], members: readonly Member[]): readonly Slot[] {
  const present = new Map(members.map((member) => [member.id, member]));
  const seated = new Set<string>();
  const gone = (id: string | null) => id !== null && present.get(id)?.gone === true;
  let next: Slot[] | null = null;
  slots.forEach((slot, index) => {
    if (slot.pod === null) return;
    if (present.has(slot.pod)) seated.add(slot.pod);
    else {
      next ??= [...slots];
      next[index] = { pod: null, home: slot.home };
    }
  });
  // Who is gone and lost its slot gets no other.
  const arrivals = members.filter((member) => !seated.has(member.id) && !member.gone);
  if (arrivals.length === 0) return next ?? slots;
  const after = next ?? [...slots];
  for (const member of arrivals.sort((a, b) => (a.id < b.id ? -1 : 1))) {
    let at = after.findIndex((slot) => slot.pod === null && slot.home === member.home);
    if (at < 0) at = after.findIndex((slot) => slot.pod === null && slot.home === '');
    if (at < 0) at = after.findIndex((slot) => gone(slot.pod) && slot.home === member.home);
    if (at < 0) at = after.findIndex((slot) => slot.pod === null || gone(slot.pod));
    if (at < 0) at = after.length;
    after[at] = { pod: member.id, home: member.home };
  }
  if (after.length > slots.length) {
    for (let free = Math.ceil(seated.size * HEADROOM); free > 0; free--) after.push({ pod: null, home: '' });
  }
  return after;
}

/** A new tile, not yet placed, as near to a pleasant shape as its slots allow. */
function shape(group: Group, density: Density): TilePlace {
  const slots = seat(group.members, density);
  let best = { across: 1, width: 1, height: 1, cost: Number.POSITIVE_INFINITY };
  for (let across = 1; across <= Math.min(slots.length, 64); across++) {
    const width = gridWidth(density, across);
    const height = gridHeight(density, Math.ceil(slots.length / across));
    const used = slots.length * density.cellWidth * density.cellHeight;
    const waste = (width * GRID_X * height * GRID_Y) / Math.max(used, 1);
    const cost = Math.abs(Math.log((width * GRID_X) / (height * GRID_Y) / 1.4)) + Math.log(waste);
    if (cost < best.cost - 1e-9) best = { across, width, height, cost };
  }
  // Whole slots up to the tile's edges: what rounding left is headroom, too.
  let across = best.across;
  while (gridWidth(density, across + 1) <= best.width) across += 1;
  const { width, height } = best;
  return {
    id: group.id,
    column: 0,
    row: 0,
    width,
    height,
    across,
    pitch: pitchOf(density, width, across),
    slots,
  };
}

/** Names get what room a tile has; bare squares stay together. */
function pitchOf(density: Density, width: number, across: number): number {
  if (!density.beside) return density.cellWidth;
  return Math.floor((width * GRID_X - GAP - density.padding * 2) / across);
}

/** A first layout: tiles dropped one by one to the lowest place, for the world width that fills the view best. */
function fresh(groups: readonly Group[], density: Density, aspect: number): Layout {
  const shapes = groups.map((group) => shape(group, density));
  const area = shapes.reduce((sum, tile) => sum + tile.width * GRID_X * tile.height * GRID_Y, 0);
  const widest = shapes.reduce((most, tile) => Math.max(most, tile.width), 1);
  let best: { layout: Layout; scale: number } | null = null;
  for (let columns = widest; columns * GRID_X <= Math.sqrt(area * aspect) * 1.7 + GRID_X; columns++) {
    const layout = { density, columns, tiles: stretch(skyline(shapes, columns), columns, density) };
    const box = bounds(layout);
    const scale = Math.min(aspect / Math.max(box.width, 1), 1 / Math.max(box.height, 1));
    if (best === null || scale > best.scale * 1.001) best = { layout, scale };
  }
  return best === null ? { density, columns: 1, tiles: new Map() } : filled(best.layout, aspect);
}

/** Pulls a roomy picture to the view's shape: by whole cells, so that tiles still meet. */
function filled(layout: Layout, aspect: number): Layout {
  if (!layout.density.fill) return layout;
  const box = bounds(layout);
  const shape = Math.max(box.width, 1) / Math.max(box.height, 1);
  const wider = Math.min(Math.max(aspect / shape, 1), MOST_PULLED);
  const taller = Math.min(Math.max(shape / aspect, 1), MOST_PULLED);
  const tiles = new Map<string, TilePlace>();
  for (const [id, tile] of layout.tiles) {
    const [column, width] = pulled(tile.column, tile.width, wider);
    const [row, height] = pulled(tile.row, tile.height, taller);
    tiles.set(id, spreadOut({ ...tile, column, width, row, height }, layout.density));
  }
  return { ...layout, columns: Math.round(layout.columns * wider), tiles };
}

function pulled(start: number, length: number, factor: number): [number, number] {
  const from = Math.round(start * factor);
  return [from, Math.round((start + length) * factor) - from];
}

function skyline(shapes: readonly TilePlace[], columns: number): Map<string, TilePlace> {
  const heights = new Array<number>(columns).fill(0);
  const tiles = new Map<string, TilePlace>();
  for (const tile of shapes) {
    let column = 0;
    let row = Number.POSITIVE_INFINITY;
    for (let x = 0; x + tile.width <= columns; x++) {
      const y = Math.max(...heights.slice(x, x + tile.width));
      if (y < row) {
        row = y;
        column = x;
      }
    }
    heights.fill(row + tile.height, column, column + tile.width);
    tiles.set(tile.id, { ...tile, column, row });
  }
  return tiles;
}

/** Fills the gaps a first layout leaves: first to the right, then down. What is filled is headroom. */
function stretch(
  tiles: ReadonlyMap<string, TilePlace>,
  columns: number,
  density: Density,
): ReadonlyMap<string, TilePlace> {
  if (!density.fill) return tiles;
  const bottom = [...tiles.values()].reduce((most, tile) => Math.max(most, tile.row + tile.height), 0);
  const full = new Map(tiles);
  for (const id of tiles.keys()) {
    let tile = full.get(id) as TilePlace;
    for (;;) {
      const wider = { ...tile, width: tile.width + 1 };
      if (wider.column + wider.width > columns || !isFree(wider, full.values())) break;
      tile = wider;
    }
    full.set(id, tile);
  }
  for (const id of tiles.keys()) {
    let tile = full.get(id) as TilePlace;
    for (;;) {
      const taller = { ...tile, height: tile.height + 1 };
      if (taller.row + taller.height > bottom || !isFree(taller, full.values())) break;
      tile = taller;
    }
    full.set(id, spreadOut(tile, density));
  }
  return full;
}

/** As many slots in a row as suit the tile's shape. */
function spreadOut(tile: TilePlace, density: Density): TilePlace {
  const width = tile.width * GRID_X - GAP - density.padding * 2;
  const height = tile.height * GRID_Y - GAP - density.header - density.padding;
  const most = Math.max(1, Math.floor(width / density.cellWidth));
  const rows = Math.max(1, Math.floor(height / density.cellHeight));
  const square = Math.sqrt((tile.slots.length * width * density.cellHeight) / (height * density.cellWidth));
  const across = Math.min(most, Math.max(1, Math.round(square), Math.ceil(tile.slots.length / rows)));
  return { ...tile, across, pitch: pitchOf(density, tile.width, across) };
}

function overlaps(a: TilePlace, b: TilePlace): boolean {
  return (
    a.column < b.column + b.width &&
    b.column < a.column + a.width &&
    a.row < b.row + b.height &&
    b.row < a.row + a.height
  );
}

function isFree(tile: TilePlace, others: Iterable<TilePlace>): boolean {
  for (const other of others) if (other.id !== tile.id && overlaps(tile, other)) return false;
  return true;
}

function firstFree(
  tile: TilePlace,
  others: Iterable<TilePlace>,
  columns: number,
): { column: number; row: number } {
  const all = [...others].filter((other) => other.id !== tile.id);
  const bottom = all.reduce((most, other) => Math.max(most, other.row + other.height), 0);
  for (let row = 0; row < bottom; row++)
    for (let column = 0; column + tile.width <= columns; column++)
      if (isFree({ ...tile, column, row }, all)) return { column, row };
  return { column: 0, row: bottom };
}

/** The tile made taller where it stands, else (and only it) moved. */
function grown(
  tile: TilePlace,
  height: number,
  tiles: ReadonlyMap<string, TilePlace>,
  layout: Layout,
): TilePlace {
  const taller = { ...tile, height };
  if (isFree(taller, tiles.values())) return taller;
  return { ...taller, ...firstFree(taller, tiles.values(), layout.columns) };
}
