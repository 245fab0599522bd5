/** The page's state as signals, and everything derived from it. */
import { batch, computed, effect, signal, untracked } from '@preact/signals';
import { type Camera, fit, type Size } from './camera';
import { type Reason, type Wish, whyEmpty } from './empty';
import { type Graph, withoutUnderlay } from './graph';
import { firstGrouping, type Grouping, groupsOf } from './groups';
import { type Sickness, type Troubles, troubles } from './health';
import { LAYERS, type Layer } from './layers';
import { arrange, bounds, type Layout, type Rect } from './layout';
import type { Course } from './past';
import type { Scene } from './picture';
import { compose } from './scene';
import type { Selection } from './select';
import type { Connection } from './stream';
import type { Words } from './suggest';
import { readPlace, writePlace } from './url';
import type { ClusterEvent } from './view';

/** Views of the phone's tab bar. */
export type Tab = 'map' | 'flows' | 'nodes' | 'more';
/** Colour themes. */
export type Theme = 'dark' | 'light';

const place = readPlace(location.search);

/** All that the collector tells. */
export const received = signal<Graph | null>(null);
/** Whether traffic that carries other traffic is shown. */
export const underlay = signal(place.underlay);
/** Whether Hubble is looked at beside the map. */
export const comparing = signal(place.comparing);
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
/** The second that is looked at; null is now. */
export const at = signal<number | null>(place.at);
/** Whether the past is looked at: then panels must not take what is not kept for what did not happen. */
export const rewound = computed(() => at.value !== null);
/** The span that troubles are counted over, in words. */
export const spanWords = computed(() =>
  rewound.value ? `these ${(course.value?.bucketMs ?? 0) / 1000} s` : 'last minute',
);
/** Where a picture of the past stands: `asking`, `shown`, or why there is none. */
export const pastState = signal('');
/** The last hour, as the collector told it. */
export const course = signal<Course | null>(null);
export const hourEvents = signal<readonly ClusterEvent[]>([]);
/** Edges that are sick, by what grew within the last minute. */
export const sick = signal<ReadonlyMap<string, readonly Sickness[]>>(new Map());
/** Edges with troubles that the page has no room to follow. */
export const unfollowed = signal(0);
const chosenGrouping = signal<Grouping | null>(place.grouping);
export const selection = signal<Selection | null>(place.selection);
/** What stands in the search box. */
export const query = signal(place.query);
/** What the collector is asked to show, and what the picture at hand shows. */
export const asked = signal<Wish>({ filter: place.query.trim(), hideNoise: place.hideNoise });
export const shown = signal<Wish>(asked.peek());
/** Why the text in the box is no filter. */
export const problem = signal<{ column: number; message: string; hint: string } | null>(null);
/** Words to complete filters with. */
export const words = signal<Words>(new Map());
/** Layers that are drawn. */
export const layers = signal<ReadonlySet<Layer>>(new Set(place.layers));
/** Links drawn at once, at the most. */
export const top = signal(place.top);
/** Counts the times the user asked for a fresh layout. */
const tidied = signal(0);
export const tableOpen = signal(place.table);
/** The links in the order in which the table shows them, for copying. */
export const listed: { ids: readonly string[] } = { ids: [] };
/** Whether the table lists events instead of links. */
export const listing = signal<'links' | 'events'>(place.events ? 'events' : 'links');
export const tab = signal<Tab>('map');
export const theme = signal<Theme>(firstTheme());
export const narrow = signal(false);
export const reducedMotion = signal(false);
export const pageHidden = signal(false);
/** In the background for so long that the stream was hung up. */
export const asleep = signal(false);
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
/** A picture of the map, and what it was asked for with. */
const pictured = signal<{ readonly graph: Graph; readonly filter: string } | null>(null);
/** The map follows the panels this much later, so that no frame has both to do. */
const AFTER_MS = 20;
let due = false;
effect(() => {
  const now = graph.value;
  const { filter } = shown.value;
  const before = pictured.peek();
  if (now === null || before === null || before.filter !== filter || before.graph.run !== now.run) {
    pictured.value = now === null ? null : { graph: now, filter };
    return;
  }
  if (due) return;
  due = true;
  setTimeout(() => {
    due = false;
    const latest = graph.peek();
    pictured.value = latest === null ? null : { graph: latest, filter: shown.peek().filter };
  }, AFTER_MS);
});
export const groups = computed(() =>
  pictured.value === null ? [] : groupsOf(pictured.value.graph, grouping.value),
);
export const trouble = computed<Troubles>(() =>
  graph.value === null
    ? { sick: [], lossy: [], nodes: [], failing: [], pending: [] }
    : troubles(graph.value, sick.value),
);

