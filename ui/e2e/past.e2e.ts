/** The last hour on the page: scrubbing, the way back, the course in panels, events, copies. Needs a collector that has sealed a bucket. */
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { collector, DESKTOP, launch, openPage, PHONE } from './browser';

interface Course {
  bucket_ms: number;
  at_ms: number[];
  skbs: number[];
}

let browser: Browser;
let context: BrowserContext;
beforeAll(async () => {
  browser = await launch();
});
afterEach(() => context.close());
afterAll(() => browser.close());

async function json<T>(path: string): Promise<T> {
  const answer = await fetch(`${collector()}${path}`);
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
  return (await answer.json()) as T;
}

/** Waits until the collector has a past of two buckets in which something moved. */
async function past(): Promise<Course> {
  for (let tries = 0; tries < 120; tries++) {
    const course = await json<Course>('api/v1/history');
    if (course.skbs.filter((count) => count > 0).length >= 2) return course;
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
  throw new Error('no bucket of the history has any traffic');
}

async function visit(options: Parameters<Browser['newContext']>[0], search = ''): Promise<Page> {
  context = await browser.newContext(options);
  return openPage(context, search);
}

const shown = async (page: Page) => {
  const main = page.locator('main');
  await expect
    .poll(() => main.getAttribute('data-past'), { timeout: 30_000, message: 'the graph of then' })
    .toBe('shown');
};
const at = async (page: Page) => Number(new URL(page.url()).searchParams.get('at'));

it('the arrow keys show the graph of then, a reload keeps it, End is now', async () => {
  const course = await past();
  const page = await visit(DESKTOP);
  const timeline = page.getByTestId('timeline');
  await page.locator('[data-testid=timeline][role=slider]').waitFor();
  await page.locator('[data-testid=connection][data-state=live]').waitFor();
  await timeline.focus();
  await page.keyboard.press('ArrowLeft');
  await shown(page);
  const then = await at(page);
  expect(course.at_ms[0]).toBeLessThanOrEqual(then * 1000);
  const { edges } = await json<{ edges: { tunnel: string | null }[] }>(`api/v1/graph?view=pod&at=${then}`);
  const plain = edges.filter((edge) => edge.tunnel === null);
  expect(Number(await page.locator('main').getAttribute('data-edges'))).toBe(plain.length);
  await page.reload();
  await shown(page);
  expect(await at(page)).toBe(then);
  expect(await page.getByTestId('past').isVisible()).toBe(true);
  await timeline.focus();
  await page.keyboard.press('End');
  await page.locator('main[data-past=""]').waitFor();
  await page.locator('[data-testid=connection][data-state=live]').waitFor();
  expect(new URL(page.url()).searchParams.has('at')).toBe(false);
}, 90_000);

it('dragging on a phone shows then, and the button leads back', async () => {
  await past();
  const page = await visit(PHONE);
  const timeline = page.locator('[data-testid=timeline][role=slider]');
  await timeline.waitFor();
  const box = await timeline.boundingBox();
  if (box === null) throw new Error('no timeline');
  expect(box.height).toBeGreaterThanOrEqual(44);
  await page.touchscreen.tap(box.x + 2, box.y + 15);
  await shown(page);
  const back = page.getByTestId('back-to-live');
  expect((await back.boundingBox())?.height).toBeGreaterThanOrEqual(44);
  await back.click();
  await page.locator('main[data-past=""]').waitFor();
}, 90_000);

it('a link has its course, and tables are copied as they stand', async () => {
  await past();
  const page = await visit(DESKTOP, '?table=1');
  await context.grantPermissions(['clipboard-read', 'clipboard-write']);
  await page.getByTestId('edge-row').first().click();
  const course = page.getByTestId('last-hour');
  await course.waitFor();
  expect(Number(await course.getAttribute('data-buckets'))).toBeGreaterThanOrEqual(2);
  await page.getByTestId('copy-csv').click();
  await page.getByTestId('copied').filter({ hasText: 'rows copied as CSV' }).waitFor();
  const text = await page.evaluate(() => navigator.clipboard.readText());
  const rows = Number(await page.getByTestId('edge-table').getAttribute('aria-rowcount'));
  expect(Math.abs(text.trimEnd().split('\r\n').length - rows)).toBeLessThanOrEqual(2);
  await page.getByTestId('list-events').click();
  const table = page.getByTestId('event-table');
  await table.waitFor();
  const all = Number(await table.getAttribute('aria-rowcount'));
  await page.getByTestId('event-filter').fill('no such event');
  expect(Number(await table.getAttribute('aria-rowcount'))).toBe(1);
  await page.getByTestId('event-filter').fill('');
  expect(Number(await table.getAttribute('aria-rowcount'))).toBeGreaterThanOrEqual(all);
  expect(new URL(page.url()).searchParams.get('table')).toBe('events');
}, 90_000);
