/** A fresh Chromium for end-to-end tests, and pixels from its screenshots. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core';

/** Where the collector under test listens; without it nothing can be tested. */
export function collector(): string {
  const url = process.env.ORRERY_URL;
  if (url === undefined || url === '') throw new Error('set ORRERY_URL to a running collector');
  return url.endsWith('/') ? url : `${url}/`;
}

/** Says why tests are skipped; an error where every test has to run (ORRERY_E2E_REQUIRE=1). */
export function skipping(why: string): void {
  if (process.env.ORRERY_E2E_REQUIRE === '1') throw new Error(`ORRERY_E2E_REQUIRE=1, but ${why}`);
  console.log(`skipped: ${why}`);
}

const FLAGS =
  '--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync';

/** Starts the system's Chromium with a profile of its own. */
export function launch(): Promise<Browser> {
  return chromium.launch({
    executablePath: process.env.ORRERY_CHROMIUM ?? '/usr/bin/chromium',
    args: FLAGS.split(' '),
  });
}

export const DESKTOP = { viewport: { width: 1440, height: 900 }, colorScheme: 'dark' } as const;
export const PHONE = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true } as const;

/** Opens the page and waits until it shows a live picture. */
export async function openPage(context: BrowserContext, search = ''): Promise<Page> {
  const page = await context.newPage();
  await page.goto(collector() + search);
  await page.locator('main[data-connected="true"]').waitFor({ timeout: 20_000 });
  return page;
}

/** What axe-core finds wrong with the page as it is. */
export async function violations(page: Page): Promise<string[]> {
  const axe = createRequire(import.meta.url).resolve('axe-core/axe.min.js');
  // By the debugger's door: the page's own policy lets no foreign script in.
  await page.evaluate(readFileSync(axe, 'utf8'));
  return page.evaluate(async () => {
    const { axe: checker } = window as unknown as {
      axe: {
        run(): Promise<{ violations: { id: string; nodes: { html: string; failureSummary: string }[] }[] }>;
      };
    };
    const result = await checker.run();
    return result.violations.map(
      (one) => `${one.id}: ${one.nodes.map((node) => `${node.html} ${node.failureSummary}`).join(' | ')}`,
    );
  });
}

/** A screenshot's pixels. */
export interface Pixels {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array;
}

/** Decodes a PNG with the browser itself, on a page that has no content policy. */
export async function decode(context: BrowserContext, png: Buffer): Promise<Pixels> {
  const page = await context.newPage();
  try {
    const { width, height, base64 } = await page.evaluate(async (text) => {
      const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
      const image = await createImageBitmap(new Blob([bytes], { type: 'image/png' }));
      const canvas = new OffscreenCanvas(image.width, image.height);
      const drawing = canvas.getContext('2d');
      if (drawing === null) throw new Error('no canvas');
      drawing.drawImage(image, 0, 0);
      const { data } = drawing.getImageData(0, 0, image.width, image.height);
      let letters = '';
      for (let at = 0; at < data.length; at += 32_768)
        letters += String.fromCharCode(...data.subarray(at, at + 32_768));
      return { width: image.width, height: image.height, base64: btoa(letters) };
    }, png.toString('base64'));
    return { width, height, data: new Uint8Array(Buffer.from(base64, 'base64')) };
  } finally {
    await page.close();
  }
}
