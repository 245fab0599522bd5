/**
 * The moving layer: particles run along their links at one speed; the gap between them is the rate.
 *
 * A train of particles is anchored at its link's middle and its gap follows the rate smoothly; small wobbles of
 * a steady rate do not move it at all.
 */
import type { Path } from './geometry';
import { type Drawn, LOSS_AT, type Palette, toneColour } from './paint';
import type { Context } from './pen';
import { SPEED, spacing, weight } from './rate';

/** A gap that differs less than this from what is shown stays as it is. */
const STEADY = 0.03;
/** Time in which a gap comes most of the way to its new value. */
const SETTLE_MS = 140;
/** Side of a particle. */
const SIDE = 2.6;
/** More links than this have smaller particles. */
const CROWD = 300;
/** Side of a particle on a picked link. */
const FOCUS_SIDE = 4;

interface Train {
  gap: number;
  target: number;
  offset: number;
}

/** All trains of the picture. */
export class Particles {
  private trains = new Map<string, Train>();

  /** Moves every train by the time passed; trains of links gone or still end at once. */
  advance(drawn: readonly Drawn[], elapsedMs: number): void {
    const next = new Map<string, Train>();
    for (const { link } of drawn) {
      const wanted = link.dim ? null : spacing(link.rate);
      if (wanted === null) continue;
      const train = this.trains.get(link.id) ?? {
        gap: wanted,
        target: wanted,
        offset: phase(link.id) * wanted,
      };
      if (Math.abs(wanted - train.target) > train.target * STEADY) train.target = wanted;
      // A picture that stands still shows the new gap at once.
      const share = elapsedMs === 0 ? 1 : 1 - Math.exp(-elapsedMs / SETTLE_MS);
      train.gap += (train.target - train.gap) * share;
      train.offset = (train.offset + (SPEED * elapsedMs) / 1000) % train.gap;
      next.set(link.id, train);
    }
    this.trains = next;
  }

  /** Draws all trains where they are. */
  paint(ctx: Context, drawn: readonly Drawn[], palette: Palette): void {
    let colour = '';
    for (const { link, path } of drawn) {
      const train = this.trains.get(link.id);
      if (train === undefined) continue;
      const wanted =
        link.focus || link.loss > 0 || link.mark !== null ? palette.particle : toneColour(link.tone, palette);
      if (wanted !== colour) {
        colour = wanted;
        ctx.fillStyle = wanted;
      }
      const crowded = drawn.length > CROWD && link.loss === 0;
      // In a crowd the busy links stay clear and the others recede.
      const strength = crowded ? 0.35 + 0.65 * weight(link.rate) : 1;
      ctx.globalAlpha = link.focus ? 1 : link.tone === 'quiet' ? 0.4 * strength : strength;
      const side = link.focus ? FOCUS_SIDE : crowded ? SIDE * 0.75 : SIDE;
      if (link.loss === 0) run(ctx, path, train.gap, train.offset, 0, path.length, side);
      else {
        const mark = path.at[Math.round(LOSS_AT * (path.at.length - 1))] ?? path.length;
        run(ctx, path, train.gap, train.offset, 0, mark - 8, side);
        // Beyond the mark only what arrives goes on.
        const rest = (train.gap * (spacing(link.rate * (1 - link.loss)) ?? 0)) / (spacing(link.rate) ?? 1);
        if (rest > 0) run(ctx, path, rest, train.offset % rest, mark + 8, path.length, side);
      }
    }
    ctx.globalAlpha = 1;
  }
}

function run(
  ctx: Context,
  path: Path,
  gap: number,
  offset: number,
  from: number,
  to: number,
  side: number,
): void {
  const middle = path.length / 2 + offset;
  let at = middle - Math.floor((middle - from) / gap) * gap;
  let segment = 1;
  const half = side / 2;
  for (; at <= to; at += gap) {
    while (segment < path.at.length - 1 && (path.at[segment] ?? 0) < at) segment += 1;
    const start = path.at[segment - 1] ?? 0;
    const share = (at - start) / ((path.at[segment] ?? 0) - start || 1);
    const ax = path.x[segment - 1] ?? 0;
    const ay = path.y[segment - 1] ?? 0;
    const x = ax + ((path.x[segment] ?? 0) - ax) * share;
    const y = ay + ((path.y[segment] ?? 0) - ay) * share;
    ctx.fillRect(x - half, y - half, side, side);
  }
}

/** A start that differs from link to link but not from time to time. */
function phase(id: string): number {
  let hash = 2166136261;
  for (let i = 0; i < id.length; i++) hash = Math.imul(hash ^ id.charCodeAt(i), 16777619);
  return ((hash >>> 0) % 997) / 997;
}
