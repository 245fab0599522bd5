/** Pure: the page's state in its address. */
import { GROUPINGS, type Grouping } from './groups';
import { LAYERS, type Layer } from './layers';
import type { End, Selection } from './select';

/** How many links may be drawn at once. */
export const TOPS = [250, 500, 1500, 5000] as const;
const TOP = 1500;

/** What an address holds. */
export interface Place {
  readonly grouping: Grouping | null;
  readonly selection: Selection | null;
  /** The second that is looked at; null is now. */
  readonly at: number | null;
  readonly table: boolean;
  /** The table lists events. */
  readonly events: boolean;
  /** The filter. */
  readonly query: string;
  readonly hideNoise: boolean;
  readonly layers: readonly Layer[];
  /** Links drawn at once. */
  readonly top: number;
  /** Traffic that carries other traffic is shown. */
  readonly underlay: boolean;
  /** Hubble is looked at beside the map. */
  readonly comparing: boolean;
}

/** Reads an address' query string. */
export function readPlace(search: string): Place {
  const of = new URLSearchParams(search);
  const group = of.get('group');
  return {
    grouping: GROUPINGS.find((one) => one === group) ?? null,
    selection: readSelection(of),
    at: readTime(of.get('at')),
    table: of.get('table') === '1' || of.get('table') === 'events',
    events: of.get('table') === 'events',
    query: of.get('q') ?? '',
    hideNoise: of.get('noise') === 'hide',
    layers: readLayers(of.get('layers')),
    top: TOPS.find((one) => String(one) === of.get('top')) ?? TOP,
    underlay: of.get('underlay') === '1',
    comparing: of.get('compare') === '1',
  };
}

function readTime(text: string | null): number | null {
  return text !== null && /^\d{1,12}$/.test(text) ? Number(text) : null;
}

function readLayers(text: string | null): readonly Layer[] {
  if (text === null) return LAYERS;
  const words = text.split(',');
  return LAYERS.filter((one) => words.includes(one));
}

function readSelection(of: URLSearchParams): Selection | null {
  for (const [key, kind] of [
    ['edge', 'edge'],
    ['vertex', 'vertex'],
    ['tile', 'group'],
    ['workload', 'workload'],
    ['node', 'node'],
  ] as const) {
    const id = of.get(key);
    if (id !== null && id !== '') return { kind, id };
  }
  const from = readEnd(of.get('from'));
  const to = readEnd(of.get('to'));
  return from !== null && to !== null ? { kind: 'link', from, to } : null;
}

function readEnd(text: string | null): End | null {
  if (text === null || text.length < 3) return null;
  if (text.startsWith('g:')) return { kind: 'group', id: text.slice(2) };
  if (text.startsWith('w:')) return { kind: 'workload', id: text.slice(2) };
  if (text.startsWith('v:')) return { kind: 'vertex', id: text.slice(2) };
  return null;
}

/** Writes a query string; empty when everything is as it comes. */
export function writePlace(place: Place): string {
  const { grouping, selection, at, table, events, query, underlay, hideNoise, layers, top, comparing } =
    place;
  const of = new URLSearchParams();
  if (grouping !== null) of.set('group', grouping);
  if (query !== '') of.set('q', query);
  if (hideNoise) of.set('noise', 'hide');
  if (layers.length < LAYERS.length) of.set('layers', layers.join(','));
  if (top !== TOP) of.set('top', String(top));
  if (selection?.kind === 'link') {
    of.set('from', writeEnd(selection.from));
    of.set('to', writeEnd(selection.to));
  } else if (selection !== null) of.set(selection.kind === 'group' ? 'tile' : selection.kind, selection.id);
  if (at !== null) of.set('at', String(at));
  if (table) of.set('table', events ? 'events' : '1');
  if (underlay) of.set('underlay', '1');
  if (comparing) of.set('compare', '1');
  const text = of.toString();
  return text === '' ? '' : `?${text}`;
}

function writeEnd(end: End): string {
  return `${end.kind[0]}:${end.id}`;
}
