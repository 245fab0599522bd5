/**
 * Measures the page against a running collector:
 *
 *   node dev/bench.mjs URL [seconds of panning]    frames while it is panned and deltas come, the worker's drawing, how long a delta
 *                                                  takes from its text to the next graph, the first picture, the size of the scripts
 *   node dev/bench.mjs URL churn SECONDS           the browser's heap while pods come and go, and whether others move for them
 *
 * Prints one JSON object.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { gzipSync } from 'node:zlib';
import { chromium } from 'playwright-core';
import { build } from 'vite';

const [url, what = '10', churnFor = '180'] = process.argv.slice(2);
const root = join(dirname(fileURLToPath(import.meta.url)), '..');

const quantile = (values, share) => {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? null;
};

/** Parts of the page that run here without it. */
const PARTS = ['graph', 'view', 'groups', 'layout'];

/** The page's own reducer and layout, bundled: the same code in the same engine, without the page around it. */
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
        lib: {
          entry: Object.fromEntries(PARTS.map((part) => [part, `src/${part}.ts`])),
          formats: ['es'],
          fileName: '[name]',
        },
        rolldownOptions: { output: { entryFileNames: '[name].mjs', chunkFileNames: '[name].mjs' } },
      },
    });
    const parts = PARTS.map((name) => import(pathToFileURL(join(outDir, `${name}.mjs`)).href));
    return Object.assign({}, ...(await Promise.all(parts)));
  } finally {
    rmSync(outDir, { recursive: true });
  }
}

/** Hands every frame of the stream to `take`, until so much time has passed. */
async function listen(forMs, take) {
  const hangUp = new AbortController();
  const answer = await fetch(`${url}api/v1/stream?view=pod`, { signal: hangUp.signal });
  if (!answer.ok) throw new Error(`the stream answers ${answer.status}: ${await answer.text()}`);
  let text = '';
  let end = Date.now() + 60_000;
  const decoder = new TextDecoder();
  for await (const chunk of answer.body) {
    // A snapshot comes in very many pieces: none is looked through twice.
    let from = Math.max(0, text.length - 1);
    text += decoder.decode(chunk, { stream: true });
    for (let at = text.indexOf('\n\n', from); at >= 0; at = text.indexOf('\n\n')) {
      const block = text.slice(0, at);
      text = text.slice(at + 2);
      from = 0;
      const data = /^data: (.*)$/m.exec(block)?.[1];
      if (data === undefined) continue;
      take(block.includes('event: snapshot'), data);
      // The time runs from the snapshot on, which may take as long itself.
      if (end > Date.now() + forMs) end = Date.now() + forMs;
    }
    if (Date.now() > end) break;
  }
  hangUp.abort();
}

