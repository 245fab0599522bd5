/** Pure: which links are drawn at which level, with what weight, colour and label. */
import type { Density } from './density';
import { fan } from './fan';
import { percent } from './format';
import { bend } from './geometry';
import { isLossy, lossRatio, type Sickness } from './health';
import { tileRect } from './layout';
import type { Link, LinkTone, Place, PlacedEdge, SceneInput } from './picture';
import { lineWidth, weight } from './rate';
import type { End } from './select';
import type { Edge } from './view';

/** Links drawn at once; every unhealthy one is drawn beyond that. */
export const MAX_LINKS = 1500;
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

/** More vertices or groups than this would mix up pairs; the page is far from drawing as many. */
const PAIR = 2 ** 24;

/** Bundles edges for the zoom level: tile to tile, or pod to pod when near enough or within one tile. */
function bundle(
  placed: readonly PlacedEdge[],
  byPod: boolean,
  innerToo: boolean,
  lit: ReadonlySet<string> | null,
  except: string | null,
  sick: SceneInput['sick'],
): Bundle[] {
  const bundles = new Map<number | string, Bundle>();
  for (const { edge, from, to } of placed) {
    if (from === to || edge.id === except) continue;
    const inner = from.groupIndex === to.groupIndex;
    const lossy = isLossy(edge);
    const worst = sick.get(edge.id)?.[0] ?? null;
    // From afar a crowded tile's inner traffic shows as its pods' brightness; what is unhealthy or picked is drawn.
    if (inner && !byPod && !innerToo && !lossy && worst === null && lit === null) continue;
    const pods = byPod || inner;
    const pair = pods ? from.index * PAIR + to.index : -1 - (from.groupIndex * PAIR + to.groupIndex);
    // What carries other traffic is a layer of its own.
    const key = edge.tunnel === null ? pair : `${pair} underlay`;
    let found = bundles.get(key);
    if (found === undefined) {
      found = {
        from: pods ? { kind: 'vertex', id: edge.client } : { kind: 'group', id: from.group },
        to: pods ? { kind: 'vertex', id: edge.server } : { kind: 'group', id: to.group },
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

/** All links to draw, unhealthy ones last, and how many were left out. */
export function drawLinks(
  { graph, layout, zoom, selection, sick }: SceneInput,
  places: ReadonlyMap<string, Place>,
  placed: readonly PlacedEdge[],
  lit: ReadonlySet<string> | null,
): { links: Link[]; hidden: number } {
  const focus = selection?.kind === 'edge' ? graph.edges.get(selection.id) : undefined;
  const all = bundle(
    placed,
    zoom >= layout.density.podZoom,
    layout.density.fill,
    lit,
    focus?.id ?? null,
    sick,
  );
  all.sort((a, b) => Number(b.lit) - Number(a.lit) || b.rate - a.rate);
  const shown = all.filter((entry, index) => index < MAX_LINKS || entry.lossy > 0 || entry.mark !== null);
  const ends = fan(
    shown,
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
    .map((entry, index): Link => {
      const [a, b] = ends[index] ?? [
        { x: 0, y: 0 },
        { x: 0, y: 0 },
      ];
      const dim = !entry.lit;
      const counted = lit === null || dim ? entry.edges : entry.edges.filter((edge) => lit.has(edge.id));
      const rate = counted.reduce((sum, edge) => sum + edge.rate.forwardSkbs, 0);
      return {
        id: `${entry.from.id}\n${entry.to.id}${isUnderlay(entry) ? '\nunderlay' : ''}`,
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

/** Whether an edge leads to a name server. */
export function isDns(edge: Edge): boolean {
  return edge.dns !== null || edge.port === 53;
}

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
