/** Words on the map: none over another, none beyond the screen. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Box, placeFor } from '../src/place';

const SCREEN = { width: 1000, height: 600 };

describe('words beside a sign', () => {
  it('stand right of it, and left of it where the screen ends', () => {
    expect(placeFor({ x: 100, y: 100 }, 80, [], SCREEN)).toEqual({ x: 114, y: 88, width: 80, height: 24 });
    expect(placeFor({ x: 980, y: 100 }, 80, [], SCREEN)?.x).toBe(980 - 14 - 80);
  });

  it('never lie over others, nor beyond the screen', () => {
    const sign = fc.record({ x: fc.integer({ min: 0, max: 1000 }), y: fc.integer({ min: 0, max: 600 }) });
    fc.assert(
      fc.property(fc.array(fc.tuple(sign, fc.integer({ min: 30, max: 300 })), { maxLength: 30 }), (signs) => {
        const taken: Box[] = [];
        for (const [at, width] of signs) {
          const place = placeFor(at, width, taken, SCREEN);
          if (place === null) continue;
          expect(place.x).toBeGreaterThanOrEqual(0);
          expect(place.x + place.width).toBeLessThanOrEqual(SCREEN.width);
          expect(place.y).toBeGreaterThanOrEqual(0);
          expect(place.y + place.height).toBeLessThanOrEqual(SCREEN.height);
          for (const other of taken) {
            const apart =
              place.x >= other.x + other.width ||
              other.x >= place.x + place.width ||
              place.y >= other.y + other.height ||
              other.y >= place.y + place.height;
            expect(apart).toBe(true);
          }
          taken.push(place);
        }
      }),
    );
  });

  it('stay away where there is no room', () => {
    const all = [{ x: 0, y: 0, width: 1000, height: 600 }];
    expect(placeFor({ x: 500, y: 300 }, 80, all, SCREEN)).toBeNull();
  });
});
