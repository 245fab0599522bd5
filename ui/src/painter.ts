/**
 * Owns both canvases and their clock. Runs in a worker where there is one, else on the page; both talk to it in
 * the same messages.
 */
import type { Camera, Size } from './camera';
import { paintMarks } from './marks';
import { type Drawn, type Palette, paintBase, project } from './paint';
import { Particles } from './particles';
import type { Context } from './pen';
import type { Drawable } from './picture';

/** A canvas of either kind. */
export type Surface = OffscreenCanvas | HTMLCanvasElement;

/** What the page tells the painter. */
export type Order =
  | {
      readonly kind: 'scene';
      readonly scene: Drawable;
      /** Where its pods were in another grouping's map, x and y by turns; they glide from there. */
      readonly from?: Float32Array | undefined;
    }
  | { readonly kind: 'camera'; readonly camera: Camera }
  | { readonly kind: 'size'; readonly size: Size; readonly ratio: number }
  | { readonly kind: 'palette'; readonly palette: Palette }
  | { readonly kind: 'motion'; readonly moving: boolean; readonly reduced: boolean };

/** First message to a worker: its canvases. */
export interface Start {
  readonly kind: 'start';
  readonly base: OffscreenCanvas;
  readonly top: OffscreenCanvas;
  readonly font: string;
}

/** What the painter tells the page, about once a second. */
export interface Stats {
  readonly kind: 'stats';
  /** Median milliseconds between frames. */
  readonly frameMs: number;
  /** Time the last base layer took. */
  readonly baseMs: number;
}

/** A base layer dearer than this is not redrawn in every frame of a moving camera. */
const DEAR_MS = 11;
/** What ends and what begins to be drawn change over into each other in this time. */
const CHANGE_MS = 320;
/** After this long without movement the base layer is drawn in full again. */
const REST_MS = 90;

/** A picture that goes. */
interface Fading {
  readonly copy: Surface;
  readonly camera: Camera;
  readonly since: number;
}

/** Draws scenes on two canvases. */
export class Painter {
  private readonly base: Context;
  private readonly top: Context;
  private readonly particles = new Particles();
  private scene: Drawable | null = null;
  private camera: Camera = { zoom: 1, x: 0, y: 0 };
  private painted: Camera = this.camera;
  /** What the base canvas shows now, painted or slid there. */
  private slid: Camera = this.camera;
  private copy: Surface | null = null;
  private fading: Fading | null = null;
  private gliding: { readonly from: Float32Array; readonly since: number } | null = null;
  private size: Size = { width: 0, height: 0 };
  private ratio = 1;
  private palette: Palette | null = null;
  private drawn: readonly Drawn[] = [];
  private moving = true;
  private reduced = false;
  private stale = true;
  private blit = false;
  private movedAt = 0;
  private last = 0;
  private baseMs = 0;
  private frames: number[] = [];
  private requested = false;

  constructor(
    private readonly baseCanvas: Surface,
    private readonly topCanvas: Surface,
    private readonly report: (stats: Stats) => void,
  ) {
    this.base = context(baseCanvas);
    this.top = context(topCanvas);
  }

  /** Takes one order; drawing happens in the next frame. */
  take(order: Order): void {
    if (order.kind === 'scene') this.takeScene(order.scene, order.from);
    else if (order.kind === 'palette') this.palette = order.palette;
    else if (order.kind === 'motion') {
      this.moving = order.moving;
      this.reduced = order.reduced;
    } else if (order.kind === 'size') {
      this.size = order.size;
      this.ratio = order.ratio;
      for (const canvas of [this.baseCanvas, this.topCanvas]) {
        canvas.width = Math.max(1, Math.round(order.size.width * order.ratio));
        canvas.height = Math.max(1, Math.round(order.size.height * order.ratio));
      }
      this.copy = null;
      this.fading = null;
    } else {
      this.camera = order.camera;
      this.movedAt = performance.now();
      this.blit = this.baseMs > DEAR_MS && this.copy !== null;
    }
    if (order.kind !== 'camera' || !this.blit) this.stale = true;
    this.request();
  }

  private takeScene(scene: Drawable, from: Float32Array | undefined): void {
    const now = performance.now();
    const before = this.scene;
    this.scene = scene;
    if (before === null || this.reduced) return;
    if (from !== undefined) this.gliding = { from, since: now };
    // Links that lead elsewhere now: the old picture fades out over the new one.
    else if (before.level !== scene.level && this.gliding === null) this.fade(now);
  }

  private fade(now: number): void {
    if (typeof OffscreenCanvas === 'undefined') return;
    const { width, height } = this.baseCanvas;
    const copy = new OffscreenCanvas(width, height);
    context(copy).drawImage(this.baseCanvas, 0, 0);
    this.fading = { copy, camera: this.slid, since: now };
    this.blit = false;
  }

