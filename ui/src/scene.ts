/**
 * Pure: decides what is drawn. Which links at which level, their colour, weight and the rate their particles
 * show; every pod's brightness; every tile's outline. The painter only draws.
 */

import { fan } from './fan';
import { callName, percent, shortName } from './format';
import { bend, type Curve } from './geometry';
import { type Graph, NEW_FOR_MS, workloadKey } from './graph';
import { type Group, type Grouping, groupOf } from './groups';
import { isLossy, isSilent, lossRatio } from './health';
import { type Density, type Layout, podCentre, type Rect, slotRect, tileRect } from './layout';
import { activity, lineWidth, weight } from './rate';
import { concerns, type End, type Found, type Selection } from './select';
import type { Edge, Vertex } from './view';

/** Links drawn at once; every unhealthy one is drawn beyond that. */
export const MAX_LINKS = 1500;
/** Labels of loss drawn at once; the other marks stay. */
const MAX_LOSS_LABELS = 8;

/** How a pod's square looks. Below `New` it is the step of activity. */
export const TONE = { New: 4, Pending: 5, Failing: 6 } as const;
/** Flags of a pod's square. */
export const FLAG = { Dim: 1, Hatched: 2, Selected: 4, Round: 8 } as const;

/** What a link says by its colour. */
export type LinkTone = 'l4' | 'bad' | 'stale' | 'quiet';

/** One drawn link, standing for one or more edges. */
export interface Link {
  readonly id: string;
  readonly from: End;
  readonly to: End;
  readonly edges: readonly string[];
  readonly curve: Curve;
  /** Forward packets per second of all its edges: what the particles show. */
  readonly rate: number;
  readonly width: number;
  readonly alpha: number;
  readonly tone: LinkTone;
  /** Dimmed links have no particles. */
  readonly dim: boolean;
  readonly focus: boolean;
  readonly loss: number;
  readonly label: string | null;
}

/** A group's tile. */
export interface SceneTile {
  readonly id: string;
  readonly label: string;
  readonly count: string;
  readonly rect: Rect;
  readonly tone: 'plain' | 'bad' | 'warning';
  readonly mark: string | null;
  readonly selected: boolean;
  readonly dim: boolean;
}

/** All squares, as columns. */
export interface ScenePods {
  readonly x: Float32Array;
  readonly y: Float32Array;
  readonly tone: Uint8Array;
  readonly flags: Uint8Array;
  readonly ids: readonly string[];
  readonly labels: readonly string[];
  /** Room for each label, world units. */
  readonly room: Float32Array;
}

/** A workload that just changed its size. */
export interface ScenePill {
  readonly text: string;
  readonly area: Rect;
}

/** All that is drawn. */
export interface Scene {
  readonly density: Density;
  readonly tiles: readonly SceneTile[];
  readonly pods: ScenePods;
  /** Centres of free slots, x and y by turns; shown where there is room for them. */
  readonly sockets: Float32Array;
  readonly links: readonly Link[];
  readonly pills: readonly ScenePill[];
  readonly hiddenLinks: number;
}

/** What a scene is made of. */
export interface SceneInput {
  readonly graph: Graph;
  readonly grouping: Grouping;
  readonly groups: readonly Group[];
  readonly layout: Layout;
  readonly zoom: number;
  readonly selection: Selection | null;
  readonly found: Found | null;
}

interface Place {
  readonly x: number;
  readonly y: number;
  readonly cell: Rect;
  readonly group: string;
}

/** Decides the whole picture. */
export function compose(input: SceneInput): Scene {
  const { graph, layout, groups } = input;
  const places = new Map<string, Place>();
  const sockets: number[] = [];
  for (const tile of layout.tiles.values())
    tile.slots.forEach((slot, index) => {
      const cell = slotRect(layout, tile, index);
      if (slot.pod === null) {
        const { x, y } = podCentre(layout, cell);
        if (layout.density.fill) sockets.push(x, y);
        return;
      }
      places.set(slot.pod, { ...podCentre(layout, cell), cell, group: tile.id });
    });
  const lit = litEdges(input);
  const { links, hidden } = drawLinks(input, places, lit);
  const bad = new Set<string>();
  for (const edge of graph.edges.values()) {
    if (!isLossy(edge)) continue;
    for (const end of [edge.client, edge.server]) {
      const group = places.get(end)?.group;
      if (group !== undefined) bad.add(group);
    }
  }
  return {
    density: layout.density,
    tiles: groups.flatMap((group) => tile(input, group, bad, lit)),
    pods: squares(input, places, lit),
    sockets: Float32Array.from(sockets),
    links,
    pills: pills(graph, places),
    hiddenLinks: hidden,
  };
}

