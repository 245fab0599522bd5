/**
 * Films a running page as an animated WebP: node dev/film.mjs URL OUT [seconds] [wait ms]. Wants `img2webp` (Debian: webp).
 * Frames come from the browser's own screencast, each shown for as long as it stood on the screen.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const [url, out, seconds = '8', wait = '5000'] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium',
  args: '--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync'.split(
    ' ',
  ),
});
const page = await browser.newPage({ viewport: { width: 1200, height: 720 }, colorScheme: 'dark' });
await page.goto(url);
await page.waitForTimeout(Number(wait));
const folder = mkdtempSync(join(tmpdir(), 'orrery-film-'));
const frames = [];
const session = await page.context().newCDPSession(page);
session.on('Page.screencastFrame', ({ data, metadata, sessionId }) => {
  const file = join(folder, `${String(frames.length).padStart(5, '0')}.png`);
  writeFileSync(file, Buffer.from(data, 'base64'));
  frames.push({ file, at: metadata.timestamp });
  session.send('Page.screencastFrameAck', { sessionId }).catch(() => undefined);
});
await session.send('Page.startScreencast', { format: 'png', everyNthFrame: 4 });
await page.waitForTimeout(Number(seconds) * 1000);
await session.send('Page.stopScreencast');
await browser.close();
const shown = frames.slice(1).map((frame, at) => {
  const before = frames[at];
  return ['-d', String(Math.max(20, Math.round((frame.at - before.at) * 1000))), before.file];
});
execFileSync('img2webp', ['-loop', '0', '-lossy', '-q', '60', '-m', '4', ...shown.flat(), '-o', out], {
  stdio: 'inherit',
});
rmSync(folder, { recursive: true });
console.log(`${frames.length} frames`);
