/** Draws the base layer of a scene: tiles, links, pods, names, marks. Decides nothing. */
import type { Camera, Size } from './camera';
import { measure, type Path } from './geometry';
import { type Context, label, roundedRect } from './pen';
import { type Drawable, type DrawnLink, FLAG, type LinkTone, type SceneTile, TONE } from './picture';

/** Colours, read from the style sheet. */
export interface Palette {
  readonly ink: string;
  readonly tile: string;
  readonly hairline: string;
  readonly text: string;
  readonly label: string;
  readonly muted: string;
  readonly l4: string;
  readonly dns: string;
  readonly warning: string;
  readonly warningInk: string;
  readonly bad: string;
  readonly badInk: string;
  readonly fresh: string;
  readonly scale: string;
  readonly scaleInk: string;
  readonly particle: string;
  readonly step0: string;
  readonly step1: string;
  readonly step2: string;
  readonly step3: string;
}

/** Where along a lossy link its mark is. */
export const LOSS_AT = 0.6;
/** Font stack of the canvas. */
export const FONT = 'Inter, system-ui, sans-serif';

/** What painting needs besides the scene. */
export interface View {
  readonly camera: Camera;
  readonly size: Size;
  readonly palette: Palette;
}

/** A link measured on the screen. */
export interface Drawn {
  readonly link: DrawnLink;
  readonly path: Path;
}

/** Links on the screen; those entirely outside are left out. */
export function project(scene: Drawable, { camera, size }: View): Drawn[] {
  const drawn: Drawn[] = [];
  for (const link of scene.links) {
    const xs = [link.curve.a.x, link.curve.b.x, link.curve.control.x].map((x) => x * camera.zoom + camera.x);
    const ys = [link.curve.a.y, link.curve.b.y, link.curve.control.y].map((y) => y * camera.zoom + camera.y);
    if (Math.max(...xs) < 0 || Math.min(...xs) > size.width) continue;
    if (Math.max(...ys) < 0 || Math.min(...ys) > size.height) continue;
    drawn.push({ link, path: measure(link.curve, camera.zoom, camera.x, camera.y) });
  }
  return drawn;
}

const isMarked = ({ link }: Drawn) => link.loss > 0 || link.mark !== null;

/** The colour of a link's tone. */
export function toneColour(tone: LinkTone, palette: Palette): string {
  switch (tone) {
    case 'bad':
      return palette.bad;
    case 'warning':
      return palette.warning;
    case 'l4':
      return palette.l4;
    case 'dns':
      return palette.dns;
    case 'underlay':
      return palette.label;
    case 'stale':
    case 'quiet':
      return palette.muted;
  }
}

/** Paints everything that does not move. */
export function paintBase(ctx: Context, scene: Drawable, drawn: readonly Drawn[], view: View): void {
  ctx.clearRect(0, 0, view.size.width, view.size.height);
  ctx.lineCap = 'round';
  ctx.lineJoin = 'round';
  for (const tile of scene.tiles) paintTile(ctx, tile, view);
  paintAreas(ctx, scene, view);
  paintSockets(ctx, scene, view);
  for (const one of drawn) if (!isMarked(one) && !one.link.focus) paintLink(ctx, one, view);
  paintPods(ctx, scene, view);
  for (const tile of scene.tiles) paintTitle(ctx, tile, scene, view);
  for (const one of drawn) if (isMarked(one) && !one.link.focus) paintLink(ctx, one, view);
  for (const one of drawn) if (one.link.focus) paintLink(ctx, one, view);
}

function screen(tile: SceneTile, { camera }: View): { x: number; y: number; width: number; height: number } {
  const x = Math.round(tile.rect.x * camera.zoom + camera.x) + 0.5;
  const y = Math.round(tile.rect.y * camera.zoom + camera.y) + 0.5;
  return {
    x,
    y,
    width: Math.round(tile.rect.width * camera.zoom),
    height: Math.round(tile.rect.height * camera.zoom),
  };
}

function paintTile(ctx: Context, tile: SceneTile, view: View): void {
  const { palette } = view;
  const box = screen(tile, view);
  if (box.x > view.size.width || box.y > view.size.height || box.x + box.width < 0 || box.y + box.height < 0)
    return;
  ctx.globalAlpha = tile.dim ? 0.55 : 1;
  roundedRect(ctx, box.x, box.y, box.width, box.height, 4);
  ctx.fillStyle = palette.tile;
  ctx.fill();
  ctx.lineWidth = 1;
  ctx.strokeStyle = palette.hairline;
  ctx.setLineDash([]);
  if (tile.tone !== 'plain' || tile.selected) {
    ctx.lineWidth = 1.5;
    ctx.strokeStyle =
      tile.tone === 'bad' ? palette.bad : tile.tone === 'warning' ? palette.warning : palette.l4;
    if (tile.tone === 'warning') ctx.setLineDash([5, 4]);
  }
  ctx.stroke();
  ctx.setLineDash([]);
  ctx.globalAlpha = 1;
}