  /** Draws again, for instance once a font has come. */
  refresh(): void {
    this.stale = true;
    this.request();
  }

  private request(): void {
    if (this.requested) return;
    this.requested = true;
    requestAnimationFrame((now) => this.frame(now));
  }

  private frame(now: number): void {
    this.requested = false;
    const { palette, scene } = this;
    if (palette === null || scene === null || this.size.width === 0) return;
    const elapsed = this.last === 0 ? 0 : Math.min(now - this.last, 100);
    this.measureFrame(now);
    this.last = now;
    const view = { camera: this.camera, size: this.size, palette };
    if (this.blit && now - this.movedAt > REST_MS) {
      this.blit = false;
      this.stale = true;
    }
    if (this.blit) {
      this.slide();
      this.drawn = project(scene, view);
    } else if (this.stale || this.gliding !== null) {
      const start = performance.now();
      const picture = this.glided(scene, start);
      this.drawn = project(picture, view);
      this.base.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
      paintBase(this.base, picture, this.drawn, view);
      this.baseMs = performance.now() - start;
      this.painted = this.camera;
      this.slid = this.camera;
      this.stale = false;
      if (this.baseMs > DEAR_MS) this.keep();
    }
    const still = this.reduced || !this.moving;
    this.particles.advance(this.drawn, still ? 0 : elapsed);
    this.top.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    this.top.clearRect(0, 0, this.size.width, this.size.height);
    this.particles.paint(this.top, this.drawn, palette);
    paintMarks(this.top, scene, this.drawn, view);
    this.paintFading(performance.now());
    const changing = this.fading !== null || this.gliding !== null;
    if (changing || (this.moving && (!this.reduced || this.blit))) this.request();
  }

  /** The scene on its way from another grouping: pods between their places, all else not yet. */
  private glided(scene: Drawable, now: number): Drawable {
    if (this.gliding === null) return scene;
    const { from, since } = this.gliding;
    const t = (now - since) / CHANGE_MS;
    if (t >= 1) {
      this.gliding = null;
      return scene;
    }
    const ease = 1 - (1 - t) ** 3;
    const between = (to: Float32Array, offset: number) =>
      to.map((end, index) => {
        const start = from[index * 2 + offset] ?? Number.NaN;
        return Number.isNaN(start) ? end : start + (end - start) * ease;
      });
    const { pods } = scene;
    return {
      ...scene,
      links: [],
      areas: [],
      pods: { ...pods, x: between(pods.x, 0), y: between(pods.y, 1) },
    };
  }

  private paintFading(now: number): void {
    if (this.fading === null) return;
    const { copy, camera, since } = this.fading;
    const left = 1 - (now - since) / CHANGE_MS;
    if (left <= 0) {
      this.fading = null;
      return;
    }
    this.top.globalAlpha = left;
    this.shifted(this.top, camera);
    this.top.drawImage(copy, 0, 0);
    this.top.globalAlpha = 1;
  }

  /** Lays what was painted for one camera where the present one has it. */
  private shifted(ctx: Context, painted: Camera): void {
    const scale = this.camera.zoom / painted.zoom;
    const x = (this.camera.x - painted.x * scale) * this.ratio;
    const y = (this.camera.y - painted.y * scale) * this.ratio;
    ctx.setTransform(scale, 0, 0, scale, x, y);
  }

  /** Keeps a copy of the base layer to slide while the camera moves. */
  private keep(): void {
    if (typeof OffscreenCanvas === 'undefined') return;
    const { width, height } = this.baseCanvas;
    if (this.copy === null) this.copy = new OffscreenCanvas(width, height);
    const ctx = context(this.copy);
    ctx.setTransform(1, 0, 0, 1, 0, 0);
    ctx.clearRect(0, 0, width, height);
    ctx.drawImage(this.baseCanvas, 0, 0);
  }

  private slide(): void {
    if (this.copy === null) return;
    this.base.setTransform(1, 0, 0, 1, 0, 0);
    this.base.clearRect(0, 0, this.baseCanvas.width, this.baseCanvas.height);
    this.shifted(this.base, this.painted);
    this.base.drawImage(this.copy, 0, 0);
    this.slid = this.camera;
  }

  private measureFrame(now: number): void {
    if (this.last === 0) return;
    this.frames.push(now - this.last);
    if (this.frames.length < 60) return;
    const sorted = this.frames.sort((a, b) => a - b);
    this.report({ kind: 'stats', frameMs: sorted[30] ?? 0, baseMs: this.baseMs });
    this.frames = [];
  }
}

function context(canvas: Surface): Context {
  const found = canvas.getContext('2d') as Context | null;
  if (found === null) throw new Error('no 2D canvas');
  return found;
}
