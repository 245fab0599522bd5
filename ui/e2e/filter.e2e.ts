/** Filters, noise, layers, levels and the camera, in a real browser against a running collector. */
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { collector, DESKTOP, launch, openPage, PHONE } from './browser';

interface Row {
  readonly id: string;
  readonly client: string;
  readonly server: string;
  readonly protocol: string;
}
interface Picture {
  readonly vertices: { id: string; namespace: string | null; kind: string }[];
  readonly edges: Row[];
  readonly hidden: { edges: number; noise: Record<string, number> };
}

let browser: Browser;
let context: BrowserContext | null = null;

async function visit(options: Parameters<Browser['newContext']>[0], search = ''): Promise<Page> {
  context = await browser.newContext(options);
  return openPage(context, search);
}

async function graph(query: string): Promise<Picture> {
  const answer = await fetch(`${collector()}api/v1/graph?view=pod${query}`);
  return (await answer.json()) as Picture;
}

/** The busiest namespace of the lab's own pods. */
async function namespace(): Promise<string> {
  const { vertices } = await graph('');
  const counts = new Map<string, number>();
  for (const one of vertices)
    if (one.kind === 'pod' && one.namespace !== null)
      counts.set(one.namespace, (counts.get(one.namespace) ?? 0) + 1);
  const [first] = [...counts].sort((a, b) => b[1] - a[1]);
  if (first === undefined) throw new Error('no pods');
  return first[0];
}

const attribute = (page: Page, name: string) => page.locator('main').getAttribute(`data-${name}`);
const parameter = (page: Page, name: string) => new URL(page.url()).searchParams.get(name);

beforeAll(async () => {
  browser = await launch();
});
afterEach(async () => {
  await context?.close();
  context = null;
});
afterAll(() => browser.close());

describe('the search box', () => {
  it('completes a namespace by keys, and then shows its links only', async () => {
    const wanted = await namespace();
    const page = await visit(DESKTOP, '?table=1');
    await page.keyboard.press('/');
    await page.keyboard.type(`ns:${wanted.slice(0, 2)}`);
    await page
      .getByTestId('suggestion')
      .filter({ hasText: `ns:${wanted}` })
      .first()
      .waitFor();
    await page.keyboard.press('ArrowDown');
    await page.keyboard.press('Enter');
    await page.locator(`main[data-filter="ns:${wanted}"]`).waitFor();
    expect(parameter(page, 'q')).toBe(`ns:${wanted}`);
    const filtered = await graph(`&filter=ns:${wanted}`);
    expect(filtered.edges.length).toBeGreaterThan(0);
    expect(filtered.hidden.edges).toBeGreaterThan(0);
    const of = new Map(filtered.vertices.map((vertex) => [vertex.id, vertex.namespace]));
    for (const edge of filtered.edges) expect([of.get(edge.client), of.get(edge.server)]).toContain(wanted);
    await expect.poll(() => page.getByTestId('hits').textContent()).toMatch(/^\d+ found$/);
    await page.getByTestId('count-links').filter({ hasText: ' of ' }).waitFor();
    // What came out of a reload is what was there.
    await page.reload();
    await page.locator(`main[data-filter="ns:${wanted}"]`).waitFor();
    await page.getByTestId('search').press('Escape');
    await page.locator('main[data-filter=""]').waitFor();
  });

  it('finds the world by the names that DNS gave it', async () => {
    const page = await visit(DESKTOP, '?table=1');
    await page.getByTestId('search').fill('name:*.cards.example');
    await page.locator('main[data-filter="name:*.cards.example"]').waitFor();
    const { edges, vertices } = await graph('&filter=name:*.cards.example');
    expect(edges.length).toBeGreaterThan(0);
    const world = new Set(vertices.filter((one) => one.kind === 'external').map((one) => one.id));
    // A name finds its address, and the links on which it was asked for.
    expect(edges.some((edge) => world.has(edge.server))).toBe(true);
    await expect.poll(() => page.getByTestId('hits').textContent()).toMatch(/^\d+ found$/);
  });

  it('says where a text is no filter, and leaves the picture', async () => {
    const page = await visit(DESKTOP);
    await page.getByTestId('search').fill('tcp foo:bar ');
    const problem = page.getByTestId('problem');
    await problem.waitFor();
    expect(await problem.textContent()).toMatch(/unknown key foo.*column 5.*keys are ns/);
    expect(await attribute(page, 'filter')).toBe('');
    await page.getByTestId('search').fill('tcp');
    await page.locator('main[data-filter="tcp"]').waitFor();
    await problem.waitFor({ state: 'detached' });
  });

  it('explains when nothing matches, and offers the way back', async () => {
    const page = await visit(DESKTOP, '?q=zzz-no-such-thing');
    await page.getByTestId('empty').filter({ hasText: 'zzz-no-such-thing' }).waitFor();
    await page.getByTestId('remedy').first().click();
    await page.locator('main[data-filter=""]').waitFor();
    await page.getByTestId('empty').waitFor({ state: 'detached' });
  });

  it('tells when as many views are open as there may be', async () => {
    const hangUp = new AbortController();
    // The page of the test before may still be there for a moment: who finds no place comes again.
    const open = async (filter: string) => {
      for (;;) {
        const stream = await fetch(`${collector()}api/v1/stream?filter=${filter}`, { signal: hangUp.signal });
        // Read to the end: a stream that nobody reads is hung up.
        const text = stream.text().catch(() => undefined);
        if (stream.ok) return;
        await text;
        await new Promise((done) => setTimeout(done, 100));
      }
    };
    try {
      await Promise.all(Array.from({ length: 64 }, (_, index) => open(`port:${20_000 + index}`)));
      context = await browser.newContext(DESKTOP);
      const page = await context.newPage();
      await page.goto(`${collector()}?q=port:19999`);
      await page.getByTestId('banner-stream').filter({ hasText: '64 different views are open' }).waitFor();
      hangUp.abort();
      await page.locator('main[data-connected="true"]').waitFor({ timeout: 20_000 });
    } finally {
      hangUp.abort();
    }
  });
});

