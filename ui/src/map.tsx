/** The map: two canvases, the camera, what is under the pointer, the legend. The table is its accessible twin. */
import { effect, untracked, useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { between, type Camera, zoomAt } from './camera';
import { rate, service } from './format';
import type { Grouping } from './groups';
import { FitIcon, MinusIcon, PlusIcon, TidyIcon } from './icons';
import { Legend } from './legend';
import { hit } from './pick';
import { drawable, type Link, type Scene } from './picture';
import { listen } from './pointer';
import { endName } from './scene';
import { openStage, type Stage } from './stage';
import * as store from './store';
import { readPalette } from './theme';

/** How long the camera glides to a new fit. */
const GLIDE_MS = 420;

function take(camera: Camera): void {
  store.cameraTaken.value = true;
  store.camera.value = camera;
}

function giveBack(): void {
  store.cameraTaken.value = false;
  const target = store.fitted();
  if (target !== null) glide(target);
}

let gliding = 0;
function glide(target: Camera): void {
  const from = store.camera.peek();
  gliding += 1;
  const mine = gliding;
  const apart =
    Math.abs(from.x - target.x) + Math.abs(from.y - target.y) + Math.abs(from.zoom - target.zoom) * 100;
  if (apart < 0.5) return;
  if (store.reducedMotion.peek() || (from.zoom === 1 && from.x === 0 && from.y === 0)) {
    store.camera.value = target;
    return;
  }
  const start = performance.now();
  const step = (now: number) => {
    if (mine !== gliding) return;
    const t = Math.min(1, (now - start) / GLIDE_MS);
    store.camera.value = between(from, target, t);
    if (t < 1) requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
}

/** Follows topology with the camera until the user takes it; a selected edge from the address is framed. */
function useAutoFit() {
  useEffect(() => {
    // Only what the address asks for is framed; picking by hand leaves the camera alone.
    let toFrame = store.selection.peek()?.kind === 'edge';
    return effect(() => {
      if (store.layout.value === null || store.mapSize.value.width === 0) return;
      if (store.cameraTaken.value) {
        toFrame = false;
        gliding += 1;
        return;
      }
      const picked = untracked(() => store.selection.value);
      const shown = untracked(() => store.scene.value);
      if (toFrame && picked?.kind === 'edge' && shown !== null) {
        const link = shown.links.find((one) => one.focus);
        if (link !== undefined) {
          toFrame = false;
          store.cameraTaken.value = true;
          const { a, b } = link.curve;
          const area = {
            x: Math.min(a.x, b.x),
            y: Math.min(a.y, b.y),
            width: Math.abs(a.x - b.x),
            height: Math.abs(a.y - b.y),
          };
          store.camera.value = store.framed(area);
          return;
        }
      }
      const target = store.fitted();
      if (target !== null) untracked(() => glide(target));
    });
  }, []);
}

function selectLink(link: Link): void {
  const [only] = link.edges;
  if (link.edges.length === 1 && only !== undefined) store.select({ kind: 'edge', id: only });
  else store.select({ kind: 'link', from: link.from, to: link.to });
}

function pickAt(x: number, y: number): void {
  const scene = store.scene.peek();
  if (scene === null) return;
  const found = hit(scene, store.camera.peek(), x, y, store.narrow.peek() ? 14 : 7);
  if (found === null) store.select(null);
  else if (found.kind === 'vertex') store.select({ kind: 'vertex', id: found.id });
  else if (found.kind === 'link') selectLink(found.link);
  else if (store.grouping.peek() === 'node' && store.graph.peek()?.nodes.has(found.id))
    store.select({ kind: 'node', id: found.id });
  else store.select({ kind: 'group', id: found.id });
}

interface Tip {
  x: number;
  y: number;
  text: string;
  more: string;
}

function tipAt(x: number, y: number): Tip | null {
  const scene = store.scene.peek();
  const graph = store.graph.peek();
  if (scene === null || graph === null) return null;
  const found = hit(scene, store.camera.peek(), x, y, 7);
  if (found === null || found.kind === 'tile') return null;
  if (found.kind === 'vertex') {
    const vertex = graph.vertices.get(found.id);
    if (vertex === undefined) return null;
    return { x, y, text: vertex.name, more: [vertex.namespace, vertex.node].filter(Boolean).join(' · ') };
  }
  const { link } = found;
  const by = store.grouping.peek();
  const only = link.edges.length === 1 ? graph.edges.get(link.edges[0] ?? '') : undefined;
  const what = only === undefined ? `${link.edges.length} links` : service(only);
  return {
    x,
    y,
    text: `${endName(link.from, graph, by)} → ${endName(link.to, graph, by)}`,
    more: `${what} · ${rate(link.rate)} packets/s`,
  };
}

/** Which part of the screen the selected link covers, for those who measure it. */
function focusPath(): string | undefined {
  const link = store.scene.value?.links.find((one) => one.focus);
  if (link === undefined) return undefined;
  const { zoom, x, y } = store.camera.value;
  return [link.curve.a, link.curve.control, link.curve.b]
    .map((point) => `${(point.x * zoom + x).toFixed(1)},${(point.y * zoom + y).toFixed(1)}`)
    .join(' ');
}

/** The map and what lies on it. */
export function MapView() {
  const area = useRef<HTMLDivElement>(null);
  const base = useRef<HTMLCanvasElement>(null);
  const top = useRef<HTMLCanvasElement>(null);
  const tip = useSignal<Tip | null>(null);
  useAutoFit();
  useEffect(() => {
    if (area.current === null || base.current === null || top.current === null) return;
    const element = area.current;
    const stage = openStage(base.current, top.current, (stats) => {
      store.frameStats.value = stats;
    });
    const stops = [
      ...orders(stage),
      listen(element, {
        camera: () => store.camera.peek(),
        move: take,
        fit: giveBack,
        pick: pickAt,
        hover: (x, y) => {
          tip.value = tipAt(x, y);
          element.classList.toggle('pointing', tip.value !== null);
        },
        leave: () => {
          tip.value = null;
        },
      }),
      watchSize(element, stage),
      () => stage.close(),
    ];
    return () => {
      for (const stop of stops) stop();
    };
  }, [tip]);
  return (
    <div class="map" data-testid="map" data-focus-path={focusPath()}>
      <div
        ref={area}
        class="canvas-area"
        tabIndex={0}
        role="group"
        aria-label={MAP_LABEL}
        data-testid="map-area"
      >
        <canvas ref={base} aria-hidden="true" />
        <canvas ref={top} aria-hidden="true" />
      </div>
      {tip.value !== null && (
        <div
          class="tip"
          style={{ left: `${tip.value.x + 14}px`, top: `${tip.value.y + 14}px` }}
          aria-hidden="true"
        >
          <b>{tip.value.text}</b>
          <span>{tip.value.more}</span>
        </div>
      )}
      {(!store.narrow.value || store.cameraTaken.value) && (
        <div class="zoom">
          {!store.narrow.value && (
            <>
              <button type="button" aria-label="Zoom in" onClick={() => zoomBy(1.35)}>
                <PlusIcon />
              </button>
              <button type="button" aria-label="Zoom out" onClick={() => zoomBy(1 / 1.35)}>
                <MinusIcon />
              </button>
            </>
          )}
          {!store.narrow.value && (
            <button
              type="button"
              data-testid="tidy"
              aria-label="Tidy the map"
              title="Tidy: lay the map out anew. Nothing else moves what is there."
              onClick={store.tidy}
            >
              <TidyIcon />
            </button>
          )}
          {store.cameraTaken.value && (
            <button
              type="button"
              data-testid="fit"
              aria-label="Fit the map"
              title="Fit the map"
              onClick={giveBack}
            >
              <FitIcon />
            </button>
          )}
        </div>
      )}
      {!store.narrow.value && <Legend />}
    </div>
  );
}

const MAP_LABEL =
  'Map of the cluster. Arrow keys pan, plus and minus zoom, zero fits. The table of links holds the same.';

function zoomBy(factor: number): void {
  const { width, height } = store.mapSize.peek();
  take(zoomAt(store.camera.peek(), width / 2, height / 2, factor));
}

/** Keeps the painter in step with the store. */
function orders(stage: Stage): (() => void)[] {
  let before: { scene: Scene; grouping: Grouping } | null = null;
  return [
    effect(() => {
      const scene = store.scene.value;
      if (scene === null) return;
      const grouping = store.grouping.value;
      const from = before !== null && before.grouping !== grouping ? places(before.scene, scene) : undefined;
      stage.send({ kind: 'scene', scene: drawable(scene), from });
      before = { scene, grouping };
    }),
    effect(() => stage.send({ kind: 'camera', camera: store.camera.value })),
    effect(() => stage.send({ kind: 'palette', palette: readPalette(store.theme.value) })),
    effect(() =>
      stage.send({
        kind: 'motion',
        // What is not live does not move.
        moving: !store.pageHidden.value && store.connection.value.kind === 'live',
        reduced: store.reducedMotion.value,
      }),
    ),
  ];
}

/** Where the pods of a picture were in another one; not a number for those that were not. */
function places(before: Scene, { pods }: Scene): Float32Array {
  const index = new Map(before.pods.ids.map((id, at) => [id, at]));
  const from = new Float32Array(pods.ids.length * 2).fill(Number.NaN);
  pods.ids.forEach((id, at) => {
    const was = index.get(id);
    if (was === undefined) return;
    from[at * 2] = before.pods.x[was] ?? Number.NaN;
    from[at * 2 + 1] = before.pods.y[was] ?? Number.NaN;
  });
  return from;
}

function watchSize(element: HTMLElement, stage: Stage): () => void {
  const tell = () => {
    const size = { width: element.clientWidth, height: element.clientHeight };
    stage.send({ kind: 'size', size, ratio: window.devicePixelRatio || 1 });
    const before = store.mapSize.peek();
    if (before.width !== size.width || before.height !== size.height) store.mapSize.value = size;
  };
  const observer = new ResizeObserver(tell);
  observer.observe(element);
  tell();
  return () => observer.disconnect();
}
