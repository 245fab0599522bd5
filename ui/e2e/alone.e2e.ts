/** The page by itself, before the invented cluster: keys alone, a background tab, a gap in the stream, accessibility of what needs a past. */
import { readFileSync } from 'node:fs';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { DESKTOP, launch, PHONE, violations } from './browser';
import { type Invented, invent, isBuilt } from './invented';

const built = isBuilt();
let invented: Invented;
let browser: Browser;
let context: BrowserContext;

async function visit(
  options: Parameters<Browser['newContext']>[0] = DESKTOP,
  search = '',
  before?: () => void,
): Promise<Page> {
  context = await browser.newContext(options);
  const page = await context.newPage();
  if (before !== undefined) await page.addInitScript(before);
  await page.goto(invented.address + search);
  await page.locator('main[data-connected="true"]').waitFor({ timeout: 20_000 });
  return page;
}

const revision = async (page: Page) => Number(await page.locator('main').getAttribute('data-revision'));

/** Puts the tab into the background, or takes it out of it. */
const hide = (page: Page, hidden: boolean) =>
  page.evaluate((is) => {
    Object.defineProperty(document, 'hidden', { configurable: true, get: () => is });
    document.dispatchEvent(new Event('visibilitychange'));
  }, hidden);

describe.skipIf(!built)('the page by itself', () => {
  beforeAll(async () => {
    invented = await invent('small');
    browser = await launch();
  });
  afterEach(() => context?.close());
  afterAll(async () => {
    await browser?.close();
    invented?.close();
  });

  it('leads by keys alone from the first view to why a link loses packets, and back', async () => {
    const page = await visit();
    const focused = (what: string) =>
      page.evaluate((is) => document.activeElement?.matches(is) ?? false, what);
    /** Walks on by Tab until there. */
    const walkTo = async (what: string) => {
      for (let press = 0; press < 80; press++) {
        if (await focused(what)) return;
        await page.keyboard.press('Tab');
      }
      throw new Error(`no way by Tab to ${what}`);
    };
    const ring = () =>
      page.evaluate(() => {
        const style = getComputedStyle(document.activeElement ?? document.body);
        return style.outlineStyle !== 'none' && Number.parseFloat(style.outlineWidth) > 0;
      });
    await page.locator('[data-testid=overview] [data-edge-id]').first().waitFor();
    await walkTo('[data-testid=overview] [data-edge-id]');
    expect(await ring()).toBe(true);
    const id = await page.evaluate(() => document.activeElement?.getAttribute('data-edge-id'));
    await page.keyboard.press('Enter');
    await page.locator(`[data-testid=edge-panel][data-edge-id="${id}"]`).waitFor();
    await page.getByTestId('drops').getByText('netfilter drop').waitFor();
    await page.keyboard.press('Escape');
    await page.getByTestId('overview').waitFor();
    // The table: opened, walked through, a row picked.
    await walkTo('[data-testid=table-toggle]');
    await page.keyboard.press('Enter');
    await page.getByTestId('edge-row').first().waitFor();
    await walkTo('[data-testid=edge-row]');
    const row = () => page.evaluate(() => Number(document.activeElement?.getAttribute('aria-rowindex')));
    const first = await row();
    await page.keyboard.press('ArrowDown');
    await expect.poll(row).toBe(first + 1);
    await page.keyboard.press('Enter');
    await page.getByTestId('edge-panel').waitFor();
    await page.keyboard.press('Escape');
    // The map: panned, zoomed, given back.
    await walkTo('[data-testid=map-area]');
    await page.keyboard.press('+');
    await page.keyboard.press('ArrowLeft');
    await page.getByTestId('fit').waitFor();
    await page.keyboard.press('0');
    await page.getByTestId('fit').waitFor({ state: 'detached' });
    // The filter: from anywhere by one key.
    await page.keyboard.press('/');
    expect(await focused('[data-testid=search]')).toBe(true);
    await page.keyboard.type('port:8443');
    await page.locator('main[data-filter="port:8443"]').waitFor();
  });

  it('draws nothing in the background, and has caught up when it is looked at', async () => {
    const page = await visit();
    await hide(page, true);
    await page.waitForTimeout(400);
    const before = await revision(page);
    await page.waitForTimeout(1500);
    expect(await revision(page)).toBe(before);
    await hide(page, false);
    await expect.poll(() => revision(page), { timeout: 3000 }).toBeGreaterThan(before + 3);
  });

  it('hangs up after a minute in the background, and follows again when it is looked at', async () => {
    context = await browser.newContext(DESKTOP);
    const page = await context.newPage();
    await page.clock.install();
    await page.addInitScript(() => {
      const lines: EventSource[] = [];
      Object.assign(window, { lines });
      const Native = window.EventSource;
      window.EventSource = class extends Native {
        constructor(url: string | URL) {
          super(url);
          lines.push(this);
        }
      };
    });
    await page.goto(invented.address);
    await page.locator('main[data-connected="true"]').waitFor({ timeout: 20_000 });
    const states = () =>
      page.evaluate(() => (window as unknown as { lines: EventSource[] }).lines.map((one) => one.readyState));
    const [open, closed] = [1, 2];
    expect(await states()).toEqual([open]);
    await hide(page, true);
    await page.clock.fastForward(50_000);
    expect(await states()).toEqual([open]);
    await page.clock.fastForward(15_000);
    expect(await states()).toEqual([closed]);
    const before = await revision(page);
    await hide(page, false);
    await expect.poll(states).toEqual([closed, open]);
    await expect.poll(() => revision(page), { timeout: 10_000 }).toBeGreaterThan(before);
  });

  it('asks for everything anew when a delta is missing', async () => {
    const page = await visit(DESKTOP, '', () => {
      const opened: string[] = [];
      Object.assign(window, { opened });
      const Native = window.EventSource;
      class Gappy extends Native {
        constructor(url: string | URL) {
          super(url);
          opened.push(String(url));
        }
        override addEventListener(type: string, listener: unknown): void {
          let seen = 0;
          super.addEventListener(type, (event) => {
            seen += 1;
            // Of the first source only: one that is lost.
            if (type === 'delta' && seen === 4 && opened.length === 1) return;
            (listener as (event: Event) => void)(event);
          });
        }
      }
      window.EventSource = Gappy;
    });
    const sources = () => page.evaluate(() => (window as unknown as { opened: string[] }).opened.length);
    await expect.poll(sources, { timeout: 15_000 }).toBe(2);
    const before = await revision(page);
    await expect.poll(() => revision(page), { timeout: 10_000 }).toBeGreaterThan(before + 3);
    await page.locator('[data-testid=connection][data-state=live]').waitFor();
    expect(await sources()).toBe(2);
  });

  it.each([
    ['a pod', '?vertex=pod%3Ashop%2Fledger-0'],
    ['a node', '?node=n3'],
    ['the table of events', '?table=events'],
    ['the comparison with Hubble', '?compare=1'],
  ])('has no accessibility violations: %s', async (_, search) => {
    const beside = readFileSync(new URL('../fixtures/compare.json', import.meta.url), 'utf8');
    context = await browser.newContext(DESKTOP);
    const page = await context.newPage();
    await page.route('**/api/v1/compare?*', (route) =>
      route.fulfill({ contentType: 'application/json', body: beside }),
    );
    await page.goto(invented.address + search);
    await page
      .locator(
        '[data-testid=vertex-panel],[data-testid=node-panel],[data-testid=event-table],[data-testid=compare-table]',
      )
      .first()
      .waitFor();
    expect(await violations(page)).toEqual([]);
  });

  it('holds on a phone held sideways: map, details and tabs side by side, nothing wider than the screen', async () => {
    const page = await visit({ ...PHONE, viewport: { width: 844, height: 390 } });
    const box = async (what: string) => {
      const found = await page.getByTestId(what).boundingBox();
      if (found === null) throw new Error(`no ${what}`);
      return found;
    };
    const [map, panel] = [await box('map'), await box('panel')];
    expect(map.x + map.width).toBeLessThanOrEqual(panel.x + 1);
    expect(map.height).toBeGreaterThan(250);
    expect(map.width).toBeGreaterThan(400);
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(844);
    for (const tab of ['flows', 'nodes', 'more', 'map']) {
      await page.getByTestId(`tab-${tab}`).click();
      expect(await violations(page)).toEqual([]);
    }
  });
});