/** Follows the stream for a while with the page's reducer. */
async function deltas(forMs) {
  const { applyDelta, decodeDelta, decodeSnapshot, fromSnapshot } = await reducer();
  const found = { parse: [], apply: [], edges: [], bytes: [], gaps: [] };
  let graph = null;
  let last = 0;
  await listen(forMs, (whole, data) => {
    if (whole) graph = fromSnapshot(graph, decodeSnapshot(JSON.parse(data)));
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
  });
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

/** How far pods that were there moved because others came or went, by the page's own layout of the stream. */
async function moves(forMs) {
  const { applyDelta, arrange, decodeDelta, decodeSnapshot, fromSnapshot, groupsOf, slotRect } =
    await reducer();
  let graph = null;
  let layout = null;
  let places = new Map();
  const found = { moved_px: 0, moved_pods: 0, pods_came: 0, pods_went: 0 };
  await listen(forMs, (whole, data) => {
    const before = graph;
    if (whole) graph = fromSnapshot(graph, decodeSnapshot(JSON.parse(data)));
    else {
      const step = applyDelta(graph, decodeDelta(JSON.parse(data)));
      if (step.kind !== 'applied') throw new Error(step.why);
      graph = step.graph;
    }
    if (before?.vertices === graph.vertices) return;
    layout = arrange(layout, groupsOf(graph, 'namespace'), { width: 1052, height: 692 });
    const now = new Map();
    for (const tile of layout.tiles.values())
      tile.slots.forEach(({ pod }, slot) => {
        if (pod !== null) now.set(pod, slotRect(layout, tile, slot));
      });
    for (const [id, { x, y }] of now) {
      const was = places.get(id);
      if (was === undefined) {
        // All of the first picture were there before.
        if (places.size > 0) found.pods_came += 1;
        continue;
      }
      const far = Math.hypot(x - was.x, y - was.y);
      found.moved_px = Math.max(found.moved_px, far);
      if (far > 0) found.moved_pods += 1;
    }
    for (const id of places.keys()) if (!now.has(id)) found.pods_went += 1;
    places = now;
  });
  // Where nobody came nothing is known of who moves.
  return found.pods_came === 0 ? { ...found, moved_px: null } : found;
}

/** Opens the page in a fresh browser. */
async function open() {
  const browser = await chromium.launch({
    executablePath: process.env.ORRERY_CHROMIUM ?? '/usr/bin/chromium',
    args: '--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync --enable-precise-memory-info'.split(
      ' ',
    ),
  });
  const tab = await browser.newPage({ viewport: { width: 1440, height: 900 } });
  const scripts = new Set();
  tab.on('request', (request) => {
    const name = /assets\/([^/?]+\.js)/.exec(request.url())?.[1];
    if (name !== undefined) scripts.add(name);
  });
  await tab.goto(url);
  const first = await tab.waitForFunction(
    () => {
      const { connected, links } = document.querySelector('main')?.dataset ?? {};
      return connected === 'true' && Number(links) > 0 ? performance.now() : false;
    },
    undefined,
    { polling: 'raf', timeout: 60_000 },
  );
  return { browser, tab, scripts, firstMs: await first.jsonValue() };
}

/** The page's heap, what is garbage taken out, every few seconds. */
async function heap(forMs) {
  const { browser, tab } = await open();
  const session = await tab.context().newCDPSession(tab);
  const readings = [];
  const end = Date.now() + forMs;
  await tab.waitForTimeout(10_000);
  while (Date.now() < end) {
    await session.send('HeapProfiler.collectGarbage');
    const edges = Number(await tab.locator('main').getAttribute('data-edges'));
    const { usedSize } = await session.send('Runtime.getHeapUsage');
    readings.push({ mb: usedSize / 1e6, edges, each: usedSize / edges });
    await tab.waitForTimeout(5000);
  }
  await browser.close();
  const quarter = Math.max(1, readings.length >> 2);
  const middle = (of, from, to) =>
    quantile(
      readings.slice(from, to).map((reading) => reading[of]),
      0.5,
    );
  const early = (of) => middle(of, quarter, 2 * quarter);
  const late = (of) => middle(of, -quarter);
  return {
    heap_early_mb: early('mb'),
    heap_late_mb: late('mb'),
    // Pods that went stay for minutes with their links, so the picture itself grows at first.
    edges_early: early('edges'),
    edges_late: late('edges'),
    heap_growth: late('each') / early('each'),
    heap_readings: readings.length,
  };
}

async function page() {
  const { browser, tab, scripts, firstMs } = await open();
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
  const half = Number(what) * 500;
  const until = Date.now() + half;
  while (Date.now() < until) {
    await tab.waitForTimeout(500);
    await sample();
  }
  const still = await take();
  await tab.mouse.move(500, 400);
  await tab.mouse.down();
  const end = Date.now() + Number(what) * 1000;
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
    // What opening the page fetches; parts that are fetched when they are shown count beside it.
    js_gzip_bytes: packed((name) => scripts.has(name) || name.startsWith('worker')),
    js_all_gzip_bytes: packed(() => true),
    frame_still_p50: quantile(still, 0.5),
    frame_still_p95: quantile(still, 0.95),
    frame_pan_p50: quantile(panning, 0.5),
    frame_pan_p95: quantile(panning, 0.95),
    draw_ms_p50: quantile(drawn, 0.5),
  };
}

/** What the scripts weigh that are picked by their names. */
function packed(pick) {
  const assets = join(root, 'dist', 'assets');
  const scripts = readdirSync(assets).filter((name) => name.endsWith('.js') && pick(name));
  return scripts.reduce(
    (sum, name) => sum + gzipSync(readFileSync(join(assets, name)), { level: 9 }).length,
    0,
  );
}

if (what === 'churn') {
  const forMs = Number(churnFor) * 1000;
  const [held, moved] = [await heap(forMs), await moves(Math.min(forMs, 20_000))];
  console.log(JSON.stringify({ ...held, ...moved }));
} else {
  const shown = await page();
  console.log(JSON.stringify({ ...shown, ...(await deltas(8000)) }));
}
