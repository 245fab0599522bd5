/**
 * Measures the page against a running collector: node dev/bench.mjs URL [seconds of panning].
 *
 * Prints one JSON object: frames of the page while it is panned and deltas come, the worker's drawing, how long a delta
 * takes from its text to the next graph, the first picture, the size of the scripts.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { gzipSync } from 'node:zlib';
import { chromium } from 'playwright-core';
import { build } from 'vite';

const [url, seconds = '10'] = process.argv.slice(2);
const root = join(dirname(fileURLToPath(import.meta.url)), '..');

const quantile = (values, share) => {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? null;
};

/** The page's own reducer, bundled: the same code in the same engine, without the page around it. */
async function reducer() {
  const outDir = mkdtempSync(join(tmpdir(), 'orrery-bench-'));
  try {
    await build({
      configFile: false,
      logLevel: 'error',
      root,
      publicDir: false,
      build: {
        outDir,
        emptyOutDir: true,
        minify: false,
        lib: { entry: { graph: 'src/graph.ts', view: 'src/view.ts' }, formats: ['es'], fileName: '[name]' },
        rolldownOptions: { output: { entryFileNames: '[name].mjs', chunkFileNames: '[name].mjs' } },
      },
    });
    const part = (name) => import(pathToFileURL(join(outDir, `${name}.mjs`)).href);
    return { ...(await part('graph')), ...(await part('view')) };
  } finally {
    rmSync(outDir, { recursive: true });
  }
}

/** Follows the stream for a while with the page's reducer. */
async function deltas(forMs) {
  const { applyDelta, decodeDelta, decodeSnapshot, fromSnapshot } = await reducer();
  const hangUp = new AbortController();
  const answer = await fetch(`${url}api/v1/stream?view=pod`, { signal: hangUp.signal });
  const found = { parse: [], apply: [], edges: [], bytes: [], gaps: [] };
  let graph = null;
  let text = '';
  let last = 0;
  const end = Date.now() + forMs;
  const decoder = new TextDecoder();
  for await (const chunk of answer.body) {
    text += decoder.decode(chunk, { stream: true });
    for (let at = text.indexOf('\n\n'); at >= 0; at = text.indexOf('\n\n')) {
      const block = text.slice(0, at);
      text = text.slice(at + 2);
      const data = /^data: (.*)$/m.exec(block)?.[1];
      if (data === undefined) continue;
      if (block.includes('event: snapshot')) graph = fromSnapshot(graph, decodeSnapshot(JSON.parse(data)));
      else if (graph !== null) {
        const start = performance.now();
        const delta = decodeDelta(JSON.parse(data));
        const read = performance.now();
        const step = applyDelta(graph, delta);
        const done = performance.now();
        if (step.kind !== 'applied') throw new Error(step.why);
        graph = step.graph;
        found.parse.push(read - start);
        found.apply.push(done - read);
        found.edges.push(delta.edges.upsert.length);
        found.bytes.push(data.length);
        if (last > 0) found.gaps.push(start - last);
        last = start;
      }
    }
    if (Date.now() > end) break;
  }
  hangUp.abort();
  // The first ones find code that is not compiled yet.
  const warm = (values) => values.slice(Math.min(10, values.length >> 1));
  return {
    deltas: found.apply.length,
    delta_edges_p50: quantile(found.edges, 0.5),
    delta_bytes_p50: quantile(found.bytes, 0.5),
    delta_gap_ms_p50: quantile(found.gaps, 0.5),
    delta_read_ms_p50: quantile(warm(found.parse), 0.5),
    delta_apply_ms_p50: quantile(warm(found.apply), 0.5),
  };
}

async function page() {
  const browser = await chromium.launch({
    executablePath: process.env.ORRERY_CHROMIUM ?? '/usr/bin/chromium',
    args: '--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync --enable-precise-memory-info'.split(
      ' ',
    ),
  });
  const tab = await browser.newPage({ viewport: { width: 1440, height: 900 } });
  await tab.goto(url);
  const first = await tab.waitForFunction(
    () => {
      const { connected, links } = document.querySelector('main')?.dataset ?? {};
      return connected === 'true' && Number(links) > 0 ? performance.now() : false;
    },
    undefined,
    { polling: 'raf', timeout: 60_000 },
  );
  const firstMs = await first.jsonValue();
  await tab.waitForTimeout(4000);
  await tab.evaluate(() => {
    window.frames_ = [];
    let last = performance.now();
    const step = (now) => {
      window.frames_.push(now - last);
      last = now;
      requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  });
  const take = () => tab.evaluate(() => window.frames_.splice(0));
  const drawn = [];
  const sample = async () => {
    const base = Number(await tab.locator('main').getAttribute('data-base-ms'));
    if (base > 0) drawn.push(base);
  };
  const half = Number(seconds) * 500;
  const until = Date.now() + half;
  while (Date.now() < until) {
    await tab.waitForTimeout(500);
    await sample();
  }
  const still = await take();
  await tab.mouse.move(500, 400);
  await tab.mouse.down();
  const end = Date.now() + Number(seconds) * 1000;
  for (let step = 0; Date.now() < end; step++) {
    await tab.mouse.move(500 + 200 * Math.sin(step / 20), 400 + 120 * Math.cos(step / 15));
    await tab.waitForTimeout(12);
  }
  await tab.mouse.up();
  const panning = await take();
  await sample();
  const facts = await tab.locator('main').evaluate((main) => ({
    edges: Number(main.dataset.edges),
    links: Number(main.dataset.links),
    worker_frame_ms: Number(main.dataset.frameMs),
    heap_mb: performance.memory.usedJSHeapSize / 1e6,
  }));
  await browser.close();
  return {
    ...facts,
    first_picture_ms: firstMs,
    frame_still_p50: quantile(still, 0.5),
    frame_still_p95: quantile(still, 0.95),
    frame_pan_p50: quantile(panning, 0.5),
    frame_pan_p95: quantile(panning, 0.95),
    draw_ms_p50: quantile(drawn, 0.5),
  };
}

const assets = join(root, 'dist', 'assets');
const scripts = readdirSync(assets).filter((name) => name.endsWith('.js'));
const js = scripts.reduce(
  (sum, name) => sum + gzipSync(readFileSync(join(assets, name)), { level: 9 }).length,
  0,
);
const shown = await page();
const read = await deltas(8000);
console.log(JSON.stringify({ ...shown, ...read, js_gzip_bytes: js }));
