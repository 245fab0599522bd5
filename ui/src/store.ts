/** The page's state as signals, and everything derived from it. */
import { computed, effect, signal, untracked } from '@preact/signals';
import { type Camera, fit, type Size } from './camera';
import { type Graph, withoutUnderlay } from './graph';
import { firstGrouping, type Grouping, groupsOf } from './groups';
import { type Sickness, type Troubles, troubles } from './health';
import { EMPTY, type History } from './history';
import { arrange, bounds, type Layout, type Rect } from './layout';
import type { Scene } from './picture';
import { compose } from './scene';
import { type Selection, search } from './select';
import type { Connection } from './stream';
import { readPlace, writePlace } from './url';

/** Views of the phone's tab bar. */
export type Tab = 'map' | 'flows' | 'nodes' | 'more';
/** Colour themes. */
export type Theme = 'dark' | 'light';

const place = readPlace(location.search);

/** All that the collector tells. */
export const received = signal<Graph | null>(null);
/** Whether traffic that carries other traffic is shown. */
export const underlay = signal(place.underlay);
export const hasUnderlay = computed(() => {
  const edges = received.value?.edges.values() ?? [];
  for (const edge of edges) if (edge.tunnel !== null) return true;
  return false;
});
/** What the page shows of it. */
export const graph = computed<Graph | null>(() =>
  received.value === null || underlay.value ? received.value : withoutUnderlay(received.value),
);
export const connection = signal<Connection>({ kind: 'connecting' });
/** The collector's time, as far as we can tell between frames. */
export const nowMs = signal(Date.now());
export const history = signal<History>(EMPTY);
/** Edges that are sick, by what grew within the last minute. */
export const sick = signal<ReadonlyMap<string, readonly Sickness[]>>(new Map());
/** Edges with troubles that the page has no room to follow. */
export const unfollowed = signal(0);
const chosenGrouping = signal<Grouping | null>(place.grouping);
export const selection = signal<Selection | null>(place.selection);
export const query = signal(place.query);
export const tableOpen = signal(place.table);
export const tab = signal<Tab>('map');
export const theme = signal<Theme>(firstTheme());
export const narrow = signal(false);
export const reducedMotion = signal(false);
export const pageHidden = signal(false);
export const mapSize = signal<Size>({ width: 0, height: 0 });
export const camera = signal<Camera>({ zoom: 1, x: 0, y: 0 });
/** Whether the user moved the camera; it then stays where they put it. */
export const cameraTaken = signal(false);
export const frameStats = signal<{ frameMs: number; baseMs: number } | null>(null);

export const hasGraph = computed(() => graph.value !== null);
export const grouping = computed<Grouping>(() => {
  if (chosenGrouping.value !== null) return chosenGrouping.value;
  // Decided once, from the first graph, so that the picture does not flip by itself.
  if (!hasGraph.value) return 'namespace';
  return untracked(() => (graph.value === null ? 'namespace' : firstGrouping(graph.value)));
});
export const groups = computed(() => (graph.value === null ? [] : groupsOf(graph.value, grouping.value)));
export const found = computed(() => (graph.value === null ? null : search(graph.value, query.value)));
export const trouble = computed<Troubles>(() =>
  graph.value === null
    ? { sick: [], lossy: [], nodes: [], failing: [], pending: [] }
    : troubles(graph.value, sick.value),
);

/** Room around what is fitted; the legend lies in the bottom margin. */
export const MARGIN = { top: 14, side: 14, bottom: 58 } as const;
const PHONE_MARGIN = { top: 8, side: 12, bottom: 12 } as const;
const layouts = new Map<Grouping, Layout>();
const sized = computed(() => mapSize.value.width > 0);
export const layout = computed<Layout | null>(() => {
  if (!sized.value || groups.value.length === 0) return null;
  const { width, height } = untracked(() => mapSize.value);
  const before = layouts.get(grouping.value) ?? null;
  const margin = untracked(() => (narrow.value ? PHONE_MARGIN : MARGIN));
  const room = { width: width - margin.side * 2, height: height - margin.top - margin.bottom };
  const next = arrange(before, groups.value, {
    width: Math.max(room.width, 100),
    height: Math.max(room.height, 100),
  });
  const same = before !== null && sameTiles(before, next);
  const kept = same ? before : next;
  layouts.set(grouping.value, kept);
  return kept;
});

/** The same tiles, seats and all. */
function sameTiles(a: Layout, b: Layout): boolean {
  if (a.density !== b.density || a.tiles.size !== b.tiles.size) return false;
  for (const [id, tile] of b.tiles) if (a.tiles.get(id) !== tile) return false;
  return true;
}

/** Zoom in the few steps at which the picture's content changes. */
const detail = computed(() => {
  const density = layout.value?.density;
  if (density === undefined) return 0;
  const steps = [0, 46 / density.cellWidth, density.podZoom].filter((step) => camera.value.zoom >= step);
  return Math.max(...steps);
});
export const scene = computed<Scene | null>(() => {
  if (graph.value === null || layout.value === null) return null;
  return compose({
    graph: graph.value,
    grouping: grouping.value,
    groups: groups.value,
    layout: layout.value,
    zoom: detail.value,
    selection: selection.value,
    found: found.value,
    sick: sick.value,
  });
});

/** Fitting enlarges no further than this. */
const FIT_ZOOM = 1.9;

/** The camera that shows everything. */
export function fitted(): Camera | null {
  const at = layout.value;
  if (at === null) return null;
  const margin = narrow.value ? PHONE_MARGIN : MARGIN;
  return fit(bounds(at), mapSize.value, margin, FIT_ZOOM);
}

/** The camera that shows one area, near enough to see its particles. */
export function framed(area: Rect): Camera {
  const pad = narrow.value ? 40 : 130;
  return fit(area, mapSize.value, { top: pad, side: pad, bottom: pad }, 5);
}

/** Groups the map another way. */
export function regroup(next: Grouping): void {
  if (next === grouping.value) return;
  chosenGrouping.value = next;
  cameraTaken.value = false;
  const kind = selection.value?.kind;
  if (kind === 'group' || kind === 'link') selection.value = null;
}

/** Selects, or with null deselects. */
export function select(next: Selection | null): void {
  selection.value = next;
  if (next !== null && narrow.value) tab.value = 'map';
}

function firstTheme(): Theme {
  const kept = localStorage.getItem('orrery-theme');
  if (kept === 'dark' || kept === 'light') return kept;
  return matchMedia('(prefers-color-scheme: light)').matches ? 'light' : 'dark';
}

/** Remembers the theme once the user has chosen one. */
export function toggleTheme(): void {
  theme.value = theme.value === 'dark' ? 'light' : 'dark';
  localStorage.setItem('orrery-theme', theme.value);
}

/** Keeps the address in step with the state. */
export function keepAddress(): () => void {
  return effect(() => {
    const text = writePlace({
      grouping: chosenGrouping.value,
      selection: selection.value,
      table: tableOpen.value,
      query: query.value,
      underlay: underlay.value,
    });
    window.history.replaceState(null, '', `${location.pathname}${text}`);
  });
}