/** The edges that are not dimmed, or null when none are. */
function litEdges({ graph, grouping, selection, found }: SceneInput): ReadonlySet<string> | null {
  if (selection === null) return found?.edges ?? null;
  const lit = new Set<string>();
  for (const edge of graph.edges.values()) if (concerns(selection, edge, graph, grouping)) lit.add(edge.id);
  return lit;
}

function tile(
  { graph, grouping, layout, selection, found }: SceneInput,
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
      count: String(group.members.length),
      rect: tileRect(place),
      tone: bad.has(group.id) ? 'bad' : troubled ? 'warning' : 'plain',
      mark: troubled && node !== undefined ? node.state : null,
      selected,
      dim:
        !selected &&
        ((found !== null && !group.members.some((member) => found.vertices.has(member.id))) ||
          (lit !== null && selection !== null && !touched(graph, group, lit))),
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
  lit: ReadonlySet<string> | null,
): ScenePods {
  const { graph, selection, found, grouping } = input;
  const rates = new Map<string, number>();
  const near = new Set<string>();
  for (const edge of graph.edges.values()) {
    const total = edge.rate.forwardSkbs + edge.rate.reverseSkbs;
    rates.set(edge.client, (rates.get(edge.client) ?? 0) + total);
    rates.set(edge.server, (rates.get(edge.server) ?? 0) + total);
    if (lit?.has(edge.id)) near.add(edge.client).add(edge.server);
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
    tone[index] = podTone(vertex, graph, rates.get(id) ?? 0);
    const chosen = selection?.kind === 'vertex' && selection.id === id;
    const inside =
      (selection?.kind === 'group' && place.group === selection.id) ||
      (selection?.kind === 'node' && vertex.node === selection.id);
    const dim =
      (found !== null && !found.vertices.has(id)) ||
      (selection !== null && !chosen && !inside && !near.has(id));
    flags[index] =
      (dim ? FLAG.Dim : 0) |
      (vertex.node !== null && isSilent(graph.nodes.get(vertex.node)) ? FLAG.Hatched : 0) |
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

interface Bundle {
  readonly from: End;
  readonly to: End;
  readonly edges: Edge[];
  rate: number;
  loss: number;
  lossy: number;
}

/** Bundles edges for the zoom level: tile to tile, or pod to pod when near enough or within one tile. */
export function bundle(
  edges: Iterable<Edge>,
  byPod: boolean,
  groupOfVertex: (id: string) => string | undefined,
): Map<string, Bundle> {
  const bundles = new Map<string, Bundle>();
  for (const edge of edges) {
    const client = groupOfVertex(edge.client);
    const server = groupOfVertex(edge.server);
    if (client === undefined || server === undefined || edge.client === edge.server) continue;
    const pods = byPod || client === server;
    const from: End = pods ? { kind: 'vertex', id: edge.client } : { kind: 'group', id: client };
    const to: End = pods ? { kind: 'vertex', id: edge.server } : { kind: 'group', id: server };
    const key = `${from.id}\n${to.id}`;
    let found = bundles.get(key);
    if (found === undefined) {
      found = { from, to, edges: [], rate: 0, loss: 0, lossy: 0 };
      bundles.set(key, found);
    }
    found.edges.push(edge);
    found.rate += edge.rate.forwardSkbs;
    if (isLossy(edge)) {
      found.loss = Math.max(found.loss, lossRatio(edge));
      found.lossy += 1;
    }
  }
  return bundles;
}

function drawLinks(
  input: SceneInput,
  places: ReadonlyMap<string, Place>,
  lit: ReadonlySet<string> | null,
): { links: Link[]; hidden: number } {
  const { graph, layout, zoom, selection } = input;
  const focus = selection?.kind === 'edge' ? graph.edges.get(selection.id) : undefined;
  const others = focus === undefined ? graph.edges.values() : without(graph.edges.values(), focus.id);
  const byPod = zoom >= layout.density.podZoom;
  // From afar a tile's inner traffic shows as its pods' brightness; only what is unhealthy is drawn.
  const all = [...bundle(others, byPod, (id) => places.get(id)?.group).entries()].filter(
    ([, entry]) => byPod || entry.lossy > 0 || entry.from.kind === 'group' || lit !== null,
  );
  const isLit = (entry: Bundle) => lit === null || entry.edges.some((edge) => lit.has(edge.id));
  all.sort(
    ([ka, a], [kb, b]) =>
      Number(isLit(b)) - Number(isLit(a)) || b.rate - a.rate || (ka < kb ? -1 : ka > kb ? 1 : 0),
  );
  const shown = all.filter(([, entry], index) => index < MAX_LINKS || entry.lossy > 0);
  const ends = fan(
    shown.map(([, entry]) => entry),
    (id) => {
      const place = layout.tiles.get(id);
      return place === undefined ? undefined : tileRect(place);
    },
    (id) => places.get(id),
    layout.density.pod * 0.35,
  );
  // Many lines stay calm by being fainter, each.
  const crowd = Math.min(1, Math.max(0.4, 250 / Math.max(shown.length, 1)));
  let labels = MAX_LOSS_LABELS;
  const links = shown
    .map(([id, entry], index): Link => {
      const [a, b] = ends[index] ?? [
        { x: 0, y: 0 },
        { x: 0, y: 0 },
      ];
      const dim = !isLit(entry);
      const counted = lit === null || dim ? entry.edges : entry.edges.filter((edge) => lit.has(edge.id));
      const rate = counted.reduce((sum, edge) => sum + edge.rate.forwardSkbs, 0);
      return {
        id,
        from: entry.from,
        to: entry.to,
        edges: entry.edges.map((edge) => edge.id),
        curve: bend(a, b),
        rate,
        ...look(entry, rate, crowd),
        dim,
        focus: selection?.kind === 'link' && !dim,
        loss: entry.loss,
        label: entry.lossy > 0 && !dim && labels-- > 0 ? lossLabel(entry.loss, entry.lossy) : null,
      };
    })
    .sort((a, b) => a.loss - b.loss);
  if (focus !== undefined) links.push(...focusLink(focus, places, layout.density));
  return { links, hidden: all.length - shown.length };
}

function* without(edges: Iterable<Edge>, id: string): Iterable<Edge> {
  for (const edge of edges) if (edge.id !== id) yield edge;
}

/** The selected edge, drawn alone from pod to pod whatever the level. */
function focusLink(edge: Edge, places: ReadonlyMap<string, Place>, density: Density): Link[] {
  const from = places.get(edge.client);
  const to = places.get(edge.server);
  if (from === undefined || to === undefined) return [];
  const distance = Math.hypot(to.x - from.x, to.y - from.y) || 1;
  const trim = (density.pod * 0.35) / distance;
  const dx = (to.x - from.x) * trim;
  const dy = (to.y - from.y) * trim;
  const loss = isLossy(edge) ? lossRatio(edge) : 0;
  return [
    {
      id: `edge\n${edge.id}`,
      from: { kind: 'vertex', id: edge.client },
      to: { kind: 'vertex', id: edge.server },
      edges: [edge.id],
      curve: bend({ x: from.x + dx, y: from.y + dy }, { x: to.x - dx, y: to.y - dy }),
      rate: edge.rate.forwardSkbs,
      width: 1.7,
      alpha: 1,
      tone: loss > 0 ? 'bad' : edge.state === 'stale' ? 'stale' : 'l4',
      dim: false,
      focus: true,
      loss,
      label: loss > 0 ? lossLabel(loss, 1) : null,
    },
  ];
}

function lossLabel(ratio: number, edges: number): string {
  return edges > 1 ? `up to ${percent(ratio)} lost` : `${percent(ratio)} lost`;
}

/** Name service and our own reports are in every cluster's picture; they stay faint. */
export function isChatter(edge: Edge): boolean {
  return edge.own || edge.port === 53;
}

function look(entry: Bundle, rate: number, crowd: number): { tone: LinkTone; width: number; alpha: number } {
  if (entry.lossy > 0) return { tone: 'bad', width: 1.7, alpha: 1 };
  if (entry.edges.every((edge) => edge.state === 'stale')) return { tone: 'stale', width: 0.8, alpha: 0.4 };
  if (entry.edges.every(isChatter)) return { tone: 'quiet', width: 0.55, alpha: 0.14 * crowd };
  return { tone: 'l4', width: lineWidth(rate), alpha: (0.2 + 0.4 * weight(rate)) * crowd };
}

function pills(graph: Graph, places: ReadonlyMap<string, Place>): ScenePill[] {
  return graph.notices.flatMap((notice) => {
    let left = Number.POSITIVE_INFINITY;
    let top = Number.POSITIVE_INFINITY;
    let right = Number.NEGATIVE_INFINITY;
    let bottom = Number.NEGATIVE_INFINITY;
    for (const vertex of graph.vertices.values()) {
      if (workloadKey(vertex) !== notice.key) continue;
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
  for (const vertex of graph.vertices.values()) {
    const group = groupOf(vertex, grouping);
    if (group.id === end.id) return group.label;
  }
  return end.id;
}
