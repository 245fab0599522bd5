/**
 * Pure: what may come next in the search box. The collector parses and matches filters; here only the term under the
 * caret is found, and words that complete it.
 */
import type { Graph } from './graph';

/** Keys of a filter, each with what it looks for. */
export const KEYS = [
  ['ns', 'namespace'],
  ['workload', 'name, or namespace/name'],
  ['pod', 'name, or namespace/name'],
  ['node', 'where a pod runs'],
  ['port', 'number or range'],
  ['proto', 'protocol'],
  ['name', 'DNS name or address'],
  ['verdict', 'what became of packets'],
  ['layer', 'what is carried'],
  ['kind', 'what an end is'],
] as const;
/** One of the keys. */
export type Key = (typeof KEYS)[number][0];

/** Suggestions shown at once. */
export const MAX_SHOWN = 9;
/** Words remembered of each key. */
export const MAX_WORDS = 10_000;

const FIXED: Partial<Record<Key, readonly string[]>> = {
  verdict: ['dropped', 'forwarded'],
  layer: ['l4', 'dns'],
  kind: ['pod', 'service', 'node', 'external'],
};

/** Values seen so far, by key. */
export type Words = ReadonlyMap<Key, ReadonlySet<string>>;

/** A completion of the term under the caret. */
export interface Suggestion {
  /** What the term becomes. */
  readonly text: string;
  /** What it stands for. */
  readonly what: string;
  /** A key wants a value next; all else is complete. */
  readonly open: boolean;
}

/** The term under the caret, as positions in the text. */
export interface Token {
  readonly from: number;
  readonly to: number;
  readonly negation: string;
  readonly key: Key | null;
  readonly part: string;
}

/** Adds the words of a graph to those seen before: a filter hides them, but they can still be asked for. */
export function learn(before: Words, graph: Graph): Words {
  const words = new Map<Key, Set<string>>(KEYS.map(([key]) => [key, new Set(before.get(key) ?? [])]));
  const add = (key: Key, value: string | null) => {
    const known = words.get(key);
    if (value !== null && known !== undefined && known.size < MAX_WORDS) known.add(value);
  };
  for (const vertex of graph.vertices.values()) {
    add('ns', vertex.namespace);
    add('workload', vertex.workload);
    if (vertex.kind === 'pod') add('pod', vertex.name);
    else if (vertex.kind === 'external') for (const name of vertex.dnsNames) add('name', name);
  }
  for (const name of graph.nodes.keys()) add('node', name);
  for (const edge of graph.edges.values()) {
    add('proto', edge.protocol);
    if (edge.port > 0) add('port', String(edge.port));
    for (const question of edge.dns?.questions ?? []) add('name', question.name);
  }
  return words;
}

/** The term that the caret touches. */
export function tokenAt(text: string, caret: number): Token {
  let from = 0;
  let quoted = false;
  for (let at = 0; at < caret; at++) {
    const letter = text[at] ?? '';
    if (letter === '"') quoted = !quoted;
    else if (!quoted && /\s/.test(letter)) from = at + 1;
  }
  let to = caret;
  while (to < text.length && (quoted || !/\s/.test(text[to] ?? ''))) {
    if (text[to] === '"') quoted = !quoted;
    to += 1;
  }
  const term = text.slice(from, to);
  const negation = /^[-!]/.exec(term)?.[0] ?? '';
  const rest = term.slice(negation.length);
  const colon = rest.indexOf(':');
  const word = rest.slice(0, Math.max(colon, 0)).toLowerCase();
  const key = KEYS.find(([one]) => one === word)?.[0] ?? null;
  const part = (key === null ? rest : rest.slice(colon + 1)).replaceAll('"', '').toLowerCase();
  return { from, to, negation, key, part };
}

/** Completions of a term: values of its key, or keys and whatever value holds the text. */
export function suggest(token: Token, words: Words): Suggestion[] {
  const { negation, key, part } = token;
  if (key !== null) return values(key, part, negation, words, MAX_SHOWN);
  const keys = KEYS.filter(([one]) => one.startsWith(part)).map(
    ([one, what]): Suggestion => ({ text: `${negation}${one}:`, what, open: true }),
  );
  if (part === '') return keys.slice(0, MAX_SHOWN);
  const found = (['ns', 'workload', 'node', 'port', 'name', 'pod'] as const).flatMap((one) =>
    values(one, part, negation, words, 3),
  );
  return [...keys, ...found].slice(0, MAX_SHOWN);
}

function values(key: Key, part: string, negation: string, words: Words, most: number): Suggestion[] {
  const what = KEYS.find(([one]) => one === key)?.[1] ?? '';
  const all = FIXED[key] ?? [...(words.get(key) ?? [])];
  const rank = (value: string) => value.toLowerCase().indexOf(part);
  return all
    .filter((value) => rank(value) >= 0 && value.toLowerCase() !== part)
    .sort((a, b) => rank(a) - rank(b) || a.length - b.length || (a < b ? -1 : 1))
    .slice(0, most)
    .map((value) => ({ text: `${negation}${key}:${quoted(value)}`, what, open: false }));
}

/** As it must be written to be taken as it is. */
function quoted(value: string): string {
  return /[\s"*?]/.test(value) ? `"${value.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"` : value;
}

/** The text with a suggestion in the term's place, and where the caret goes. */
export function complete(
  text: string,
  token: Token,
  { text: term, open }: Suggestion,
): { text: string; caret: number } {
  const rest = text.slice(token.to).trimStart();
  const put = `${text.slice(0, token.from)}${term}${open ? '' : ' '}`;
  return { text: put + (open && rest !== '' ? ` ${rest}` : rest), caret: put.length };
}
