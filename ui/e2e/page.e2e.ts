/** The page against a running collector: names in the table, nodes, the map, the phone, accessibility. */
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { collector, DESKTOP, launch, openPage, PHONE, violations } from './browser';

interface Picture {
  vertices: { id: string; name: string; kind: string }[];
  edges: { id: string; client: string; server: string; state: string }[];
  nodes: { name: string }[];
}

let browser: Browser;
let context: BrowserContext | null = null;
const problems: string[] = [];

async function visit(options: Parameters<Browser['newContext']>[0], search = ''): Promise<Page> {
  context = await browser.newContext(options);
  const page = await openPage(context, search);
  page.on('pageerror', (error) => problems.push(error.message));
  page.on('console', (message) => {
    if (message.type() === 'error') problems.push(message.text());
  });
  return page;
}

/** What the stream's own first event says. */
async function picture(): Promise<Picture> {
  const response = await fetch(`${collector()}api/v1/stream?view=pod`);
  if (response.body === null) throw new Error('no stream');
  let text = '';
  for await (const chunk of response.body) {
    text += Buffer.from(chunk as Uint8Array).toString('utf8');
    const found =
      /event: ?snapshot[\s\S]*?data: ?(.*)\n\n/.exec(text) ?? /data: ?(.*)\nevent: ?snapshot/.exec(text);
    // Leaving the loop ends the request.
    if (found?.[1] !== undefined) return JSON.parse(found[1]) as Picture;
  }
  throw new Error('the stream ended before its snapshot');
}

beforeAll(async () => {
  browser = await launch();
});
afterEach(async () => {
  await context?.close();
  context = null;
});
afterAll(() => browser.close());

describe('on a desktop', () => {
  it('lists every link by name, and the nodes', async () => {
    const truth = await picture();
    const page = await visit(DESKTOP, '?table=1');
    await page.getByTestId('edge-row').first().waitFor();
    const names = new Map(truth.vertices.map((vertex) => [vertex.id, vertex.name]));
    const shown = await page
      .getByTestId('edge-row')
      .evaluateAll((rows) =>
        rows.map((row) => [row.getAttribute('data-edge-id') ?? '', row.textContent ?? '']),
      );
    expect(shown.length).toBeGreaterThan(0);
    for (const [id, text] of shown) {
      const edge = truth.edges.find((one) => one.id === id);
      if (edge === undefined) continue;
      expect(text).toContain(names.get(edge.client));
      expect(text).toContain(names.get(edge.server));
    }
    for (const node of truth.nodes)
      await page.locator(`[data-testid=node-row][data-node="${node.name}"]`).waitFor();
    expect(problems).toEqual([]);
  });

  it('draws, moves and keeps up', async () => {
    const page = await visit(DESKTOP);
    await page.locator('main[data-frame-ms]').waitFor({ timeout: 15_000 });
    const before = Number(await page.locator('main').getAttribute('data-revision'));
    await page.waitForFunction(
      (last) => Number(document.querySelector('main')?.dataset.revision) > last,
      before,
    );
    const canvas = page.getByTestId('map-area');
    const one = await canvas.screenshot();
    const differs = async () => !(await canvas.screenshot()).equals(one);
    await expect.poll(differs, { timeout: 5000 }).toBe(true);
    expect(problems).toEqual([]);
  });

  it('opens a link from the table, with both sides, and keeps it in the address', async () => {
    const page = await visit(DESKTOP, '?table=1');
    const row = page.getByTestId('edge-row').first();
    const id = (await row.getAttribute('data-edge-id')) ?? '';
    await page.locator(`tr[data-edge-id="${id}"]`).click();
    await page.locator(`[data-testid=edge-panel][data-edge-id="${id}"]`).waitFor();
    await page.getByTestId('sides').waitFor();
    await page.getByTestId('loss-between').waitFor();
    expect(new URL(page.url()).searchParams.get('edge')).toBe(id);
    await page.keyboard.press('Escape');
    await page.getByTestId('overview').waitFor();
  });

  it('groups, searches, zooms by keys and gives the camera back', async () => {
    const page = await visit(DESKTOP);
    for (const one of ['node', 'workload', 'namespace']) {
      await page.getByTestId(`group-${one}`).click();
      await page.locator(`main[data-group="${one}"]`).waitFor();
    }
    await page.keyboard.press('/');
    await page.keyboard.type('zzz-no-such-thing');
    await expect.poll(() => page.getByTestId('hits').textContent()).toBe('0 found');
    await page.keyboard.press('Escape');
    await page.getByTestId('map-area').focus();
    await page.keyboard.press('+');
    await page.getByTestId('fit').waitFor();
    await page.keyboard.press('0');
    await page.getByTestId('fit').waitFor({ state: 'detached' });
  });

  it.each(['dark', 'light'] as const)('has no accessibility violations (%s)', async (colorScheme) => {
    const page = await visit({ ...DESKTOP, colorScheme }, '?table=1');
    await page.getByTestId('edge-row').first().click();
    await page.getByTestId('edge-panel').waitFor();
    expect(await violations(page)).toEqual([]);
    await page.getByTestId('close-details').click();
    await page.getByTestId('overview').waitFor();
    expect(await violations(page)).toEqual([]);
  });
});

describe('on a phone', () => {
  it('goes from the list of links to details and back to the map', async () => {
    const page = await visit(PHONE);
    await page.getByTestId('tab-flows').click();
    const row = page.getByTestId('edge-row').first();
    await row.waitFor();
    await row.click();
    await page.getByTestId('edge-panel').waitFor();
    await page.getByTestId('close-details').click();
    await page.getByTestId('tab-nodes').click();
    await page.locator('[data-testid=node-row]:visible').first().waitFor();
    await page.getByTestId('tab-more').click();
    await page.getByTestId('theme').last().click();
    await page.getByTestId('tab-map').click();
    await page.getByTestId('map-area').waitFor();
    const wide = await page.evaluate(() => document.documentElement.scrollWidth);
    expect(wide).toBeLessThanOrEqual(390);
    expect(problems).toEqual([]);
  });

  it('has targets of 44 px', async () => {
    const page = await visit(PHONE);
    const small = await page.locator('button:visible, select:visible').evaluateAll((all) =>
      all
        // Lines come and go while they are looked at.
        .filter((one) => one.isConnected)
        .map((one) => ({ box: one.getBoundingClientRect(), html: one.outerHTML.slice(0, 80) }))
        .filter(({ box }) => box.height < 43.5)
        .map(({ html }) => html),
    );
    expect(small).toEqual([]);
  });

  it.each(['map', 'flows', 'nodes', 'more'])('has no accessibility violations (%s)', async (tab) => {
    const page = await visit(PHONE);
    await page.getByTestId(`tab-${tab}`).click();
    expect(await violations(page)).toEqual([]);
  });
});