/** Why no link is there; null when there is one. */
export const empty = computed<Reason | null>(() =>
  whyEmpty({ graph: graph.value, connection: connection.value, shown: shown.value }),
);

/** Room around what is fitted; the legend lies in the bottom margin. */
export const MARGIN = { top: 14, side: 14, bottom: 58 } as const;
const PHONE_MARGIN = { top: 8, side: 12, bottom: 12 } as const;
/** Every filter's picture has a layout of its own, so that the others stay as they were left. */
const layouts = new Map<string, { layout: Layout; tidied: number }>();
/** Layouts kept; beyond that the one made first goes. */
const MAX_LAYOUTS = 24;
const sized = computed(() => mapSize.value.width > 0);
export const layout = computed<Layout | null>(() => {
  if (!sized.value || groups.value.length === 0) return null;
  const { width, height } = untracked(() => mapSize.value);
  const key = `${grouping.value}\n${pictured.value?.filter ?? ''}`;
  const held = layouts.get(key);
  const before = held !== undefined && held.tidied === tidied.value ? held.layout : null;
  const margin = untracked(() => (narrow.value ? PHONE_MARGIN : MARGIN));
  const room = { width: width - margin.side * 2, height: height - margin.top - margin.bottom };
  const next = arrange(before, groups.value, {
    width: Math.max(room.width, 100),
    height: Math.max(room.height, 100),
  });
  const same = before !== null && sameTiles(before, next);
  const kept = same ? before : next;
  layouts.set(key, { layout: kept, tidied: tidied.value });
  const [oldest] = layouts.keys();
  if (layouts.size > MAX_LAYOUTS && oldest !== undefined) layouts.delete(oldest);
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
  const { cellWidth, workloadZoom, podZoom } = density;
  const steps = [0, 46 / cellWidth, workloadZoom, podZoom].filter((step) => camera.value.zoom >= step);
  return Math.max(...steps);
});
/** Links of the last picture: those drawn have the right of way. */
let drawn: ReadonlySet<string> = new Set();
export const scene = computed<Scene | null>(() => {
  if (pictured.value === null || layout.value === null) return null;
  const next = compose({
    graph: pictured.value.graph,
    grouping: grouping.value,
    groups: groups.value,
    layout: layout.value,
    zoom: detail.value,
    selection: selection.value,
    sick: sick.value,
    layers: layers.value,
    top: top.value,
    before: drawn,
  });
  drawn = new Set(next.links.map((link) => link.id));
  return next;
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

/** Takes a picture of another filter: it is another map, so the camera follows again. */
export function show(next: Graph, wish: Wish): void {
  batch(() => {
    if (wish.filter !== shown.peek().filter) cameraTaken.value = false;
    if (wish !== shown.peek()) shown.value = wish;
    received.value = next;
  });
}

/** Lays the map out anew: only this moves what is there. */
export function tidy(): void {
  tidied.value += 1;
  cameraTaken.value = false;
}

/** Switches a layer. */
export function toggleLayer(layer: Layer): void {
  const next = new Set(layers.value);
  if (!next.delete(layer)) next.add(layer);
  layers.value = next;
}

/** Hides what is in every cluster's picture, or shows it again. */
export function toggleNoise(): void {
  asked.value = { ...asked.value, hideNoise: !asked.value.hideNoise };
}

/** Asks for everything again. */
export function clearFilter(): void {
  query.value = '';
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
      at: at.value,
      table: tableOpen.value,
      events: listing.value === 'events',
      query: asked.value.filter,
      hideNoise: asked.value.hideNoise,
      layers: LAYERS.filter((layer) => layers.value.has(layer)),
      top: top.value,
      underlay: underlay.value,
      comparing: comparing.value,
    });
    window.history.replaceState(null, '', `${location.pathname}${text}`);
  });
}
