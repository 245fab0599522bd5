/** Pure: what of a scene is under a point. */
import { type Camera, toWorld } from './camera';
import { distance } from './geometry';
import type { Link, Scene } from './picture';

/** Something of the picture. */
export type Hit =
  | { readonly kind: 'vertex'; readonly id: string }
  | { readonly kind: 'link'; readonly link: Link }
  | { readonly kind: 'tile'; readonly id: string };

/** Finds a pod first, then a link, then a tile. `reach` is in screen pixels. */
export function hit(scene: Scene, camera: Camera, x: number, y: number, reach: number): Hit | null {
  const at = toWorld(camera, x, y);
  const { pods, density } = scene;
  const beside = density.beside ? density.cellWidth - density.pod : 0;
  const slack = Math.max(density.pod / 2 + 1, reach / 2 / camera.zoom);
  for (let i = 0; i < pods.x.length; i++) {
    const dx = at.x - (pods.x[i] ?? 0);
    const dy = at.y - (pods.y[i] ?? 0);
    if (Math.abs(dy) <= slack && dx >= -slack && dx <= slack + beside * 0.8) {
      const id = pods.ids[i];
      if (id !== undefined) return { kind: 'vertex', id };
    }
  }
  let nearest: Link | null = null;
  let best = reach / camera.zoom;
  for (const link of scene.links) {
    const far = distance(link.curve, at) * (link.loss > 0 || link.focus ? 0.6 : 1);
    if (far < best && !link.dim) {
      best = far;
      nearest = link;
    }
  }
  if (nearest !== null) return { kind: 'link', link: nearest };
  for (const tile of scene.tiles) {
    const { rect } = tile;
    if (at.x >= rect.x && at.y >= rect.y && at.x <= rect.x + rect.width && at.y <= rect.y + rect.height)
      return { kind: 'tile', id: tile.id };
  }
  return null;
}
