/** Pure: the page's state in its address. */
import { GROUPINGS, type Grouping } from './groups';
import type { End, Selection } from './select';

/** What an address holds. */
export interface Place {
  readonly grouping: Grouping | null;
  readonly selection: Selection | null;
  readonly table: boolean;
  readonly query: string;
  /** Traffic that carries other traffic is shown. */
  readonly underlay: boolean;
}

/** Reads an address' query string. */
export function readPlace(search: string): Place {
  const of = new URLSearchParams(search);
  const group = of.get('group');
  return {
    grouping: GROUPINGS.find((one) => one === group) ?? null,
    selection: readSelection(of),
    table: of.get('table') === '1',
    query: of.get('q') ?? '',
    underlay: of.get('underlay') === '1',
  };
}

function readSelection(of: URLSearchParams): Selection | null {
  for (const [key, kind] of [
    ['edge', 'edge'],
    ['vertex', 'vertex'],
    ['tile', 'group'],
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
  if (text.startsWith('v:')) return { kind: 'vertex', id: text.slice(2) };
  return null;
}

/** Writes a query string; empty when everything is as it comes. */
export function writePlace({ grouping, selection, table, query, underlay }: Place): string {
  const of = new URLSearchParams();
  if (grouping !== null) of.set('group', grouping);
  if (query !== '') of.set('q', query);
  if (selection?.kind === 'link') {
    of.set('from', writeEnd(selection.from));
    of.set('to', writeEnd(selection.to));
  } else if (selection !== null) of.set(selection.kind === 'group' ? 'tile' : selection.kind, selection.id);
  if (table) of.set('table', '1');
  if (underlay) of.set('underlay', '1');
  const text = of.toString();
  return text === '' ? '' : `?${text}`;
}

function writeEnd(end: End): string {
  return `${end.kind === 'group' ? 'g' : 'v'}:${end.id}`;
}
