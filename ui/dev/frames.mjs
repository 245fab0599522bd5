/** Measures the page's frame intervals while panning: node dev/frames.mjs URL [seconds] [ratio]. */
import { chromium } from 'playwright-core';

const [url, seconds = '8', ratio = '1'] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium',
  args: '--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync'.split(
    ' ',
  ),
});
const page = await browser.newPage({
  viewport: { width: 1440, height: 900 },
  deviceScaleFactor: Number(ratio),
});
await page.goto(url);
await page.locator('main[data-connected="true"]').waitFor();
await page.waitForTimeout(3000);
const count = () =>
  page.evaluate(() => {
    window.frames_ = [];
    let last = performance.now();
    const step = (now) => {
      window.frames_.push(now - last);
      last = now;
      requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  });
await count();
const report = async (what) => {
  const frames = await page.evaluate(() => window.frames_.splice(0));
  frames.sort((a, b) => a - b);
  const at = (share) => frames[Math.floor(frames.length * share)]?.toFixed(1);
  const worker = await page.locator('main').evaluate((main) => ({ ...main.dataset }));
  console.log(what, {
    frames: frames.length,
    p50: at(0.5),
    p95: at(0.95),
    p99: at(0.99),
    workerFrameMs: worker.frameMs,
    baseMs: worker.baseMs,
  });
};
await page.waitForTimeout(Number(seconds) * 500);
await report('still');
await page.mouse.move(500, 400);
await page.mouse.down();
const end = Date.now() + Number(seconds) * 1000;
for (let step = 0; Date.now() < end; step++) {
  await page.mouse.move(500 + 200 * Math.sin(step / 20), 400 + 120 * Math.cos(step / 15));
  await page.waitForTimeout(12);
}
await page.mouse.up();
await report('panning');
await browser.close();