function paintTitle(ctx: Context, tile: SceneTile, scene: Drawable, view: View): void {
  const { palette, camera } = view;
  const box = screen(tile, view);
  if (box.width < 26 || box.x > view.size.width || box.y > view.size.height) return;
  if (box.x + box.width < 0 || box.y + box.height < 0) return;
  const big = scene.density.fill && camera.zoom > 0.7 && box.width > 120;
  const size = big ? 13 : box.width > 60 ? 11 : 10;
  const middle = box.y + Math.max(Math.min((scene.density.header * camera.zoom) / 2, 17), 8);
  const inset = Math.min(scene.density.padding * Math.min(camera.zoom, 1), 12);
  ctx.globalAlpha = tile.dim ? 0.4 : 1;
  ctx.font = `500 ${size - 1}px ${FONT}`;
  const countWidth = box.width > 64 ? ctx.measureText(tile.count).width : 0;
  if (countWidth > 0)
    label(ctx, tile.count, box.x + box.width - inset - countWidth, middle, countWidth + 1, palette.muted);
  ctx.font = `600 ${size}px ${FONT}`;
  const room = box.width - inset * 2 - (countWidth > 0 ? countWidth + 8 : 0);
  const used = label(ctx, tile.label, box.x + inset, middle, room, palette.text);
  if (tile.mark !== null && room - used > 44) {
    ctx.font = `600 10px ${FONT}`;
    label(ctx, `▲ ${tile.mark}`, box.x + inset + used + 8, middle, room - used - 8, palette.warning);
  }
  ctx.globalAlpha = 1;
}

function trace(ctx: Context, path: Path, from: number, to: number): void {
  const last = path.x.length - 1;
  const start = Math.round(from * last);
  const end = Math.round(to * last);
  ctx.beginPath();
  ctx.moveTo(path.x[start] ?? 0, path.y[start] ?? 0);
  for (let i = start + 1; i <= end; i++) ctx.lineTo(path.x[i] ?? 0, path.y[i] ?? 0);
}

function paintLink(ctx: Context, { link, path }: Drawn, { palette }: View): void {
  ctx.globalAlpha = link.dim
    ? Math.min(link.alpha, 0.35) * 0.3
    : link.focus
      ? Math.max(link.alpha, 0.75)
      : link.alpha;
  ctx.lineWidth = link.width;
  ctx.strokeStyle = toneColour(link.tone, palette);
  if (link.tone === 'stale') ctx.setLineDash([1, 4]);
  if (link.tone === 'underlay') ctx.setLineDash([7, 4]);
  trace(ctx, path, 0, link.loss > 0 ? LOSS_AT : 1);
  ctx.stroke();
  if (link.loss > 0) {
    ctx.setLineDash([4, 4]);
    trace(ctx, path, LOSS_AT, 1);
    ctx.stroke();
  }
  ctx.setLineDash([]);
  ctx.globalAlpha = 1;
}

function paintPods(ctx: Context, scene: Drawable, view: View): void {
  const { camera, size, palette } = view;
  const { pods, density } = scene;
  const colours = [palette.step0, palette.step1, palette.step2, palette.step3, palette.fresh];
  const side = Math.max(2.5, Math.min(density.pod * camera.zoom, 15));
  const half = side / 2;
  for (let tone = 0; tone <= TONE.Failing; tone++) {
    ctx.fillStyle = tone === TONE.Failing ? palette.bad : (colours[tone] ?? palette.step0);
    for (let i = 0; i < pods.x.length; i++) {
      if (pods.tone[i] !== tone) continue;
      const x = (pods.x[i] ?? 0) * camera.zoom + camera.x;
      const y = (pods.y[i] ?? 0) * camera.zoom + camera.y;
      if (x < -side || y < -side || x > size.width + side || y > size.height + side) continue;
      const flags = pods.flags[i] ?? 0;
      ctx.globalAlpha = flags & FLAG.Dim ? 0.22 : 1;
      if (flags & FLAG.Hatched) hatched(ctx, x, y, half, palette.muted);
      else if (tone === TONE.Pending) hollow(ctx, x, y, half, palette.warning);
      else if (tone === TONE.Failing) diamond(ctx, x, y, half * 1.2);
      else if (flags & FLAG.Round) disc(ctx, x, y, half);
      else if (side < 9) ctx.fillRect(x - half, y - half, side, side);
      else {
        roundedRect(ctx, x - half, y - half, side, side, 2);
        ctx.fill();
      }
      if (flags & FLAG.Selected) ring(ctx, x, y, half + 3.5, palette.text);
    }
  }
  ctx.globalAlpha = 1;
  if (pods.labels.length > 0) paintNames(ctx, scene, view, half);
}

