/** Parts of the page that are fetched when they are first shown. */
import { signal } from '@preact/signals';
import type { ComponentChildren } from 'preact';
import { useEffect } from 'preact/hooks';

type Part<P> = (props: P) => ComponentChildren;

/** A part that `load` fetches once; until then nothing stands in its place. */
export function lazy<P extends object>(load: () => Promise<Part<P>>): Part<P> {
  const part = signal<{ readonly Found: Part<P> } | null>(null);
  const failed = signal(false);
  let asked = false;
  return function Lazy(props) {
    useEffect(() => {
      if (asked) return;
      asked = true;
      load().then(
        (Found) => {
          part.value = { Found };
        },
        () => {
          // Asked again when it is shown again.
          asked = false;
          failed.value = true;
        },
      );
    }, []);
    if (part.value !== null) {
      const { Found } = part.value;
      return <Found {...props} />;
    }
    if (!failed.value) return null;
    return (
      <p class="note" role="alert">
        This part of the page could not be fetched. It may be of an older collector: reload the page.
      </p>
    );
  };
}
