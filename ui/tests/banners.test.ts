/** What must not be overlooked is said in words: here, how old the names are while the API is away. */
import type { ComponentChildren, VNode } from 'preact';
import { expect, it, vi } from 'vitest';
import { fromSnapshot } from '../src/graph';
import { snapshot } from './make';

// The store begins with the page's address and the theme that was chosen.
vi.stubGlobal('location', { search: '' });
vi.stubGlobal('localStorage', { getItem: () => 'dark' });
const store = await import('../src/store');
const { Banners } = await import('../src/panels/banners');

/** All text below a node, as a reader gets it. */
function words(node: ComponentChildren): string {
  if (Array.isArray(node)) return node.map(words).join('');
  if (typeof node === 'string' || typeof node === 'number') return String(node);
  if (node === null || typeof node !== 'object') return '';
  const { type, props } = node as VNode<{ children?: ComponentChildren }>;
  return typeof type === 'function' ? '' : words(props.children);
}

it.each<['stale' | 'partial' | 'fresh', string | null, string]>([
  [
    'stale',
    'pods: the API server does not answer',
    'Names are stale, as of 2 min ago: pods: the API server does not answer',
  ],
  ['partial', 'jobs: 403, may not be read', 'Names are partial, as of 2 min ago: jobs: 403, may not be read'],
  ['fresh', null, ''],
])('says how old names are that are %s', (state, error, text) => {
  store.nowMs.value = 1_000_000;
  const names = { source: 'kubernetes', state, error, readMs: 880_000, ambiguous: 0 } as const;
  store.received.value = fromSnapshot(null, snapshot({ names }));
  expect(words(Banners())).toBe(text);
});
