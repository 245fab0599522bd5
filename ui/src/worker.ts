/** The painter in a worker: canvases come once, then orders. */
import { type Order, Painter, type Start, type Stats } from './painter';

/** Longest wait for the font. */
const FONT_MS = 1500;

let painter: Painter | null = null;
const early: Order[] = [];

self.onmessage = (event: MessageEvent<Start | Order>) => {
  const message = event.data;
  if (message.kind !== 'start') {
    if (painter === null) early.push(message);
    else painter.take(message);
    return;
  }
  const started = new Painter(message.base, message.top, (stats: Stats) => self.postMessage(stats));
  // The page's fonts are not the worker's.
  const fonts = (self as unknown as { fonts?: FontFaceSet }).fonts;
  if (fonts !== undefined) {
    const face = new FontFace('Inter', `url(${message.font})`, {
      weight: '100 900',
      // Contextual forms would show the x in 3x3 as a times sign; names are shown as they are.
      featureSettings: '"calt" 0',
    });
    fonts.add(face);
    // Text drawn before the font is there would keep its stand-in: the first picture waits a little for it.
    const ready = () => {
      painter = started;
      for (const order of early.splice(0)) started.take(order);
      started.refresh();
    };
    Promise.race([face.load(), new Promise((done) => setTimeout(done, FONT_MS))]).then(ready, ready);
  } else painter = started;
};
