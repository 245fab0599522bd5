/** Draws the marks that lie above the particles: what is wrong with a link, which workload changed its size. Decides nothing. */
import type { Size } from './camera';
import type { SickKind } from './health';
import { type Drawn, FONT, LOSS_AT, type Palette, type View } from './paint';
import { type Context, pill, roundedRect } from './pen';
import type { Drawable } from './picture';

/** Where along a sick link its mark is; a lossy one's is further on, so that both find room. */
const SICK_AT = 0.42;

interface Look {
  readonly palette: Palette;
  readonly size: Size;
}

/** Paints all marks. */
export function paintMarks(ctx: Context, scene: Drawable, drawn: readonly Drawn[], view: View): void {
  for (const one of drawn) {
    if (one.link.mark !== null) paintSick(ctx, one, one.link.mark.kind, view);
    if (one.link.loss > 0) paintLoss(ctx, one, view);
  }
  paintPills(ctx, scene, view);
}

/** Each kind by its outline: connects an octagon with a bar, drops a square with an arrow down, DNS a diamond with a mark. */
function paintSick(ctx: Context, { link, path }: Drawn, kind: SickKind, { palette, size }: Look): void {
  const bad = link.mark?.tone === 'bad';
  const colour = bad ? palette.bad : palette.warning;
  const index = Math.round(SICK_AT * (path.x.length - 1));
  const x = path.x[index] ?? 0;
  const y = path.y[index] ?? 0;
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
  // A lossy link's label says how much is lost, beside its own mark.
  if (link.loss === 0)
    paintLabel(ctx, link.label, x, y, bad ? palette.badInk : palette.warningInk, colour, { palette, size });
  ctx.globalAlpha = 1;
}

function paintLabel(
  ctx: Context,
  text: string | null,
  x: number,
  y: number,
  fill: string,
  line: string,
  { palette, size }: Look,
): void {
  if (text === null) return;
  ctx.font = `600 12px ${FONT}`;
  const width = ctx.measureText(text).width + 18;
  const left = x + 14 + width > size.width - 4 ? x - 14 - width : x + 14;
  pill(ctx, text, left, y - 12, width, 24, fill, line, palette.text);
}

function paintLoss(ctx: Context, { link, path }: Drawn, { palette, size }: Look): void {
  const index = Math.round(LOSS_AT * (path.x.length - 1));
  const x = path.x[index] ?? 0;
  const y = path.y[index] ?? 0;
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
  paintLabel(ctx, link.label, x, y, palette.badInk, palette.bad, { palette, size });
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
