/** What the page shows beside packets, against the invented cluster of dev/serve.mjs: every fact, and why others are not known. */
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { DESKTOP, launch, PHONE } from './browser';
import { type Invented, invent, isBuilt, snapshotOf } from './invented';

interface Told {
  edges: { id: string; port: number; tunnel: string | null; dns: object | null; drops: object[] }[];
}

const built = isBuilt();

let invented: Invented | null = null;
let address = '';
let told: Told;
let browser: Browser;
let context: BrowserContext | null = null;

async function visit(options: Parameters<Browser['newContext']>[0], search: string): Promise<Page> {
  context = await browser.newContext(options);
  const page = await context.newPage();
  await page.goto(address + search);
  await page.locator('main[data-connected="true"]').waitFor({ timeout: 20_000 });
  return page;
}

const edge = (pick: (one: Told['edges'][number]) => boolean) => {
  const id = told.edges.find(pick)?.id ?? '';
  return `?edge=${encodeURIComponent(id)}`;
};
const text = async (page: Page, part: string) => (await page.getByTestId(part).textContent()) ?? '';

describe.skipIf(!built)('beside packets', () => {
  beforeAll(async () => {
    invented = await invent('small');
    address = invented.address;
    told = await snapshotOf<Told>(address);
    browser = await launch();
  });
  afterEach(async () => {
    await context?.close();
    context = null;
  });
  afterAll(async () => {
    await browser?.close();
    invented?.close();
  });

  it('a link whose connects fail: causes, round trips, owners, and where it was counted', async () => {
    const page = await visit(
      DESKTOP,
      edge((one) => one.port === 443),
    );
    const ail = page.getByTestId('edge-panel').locator('[data-testid=ail][data-kind=connects]');
    await ail.first().waitFor();
    expect(await ail.first().getAttribute('data-tone')).toBe('bad');
    expect(await ail.first().textContent()).toMatch(/^\d+ of \d+ connects failed$/);
    expect(await text(page, 'connects')).toMatch(/attempts\s*\d+[\s\S]*refused\s*\d+[\s\S]*timed out\s*4/);
    expect(await text(page, 'rtt')).toMatch(/p50\s*18\.7 ms[\s\S]*p95\s*60\.8 ms[\s\S]*\d+ segments/);
    expect(await text(page, 'edge-rtt')).toBe('18.7 ms');
    expect(await text(page, 'owners')).toContain('payments');
    expect(await text(page, 'owners')).toContain('9f86d081884c');
    expect(await text(page, 'counted')).toContain("at the pod's device");
    await page.getByTestId('owners').getByRole('button').click();
    await page.getByTestId('vertex-panel').waitFor();
  });

  it('drops by reason, origin and direction', async () => {
    const page = await visit(
      DESKTOP,
      edge((one) => one.drops.length > 0),
    );
    expect(await text(page, 'drops')).toMatch(/netfilter drop[\s\S]*in the stack of n2, to the server/);
    expect(await text(page, 'drops')).toMatch(/tc ingress[\s\S]*by a tc program of n1, to the client/);
  });

  it('DNS: codes, latency, and the questions, long names cut', async () => {
    const page = await visit(
      DESKTOP,
      edge((one) => one.dns !== null),
    );
    await page.locator('[data-testid=edge-panel] [data-kind=dns]').first().waitFor();
    expect(await text(page, 'dns')).toMatch(/SERVFAIL\s*\d+[\s\S]*no answer\s*2[\s\S]*p50\s*336 µs/);
    const long = page.getByTestId('questions').locator('td[title^="a-name-that-is-much-longer"]');
    expect(await long.evaluate((cell) => cell.scrollWidth > cell.clientWidth)).toBe(true);
    expect(await text(page, 'questions')).toMatch(/gone\.example\.com\s*A\s*2 of 2\s*no answer/);
  });

  it('what nobody told is not known, and why', async () => {
    // Of plain links nothing but packets is known.
    const page = await visit(
      DESKTOP,
      edge((one) => one.port === 6379),
    );
    for (const part of ['connects', 'rtt', 'owners'])
      expect(await text(page, part)).toMatch(/Not known: nothing was told yet on/);
    expect(await text(page, 'rtt')).toMatch(/Sent again\s*not known/);
  });

  it('a node: tiers with their blind spots, hooks with what was refused, drops of no link', async () => {
    const page = await visit(DESKTOP, '?node=n3');
    expect(await text(page, 'tiers')).toMatch(/cgroup_skb\s*no ICMP, no forwarded packets/);
    expect(await text(page, 'tiers')).toMatch(/Attached again\s*2 times/);
    expect(await text(page, 'hooks')).toMatch(/rtt\s*▲ nobody\s*tp_btf: operation not permitted; kprobe/);
    expect(await text(page, 'unattributed')).toMatch(/no socket\s*in the stack\s*7/);
  });

  it('names by DNS', async () => {
    const page = await visit(DESKTOP, '?vertex=external%3A192.0.2.10');
    expect(await text(page, 'dns-names')).toContain('api.pay.example.com');
  });

  it('underlay only when asked for, and kept in the address', async () => {
    const page = await visit(DESKTOP, '');
    const links = () => page.locator('main').getAttribute('data-edges').then(Number);
    const plain = told.edges.filter((one) => one.tunnel === null).length;
    await expect.poll(links).toBe(plain);
    await page.getByTestId('underlay').click();
    await expect.poll(links).toBe(told.edges.length);
    expect(new URL(page.url()).searchParams.get('underlay')).toBe('1');
    await page.reload();
    await expect.poll(links).toBe(told.edges.length);
  });

  it('failing links come first in the overview, and the table says how much fails', async () => {
    const page = await visit(DESKTOP, '?table=1');
    await page.getByTestId('sick').waitFor();
    expect(await page.getByTestId('sick').locator('[data-tone=bad]').first().isVisible()).toBe(true);
    await page.getByTestId('sort-failed').click();
    const worst = page.getByTestId('edge-row').first();
    await expect.poll(() => worst.textContent()).toMatch(/TCP 443[\s\S]*18\.7 ms/);
  });

  it('holds on a phone: targets of 44 px, nothing wider than the screen', async () => {
    const page = await visit(
      PHONE,
      edge((one) => one.port === 443),
    );
    await page.getByTestId('owners').scrollIntoViewIfNeeded();
    const small = await page
      .locator('button:visible')
      .evaluateAll((all) =>
        all
          .filter((one) => one.isConnected && one.getBoundingClientRect().height < 43.5)
          .map((one) => one.outerHTML.slice(0, 80)),
      );
    expect(small).toEqual([]);
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(390);
    expect(await page.getByTestId('panel').evaluate((sheet) => sheet.scrollWidth <= sheet.clientWidth)).toBe(
      true,
    );
  });
});
