/** The page's frame, wide and narrow. */
import { effect } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { MapIcon as MapSign, MoreIcon, NodesIcon, TableIcon } from './icons';
import { lazy } from './lazy';
import { Legend, TopPicker } from './legend';
import { MapView } from './map';
import { Banners, EmptyMap } from './panels/banners';
import { NodeList } from './panels/nodes';
import { Panel } from './panels/panel';
import * as store from './store';
import { Strip } from './strip';
import { CopyButton, ThemeButton, TopBar } from './topbar';

const Tables = lazy(async () => (await import('./drawer')).Tables);

const TABS = [
  ['map', 'Map', MapSign],
  ['flows', 'Flows', TableIcon],
  ['nodes', 'Nodes', NodesIcon],
  ['more', 'More', MoreIcon],
] as const;

function TabBar() {
  return (
    <nav class="tabs" aria-label="Views">
      {TABS.map(([id, title, Icon]) => (
        <button
          type="button"
          key={id}
          data-testid={`tab-${id}`}
          aria-current={store.tab.value === id ? 'page' : undefined}
          onClick={() => {
            store.tab.value = id;
          }}
        >
          <Icon />
          {title}
        </button>
      ))}
    </nav>
  );
}

function NodesTab() {
  const graph = store.graph.value;
  return (
    <div class="page">
      <h2>Nodes</h2>
      {graph !== null && <NodeList graph={graph} />}
    </div>
  );
}

function MoreTab() {
  const graph = store.graph.value;
  return (
    <div class="page">
      <h2>More</h2>
      <ThemeButton label />
      <CopyButton label />
      <TopPicker />
      <button type="button" class="row-button" onClick={store.tidy}>
        <span>Tidy the map</span>
      </button>
      <h3>Legend</h3>
      <Legend />
      {graph !== null && (
        <p class="note">
          {graph.nodes.size} nodes, {graph.vertices.size} pods and addresses, {graph.edges.size} links;
          revision {graph.revision}.
        </p>
      )}
    </div>
  );
}

function Wide() {
  return (
    <div class="middle">
      <div class="stack">
        <Banners />
        <div class="map-box">
          <MapView />
          <EmptyMap />
        </div>
        {store.tableOpen.value && <Tables close />}
      </div>
      <Panel />
    </div>
  );
}

function Narrow() {
  const tab = store.tab.value;
  return (
    <>
      <Banners />
      {/* The map stays in the page, so that its canvases live on. */}
      <div class={tab === 'map' ? 'phone-map' : 'phone-map away'}>
        <div class="map-box">
          <MapView />
          <EmptyMap />
        </div>
        <Panel />
      </div>
      {tab === 'flows' && <Tables close={false} />}
      {tab === 'nodes' && <NodesTab />}
      {tab === 'more' && <MoreTab />}
    </>
  );
}

/** Says on the page's root what it shows, for those who measure it. */
function tell(main: HTMLElement | null): void {
  const graph = store.graph.value;
  const scene = store.scene.value;
  const stats = store.frameStats.value;
  const facts = {
    connected: store.connection.value.kind === 'live',
    at: store.at.value ?? '',
    past: store.at.value === null ? '' : store.pastState.value,
    run: graph?.run,
    revision: graph?.revision,
    group: store.grouping.value,
    edges: graph?.edges.size,
    level: scene?.level,
    links: scene?.links.length,
    filter: store.shown.value.filter,
    'hidden-links': scene?.hiddenLinks,
    'frame-ms': stats?.frameMs.toFixed(1),
    'base-ms': stats?.baseMs.toFixed(1),
  };
  for (const [name, value] of Object.entries(facts))
    if (value === undefined) main?.removeAttribute(`data-${name}`);
    else main?.setAttribute(`data-${name}`, String(value));
}

/** Everything. */
export function App() {
  useEffect(() => {
    const leave = (event: KeyboardEvent) => {
      if (event.key === 'Escape' && !(event.target as HTMLElement).matches('input')) store.select(null);
    };
    document.addEventListener('keydown', leave);
    return () => document.removeEventListener('keydown', leave);
  }, []);
  const main = useRef<HTMLElement>(null);
  // Not by rendering: all parts would be rendered again with it.
  useEffect(() => effect(() => tell(main.current)), []);
  return (
    <main ref={main} class={store.narrow.value ? 'app narrow' : 'app'} data-testid="app">
      <TopBar />
      {store.narrow.value ? <Narrow /> : <Wide />}
      <Strip />
      {store.narrow.value && <TabBar />}
    </main>
  );
}
