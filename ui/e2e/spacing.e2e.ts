/**
 * The gap between particles, measured from screenshots, follows the documented formula.
 *
 * ORRERY_SPACING names edges and the rates their generator keeps: `[{"edge":"…","rate":100}]`.
 */
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { spacing } from '../src/rate';
import { DESKTOP, decode, launch, openPage, skipping } from './browser';
import { around, medianGap, parsePath, particlesAlong, shifted } from './measure';

const wanted = JSON.parse(process.env.ORRERY_SPACING ?? '[]') as { edge: string; rate: number }[];
/** Screenshots per edge. */
const SHOTS = 7;
/** How far a measured gap may be from the formula. */
const TOLERANCE = 0.15;

let browser: Browser;
beforeAll(async () => {
  browser = await launch();
});
afterAll(() => browser.close());

if (wanted.length === 0) skipping('ORRERY_SPACING names no edges to measure particles on');

describe.skipIf(wanted.length === 0)('the gap between particles', () => {
  it.each(wanted)('on $edge at $rate packets/s', async ({ edge, rate }) => {
    const context = await browser.newContext(DESKTOP);
    try {
      const page = await openPage(context, `?edge=${encodeURIComponent(edge)}`);
      await page.locator('[data-focus-path]').waitFor();
      const box = await page.getByTestId('map-area').boundingBox();
      if (box === null) throw new Error('no map');
      // The pointer must not hold a tooltip over the link, and the first rates must have settled.
      await page.mouse.move(2, 2);
      await page.waitForFunction(() => Number(document.querySelector('main')?.dataset.frameMs) > 0);
      const rows: number[][] = [];
      for (let shot = 0; shot < SHOTS; shot++) {
        const text = await page.getByTestId('map').getAttribute('data-focus-path');
        const path = parsePath(text ?? '');
        const area = around(path);
        const clip = { ...area, x: area.x + box.x, y: area.y + box.y };
        const pixels = await decode(context, await page.screenshot({ clip }));
        rows.push(particlesAlong(pixels, shifted(path, area)));
        await page.waitForTimeout(230);
      }
      const gap = medianGap(rows);
      const formula = spacing(rate) ?? Number.NaN;
      console.log(`${rate}/s: measured ${gap.toFixed(1)} px, formula ${formula.toFixed(1)} px`);
      expect(Math.abs(gap / formula - 1)).toBeLessThan(TOLERANCE);
    } finally {
      await context.close();
    }
  });
});
