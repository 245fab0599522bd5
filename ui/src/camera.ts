/** Pure camera: what part of the world the screen shows. */
import type { Rect } from './layout';

/** Screen = world × zoom + offset. */
export interface Camera {
  readonly zoom: number;
  readonly x: number;
  readonly y: number;
}

/** The drawing area, in CSS pixels. */
export interface Size {
  readonly width: number;
  readonly height: number;
}

/** Limits of zooming. */
export const MIN_ZOOM = 0.05;
/** Limits of zooming. */
export const MAX_ZOOM = 12;

/** Room left around what is fitted; the legend sits at the bottom. */
export interface Margin {
  readonly top: number;
  readonly side: number;
  readonly bottom: number;
}

/** The camera that shows all of `area`. */
export function fit(area: Rect, size: Size, margin: Margin, maxZoom: number): Camera {
  const width = Math.max(size.width - margin.side * 2, 40);
  const height = Math.max(size.height - margin.top - margin.bottom, 40);
  const zoom = clamp(
    Math.min(width / Math.max(area.width, 1), height / Math.max(area.height, 1)),
    MIN_ZOOM,
    maxZoom,
  );
  return {
    zoom,
    x: margin.side + (width - area.width * zoom) / 2 - area.x * zoom,
    y: margin.top + (height - area.height * zoom) / 2 - area.y * zoom,
  };
}

/** Zooms by a factor, keeping what is under the point there. */
export function zoomAt(camera: Camera, x: number, y: number, factor: number): Camera {
  const zoom = clamp(camera.zoom * factor, MIN_ZOOM, MAX_ZOOM);
  const scale = zoom / camera.zoom;
  return { zoom, x: x - (x - camera.x) * scale, y: y - (y - camera.y) * scale };
}

/** Moves the picture. */
export function pan(camera: Camera, dx: number, dy: number): Camera {
  return { ...camera, x: camera.x + dx, y: camera.y + dy };
}

/** A screen point in the world. */
export function toWorld(camera: Camera, x: number, y: number): { x: number; y: number } {
  return { x: (x - camera.x) / camera.zoom, y: (y - camera.y) / camera.zoom };
}

/** A point between two cameras, for a short glide. */
export function between(from: Camera, to: Camera, t: number): Camera {
  const ease = 1 - (1 - t) ** 3;
  const zoom = from.zoom * (to.zoom / from.zoom) ** ease;
  // Zooming geometrically around a fixed point keeps the glide straight on the screen.
  const share = Math.abs(to.zoom - from.zoom) < 1e-6 ? ease : (zoom - from.zoom) / (to.zoom - from.zoom);
  return { zoom, x: from.x + (to.x - from.x) * share, y: from.y + (to.y - from.y) * share };
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(high, Math.max(low, value));
}
