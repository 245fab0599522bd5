/**
 * Pure: decides what is drawn. Which links at which level, their colour, weight and the rate their particles
 * show; every pod's brightness; every tile's outline. The painter only draws.
 */

import { callName, shortName } from './format';
import { type Graph, isPresent, NEW_FOR_MS, workloadKey } from './graph';
import { type Group, type Grouping, groupOf } from './groups';
import { isLossy, isSilent } from './health';
import { isDrawn } from './layers';
import { type Layout, podCentre, type Rect, slotRect, tileRect } from './layout';
import { drawLinks } from './links';
import {
  FLAG,
  type Level,
  type Place,
  type PlacedEdge,
  type Scene,
  type SceneInput,
  type ScenePill,
  type ScenePods,
  type SceneTile,
  TONE,
} from './picture';
import { activity } from './rate';
import { concerns, type End } from './select';
import type { Vertex } from './view';

/** Decides the whole picture. */
export function compose(input: SceneInput): Scene {
  const { graph, layout, groups } = input;
  const { places, sockets, areas } = placesOf(layout);
  const placed: PlacedEdge[] = [];
  const bad = new Set<string>();
  for (const edge of graph.edges.values()) {
    const from = places.get(edge.client);
    const to = places.get(edge.server);
    if (from === undefined || to === undefined) continue;
    if (!isDrawn(edge, input.layers, input.sick)) continue;
    placed.push({ edge, from, to });
    if (isLossy(edge) || input.sick.get(edge.id)?.[0]?.tone === 'bad') bad.add(from.group).add(to.group);
  }
  const lit = litEdges(input);
  const level = levelOf(input);
  const { links, hidden } = drawLinks(input, level, { places, areas }, placed, lit);
  return {
    density: layout.density,
    tiles: groups.flatMap((group) => tile(input, group, bad, lit)),
    pods: squares(input, places, placed, lit),
    sockets,
    links,
    pills: pills(graph, places),
    areas: level === 'workload' ? [...areas.values()] : [],
    level,
    hiddenLinks: hidden,
  };
}

/** What links lead to: a namespace's tile, near by its workloads, nearest its pods. */
function levelOf({ layout: { density }, grouping, zoom }: SceneInput): Level {
  if (zoom >= density.podZoom) return 'pod';
  return grouping === 'namespace' && zoom >= density.workloadZoom ? 'workload' : 'group';
}

interface Places {
  readonly places: ReadonlyMap<string, Place>;
  /** Around each workload's pods. */
  readonly areas: ReadonlyMap<string, Rect>;
  readonly sockets: Float32Array;
}
/** Places change with their layout only, and layouts are never changed in place. */
const known = new WeakMap<Layout, Places>();

function placesOf(layout: Layout): Places {
  const before = known.get(layout);
  if (before !== undefined) return before;
  const places = new Map<string, Place>();
  const sockets: number[] = [];
  const areas = new Map<string, Rect>();
  const workloads = new Map<string, number>();
  let groupIndex = 0;
  for (const tile of layout.tiles.values()) {
    tile.slots.forEach((slot, index) => {
      const cell = slotRect(layout, tile, index);
      const { x, y } = podCentre(layout, cell);
      if (slot.pod !== null) {
        // The home of what has no workload is its kind.
        const workload = slot.home.includes('/') ? slot.home : null;
        const workloadIndex = workloads.get(slot.home) ?? workloads.size;
        workloads.set(slot.home, workloadIndex);
        const index = places.size;
        const group = tile.id;
        places.set(slot.pod, { id: slot.pod, x, y, cell, group, workload, index, workloadIndex, groupIndex });
        if (workload !== null) areas.set(workload, around(areas.get(workload), cell));
      } else if (layout.density.fill) sockets.push(x, y);
    });
    groupIndex += 1;
  }
  const found = { places, areas, sockets: Float32Array.from(sockets) };
  known.set(layout, found);
  return found;
}

function around(area: Rect | undefined, cell: Rect): Rect {
  if (area === undefined) return cell;
  const x = Math.min(area.x, cell.x);
  const y = Math.min(area.y, cell.y);
  const right = Math.max(area.x + area.width, cell.x + cell.width);
  const bottom = Math.max(area.y + area.height, cell.y + cell.height);
  return { x, y, width: right - x, height: bottom - y };
}

/** The edges that are not dimmed, or null when none are. */
function litEdges({ graph, grouping, selection }: SceneInput): ReadonlySet<string> | null {
  if (selection === null) return null;
  const lit = new Set<string>();
  for (const edge of graph.edges.values()) if (concerns(selection, edge, graph, grouping)) lit.add(edge.id);
  return lit;
}

function tile(
  { graph, grouping, layout, selection }: SceneInput,
  group: Group,
  bad: ReadonlySet<string>,
  lit: ReadonlySet<string> | null,
): SceneTile[] {
  const place = layout.tiles.get(group.id);
  if (place === undefined) return [];
  const node = grouping === 'node' ? graph.nodes.get(group.id) : undefined;
  const selected = (selection?.kind === 'group' || selection?.kind === 'node') && selection.id === group.id;
  const troubled = node !== undefined && node.state !== 'live' && node.state !== 'unknown';
  return [
    {
      id: group.id,
      label: group.label,
      count: String(group.members.filter(({ id }) => graph.vertices.get(id)?.phase !== 'gone').length),
      rect: tileRect(place),
      tone: bad.has(group.id) ? 'bad' : troubled ? 'warning' : 'plain',
      mark: troubled && node !== undefined ? node.state : null,
      selected,
      dim: !selected && lit !== null && !touched(graph, group, lit),
    },
  ];
}

