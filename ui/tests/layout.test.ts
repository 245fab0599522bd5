/** The slot grid: nothing moves because something else came or went. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Group } from '../src/groups';
import { arrange, bounds, type Layout, slotRect, tileRect } from '../src/layout';

const ROOM = { width: 1092, height: 720 };

function group(id: string, pods: number, first = 0): Group {
  return {
    id,
    label: id,
    members: Array.from({ length: pods }, (_, index) => ({
      id: `${id}/${String(first + index).padStart(4, '0')}`,
      home: `${id}/w${(first + index) % 3}`,
      elastic: true,
      gone: false,
    })),
  };
}

function positions(layout: Layout): Map<string, string> {
  const found = new Map<string, string>();
  for (const tile of layout.tiles.values()) {
    found.set(`tile ${tile.id}`, JSON.stringify(tileRect(tile)));
    tile.slots.forEach((slot, index) => {
      if (slot.pod !== null) found.set(slot.pod, JSON.stringify(slotRect(layout, tile, index)));
    });
  }
  return found;
}

function overlapping(layout: Layout): string[] {
  const tiles = [...layout.tiles.values()].map((tile) => ({ id: tile.id, ...tileRect(tile) }));
  return tiles.flatMap((a, index) =>
    tiles
      .slice(index + 1)
      .filter(
        (b) => a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height,
      )
      .map((b) => `${a.id} ${b.id}`),
  );
}

describe.each([
  ['few pods', [6, 4, 3, 2, 2]],
  ['hundreds of pods', [120, 80, 60, 40, 20, 9, 3]],
  ['thousands of pods', [520, 260, 196, 180, 168, 132, 90, 66, 42, 18]],
])('a layout of %s', (_, sizes) => {
  const groups = sizes.map((size, index) => group(`g${index}`, size));
  const first = arrange(null, groups, ROOM);

  it('seats every pod once, inside its tile', () => {
    const seats = positions(first);
    for (const one of groups) {
      const tile = first.tiles.get(one.id);
      if (tile === undefined) throw new Error('no tile');
      const box = tileRect(tile);
      for (const member of one.members) {
        const cell = JSON.parse(seats.get(member.id) ?? 'null');
        expect(cell.x).toBeGreaterThanOrEqual(box.x);
        expect(cell.y).toBeGreaterThanOrEqual(box.y);
        expect(cell.x + cell.width).toBeLessThanOrEqual(box.x + box.width + 1);
        expect(cell.y + cell.height).toBeLessThanOrEqual(box.y + box.height);
      }
    }
  });

  it('keeps a quarter of its slots free and no two tiles on one place', () => {
    for (const one of groups) {
      const tile = first.tiles.get(one.id);
      expect(tile?.slots.length).toBeGreaterThanOrEqual(Math.ceil(one.members.length * 1.25));
    }
    expect(overlapping(first)).toEqual([]);
  });

  it('moves nothing, by 0 px, when pods leave and others come', () => {
    const [big, ...others] = groups;
    if (big === undefined) throw new Error('no groups');
    const leaving = Math.floor(big.members.length / 4);
    const fewer = arrange(first, [{ ...big, members: big.members.slice(leaving) }, ...others], ROOM);
    const after = positions(fewer);
    const before = positions(first);
    for (const [id, at] of after) expect(at).toBe(before.get(id));
    const arrivals = group('new', leaving).members;
    const again = arrange(
      fewer,
      [{ ...big, members: [...big.members.slice(leaving), ...arrivals] }, ...others],
      ROOM,
    );
    const settled = positions(again);
    for (const [id, at] of after) expect(settled.get(id)).toBe(at);
    expect(overlapping(again)).toEqual([]);
  });

  it('uses freed slots again', () => {
    const [big, ...others] = groups;
    if (big === undefined) throw new Error('no groups');
    const [gone, ...rest] = big.members;
    if (gone === undefined) throw new Error('no pods');
    const without = arrange(first, [{ ...big, members: rest }, ...others], ROOM);
    const newcomer = { id: 'newcomer', home: gone.home, elastic: true, gone: false };
    const filled = arrange(without, [{ ...big, members: [...rest, newcomer] }, ...others], ROOM);
    expect(positions(filled).get('newcomer')).toBe(positions(first).get(gone.id));
  });

  it('stands still while pods replace each other, however many are still told of after their end', () => {
    const [big, ...others] = groups;
    if (big === undefined) throw new Error('no groups');
    const lives = (index: number, round: number) => round < 8 && index % 4 === round % 4;
    let layout = first;
    let members = [...big.members];
    for (let round = 0; round < 8; round++) {
      const successors = members
        .filter(({ gone }, index) => !gone && lives(index, round))
        .map(({ id, home, elastic }) => ({ id: `${id}+`, home, elastic, gone: false }));
      members = members.map((member, index) => ({ ...member, gone: member.gone || lives(index, round) }));
      members = [...members, ...successors];
      const next = arrange(layout, [{ ...big, members }, ...others], ROOM);
      const [before, after] = [positions(layout), positions(next)];
      for (const [id, at] of before) if (after.has(id)) expect(after.get(id)).toBe(at);
      for (const { id, gone } of members) if (!gone) expect(after.has(id)).toBe(true);
      expect(after.get(`tile ${big.id}`)).toBe(before.get(`tile ${big.id}`));
      layout = next;
    }
    expect(members.length).toBeGreaterThan(big.members.length * 2);
  });

  it('places a new group without moving another', () => {
    const more = arrange(first, [...groups, group('late', 5)], ROOM);
    const after = positions(more);
    for (const [id, at] of positions(first)) expect(after.get(id)).toBe(at);
    expect(overlapping(more)).toEqual([]);
  });

  it('moves at most the tile that outgrew its slots', () => {
    const [big, ...others] = groups;
    if (big === undefined) throw new Error('no groups');
    const grown = arrange(first, [group(big.id, Math.ceil(big.members.length * 1.4) + 9), ...others], ROOM);
    const after = positions(grown);
    for (const [id, at] of positions(first))
      if (!id.startsWith(`${big.id}/`) && id !== `tile ${big.id}`) expect(after.get(id)).toBe(at);
    expect(overlapping(grown)).toEqual([]);
  });
});

describe('any history of arrivals and departures', () => {
  it('keeps everybody who stays in a tile with room at the same place', () => {
    const crowd = fc.array(fc.uniqueArray(fc.nat(15), { maxLength: 10 }), { minLength: 2, maxLength: 6 });
    fc.assert(
      fc.property(crowd, (moments) => {
        const steady = group('steady', 5);
        let layout = arrange(null, [steady, group('busy', 10)], ROOM);
        const before = positions(layout);
        for (const present of moments) {
          const members = present.map((id) => ({
            id: `busy/${id}`,
            home: 'busy',
            elastic: true,
            gone: false,
          }));
          layout = arrange(layout, [steady, { id: 'busy', label: 'busy', members }], ROOM);
          const seats = positions(layout);
          for (const member of steady.members) expect(seats.get(member.id)).toBe(before.get(member.id));
          for (const member of members) expect(seats.has(member.id)).toBe(true);
        }
      }),
    );
  });

  it('gives the same picture for the same groups', () => {
    const groups = [group('a', 30), group('b', 12), group('c', 4)];
    expect(positions(arrange(null, groups, ROOM))).toEqual(positions(arrange(null, groups, ROOM)));
  });
});

it('a small cluster fills the view', () => {
  const layout = arrange(
    null,
    [8, 7, 2, 2, 2].map((size, index) => group(`g${index}`, size)),
    ROOM,
  );
  const box = bounds(layout);
  const zoom = Math.min(ROOM.width / box.width, ROOM.height / box.height);
  expect((box.width * zoom * box.height * zoom) / (ROOM.width * ROOM.height)).toBeGreaterThan(0.85);
});
