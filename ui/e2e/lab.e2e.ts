/**
 * The page while the lab changes under it: rates that change and end, an agent that dies.
 *
 * ORRERY_LAB is where the lab takes orders (`cargo xtask test --tier e2e` sets it); rates are held against its own ledger.
 */
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { spacing } from '../src/rate';
import { collector, DESKTOP, decode, launch, openPage, skipping } from './browser';
import { around, medianGap, parsePath, particlesAlong, shifted } from './measure';

const lab = process.env.ORRERY_LAB ?? '';
const flows = JSON.parse(process.env.ORRERY_SPACING ?? '[]') as { edge: string; rate: number }[];
/** The flow whose rate changes here: the middle one, and its rate. */
const FLOW = 1;

interface Side {
  nodes: string[];
}

interface Edge {
  id: string;
  state: string;
  client_side: Side | null;
  server_side: Side | null;
}

let browser: Browser;
let context: BrowserContext;
beforeAll(async () => {
  browser = await launch();
});
afterEach(() => context.close());
afterAll(() => browser.close());

async function order<T>(path: string): Promise<T> {
  const response = await fetch(`${lab}/${path}`);
  const answer = (await response.json()) as T;
  if (!response.ok) throw new Error(`${path}: ${JSON.stringify(answer)}`);
  return answer;
}

async function visit(search: string): Promise<Page> {
  context = await browser.newContext(DESKTOP);
  return openPage(context, search);
}

function edgeOf(flow: number): string {
  const found = flows[flow];
  if (found === undefined) throw new Error('ORRERY_SPACING names too few edges');
  return found.edge;
}

/** The table's row of an edge, alone in it. */
async function rowOf(edge: string): Promise<{ page: Page; attribute: (name: string) => Promise<string> }> {
  const pod = /pod:[^/]+\/([^>:]+)/.exec(edge)?.[1] ?? '';
  const page = await visit(`?table=1&q=${encodeURIComponent(pod)}`);
  const row = page.locator(`[data-testid=edge-row][data-edge-id="${edge}"]`);
  await row.waitFor();
  return { page, attribute: async (name) => (await row.getAttribute(name)) ?? '' };
}

/** Where particles are on the picked link, by a screenshot. */
async function particles(page: Page): Promise<number[]> {
  const box = await page.getByTestId('map-area').boundingBox();
  if (box === null) throw new Error('no map');
  const path = parsePath((await page.getByTestId('map').getAttribute('data-focus-path')) ?? '');
  const area = around(path);
  const clip = { ...area, x: area.x + box.x, y: area.y + box.y };
  return particlesAlong(await decode(context, await page.screenshot({ clip })), shifted(path, area));
}

/** Milliseconds until `done` says so. */
async function timeUntil(done: () => Promise<boolean>, most: number): Promise<number> {
  const start = performance.now();
  while (!(await done())) {
    if (performance.now() - start > most) return Number.POSITIVE_INFINITY;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return performance.now() - start;
}

async function edges(): Promise<Edge[]> {
  const response = await fetch(`${collector()}api/v1/graph?view=pod`);
  return ((await response.json()) as { edges: Edge[] }).edges;
}

if (lab === '') skipping('ORRERY_LAB names no lab to change');

describe.skipIf(lab === '')('while the lab changes', () => {
  it.each([1, 2])("the table shows the ledger's rate (flow %i)", async (flow) => {
    const { page, attribute } = await rowOf(edgeOf(flow));
    const before = await order<{ datagrams: number; time_ms: number }>(`sent/${flow}`);
    const shown: number[] = [];
    for (let sample = 0; sample < 20; sample++) {
      shown.push(Number(await attribute('data-rate')));
      await page.waitForTimeout(250);
    }
    const after = await order<{ datagrams: number; time_ms: number }>(`sent/${flow}`);
    const sent = ((after.datagrams - before.datagrams) * 1000) / (after.time_ms - before.time_ms);
    const mean = shown.reduce((sum, one) => sum + one, 0) / shown.length;
    console.log(`table ${mean.toFixed(1)}/s, ledger ${sent.toFixed(1)}/s`);
    expect(Math.abs(mean / sent - 1)).toBeLessThan(0.05);
  });

  it('follows a new rate within 2 s, and stops within 3 s', async () => {
    const page = await visit(`?edge=${encodeURIComponent(edgeOf(FLOW))}`);
    await page.locator('[data-focus-path]').waitFor();
    await page.mouse.move(2, 2);
    const faster = spacing(1000) ?? Number.NaN;
    const follows = async () => {
      const found = await particles(page);
      return found.length > 2 && Math.abs(medianGap([found]) / faster - 1) < 0.15;
    };
    try {
      await order(`rate/${FLOW}/1000`);
      const followed = await timeUntil(follows, 10_000);
      await order(`rate/${FLOW}/0`);
      const stopped = await timeUntil(async () => (await particles(page)).length === 0, 10_000);
      console.log(`new rate after ${followed.toFixed(0)} ms, still after ${stopped.toFixed(0)} ms`);
      expect(followed).toBeLessThan(2000);
      expect(stopped).toBeLessThan(3000);
    } finally {
      await order(`rate/${FLOW}/${flows[FLOW]?.rate}`);
    }
  });

  it('shows a deployment scaled from 2 to 8 as new pods and as an event', async () => {
    await order('scale/2');
    const page = await visit('');
    const pods = async () =>
      Number(((await page.getByTestId('count-pods').textContent()) ?? '').replace(/\D/g, ''));
    const told = page.getByTestId('events').getByText('2 → 8');
    let before = await pods();
    // What was scaled away may still be on its way out.
    await expect
      .poll(
        async () => {
          const last = before;
          before = await pods();
          return before === last;
        },
        { timeout: 20_000, interval: 1500 },
      )
      .toBe(true);
    const already = await told.count();
    await order('scale/8');
    await expect.poll(pods, { timeout: 20_000 }).toBe(before + 6);
    await expect.poll(() => told.count(), { timeout: 20_000 }).toBe(already + 1);
    const event = page.getByTestId('events').locator('li', { hasText: '2 → 8' }).first();
    expect(await event.textContent()).toMatch(/cart/);
  });

  it('marks the edges of a killed agent stale and removes none', async () => {
    const before = await edges();
    const only = (edge: Edge) =>
      [edge.client_side, edge.server_side].every((side) => side === null || side.nodes.join() === 'n3');
    const mine = before.filter((edge) => only(edge) && edge.state === 'live');
    expect(mine.length).toBeGreaterThan(0);
    await order('kill/n3');
    try {
      const isStale = async () => {
        const now = new Map((await edges()).map((edge) => [edge.id, edge.state]));
        return mine.every((edge) => now.get(edge.id) === 'stale');
      };
      expect(await timeUntil(isStale, 30_000)).toBeLessThan(30_000);
      const there = new Set((await edges()).map((edge) => edge.id));
      expect(before.filter((edge) => !there.has(edge.id))).toEqual([]);
      const { attribute } = await rowOf(mine[0]?.id ?? '');
      expect(await attribute('data-state')).toBe('stale');
    } finally {
      await order('start/n3');
    }
  });
});
