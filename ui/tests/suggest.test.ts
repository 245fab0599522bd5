/** The search box: the term under the caret, what completes it, what comes of it. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { complete, learn, MAX_SHOWN, MAX_WORDS, suggest, tokenAt } from '../src/suggest';
import { edge, graphOf, node, pod } from './make';

const words = learn(
  new Map(),
  graphOf(
    [
      pod('web-1', { namespace: 'shop', workload: 'web' }),
      pod('db-0', { namespace: 'data store', workload: 'db' }),
      pod('far', { kind: 'external', namespace: null, workload: null, dnsNames: ['api.github.com'] }),
    ],
    [edge('web-1', 'db-0', 5, 0, 5432), edge('web-1', 'far', 5, 0, 443)],
    [node('n1'), node('n2')],
  ),
);
const texts = (text: string, caret = text.length) =>
  suggest(tokenAt(text, caret), words).map((one) => one.text);

describe('suggestions', () => {
  it.each([
    ['', ['ns:', 'workload:', 'pod:', 'node:', 'port:', 'proto:', 'name:', 'verdict:', 'layer:']],
    ['n', ['ns:', 'node:', 'name:', 'node:n1', 'node:n2']],
    ['ns:', ['ns:shop', 'ns:"data store"']],
    ['ns:sh', ['ns:shop']],
    ['ns:shop', []],
    ['-ns:s', ['-ns:shop', '-ns:"data store"']],
    ['port:4', ['port:443', 'port:5432']],
    ['verdict:d', ['verdict:dropped', 'verdict:forwarded']],
    ['ns:shop git', ['name:api.github.com']],
    ['foo:b', []],
  ])('of %j', (text, wanted) => {
    const got = texts(text);
    if (text === 'n') expect(got.slice(0, 5)).toEqual(wanted);
    else expect(got).toEqual(wanted);
  });

  it('are of the term that the caret touches', () => {
    expect(tokenAt('ns:shop port:4 web', 14)).toMatchObject({ from: 8, to: 14, key: 'port', part: '4' });
    expect(tokenAt('ns:"data st" web', 8)).toMatchObject({ from: 0, to: 12, key: 'ns', part: 'data st' });
    expect(tokenAt('a  b', 2)).toMatchObject({ from: 2, to: 2, part: '' });
  });

  it('take the place of the term and leave the rest', () => {
    const put = (text: string, caret: number, term: string, open: boolean) =>
      complete(text, tokenAt(text, caret), { text: term, what: '', open });
    expect(put('ns:sh port:443', 5, 'ns:shop', false)).toEqual({ text: 'ns:shop port:443', caret: 8 });
    expect(put('-w', 2, '-workload:', true)).toEqual({ text: '-workload:', caret: 10 });
    expect(put('n port:443', 1, 'ns:', true)).toEqual({ text: 'ns: port:443', caret: 3 });
  });

  it('remember what a filter hides, within a bound', () => {
    const later = learn(words, graphOf([pod('new', { namespace: 'fresh' })]));
    expect([...(later.get('ns') ?? [])]).toEqual(['shop', 'data store', 'fresh']);
    const many = Array.from({ length: MAX_WORDS + 5 }, (_, index) => pod(`p${index}`));
    expect(learn(words, graphOf(many)).get('pod')?.size).toBe(MAX_WORDS);
  });

  it('are few and fit into any text', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 40 }), fc.nat(40), (text, at) => {
        const caret = Math.min(at, text.length);
        const token = tokenAt(text, caret);
        expect(token.from).toBeLessThanOrEqual(caret);
        expect(token.to).toBeGreaterThanOrEqual(caret);
        const found = suggest(token, words);
        expect(found.length).toBeLessThanOrEqual(MAX_SHOWN);
        for (const one of found) {
          const done = complete(text, token, one);
          expect(done.text.startsWith(text.slice(0, token.from) + one.text)).toBe(true);
          expect(done.caret).toBeLessThanOrEqual(done.text.length);
        }
      }),
    );
  });
});
