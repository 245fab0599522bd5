/** Draws the marks that lie above the particles: what is wrong with a link, which workload changed its size. Decides nothing. */
import type { Size } from './camera';
import type { SickKind } from './health';
import { type Drawn, FONT, LOSS_AT, type Palette, type View } from './paint';
import { type Context, pill, roundedRect } from './pen';
import type { Drawable } from './picture';
import { type Box, placeFor } from './place';

/** Where along a sick link its mark is; a lossy one's is further on, so that both find room. */
const SICK_AT = 0.42;

interface Look {
  readonly palette: Palette;
  readonly size: Size;
}

/** Paints all marks: the signs first, then as many of their words as find room, loss before all else. */
export function paintMarks(ctx: Context, scene: Drawable, drawn: readonly Drawn[], view: View): void {
  const { palette } = view;
  const words: Words[] = [];
  for (const one of drawn) {
    const { mark, loss, label: text, dim, focus } = one.link;
    if (mark !== null) {
      const at = along(one, SICK_AT);
      paintSick(ctx, one, at, mark.kind, view);
      const bad = mark.tone === 'bad';
      const [fill, line] = bad ? [palette.badInk, palette.bad] : [palette.warningInk, palette.warning];
      // A lossy link's label says how much is lost, beside its own mark.
      if (loss === 0 && text !== null) words.push({ text, at, fill, line, dim, rank: bad ? 1 : 0, focus });
    }
    if (loss > 0) {
      const at = along(one, LOSS_AT);
      paintLoss(ctx, one, at, view);
      if (text !== null)
        words.push({ text, at, fill: palette.badInk, line: palette.bad, dim, rank: 2 + loss, focus });
    }
  }
  paintWords(ctx, words, view);
  paintPills(ctx, scene, view);
}

/** What is said beside a sign. */
interface Words {
  readonly text: string;
  readonly at: Point;
  readonly fill: string;
  readonly line: string;
  readonly dim: boolean;
  readonly focus: boolean;
  /** Who goes first. */
  readonly rank: number;
}

interface Point {
  readonly x: number;
  readonly y: number;
}

function along({ path }: Drawn, share: number): Point {
  const index = Math.round(share * (path.x.length - 1));
  return { x: path.x[index] ?? 0, y: path.y[index] ?? 0 };
}

/** Words that find no place free of others stay away: their sign and the panel tell the same. */
function paintWords(ctx: Context, words: readonly Words[], { palette, size }: Look): void {
  ctx.font = `600 12px ${FONT}`;
  const rank = (one: Words) => (one.focus ? 9 : 0) + one.rank;
  const taken: Box[] = words.map(({ at }) => ({ x: at.x - 9, y: at.y - 9, width: 18, height: 18 }));
  for (const { text, at, fill, line, dim } of [...words].sort((a, b) => rank(b) - rank(a))) {
    const place = placeFor(at, ctx.measureText(text).width + 18, taken, size);
    if (place === null) continue;
    taken.push(place);
    ctx.globalAlpha = dim ? 0.3 : 1;
    pill(ctx, text, place.x, place.y, place.width, place.height, fill, line, palette.text);
  }
  ctx.globalAlpha = 1;
}

/** Each kind by its outline: connects an octagon with a bar, drops a square with an arrow down, DNS a diamond with a mark. */
function paintSick(ctx: Context, { link }: Drawn, { x, y }: Point, kind: SickKind, { palette }: Look): void {
  const bad = link.mark?.tone === 'bad';
  const colour = bad ? palette.bad : palette.warning;
  ctx.globalAlpha = link.dim ? 0.3 : 1;
  ctx.beginPath();
  if (kind === 'drops') roundedRect(ctx, x - 7, y - 7, 14, 14, 2);
  else {
    const corners = kind === 'connects' ? 8 : 4;
    const turn = kind === 'connects' ? Math.PI / 8 : 0;
    for (let corner = 0; corner < corners; corner++) {
      const angle = turn + (corner / corners) * Math.PI * 2;
      const reach = kind === 'connects' ? 8 : 9.5;
      ctx.lineTo(x + Math.cos(angle) * reach, y + Math.sin(angle) * reach);
    }
    ctx.closePath();
  }
  ctx.fillStyle = bad ? palette.badInk : palette.warningInk;
  ctx.fill();
  ctx.strokeStyle = colour;
  ctx.lineWidth = 1.5;
  ctx.stroke();
  ctx.beginPath();
  if (kind === 'connects') {
    ctx.moveTo(x - 4, y);
    ctx.lineTo(x + 4, y);
  } else if (kind === 'drops') {
    ctx.moveTo(x, y - 4);
    ctx.lineTo(x, y + 3.5);
    ctx.moveTo(x - 3, y + 0.8);
    ctx.lineTo(x, y + 4);
    ctx.lineTo(x + 3, y + 0.8);
  } else {
    ctx.moveTo(x, y - 4.5);
    ctx.lineTo(x, y + 0.8);
    ctx.moveTo(x, y + 3.8);
    ctx.lineTo(x, y + 4);
  }
  ctx.stroke();
  ctx.globalAlpha = 1;
}

function paintLoss(ctx: Context, { link }: Drawn, { x, y }: Point, { palette }: Look): void {
  ctx.globalAlpha = link.dim ? 0.3 : 1;
  ctx.beginPath();
  ctx.arc(x, y, 7.5, 0, Math.PI * 2);
  ctx.fillStyle = palette.badInk;
  ctx.fill();
  ctx.strokeStyle = palette.bad;
  ctx.lineWidth = 1.5;
  ctx.stroke();
  ctx.beginPath();
  ctx.moveTo(x - 3, y - 3);
  ctx.lineTo(x + 3, y + 3);
  ctx.moveTo(x + 3, y - 3);
  ctx.lineTo(x - 3, y + 3);
  ctx.stroke();
  ctx.globalAlpha = 1;
}

function paintPills(ctx: Context, scene: Drawable, { camera, palette, size }: View): void {
  for (const { text, area } of scene.pills) {
    const x = area.x * camera.zoom + camera.x - 6;
    const y = area.y * camera.zoom + camera.y - 6;
    const width = area.width * camera.zoom + 8;
    const height = area.height * camera.zoom + 8;
    ctx.strokeStyle = palette.scale;
    ctx.lineWidth = 1.5;
    roundedRect(ctx, x, y, width, height, 5);
    ctx.stroke();
    ctx.globalAlpha = 0.4;
    roundedRect(ctx, x - 5, y - 5, width + 10, height + 10, 8);
    ctx.stroke();
    ctx.globalAlpha = 1;
    ctx.font = `600 12px ${FONT}`;
    const wide = ctx.measureText(text).width + 18;
    const left = Math.max(4, Math.min(x, size.width - wide - 4));
    const top = Math.max(4, Math.min(y + height + 9, size.height - 28));
    pill(ctx, text, left, top, wide, 24, palette.scaleInk, palette.scale, palette.scale);
  }
}
