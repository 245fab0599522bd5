/** Top bar: which cluster, how grouped, search, counts, switches. */
import { useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { count } from './format';
import { isPresent } from './graph';
import { GROUPINGS, type Grouping } from './groups';
import { LinkIcon, Logo, MoonIcon, SearchIcon, SunIcon, TableIcon } from './icons';
import * as store from './store';

const NAMES: Record<Grouping, string> = { node: 'Node', namespace: 'Namespace', workload: 'Workload' };

/** Cluster's name beside the mark. */
function Brand() {
  const name = store.graph.value?.cluster ?? '';
  return (
    <div class="brand">
      <Logo />
      <h1 data-testid="cluster">{name === '' ? 'Orrery' : name}</h1>
    </div>
  );
}

/** Segmented control of the ways to group. */
function Grouper() {
  return (
    <fieldset class="segments" data-testid="grouping">
      <legend class="hidden">Group the map by</legend>
      {GROUPINGS.map((one) => (
        <button
          type="button"
          key={one}
          aria-pressed={store.grouping.value === one}
          data-testid={`group-${one}`}
          onClick={() => store.regroup(one)}
        >
          {NAMES[one]}
        </button>
      ))}
    </fieldset>
  );
}

/** The same as one select, where there is little room. */
function GroupSelect() {
  return (
    <select
      class="chip select"
      aria-label="Group the map by"
      data-testid="grouping"
      value={store.grouping.value}
      onChange={(event) => store.regroup(event.currentTarget.value as Grouping)}
    >
      {GROUPINGS.map((one) => (
        <option key={one} value={one}>
          {NAMES[one]}
        </option>
      ))}
    </select>
  );
}

/** What is layered on the map; what carries other traffic only when asked for. */
function Layers() {
  return (
    <>
      <span class="chip" title="Layer 4: TCP, UDP, SCTP and ICMP">
        <i class="dot l4" />
        L4
      </span>
      {!store.narrow.value && (
        <span class="chip" title="Links to name servers">
          <i class="dot dns" />
          DNS
        </span>
      )}
      {(store.hasUnderlay.value || store.underlay.value) && (
        <button
          type="button"
          class="chip"
          data-testid="underlay"
          aria-pressed={store.underlay.value}
          title="Tunnels between nodes, which carry other traffic"
          onClick={() => {
            store.underlay.value = !store.underlay.value;
          }}
        >
          <i class="dot underlay" />
          Underlay
        </button>
      )}
    </>
  );
}

function SearchBox() {
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => {
    const focus = (event: KeyboardEvent) => {
      const target = event.target as HTMLElement;
      if (event.key !== '/' || target.matches('input, select, textarea')) return;
      event.preventDefault();
      input.current?.focus();
    };
    document.addEventListener('keydown', focus);
    return () => document.removeEventListener('keydown', focus);
  }, []);
  const found = store.found.value;
  return (
    <search class="search">
      <SearchIcon />
      <input
        ref={input}
        type="search"
        data-testid="search"
        aria-label="Search pods, workloads, namespaces, addresses, DNS names and ports"
        placeholder={store.narrow.value ? 'Search' : 'Search pods, IPs, DNS names, ports'}
        value={store.query.value}
        spellcheck={false}
        autocomplete="off"
        onInput={(event) => {
          store.query.value = event.currentTarget.value;
        }}
        onKeyDown={(event) => {
          if (event.key !== 'Escape') return;
          store.query.value = '';
          event.currentTarget.blur();
        }}
      />
      {found === null ? (
        <kbd>/</kbd>
      ) : (
        <span class="hits" data-testid="hits" role="status">
          {count(found.vertices.size)} found
        </span>
      )}
    </search>
  );
}

function Counts() {
  const graph = store.graph.value;
  if (graph === null) return null;
  let pods = 0;
  for (const vertex of graph.vertices.values()) if (vertex.kind === 'pod' && isPresent(vertex)) pods += 1;
  const one = (value: number, word: string) => (
    <span data-testid={`count-${word}s`}>
      <b>{count(value)}</b> {value === 1 ? word : `${word}s`}
    </span>
  );
  return (
    <div class="counts">
      {one(graph.nodes.size, 'node')}
      {one(pods, 'pod')}
      {one(graph.edges.size, 'link')}
    </div>
  );
}

/** Switches between dark and light. */
export function ThemeButton({ label = false }: { label?: boolean }) {
  const dark = store.theme.value === 'dark';
  const text = dark ? 'Light theme' : 'Dark theme';
  return (
    <button
      type="button"
      class={label ? 'row-button' : 'icon-button'}
      data-testid="theme"
      aria-label={text}
      title={text}
      onClick={store.toggleTheme}
    >
      {dark ? <SunIcon /> : <MoonIcon />}
      {label && <span>{text}</span>}
    </button>
  );
}

/** Copies the address, which is the whole view. */
export function CopyButton({ label = false }: { label?: boolean }) {
  const copied = useSignal(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(location.href);
      copied.value = true;
      setTimeout(() => {
        copied.value = false;
      }, 1600);
    } catch {
      // Without a secure context there is no clipboard; the address bar holds the same.
      window.prompt('Address of this view', location.href);
    }
  };
  const text = copied.value ? 'Copied' : 'Copy link to this view';
  return (
    <button
      type="button"
      class={label ? 'row-button' : 'icon-button'}
      data-testid="copy-link"
      aria-label={text}
      title={text}
      aria-live="polite"
      onClick={copy}
    >
      <LinkIcon />
      {(label || copied.value) && <span>{text}</span>}
    </button>
  );
}

function TableButton() {
  return (
    <button
      type="button"
      class="icon-button"
      data-testid="table-toggle"
      aria-pressed={store.tableOpen.value}
      aria-label="Table of links"
      title="Table of links"
      onClick={() => {
        store.tableOpen.value = !store.tableOpen.value;
      }}
    >
      <TableIcon />
    </button>
  );
}

/** The whole bar, in its wide or narrow form. */
export function TopBar() {
  if (store.narrow.value)
    return (
      <header class="topbar-narrow">
        <div class="topbar">
          <Brand />
          <SearchBox />
          <ThemeButton />
        </div>
        {store.tab.value === 'map' && (
          <div class="chips">
            <Layers />
            <GroupSelect />
          </div>
        )}
      </header>
    );
  return (
    <header class="topbar">
      <Brand />
      <Grouper />
      <Layers />
      <div class="grow" />
      <SearchBox />
      <Counts />
      <div class="tools">
        <TableButton />
        <CopyButton />
        <ThemeButton />
      </div>
    </header>
  );
}
