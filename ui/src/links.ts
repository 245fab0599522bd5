/** Pure: which links are drawn at which level, with what weight, colour and label. */

import type { Density } from './density';
import { fan } from './fan';
import { percent } from './format';
import { bend } from './geometry';
import type { Graph } from './graph';
import { isLossy, lossRatio, type Sickness } from './health';
import { isDns } from './layers';
import { type Rect, tileRect } from './layout';
import type { Level, Link, LinkTone, Place, PlacedEdge, SceneInput } from './picture';
import { lineWidth, weight } from './rate';
import type { End } from './select';
import type { Edge } from './view';

/** A link that is drawn keeps its place until another one's rate is this much higher, so that ranks do not flicker. */
export const KEEP = 1.25;
/** Labels of loss drawn at once; the other marks stay. */
const MAX_LOSS_LABELS = 8;

interface Bundle {
  readonly from: End;
  readonly to: End;
  readonly edges: Edge[];
  rate: number;
  loss: number;
  lossy: number;
  /** The worst of its sick edges' ailments, and how many are sick. */
  mark: Sickness | null;
  sick: number;
  lit: boolean;
}

/** More ends than this would mix up pairs; the page is far from drawing as many. */
const PAIR = 2 ** 25;

/** A place's end at a level, with a number that no other end has. */
function endAt(place: Place, level: Level): { end: End; number: number } {
  if (level === 'group') return { end: { kind: 'group', id: place.group }, number: place.groupIndex * 3 };
  if (level === 'workload' && place.workload !== null)
    return { end: { kind: 'workload', id: place.workload }, number: place.workloadIndex * 3 + 1 };
  return { end: { kind: 'vertex', id: place.id }, number: place.index * 3 + 2 };
}

/** Bundles edges for the level; what stays within one tile or one workload leads from pod to pod. */
function bundle(
  placed: readonly PlacedEdge[],
  level: Level,
  innerToo: boolean,
  lit: ReadonlySet<string> | null,
  except: string | null,
  sick: SceneInput['sick'],
): Bundle[] {
  const bundles = new Map<number | string, Bundle>();
  for (const { edge, from, to } of placed) {
    if (from === to || edge.id === except) continue;
    const lossy = isLossy(edge);
    const worst = sick.get(edge.id)?.[0] ?? null;
    let start = endAt(from, level);
    let end = endAt(to, level);
    if (start.number === end.number) {
      // From afar a crowded tile's inner traffic shows as its pods' brightness; what is unhealthy or picked is drawn.
      if (!innerToo && !lossy && worst === null && lit === null) continue;
      start = endAt(from, 'pod');
      end = endAt(to, 'pod');
    }
    const pair = start.number * PAIR + end.number;
    // What carries other traffic is a layer of its own.
    const key = edge.tunnel === null ? pair : `${pair} underlay`;
    let found = bundles.get(key);
    if (found === undefined) {
      found = {
        from: start.end,
        to: end.end,
        edges: [],
        rate: 0,
        loss: 0,
        lossy: 0,
        mark: null,
        sick: 0,
        lit: lit === null,
      };
      bundles.set(key, found);
    }
    found.edges.push(edge);
    found.rate += edge.rate.forwardSkbs;
    if (lit?.has(edge.id)) found.lit = true;
    if (lossy) {
      found.loss = Math.max(found.loss, lossRatio(edge));
      found.lossy += 1;
    }
    if (worst !== null) {
      found.sick += 1;
      if (found.mark === null || (found.mark.tone !== 'bad' && worst.tone === 'bad')) found.mark = worst;
    }
  }
  return [...bundles.values()];
}

/** Where links may end. */
export interface Ground {
  readonly places: ReadonlyMap<string, Place>;
  readonly areas: ReadonlyMap<string, Rect>;
}

const idOf = (entry: Bundle) =>
  `${entry.from.kind[0]}${entry.from.id}\n${entry.to.kind[0]}${entry.to.id}${isUnderlay(entry) ? '\nunderlay' : ''}`;

