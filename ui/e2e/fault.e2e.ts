/**
 * Whoever opens the page finds the link that drops packets, and why, wherever it is: the lab takes orders at ORRERY_LAB, and says where it
 * is; the page is opened at its default address.
 */
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DESKTOP, launch, openPage, skipping } from './browser';

const lab = process.env.ORRERY_LAB ?? '';
const FOUND_WITHIN_MS = 30_000;
/** Each lets another link drop. */
const SEEDS = [1, 2, 3, 4, 5];

interface End {
  pod: string;
  workload: string;
}

interface Fault {
  client: End;
  server: End;
  port: number;
}

let browser: Browser;
beforeAll(async () => {
  browser = await launch();
});
afterAll(() => browser.close());

async function order<T>(path: string): Promise<T> {
  const response = await fetch(`${lab}/${path}`);
  if (!response.ok) throw new Error(await response.text());
  return (await response.json()) as T;
}

const losing = (page: Page) =>
  page.locator('section', { hasText: 'Losing packets' }).locator('[data-edge-id]');

/** Whether an edge of the page, of pods or of workloads, is the one. */
function isAt(edge: string, fault: Fault): boolean {
  const end = ({ pod, workload }: End) => `(pod:\\w+/${pod}|workload:\\w+/\\w+/${workload})`;
  return new RegExp(`^${end(fault.client)}>${end(fault.server)}:${fault.port}/udp$`).test(edge);
}

/**
 * What the page says was dropped on the link, once it is among those that the page says lose packets. Links that were healed a moment
 * ago may stand beside it: they lost packets, too.
 */
async function findLoss(page: Page, fault: Fault): Promise<string> {
  const ids = () =>
    losing(page).evaluateAll((lines) => lines.map((line) => line.getAttribute('data-edge-id') ?? ''));
  let edge = '';
  const listed = async () => {
    edge = (await ids()).find((id) => isAt(id, fault)) ?? '';
    return edge;
  };
  await expect.poll(listed, { timeout: FOUND_WITHIN_MS }).not.toBe('');
  await page.locator(`[data-edge-id="${edge}"]`).first().click();
  await page.getByTestId('drops').getByText('netfilter drop').waitFor({ timeout: FOUND_WITHIN_MS });
  return (await page.getByTestId('drops').textContent()) ?? '';
}

if (lab === '') skipping('ORRERY_LAB names no lab to change');

describe.skipIf(lab === '')('the link that drops', () => {
  // What other tests look at.
  afterAll(() => order('drop/0'));

  it.each(SEEDS)('is found with its reason from the default address (seed %i)', async (seed) => {
    const fault = await order<Fault>(`drop/${seed}`);
    const start = performance.now();
    const context = await browser.newContext(DESKTOP);
    try {
      const why = await findLoss(await openPage(context), fault);
      const took = performance.now() - start;
      console.log(`seed ${seed}: found after ${(took / 1000).toFixed(1)} s`);
      expect(why).toMatch(/netfilter drop[\s\S]*in the stack of n\d, to the server/);
      expect(took).toBeLessThan(FOUND_WITHIN_MS);
    } finally {
      await context.close();
    }
  });
});