function paintNames(ctx: Context, scene: Drawable, { camera, size, palette }: View, half: number): void {
  const { pods, density } = scene;
  const { beside } = density;
  const cell = density.cellWidth * camera.zoom;
  const font = beside ? Math.max(10, Math.min(11 * camera.zoom, 12.5)) : 10;
  ctx.font = `500 ${font}px ${FONT}`;
  ctx.lineWidth = 3;
  for (let i = 0; i < pods.x.length; i++) {
    const x = (pods.x[i] ?? 0) * camera.zoom + camera.x;
    const y = (pods.y[i] ?? 0) * camera.zoom + camera.y;
    if (x < -cell || y < -cell || x > size.width || y > size.height + cell) continue;
    const flags = pods.flags[i] ?? 0;
    ctx.globalAlpha = flags & FLAG.Dim ? 0.3 : 1;
    const colour = flags & FLAG.Selected ? palette.text : palette.label;
    const name = pods.labels[i] ?? '';
    if (beside)
      label(
        ctx,
        name,
        x + half + 7,
        y,
        (pods.room[i] ?? 0) * camera.zoom - half * 2 - 12,
        colour,
        palette.tile,
      );
    else label(ctx, name, x - half, y + half + 9, cell - 6, colour, palette.tile);
  }
  ctx.globalAlpha = 1;
}

/** Outlines of workloads, where links end at them. */
function paintAreas(ctx: Context, scene: Drawable, { camera, size, palette }: View): void {
  ctx.strokeStyle = palette.hairline;
  ctx.lineWidth = 1;
  for (const area of scene.areas) {
    const x = area.x * camera.zoom + camera.x - 3;
    const y = area.y * camera.zoom + camera.y - 3;
    const width = area.width * camera.zoom + 2;
    const height = area.height * camera.zoom + 2;
    if (x > size.width || y > size.height || x + width < 0 || y + height < 0) continue;
    roundedRect(ctx, x, y, width, height, 4);
    ctx.stroke();
  }
}

/** Free slots, hardly visible: room that is kept on purpose. */
function paintSockets(ctx: Context, scene: Drawable, { camera, palette }: View): void {
  const half = Math.max(2.5, Math.min(scene.density.pod * camera.zoom, 15)) / 2;
  ctx.strokeStyle = palette.hairline;
  ctx.lineWidth = 1;
  for (let i = 0; i + 1 < scene.sockets.length; i += 2) {
    const x = (scene.sockets[i] ?? 0) * camera.zoom + camera.x;
    const y = (scene.sockets[i + 1] ?? 0) * camera.zoom + camera.y;
    roundedRect(ctx, x - half, y - half, half * 2, half * 2, 2);
    ctx.stroke();
  }
}

function hatched(ctx: Context, x: number, y: number, half: number, colour: string): void {
  ctx.globalAlpha *= 0.6;
  ctx.strokeStyle = colour;
  ctx.lineWidth = 1;
  ctx.beginPath();
  ctx.rect(x - half + 0.5, y - half + 0.5, half * 2 - 1, half * 2 - 1);
  ctx.moveTo(x - half, y + half);
  ctx.lineTo(x + half, y - half);
  if (half > 3) {
    ctx.moveTo(x - half, y);
    ctx.lineTo(x, y - half);
    ctx.moveTo(x, y + half);
    ctx.lineTo(x + half, y);
  }
  ctx.stroke();
}

function hollow(ctx: Context, x: number, y: number, half: number, colour: string): void {
  ctx.strokeStyle = colour;
  ctx.lineWidth = 1.3;
  ctx.strokeRect(x - half + 0.65, y - half + 0.65, half * 2 - 1.3, half * 2 - 1.3);
}

function diamond(ctx: Context, x: number, y: number, half: number): void {
  ctx.beginPath();
  ctx.moveTo(x, y - half);
  ctx.lineTo(x + half, y);
  ctx.lineTo(x, y + half);
  ctx.lineTo(x - half, y);
  ctx.closePath();
  ctx.fill();
}

function disc(ctx: Context, x: number, y: number, radius: number): void {
  ctx.beginPath();
  ctx.arc(x, y, radius, 0, Math.PI * 2);
  ctx.fill();
}

function ring(ctx: Context, x: number, y: number, half: number, colour: string): void {
  ctx.strokeStyle = colour;
  ctx.lineWidth = 1.5;
  roundedRect(ctx, x - half, y - half, half * 2, half * 2, 3);
  ctx.stroke();
}
