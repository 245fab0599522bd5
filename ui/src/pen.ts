/** Small drawing tools shared by both layers. */

/** Either kind of 2D context: in a worker or on the page. */
export type Context = OffscreenCanvasRenderingContext2D | CanvasRenderingContext2D;

/** Starts a path around a rounded rectangle. */
export function roundedRect(
  ctx: Context,
  x: number,
  y: number,
  width: number,
  height: number,
  radius: number,
): void {
  ctx.beginPath();
  ctx.roundRect(x, y, width, height, Math.max(0, Math.min(radius, width / 2, height / 2)));
}

/** Writes text cut to a width, with an outline that keeps it readable over lines; tells how wide it got. */
export function label(
  ctx: Context,
  text: string,
  x: number,
  y: number,
  room: number,
  colour: string,
  outline?: string,
): number {
  const shown = cut(ctx, text, room);
  if (shown === '') return 0;
  ctx.textBaseline = 'middle';
  ctx.textAlign = 'left';
  if (outline !== undefined) {
    ctx.strokeStyle = outline;
    ctx.strokeText(shown, x, y);
  }
  ctx.fillStyle = colour;
  ctx.fillText(shown, x, y);
  return ctx.measureText(shown).width;
}

/** A pill with text in its middle. */
export function pill(
  ctx: Context,
  text: string,
  x: number,
  y: number,
  width: number,
  height: number,
  fill: string,
  stroke: string,
  colour: string,
): void {
  roundedRect(ctx, x, y, width, height, height / 2);
  ctx.fillStyle = fill;
  ctx.fill();
  ctx.lineWidth = 1.25;
  ctx.strokeStyle = stroke;
  ctx.stroke();
  ctx.fillStyle = colour;
  ctx.textBaseline = 'middle';
  ctx.textAlign = 'center';
  ctx.fillText(text, x + width / 2, y + height / 2 + 0.5);
  ctx.textAlign = 'left';
}

function cut(ctx: Context, text: string, room: number): string {
  if (ctx.measureText(text).width <= room) return text;
  if (room < 14) return '';
  let low = 0;
  let high = text.length;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (ctx.measureText(`${text.slice(0, middle)}…`).width <= room) low = middle;
    else high = middle - 1;
  }
  return low < 2 ? '' : `${text.slice(0, low)}…`;
}
