/** A stream that is cut goes on where it was, against a running collector, through a proxy that cuts it. */
import { connect, createServer, type Server, type Socket } from 'node:net';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { collector, DESKTOP, launch } from './browser';

/** Hands bytes on, remembers what asked for the stream, and hangs up when told to. */
class Cutter {
  readonly asked: string[] = [];
  private readonly open = new Set<Socket>();
  private readonly server: Server;
  /** While true nobody is let through. */
  shut = false;

  constructor(to: URL) {
    this.server = createServer((client) => {
      if (this.shut) {
        client.destroy();
        return;
      }
      const upstream = connect(Number(to.port), to.hostname);
      client.on('data', (bytes) => {
        const head = bytes.toString('latin1');
        if (head.includes('/api/v1/stream')) this.asked.push(head);
      });
      client.pipe(upstream).pipe(client);
      for (const end of [client, upstream]) {
        this.open.add(end);
        end.on('error', () => end.destroy());
        end.on('close', () => {
          this.open.delete(end);
          client.destroy();
          upstream.destroy();
        });
      }
    });
  }

  listen(): Promise<string> {
    return new Promise((resolve) => {
      this.server.listen(0, '127.0.0.1', () => {
        const at = this.server.address();
        resolve(`http://127.0.0.1:${typeof at === 'object' && at !== null ? at.port : 0}/`);
      });
    });
  }

  cut(): void {
    for (const end of this.open) end.destroy();
  }

  close(): void {
    this.cut();
    this.server.close();
  }
}

let browser: Browser;
beforeAll(async () => {
  browser = await launch();
});
afterAll(() => browser.close());

it('says so while it is cut, and goes on from the same revision', async () => {
  const proxy = new Cutter(new URL(collector()));
  const context = await browser.newContext(DESKTOP);
  try {
    const page = await context.newPage();
    // What the stream brings, as the page gets it.
    await page.addInitScript(() => {
      const brought: string[] = [];
      Object.assign(window, { brought });
      const Native = window.EventSource;
      window.EventSource = class extends Native {
        constructor(url: string | URL) {
          super(url);
          for (const kind of ['snapshot', 'delta']) this.addEventListener(kind, () => brought.push(kind));
        }
      };
    });
    await page.goto(await proxy.listen());
    const main = page.locator('main');
    await page.locator('main[data-connected="true"]').waitFor({ timeout: 20_000 });
    const revision = async () => Number(await main.getAttribute('data-revision'));
    const start = await revision();
    await expect.poll(revision, { timeout: 10_000 }).toBeGreaterThan(start);
    const run = await main.getAttribute('data-run');
    proxy.shut = true;
    proxy.cut();
    await page.locator('[data-testid=connection][data-state=broken]').waitFor({ timeout: 10_000 });
    await page.getByTestId('banner-stream').waitFor();
    const before = await revision();
    proxy.shut = false;
    await page.locator('[data-testid=connection][data-state=live]').waitFor({ timeout: 20_000 });
    await expect.poll(revision, { timeout: 20_000 }).toBeGreaterThan(before);
    expect(await main.getAttribute('data-run')).toBe(run);
    // It named what it had, and got what came since, not everything anew.
    expect(proxy.asked.at(-1)).toMatch(new RegExp(`last-event-id: ${run}-\\d+`, 'i'));
    const brought = await page.evaluate(() => (window as unknown as { brought: string[] }).brought);
    expect(brought.filter((kind) => kind === 'snapshot')).toHaveLength(1);
    await page.getByTestId('banner-stream').waitFor({ state: 'detached' });
  } finally {
    await context.close();
    proxy.close();
  }
});
