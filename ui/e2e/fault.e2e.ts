/**
 * Whoever opens the page finds the link that drops packets, and why, wherever it is: a script that knows only the page looks for it,
 * and the lab, which takes orders at ORRERY_LAB, says afterwards where it was.
 */
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
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

/** The link that the page says loses packets, and what it says was dropped there. Knows only the page. */
async function findLoss(page: Page): Promise<{ edge: string; why: string }> {
  const first = losing(page).first();
  await first.waitFor({ timeout: FOUND_WITHIN_MS });
  const edge = (await first.getAttribute('data-edge-id')) ?? '';
  await first.click();
  const drops = page.getByTestId('drops').getByText('netfilter drop');
  await drops.waitFor({ timeout: FOUND_WITHIN_MS });
  return { edge, why: (await page.getByTestId('drops').textContent()) ?? '' };
}

/** Whether an edge of the page, of pods or of workloads, is the one. */
function isAt(edge: string, fault: Fault): boolean {
  const end = ({ pod, workload }: End) => `(pod:\\w+/${pod}|workload:\\w+/\\w+/${workload})`;
  return new RegExp(`^${end(fault.client)}>${end(fault.server)}:${fault.port}/udp$`).test(edge);
}

if (lab === '') skipping('ORRERY_LAB names no lab to change');

describe.skipIf(lab === '')('the link that drops', () => {
  beforeEach(async () => {
    await order('heal');
    // A link that was healed shows for ten seconds more that it has lost packets, and a quiet one may tell of its last ones late.
    const page = await openPage(await browser.newContext(DESKTOP));
    await page.getByText('Top talkers').waitFor({ timeout: FOUND_WITHIN_MS });
    const sound = async () => {
      const seen = await losing(page).count();
      await page.waitForTimeout(5_000);
      return seen + (await losing(page).count());
    };
    await expect.poll(sound, { timeout: FOUND_WITHIN_MS }).toBe(0);
    await page.context().close();
  });
  // What other tests look at.
  afterAll(() => order('drop/0'));

  it.each(SEEDS)('is found with its reason from the default address (seed %i)', async (seed) => {
    const fault = await order<Fault>(`drop/${seed}`);
    const start = performance.now();
    const context = await browser.newContext(DESKTOP);
    try {
      const { edge, why } = await findLoss(await openPage(context));
      const took = performance.now() - start;
      console.log(`seed ${seed}: found after ${(took / 1000).toFixed(1)} s`);
      expect(edge).toSatisfy((found: string) => isAt(found, fault));
      expect(why).toMatch(/netfilter drop[\s\S]*in the stack of n\d, to the server/);
      expect(took).toBeLessThan(FOUND_WITHIN_MS);
    } finally {
      await context.close();
    }
  });
});
