/** The painter in a worker: canvases come once, then orders. */
import { type Order, Painter, type Start, type Stats } from './painter';

let painter: Painter | null = null;

self.onmessage = (event: MessageEvent<Start | Order>) => {
  const message = event.data;
  if (message.kind !== 'start') {
    painter?.take(message);
    return;
  }
  const started = new Painter(message.base, message.top, (stats: Stats) => self.postMessage(stats));
  painter = started;
  // The page's fonts are not the worker's.
  const fonts = (self as unknown as { fonts?: FontFaceSet }).fonts;
  if (fonts !== undefined) {
    const face = new FontFace('Inter', `url(${message.font})`, { weight: '100 900' });
    fonts.add(face);
    face.load().then(
      () => started.refresh(),
      () => started.refresh(),
    );
  }
};
