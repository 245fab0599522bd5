/**
 * The page beside kept pictures of it: an invented cluster that stands still, without particles. UPDATE_PICTURES=1 takes new ones.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DESKTOP, decode, launch, PHONE } from './browser';
import { type Invented, invent, isBuilt } from './invented';

/** A channel that is off by more than this makes another pixel: glyphs are drawn a little differently by every Chromium. */
const OTHER = 48;
/** Of all pixels, as many may be others. */
const TOLERANCE = 0.01;
const KINDS = [
  ['desktop', DESKTOP],
  ['light', { ...DESKTOP, colorScheme: 'light' }],
  ['phone', { ...PHONE, colorScheme: 'dark' }],
] as const;

const built = isBuilt();
let invented: Invented;
let browser: Browser;

describe.skipIf(!built)('the page looks as it did', () => {
  beforeAll(async () => {
    invented = await invent('still');
    browser = await launch();
  });
  afterAll(async () => {
    await browser?.close();
    invented?.close();
  });

  it.each(KINDS)('%s', async (name, options) => {
    const context = await browser.newContext({ ...options, reducedMotion: 'reduce' });
    try {
      const page = await context.newPage();
      await page.goto(invented.address);
      await page.locator('main[data-connected="true"]').waitFor({ timeout: 20_000 });
      await page.evaluate(() => document.fonts.ready);
      // What tells the time is another in every picture.
      const mask = [page.locator('.clock'), page.locator('.total')];
      const shoot = () => page.screenshot({ mask, maskColor: '#808080', animations: 'disabled' });
      let shot = await shoot();
      for (let tries = 0; tries < 40; tries++) {
        await page.waitForTimeout(250);
        const next = await shoot();
        if (next.equals(shot) && tries > 6) break;
        shot = next;
      }
      const file = new URL(`pictures/${name}.png`, import.meta.url);
      if (process.env.UPDATE_PICTURES === '1') writeFileSync(file, shot);
      expect(existsSync(file), `${file.pathname} is missing; hint: UPDATE_PICTURES=1`).toBe(true);
      const [kept, now] = [await decode(context, readFileSync(file)), await decode(context, shot)];
      expect([now.width, now.height]).toEqual([kept.width, kept.height]);
      let others = 0;
      for (let at = 0; at < kept.data.length; at += 4) {
        const off = (channel: number) =>
          Math.abs((kept.data[at + channel] ?? 0) - (now.data[at + channel] ?? 0));
        if (Math.max(off(0), off(1), off(2)) > OTHER) others += 1;
      }
      const share = others / (kept.data.length / 4);
      console.log(`${name}: ${(share * 100).toFixed(2)} % of the pixels are others`);
      const seen = join(tmpdir(), `orrery-${name}.png`);
      if (share > TOLERANCE) writeFileSync(seen, shot);
      expect(share, `the page as it is now: ${seen}`).toBeLessThanOrEqual(TOLERANCE);
    } finally {
      await context.close();
    }
  });
});