/** All links to draw, unhealthy ones last, and how many were left out. */
export function drawLinks(
  { graph, layout, selection, sick, top, before }: SceneInput,
  level: Level,
  { places, areas }: Ground,
  placed: readonly PlacedEdge[],
  lit: ReadonlySet<string> | null,
): { links: Link[]; hidden: number } {
  const focus = selection?.kind === 'edge' ? graph.edges.get(selection.id) : undefined;
  const all = bundle(placed, level, layout.density.fill, lit, focus?.id ?? null, sick).map((entry) => {
    const id = idOf(entry);
    return { ...entry, id, rank: entry.rate * (before.has(id) ? KEEP : 1) };
  });
  all.sort((a, b) => Number(b.lit) - Number(a.lit) || b.rank - a.rank);
  const shown = all.filter((entry, index) => index < top || entry.lossy > 0 || entry.mark !== null);
  const ends = fan(
    shown,
    (end) => {
      if (end.kind === 'workload') return areas.get(end.id);
      const place = layout.tiles.get(end.id);
      return place === undefined ? undefined : tileRect(place);
    },
    (id) => places.get(id),
    layout.density.pod * 0.35,
  );
  // Many lines stay calm by being fainter, each.
  const crowd = Math.min(1, Math.max(0.4, 250 / Math.max(shown.length, 1)));
  let labels = MAX_LOSS_LABELS;
  const links = shown
    .map((entry, index): Link => {
      const [a, b] = ends[index] ?? [
        { x: 0, y: 0 },
        { x: 0, y: 0 },
      ];
      const dim = !entry.lit;
      const counted = lit === null || dim ? entry.edges : entry.edges.filter((edge) => lit.has(edge.id));
      const rate = counted.reduce((sum, edge) => sum + edge.rate.forwardSkbs, 0);
      return {
        id: entry.id,
        from: entry.from,
        to: entry.to,
        edges: entry.edges.map((edge) => edge.id),
        curve: bend(a, b),
        rate,
        ...look(entry, rate, crowd, lit !== null),
        dim,
        focus: selection?.kind === 'link' && !dim,
        loss: entry.loss,
        mark: entry.mark,
        label: (entry.lossy > 0 || entry.mark !== null) && !dim && labels-- > 0 ? trouble(entry) : null,
      };
    })
    .sort((a, b) => a.loss - b.loss || Number(a.mark !== null) - Number(b.mark !== null));
  if (focus !== undefined)
    links.push(...focusLink(focus, places, layout.density, sick.get(focus.id)?.[0] ?? null));
  return { links, hidden: all.length - shown.length };
}

/** The selected edge, drawn alone from pod to pod whatever the level. */
function focusLink(
  edge: Edge,
  places: ReadonlyMap<string, Place>,
  density: Density,
  mark: Sickness | null,
): Link[] {
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
      tone: loss > 0 ? 'bad' : (mark?.tone ?? (edge.state === 'live' ? layer(edge) : 'stale')),
      dim: false,
      focus: true,
      loss,
      mark,
      label: loss > 0 ? lossLabel(loss, 1) : (mark?.words ?? null),
    },
  ];
}

/** The label of an unhealthy bundle: its loss, else the worst of what else is wrong. */
function trouble({ loss, lossy, mark, sick }: Bundle): string | null {
  if (lossy > 0) return lossLabel(loss, lossy);
  if (mark === null) return null;
  return sick > 1 ? `${sick} links: ${mark.words}` : mark.words;
}

const isUnderlay = (entry: Bundle) => entry.edges.every((edge) => edge.tunnel !== null);

function layer(edge: Edge): LinkTone {
  return edge.tunnel !== null ? 'underlay' : isDns(edge) ? 'dns' : 'l4';
}

function lossLabel(ratio: number, edges: number): string {
  return edges > 1 ? `up to ${percent(ratio)} lost` : `${percent(ratio)} lost`;
}

/** Who scrapes, by the usual names of its workload. */
const SCRAPER = /\/(prometheus|vmagent|grafana-agent|otel-collector)-/;

/** Name service, scrapes and our own reports are in every cluster's picture: they stay faint until asked for. */
export function isChatter(edge: Edge): boolean {
  return edge.own || edge.port === 53 || SCRAPER.test(edge.client);
}

/** The busiest links that are neither chatter nor carry other traffic, most first. */
export function busiest(graph: Graph, most: number): Edge[] {
  const found: Edge[] = [];
  for (const edge of graph.edges.values()) {
    const rate = edge.rate.forwardSkbs;
    const last = found[most - 1];
    if (rate <= 0 || (last !== undefined && rate <= last.rate.forwardSkbs)) continue;
    if (edge.tunnel !== null || isChatter(edge)) continue;
    const place = found.findIndex((one) => one.rate.forwardSkbs < rate);
    found.splice(place < 0 ? found.length : place, 0, edge);
    found.length = Math.min(found.length, most);
  }
  return found;
}

function look(
  entry: Bundle,
  rate: number,
  crowd: number,
  asked: boolean,
): { tone: LinkTone; width: number; alpha: number } {
  if (entry.lossy > 0) return { tone: 'bad', width: 1.7, alpha: 1 };
  if (entry.mark !== null) return { tone: entry.mark.tone, width: 1.5, alpha: 1 };
  if (entry.edges.every((edge) => edge.state !== 'live')) return { tone: 'stale', width: 0.8, alpha: 0.4 };
  if (isUnderlay(entry)) return { tone: 'underlay', width: lineWidth(rate), alpha: 0.6 };
  const dns = entry.edges.every(isDns);
  if (!asked && entry.edges.every(isChatter))
    return dns
      ? { tone: 'dns', width: 0.6, alpha: 0.28 * crowd }
      : { tone: 'quiet', width: 0.55, alpha: 0.14 * crowd };
  return { tone: dns ? 'dns' : 'l4', width: lineWidth(rate), alpha: (0.2 + 0.4 * weight(rate)) * crowd };
}
