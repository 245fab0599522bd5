import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { chosen, isNone, plain, readBeside, share } from '../src/beside';

/** What the collector's own test reads and writes, too. */
const FIXTURE = JSON.parse(readFileSync(new URL('../fixtures/compare.json', import.meta.url), 'utf8'));

it('an answer of the collector is read', () => {
  const beside = readBeside(FIXTURE);
  expect(beside).toMatchObject({
    server: 'relay:4245',
    connected: true,
    overlay: true,
    both: 1,
    onlyHubble: 1,
    onlyOrrery: 0,
    unexplained: 1,
  });
  expect(beside.rows.map((row) => row.seen)).toEqual(['only-hubble', 'both']);
  expect(beside.rows[0]?.differences[0]?.reason).toBe('unexplained');
  expect(beside.rows[1]?.hubble?.policies).toEqual(['shop/allow-web']);
  expect(beside.rows[1]?.edges).toEqual(['pod:shop/a>pod:shop/b:80/tcp']);
  expect([...beside.reasons]).toEqual([['unexplained', 1]]);
});

it('rows are chosen by who saw them and by reason', () => {
  const { rows } = readBeside(FIXTURE);
  const ports = (seen: Parameters<typeof chosen>[1]['seen'], reason: string | null) =>
    chosen(rows, { seen, reason }).map((row) => row.port);
  expect(ports(null, null)).toEqual([443, 80]);
  expect(ports('both', null)).toEqual([80]);
  expect(ports('only-orrery', null)).toEqual([]);
  expect(ports(null, 'unexplained')).toEqual([443]);
  expect(ports('both', 'unexplained')).toEqual([]);
});

it('a collector without Hubble is no comparison', () => {
  expect([isNone({ server: null, hint: '' }), isNone(FIXTURE), isNone(null)]).toEqual([true, false, false]);
});

it('what is wrong is named', () => {
  expect(() => readBeside({})).toThrow('report');
  expect(() => readBeside({ ...FIXTURE, connected: 1 })).toThrow('compare.connected');
  const worse = structuredClone(FIXTURE);
  worse.report.rows[0].differences = [{}];
  expect(() => readBeside(worse)).toThrow('differences[0].what');
});

it('nothing is rounded up to all', () => {
  expect([share(null), share(1), share(0.99999), share(0.5)]).toEqual(['–', '100%', '99.99%', '50%']);
  expect(plain('pod:shop/a')).toBe('shop/a');
});