function touched(graph: Graph, group: Group, lit: ReadonlySet<string>): boolean {
  const members = new Set(group.members.map((member) => member.id));
  for (const id of lit) {
    const edge = graph.edges.get(id);
    if (edge !== undefined && (members.has(edge.client) || members.has(edge.server))) return true;
  }
  return false;
}

function squares(
  input: SceneInput,
  places: ReadonlyMap<string, Place>,
  placed: readonly PlacedEdge[],
  lit: ReadonlySet<string> | null,
): ScenePods {
  const { graph, selection, grouping } = input;
  const rates = new Float64Array(places.size);
  const near = new Uint8Array(places.size);
  for (const { edge, from, to } of placed) {
    // What carries other traffic would count it twice.
    const total = edge.tunnel === null ? edge.rate.forwardSkbs + edge.rate.reverseSkbs : 0;
    rates[from.index] = (rates[from.index] ?? 0) + total;
    rates[to.index] = (rates[to.index] ?? 0) + total;
    if (lit?.has(edge.id)) near[from.index] = near[to.index] = 1;
  }
  const ids = [...places.keys()].filter((id) => graph.vertices.has(id));
  const x = new Float32Array(ids.length);
  const y = new Float32Array(ids.length);
  const tone = new Uint8Array(ids.length);
  const flags = new Uint8Array(ids.length);
  const room = new Float32Array(ids.length);
  const labels: string[] = [];
  const named = input.layout.density.cellWidth * input.zoom >= 46;
  ids.forEach((id, index) => {
    const vertex = graph.vertices.get(id) as Vertex;
    const place = places.get(id) as Place;
    x[index] = place.x;
    y[index] = place.y;
    room[index] = place.cell.width;
    tone[index] = podTone(vertex, graph, rates[place.index] ?? 0);
    const chosen = selection?.kind === 'vertex' && selection.id === id;
    const inside =
      (selection?.kind === 'group' && place.group === selection.id) ||
      (selection?.kind === 'workload' && place.workload === selection.id) ||
      (selection?.kind === 'node' && vertex.node === selection.id);
    const dim = selection !== null && !chosen && !inside && near[place.index] === 0;
    flags[index] =
      (dim ? FLAG.Dim : 0) |
      (vertex.phase === 'gone' || (vertex.node !== null && isSilent(graph.nodes.get(vertex.node)))
        ? FLAG.Hatched
        : 0) |
      (chosen ? FLAG.Selected : 0) |
      (vertex.kind === 'external' ? FLAG.Round : 0);
    if (named) labels.push(podLabel(vertex, grouping));
  });
  return { x, y, tone, flags, ids, labels, room };
}

function podLabel(vertex: Vertex, grouping: Grouping): string {
  if (vertex.kind !== 'pod') return vertex.name;
  const { name, workload } = vertex;
  // Under a tile that says the workload, only what comes after it; but a bare ordinal says nothing.
  if (grouping === 'workload' && workload !== null && name.startsWith(`${workload}-`)) {
    const rest = name.slice(workload.length + 1);
    return rest.length > 3 ? rest : name;
  }
  return shortName(vertex);
}

function podTone(vertex: Vertex, graph: Graph, rate: number): number {
  if (vertex.phase === 'failing') return TONE.Failing;
  if (vertex.phase === 'pending') return TONE.Pending;
  const born = graph.born.get(vertex.id);
  if (vertex.kind === 'pod' && born !== undefined && graph.timeMs - born < NEW_FOR_MS) return TONE.New;
  return activity(rate);
}

function pills(graph: Graph, places: ReadonlyMap<string, Place>): ScenePill[] {
  return graph.notices.flatMap((notice) => {
    let left = Number.POSITIVE_INFINITY;
    let top = Number.POSITIVE_INFINITY;
    let right = Number.NEGATIVE_INFINITY;
    let bottom = Number.NEGATIVE_INFINITY;
    for (const vertex of graph.vertices.values()) {
      if (workloadKey(vertex) !== notice.key || !isPresent(vertex)) continue;
      const cell = places.get(vertex.id)?.cell;
      if (cell === undefined) continue;
      left = Math.min(left, cell.x);
      top = Math.min(top, cell.y);
      right = Math.max(right, cell.x + cell.width);
      bottom = Math.max(bottom, cell.y + cell.height);
    }
    if (right < left) return [];
    const area = { x: left, y: top, width: right - left, height: bottom - top };
    return [{ text: `${notice.workload}  ${notice.from} → ${notice.to}`, area }];
  });
}

/** A one-line name of a link's end, for tooltips and titles. */
export function endName(end: End, graph: Graph, grouping: Grouping): string {
  if (end.kind === 'vertex') return callName(graph.vertices.get(end.id), end.id);
  if (end.kind === 'workload') return end.id;
  for (const vertex of graph.vertices.values()) {
    const group = groupOf(vertex, grouping);
    if (group.id === end.id) return group.label;
  }
  return end.id;
}