it('hides noise, says what it hides, and keeps it in the address', async () => {
  const page = await visit(DESKTOP);
  const before = Number(await attribute(page, 'edges'));
  await page.getByTestId('noise').click();
  await page.getByTestId('noise').filter({ hasText: 'hidden' }).waitFor();
  await expect.poll(async () => Number(await attribute(page, 'edges'))).toBeLessThan(before);
  expect(await page.getByTestId('noise').getAttribute('title')).toMatch(/Hidden: \d/);
  expect(parameter(page, 'noise')).toBe('hide');
  const { hidden } = await graph('&noise=hide');
  expect(Object.values(hidden.noise).reduce((sum, one) => sum + one, 0)).toBeGreaterThan(0);
  await page.getByTestId('noise').click();
  await expect.poll(async () => Number(await attribute(page, 'edges'))).toBeGreaterThanOrEqual(before - 3);
});

it('switches layers, and says so when none is left', async () => {
  const page = await visit(DESKTOP);
  const links = async () => Number(await attribute(page, 'links'));
  await expect.poll(links).toBeGreaterThan(0);
  const all = await links();
  await page.getByTestId('layer-l4').click();
  await expect.poll(links).toBeLessThan(all);
  expect(parameter(page, 'layers')).toBe('dns,drops');
  await page.getByTestId('layer-dns').click();
  await page.getByTestId('layer-drops').click();
  await page.getByTestId('empty').filter({ hasText: 'No layer' }).waitFor();
  await page.getByTestId('layer-l4').click();
  await expect.poll(links).toBeGreaterThan(0);
});

it('leads from namespaces over workloads to pods, and back, by keys', async () => {
  const page = await visit(DESKTOP, '?group=namespace');
  const map = page.getByTestId('map-area');
  await map.focus();
  const until = async (key: string, level: string) => {
    for (let press = 0; press < 14 && (await attribute(page, 'level')) !== level; press++) {
      await page.keyboard.press(key);
      await page.waitForTimeout(60);
    }
    expect(await attribute(page, 'level')).toBe(level);
  };
  await until('-', 'group');
  await until('+', 'workload');
  await until('+', 'pod');
  await until('-', 'group');
  await page.getByTestId('fit').waitFor();
  await page.keyboard.press('0');
  await page.getByTestId('fit').waitFor({ state: 'detached' });
});

it('takes the camera by wheel and double click, and gives it back', async () => {
  const page = await visit(DESKTOP);
  const map = page.getByTestId('map-area');
  const box = await map.boundingBox();
  if (box === null) throw new Error('no map');
  await page.mouse.move(box.x + 40, box.y + box.height - 90);
  await page.mouse.wheel(0, -300);
  await page.getByTestId('fit').click();
  await page.getByTestId('fit').waitFor({ state: 'detached' });
  await page.mouse.dblclick(box.x + 6, box.y + 6);
  await page.getByTestId('fit').click();
  await page.getByTestId('tidy').click();
  await page.getByTestId('fit').waitFor({ state: 'detached' });
});

it('on a phone a tap on a completion filters, and nothing is wider than the screen', async () => {
  const wanted = await namespace();
  const page = await visit(PHONE);
  await page.getByTestId('search').fill(`ns:${wanted.slice(0, 3)}`);
  await page
    .getByTestId('suggestion')
    .filter({ hasText: `ns:${wanted}` })
    .first()
    .tap();
  await page.locator(`main[data-filter="ns:${wanted}"]`).waitFor();
  expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(390);
});
