/** Top bar: which cluster, how grouped, search, counts, switches. */
import { useSignal } from '@preact/signals';
import { noiseCount } from './empty';
import { count } from './format';
import { isPresent } from './graph';
import { GROUPINGS, type Grouping } from './groups';
import { LinkIcon, Logo, MoonIcon, SunIcon, TableIcon } from './icons';
import { LAYERS, type Layer } from './layers';
import { NoiseSwitch, SearchBox } from './search';
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

const LAYER_NAMES: Record<Layer, [string, string]> = {
  l4: ['L4', 'Layer 4: TCP, UDP, SCTP and ICMP'],
  dns: ['DNS', 'Links to name servers'],
  drops: ['Drops', 'Everything unhealthy, whatever it carries'],
};

/** What is layered on the map; what carries other traffic only when asked for. */
function Layers() {
  return (
    <>
      {LAYERS.map((layer) => (
        <button
          type="button"
          key={layer}
          class="chip switch"
          data-testid={`layer-${layer}`}
          aria-pressed={store.layers.value.has(layer)}
          title={LAYER_NAMES[layer][1]}
          onClick={() => store.toggleLayer(layer)}
        >
          <i class={`dot ${layer}`} />
          {LAYER_NAMES[layer][0]}
        </button>
      ))}
      {(store.hasUnderlay.value || store.underlay.value) && (
        <button
          type="button"
          class="chip switch"
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

function Counts() {
  const graph = store.graph.value;
  if (graph === null) return null;
  let pods = 0;
  for (const vertex of graph.vertices.values()) if (vertex.kind === 'pod' && isPresent(vertex)) pods += 1;
  const hidden = graph.hidden.edges + noiseCount(graph.hidden);
  const one = (value: number, word: string) => (
    <span data-testid={`count-${word}s`}>
      <b>{count(value)}</b> {value === 1 ? word : `${word}s`}
    </span>
  );
  return (
    <div class="counts">
      {one(graph.nodes.size, 'node')}
      {one(pods, 'pod')}
      {hidden > 0 ? (
        <span data-testid="count-links">
          <b>{count(graph.edges.size)}</b> of {count(graph.edges.size + hidden)} links
        </span>
      ) : (
        one(graph.edges.size, 'link')
      )}
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
            <NoiseSwitch />
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
      <NoiseSwitch />
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
