/** Pure: what a picture consists of, and which part of it passes from deciding to drawing. */
import type { Density } from './density';
import type { Curve } from './geometry';
import type { Graph } from './graph';
import type { Group, Grouping } from './groups';
import type { Sickness } from './health';
import type { Layer } from './layers';
import type { Layout, Rect } from './layout';
import type { End, Selection } from './select';
import type { Edge } from './view';

/** How a pod's square looks. Below `New` it is the step of activity. */
export const TONE = { New: 4, Pending: 5, Failing: 6 } as const;
/** Flags of a pod's square. */
export const FLAG = { Dim: 1, Hatched: 2, Selected: 4, Round: 8 } as const;

/** What a link says by its colour. */
export type LinkTone = 'l4' | 'dns' | 'bad' | 'warning' | 'stale' | 'quiet' | 'underlay';

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
  /** What is wrong beside loss: the worst of its edges. */
  readonly mark: Sickness | null;
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

/** What links lead to, by zoom. */
export type Level = 'group' | 'workload' | 'pod';

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
  /** Where links end from near by: outlines of workloads, from afar none. */
  readonly areas: readonly Rect[];
  readonly level: Level;
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
  readonly sick: ReadonlyMap<string, readonly Sickness[]>;
  readonly layers: ReadonlySet<Layer>;
  /** Links drawn at once; every unhealthy one is drawn beyond that. */
  readonly top: number;
  /** Links of the picture before: they keep their place while ranks are close. */
  readonly before: ReadonlySet<string>;
}

/** Where a vertex is. */
export interface Place {
  readonly id: string;
  readonly x: number;
  readonly y: number;
  readonly cell: Rect;
  readonly group: string;
  /** Its workload, `namespace/name`; null of what has none. */
  readonly workload: string | null;
  /** Numbers of the vertex, its workload and its group, each from 0, for telling pairs apart quickly. */
  readonly index: number;
  readonly workloadIndex: number;
  readonly groupIndex: number;
}

/** An edge with both its places found. */
export interface PlacedEdge {
  readonly edge: Edge;
  readonly from: Place;
  readonly to: Place;
}

/** What the painter needs of a link. */
export type DrawnLink = Omit<Link, 'from' | 'to' | 'edges'>;

/** What the painter needs of a scene; the rest stays on the page. */
export type Drawable = Omit<Scene, 'links' | 'pods' | 'hiddenLinks'> & {
  readonly links: readonly DrawnLink[];
  readonly pods: Omit<ScenePods, 'ids'>;
};

/** Leaves out what is only for picking. */
export function drawable({ density, tiles, pods, sockets, links, pills, areas, level }: Scene): Drawable {
  const { x, y, tone, flags, labels, room } = pods;
  return {
    density,
    tiles,
    pods: { x, y, tone, flags, labels, room },
    sockets,
    links: links.map(({ id, curve, rate, width, alpha, tone: colour, dim, focus, loss, mark, label }) => ({
      id,
      curve,
      rate,
      width,
      alpha,
      tone: colour,
      dim,
      focus,
      loss,
      mark,
      label,
    })),
    pills,
    areas,
    level,
  };
}
