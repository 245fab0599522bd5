/** Gives the painter its canvases: in a worker where the browser can, else here. */
import fontUrl from '@fontsource-variable/inter/files/inter-latin-wght-normal.woff2?url';
import { type Order, Painter, type Start, type Stats } from './painter';

/** A running painter. */
export interface Stage {
  send(order: Order): void;
  close(): void;
}

/** Starts painting on two stacked canvases. */
export function openStage(
  base: HTMLCanvasElement,
  top: HTMLCanvasElement,
  onStats: (stats: Stats) => void,
): Stage {
  if (typeof Worker === 'undefined' || !('transferControlToOffscreen' in base)) {
    const painter = new Painter(base, top, onStats);
    document.fonts.ready.then(() => painter.refresh());
    return { send: (order) => painter.take(order), close: () => undefined };
  }
  const worker = new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' });
  worker.onmessage = (event: MessageEvent<Stats>) => onStats(event.data);
  const start: Start = {
    kind: 'start',
    base: base.transferControlToOffscreen(),
    top: top.transferControlToOffscreen(),
    font: new URL(fontUrl, document.baseURI).href,
  };
  worker.postMessage(start, [start.base, start.top]);
  return { send: (order) => worker.postMessage(order), close: () => worker.terminate() };
}
