/** The page's frame, wide and narrow. */
import { useEffect } from 'preact/hooks';
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

/** Everything. */
export function App() {
  useEffect(() => {
    const leave = (event: KeyboardEvent) => {
      if (event.key === 'Escape' && !(event.target as HTMLElement).matches('input')) store.select(null);
    };
    document.addEventListener('keydown', leave);
    return () => document.removeEventListener('keydown', leave);
  }, []);
  const graph = store.graph.value;
  const stats = store.frameStats.value;
  return (
    <main
      class={store.narrow.value ? 'app narrow' : 'app'}
      data-testid="app"
      data-connected={store.connection.value.kind === 'live'}
      data-at={store.at.value ?? ''}
      data-past={store.at.value === null ? '' : store.pastState.value}
      data-run={graph?.run}
      data-revision={graph?.revision}
      data-group={store.grouping.value}
      data-edges={graph?.edges.size}
      data-level={store.scene.value?.level}
      data-links={store.scene.value?.links.length}
      data-filter={store.shown.value.filter}
      data-hidden-links={store.scene.value?.hiddenLinks}
      data-frame-ms={stats?.frameMs.toFixed(1)}
      data-base-ms={stats?.baseMs.toFixed(1)}
    >
      <TopBar />
      {store.narrow.value ? <Narrow /> : <Wide />}
      <Strip />
      {store.narrow.value && <TabBar />}
    </main>
  );
}
