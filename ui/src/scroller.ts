/** Long tables of which only the rows near the view are in the page; the arrow keys walk through all of them. */
import { type Signal, useSignal } from '@preact/signals';
import type { RefObject } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import { visibleRows } from './rows';

/** What a table needs to scroll. */
export interface Scroller {
  readonly box: RefObject<HTMLDivElement | null>;
  /** The rows in the page. */
  readonly window: (total: number, rowHeight: number) => { first: number; end: number; reachable: number };
  readonly move: (event: KeyboardEvent, total: number, rowHeight: number) => void;
}

/** A table's own scrolling. */
export function useScroller(): Scroller {
  const view = useSignal({ top: 0, height: 600 });
  const active: Signal<number> = useSignal(0);
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const element = box.current;
    if (element === null) return;
    const tell = () => {
      view.value = { top: element.scrollTop, height: element.clientHeight };
    };
    const observer = new ResizeObserver(tell);
    observer.observe(element);
    element.addEventListener('scroll', tell, { passive: true });
    return () => {
      observer.disconnect();
      element.removeEventListener('scroll', tell);
    };
  }, [view]);
  return {
    box,
    window: (total, rowHeight) => {
      const { first, end } = visibleRows(total, view.value.top, view.value.height, rowHeight);
      return { first, end, reachable: Math.min(Math.max(active.value, first), Math.max(first, end - 1)) };
    },
    move: (event, total, rowHeight) => {
      const step = event.key === 'ArrowDown' ? 1 : event.key === 'ArrowUp' ? -1 : 0;
      const element = box.current;
      if (step === 0 || element === null || !(event.target as HTMLElement).matches('tr')) return;
      event.preventDefault();
      active.value = Math.max(0, Math.min(total - 1, active.value + step));
      const top = active.value * rowHeight;
      if (top < element.scrollTop) element.scrollTop = top;
      else if (top + rowHeight * 2.2 > element.scrollTop + element.clientHeight)
        element.scrollTop = top + rowHeight * 2.2 - element.clientHeight;
      requestAnimationFrame(() =>
        element.querySelector<HTMLElement>(`tr[aria-rowindex="${active.value + 2}"]`)?.focus(),
      );
    },
  };
}
