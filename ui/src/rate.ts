/** Pure: how a rate becomes the gap between particles, and a line's weight. */

/** Particles move at this speed, in screen pixels per second, whatever the rate. */
export const SPEED = 80;
/** Widest gap, at 1 packet per second and below. */
export const WIDEST = 120;
/** Narrowest gap, at 10,000 packets per second and above. */
export const NARROWEST = 13;
/** Below this rate nothing moves. */
export const SLOWEST_RATE = 0.2;

/** Gap between particles in screen pixels: 120 at 1/s, 13 at 10k/s, a straight line over log10; null when nothing moves. */
export function spacing(rate: number): number | null {
  if (!(rate >= SLOWEST_RATE)) return null;
  const gap = WIDEST * (NARROWEST / WIDEST) ** (Math.log10(rate) / 4);
  return Math.min(WIDEST, Math.max(NARROWEST, gap));
}

/** A link's line width in pixels. */
export function lineWidth(rate: number): number {
  return 0.55 + 1.15 * weight(rate);
}

/** 0 to 1 over 0 to 10,000 packets per second. */
export function weight(rate: number): number {
  return rate <= 0 ? 0 : Math.min(1, Math.log10(1 + rate) / 4);
}

/** Four steps of brightness for a pod's activity. */
export function activity(rate: number): 0 | 1 | 2 | 3 {
  return rate < SLOWEST_RATE ? 0 : rate < 10 ? 1 : rate < 300 ? 2 : 3;
}
