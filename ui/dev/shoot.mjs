/** Takes pictures of a running page: node dev/shoot.mjs URL OUT [desktop|light|phone] [wait ms] [ratio]. */
import { chromium } from 'playwright-core';

const [url, out, kind = 'desktop', wait = '4000', ratio = '1'] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium',
  args: '--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync'.split(
    ' ',
  ),
});
const page = await browser.newPage({
  viewport: kind === 'phone' ? { width: 390, height: 844 } : { width: 1440, height: 900 },
  deviceScaleFactor: Number(ratio),
  hasTouch: kind === 'phone',
  colorScheme: kind === 'light' ? 'light' : 'dark',
});
page.on('console', (message) => console.log('console', message.type(), message.text()));
page.on('pageerror', (error) => console.log('error', error.message));
await page.goto(url);
await page.waitForTimeout(Number(wait));
await page.screenshot({ path: out });
console.log(await page.locator('main').evaluate((main) => ({ ...main.dataset })));
await browser.close();
