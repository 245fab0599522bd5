/** The search box: a filter in the collector's language, with suggestions and its errors in place. */
import { useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { noiseCount, noiseWords } from './empty';
import { count } from './format';
import { SearchIcon } from './icons';
import * as store from './store';
import { complete, learn, type Suggestion, suggest, tokenAt } from './suggest';

/** Words are learned this often while suggestions are open. */
const LEARN_MS = 1500;

function useSlash(input: preact.RefObject<HTMLInputElement | null>) {
  useEffect(() => {
    const focus = (event: KeyboardEvent) => {
      const target = event.target as HTMLElement;
      if (event.key !== '/' || target.matches('input, select, textarea')) return;
      event.preventDefault();
      input.current?.focus();
    };
    document.addEventListener('keydown', focus);
    return () => document.removeEventListener('keydown', focus);
  }, [input]);
}

/** Learns words while the box is in use: what it shows may still be on its way. */
function useWords(open: boolean) {
  useEffect(() => {
    if (!open) return;
    const take = () => {
      const graph = store.graph.peek();
      if (graph !== null) store.words.value = learn(store.words.peek(), graph);
    };
    take();
    const timer = setInterval(take, LEARN_MS);
    return () => clearInterval(timer);
  }, [open]);
}

/** How many links pass, of how many. */
function Hits() {
  const graph = store.graph.value;
  if (graph === null || store.shown.value.filter === '') return <kbd>/</kbd>;
  return (
    <span class="hits" data-testid="hits" role="status">
      {count(graph.edges.size)} found
    </span>
  );
}

function Options({
  items,
  active,
  onPick,
}: {
  items: readonly Suggestion[];
  active: number;
  onPick: (item: Suggestion) => void;
}) {
  return (
    <div
      class="suggestions"
      role="listbox"
      id="suggestions"
      aria-label="Completions"
      data-testid="suggestions"
    >
      {items.map((item, index) => (
        <div
          key={item.text}
          role="option"
          id={`suggestion-${index}`}
          tabIndex={-1}
          aria-selected={index === active}
          class="suggestion"
          data-testid="suggestion"
          // The box must keep the caret.
          onPointerDown={(event) => {
            event.preventDefault();
            onPick(item);
          }}
        >
          <b>{item.text}</b>
          <span>{item.what}</span>
        </div>
      ))}
    </div>
  );
}

/** Box, suggestions, error. */
export function SearchBox() {
  const input = useRef<HTMLInputElement>(null);
  const caret = useSignal(0);
  const open = useSignal(false);
  const active = useSignal(-1);
  useSlash(input);
  useWords(open.value);
  const text = store.query.value;
  const token = tokenAt(text, Math.min(caret.value, text.length));
  const items = open.value ? suggest(token, store.words.value) : [];
  const problem = store.problem.value;
  // What is still being typed is not wrong yet.
  const typing =
    open.value && problem !== null && problem.column > token.from && problem.column <= token.to + 1;
  const look = () => {
    const element = input.current;
    if (element === null) return;
    caret.value = element.selectionStart ?? element.value.length;
    active.value = -1;
    open.value = true;
  };
  const pick = (item: Suggestion) => {
    const done = complete(text, token, item);
    store.query.value = done.text;
    active.value = -1;
    open.value = item.open;
    caret.value = done.caret;
    requestAnimationFrame(() => input.current?.setSelectionRange(done.caret, done.caret));
  };
  const onKey = (event: KeyboardEvent) => {
    const last = items.length - 1;
    const chosen = items[active.value];
    if (event.key === 'ArrowDown' && last >= 0) active.value = active.value >= last ? 0 : active.value + 1;
    else if (event.key === 'ArrowUp' && last >= 0) active.value = active.value <= 0 ? last : active.value - 1;
    else if ((event.key === 'Enter' || event.key === 'Tab') && chosen !== undefined) pick(chosen);
    else if (event.key === 'Enter') open.value = false;
    else if (event.key === 'Escape' && items.length > 0 && active.value >= 0) active.value = -1;
    else if (event.key === 'Escape') {
      store.query.value = '';
      open.value = false;
      input.current?.blur();
      return;
    } else return;
    event.preventDefault();
  };
  const shown = items.length > 0;
  return (
    <search class="search">
      <SearchIcon />
      <input
        ref={input}
        type="text"
        role="combobox"
        data-testid="search"
        aria-label="Filter by namespace, workload, pod, node, port, DNS name or any text"
        aria-expanded={shown}
        aria-controls="suggestions"
        aria-autocomplete="list"
        aria-activedescendant={active.value >= 0 ? `suggestion-${active.value}` : undefined}
        aria-invalid={problem !== null && !typing}
        placeholder={store.narrow.value ? 'Search' : 'Search pods, workloads, IPs, DNS names'}
        value={text}
        spellcheck={false}
        autocomplete="off"
        autocapitalize="off"
        onFocus={look}
        onBlur={() => {
          open.value = false;
        }}
        onClick={look}
        onInput={(event) => {
          store.query.value = event.currentTarget.value;
          look();
        }}
        onKeyDown={onKey}
      />
      <Hits />
      {(shown || (problem !== null && !typing)) && (
        <div class="search-below">
          {problem !== null && !typing && (
            <p class="problem" role="alert" data-testid="problem">
              <b>
                {problem.message} <small>(column {problem.column})</small>
              </b>
              {problem.hint}
            </p>
          )}
          {shown && <Options items={items} active={active.value} onPick={pick} />}
        </div>
      )}
    </search>
  );
}

/** Hides what every cluster has, and says what it hides. */
export function NoiseSwitch() {
  const { hideNoise } = store.asked.value;
  const hidden = store.graph.value?.hidden;
  const words = hidden === undefined ? '' : noiseWords(hidden);
  const number = hidden === undefined ? 0 : noiseCount(hidden);
  return (
    <button
      type="button"
      class="chip switch"
      data-testid="noise"
      aria-pressed={hideNoise}
      title={
        hideNoise
          ? `Hidden: ${words === '' ? 'nothing' : words}. What is unhealthy is never hidden.`
          : 'Hide probes, scrapes, kube-system and the name service'
      }
      onClick={store.toggleNoise}
    >
      {hideNoise ? `${count(number)} hidden` : 'Hide noise'}
    </button>
  );
}
