/** Turns pointers, wheel and keys into camera moves and picks. Knows nothing of what is shown. */
import { type Camera, pan, zoomAt } from './camera';

/** What gestures act on. */
export interface Hands {
  readonly camera: () => Camera;
  readonly move: (camera: Camera) => void;
  readonly fit: () => void;
  readonly pick: (x: number, y: number) => void;
  readonly hover: (x: number, y: number) => void;
  readonly leave: () => void;
}

/** Movement in pixels below which a press is a click. */
const STILL = 5;
/** Two taps within this time and distance are a double tap. */
const DOUBLE_MS = 300;
const KEY_PAN = 60;
const KEY_ZOOM = 1.25;

/** Listens on an element; returns how to stop. */
export function listen(element: HTMLElement, hands: Hands): () => void {
  const down = new Map<number, { x: number; y: number }>();
  let travelled = 0;
  let tap = { at: 0, x: 0, y: 0 };
  const local = (event: MouseEvent) => {
    const box = element.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };

  const onDown = (event: PointerEvent) => {
    if (event.button !== 0) return;
    if (down.size === 0) travelled = 0;
    down.set(event.pointerId, local(event));
    element.setPointerCapture(event.pointerId);
  };
  const onMove = (event: PointerEvent) => {
    const at = local(event);
    const from = down.get(event.pointerId);
    if (from === undefined) {
      if (event.pointerType === 'mouse') hands.hover(at.x, at.y);
      return;
    }
    travelled += Math.hypot(at.x - from.x, at.y - from.y);
    const other = [...down].find(([id]) => id !== event.pointerId)?.[1];
    down.set(event.pointerId, at);
    if (travelled < STILL) return;
    hands.leave();
    if (other === undefined) hands.move(pan(hands.camera(), at.x - from.x, at.y - from.y));
    else {
      const before = Math.hypot(from.x - other.x, from.y - other.y);
      const after = Math.hypot(at.x - other.x, at.y - other.y);
      const x = (at.x + other.x) / 2;
      const y = (at.y + other.y) / 2;
      const moved = pan(hands.camera(), (at.x - from.x) / 2, (at.y - from.y) / 2);
      hands.move(before > 0 ? zoomAt(moved, x, y, after / before) : moved);
    }
  };
  const onUp = (event: PointerEvent) => {
    const at = local(event);
    const was = down.delete(event.pointerId);
    if (!was || travelled >= STILL || down.size > 0) return;
    const again = event.timeStamp - tap.at < DOUBLE_MS && Math.hypot(at.x - tap.x, at.y - tap.y) < 24;
    tap = again ? { at: 0, x: 0, y: 0 } : { at: event.timeStamp, ...at };
    if (again) hands.move(zoomAt(hands.camera(), at.x, at.y, 1.8));
    else hands.pick(at.x, at.y);
  };
  const onCancel = (event: PointerEvent) => down.delete(event.pointerId);
  const onWheel = (event: WheelEvent) => {
    event.preventDefault();
    const at = local(event);
    const lines = event.deltaMode === 1 ? 16 : 1;
    const factor = Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.0016));
    hands.move(zoomAt(hands.camera(), at.x, at.y, factor));
  };
  const onKey = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target !== element) return;
    const x = element.clientWidth / 2;
    const y = element.clientHeight / 2;
    const moves: Record<string, () => void> = {
      '+': () => hands.move(zoomAt(hands.camera(), x, y, KEY_ZOOM)),
      '=': () => hands.move(zoomAt(hands.camera(), x, y, KEY_ZOOM)),
      '-': () => hands.move(zoomAt(hands.camera(), x, y, 1 / KEY_ZOOM)),
      '0': hands.fit,
      ArrowLeft: () => hands.move(pan(hands.camera(), KEY_PAN, 0)),
      ArrowRight: () => hands.move(pan(hands.camera(), -KEY_PAN, 0)),
      ArrowUp: () => hands.move(pan(hands.camera(), 0, KEY_PAN)),
      ArrowDown: () => hands.move(pan(hands.camera(), 0, -KEY_PAN)),
    };
    const move = moves[event.key];
    if (move === undefined) return;
    event.preventDefault();
    move();
  };
  const stop = new AbortController();
  const options = { signal: stop.signal };
  element.addEventListener('pointerdown', onDown, options);
  element.addEventListener('pointermove', onMove, options);
  element.addEventListener('pointerup', onUp, options);
  element.addEventListener('pointercancel', onCancel, options);
  element.addEventListener('pointerleave', hands.leave, options);
  element.addEventListener('wheel', onWheel, { ...options, passive: false });
  element.addEventListener('keydown', onKey, options);
  return () => stop.abort();
}
