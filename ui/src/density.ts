/** Pure: how big things are drawn, chosen once by how many there are and how wide the view is. */

/** How big things are drawn, chosen by how many there are. World units are pixels at zoom 1. */
export interface Density {
  readonly name: 'roomy' | 'medium' | 'dense';
  readonly cellWidth: number;
  readonly cellHeight: number;
  readonly pod: number;
  readonly header: number;
  readonly padding: number;
  /** From this zoom on, links of a namespace's tile end at workloads; from the next on, at pods. */
  readonly workloadZoom: number;
  readonly podZoom: number;
  /** Names stand beside the squares, not below. */
  readonly beside: boolean;
  /** Tiles grow into the gaps a first layout leaves, so that few of them fill the view. */
  readonly fill: boolean;
  /** Free slots a tile has at least, and one whose workloads are made to be scaled. */
  readonly spare: number;
  readonly elastic: number;
  readonly limit: number;
}

const ROOMY: Density = {
  name: 'roomy',
  cellWidth: 132,
  cellHeight: 26,
  pod: 11,
  header: 24,
  padding: 14,
  workloadZoom: 1.05,
  podZoom: 1.45,
  beside: true,
  fill: true,
  spare: 2,
  elastic: 6,
  limit: 90,
};
/** The same for a phone's width: no room for names, so none is kept. */
const SLIM: Density = { ...ROOMY, cellWidth: 24, cellHeight: 24, header: 26, padding: 12, beside: false };
const MEDIUM: Density = {
  name: 'medium',
  cellWidth: 19,
  cellHeight: 19,
  pod: 11,
  header: 28,
  padding: 10,
  workloadZoom: 1.1,
  podZoom: 1.7,
  beside: false,
  fill: false,
  spare: 6,
  elastic: 6,
  limit: 700,
};
const DENSE: Density = {
  name: 'dense',
  cellWidth: 11,
  cellHeight: 11,
  pod: 7,
  header: 22,
  padding: 8,
  workloadZoom: 1.5,
  podZoom: 2.6,
  beside: false,
  fill: false,
  spare: 6,
  elastic: 6,
  limit: Number.POSITIVE_INFINITY,
};
/** Views narrower than this take the slim form. */
const SLIM_BELOW = 600;

/** The density for so many vertices in a view of this width. */
export function densityFor(count: number, width: number): Density {
  if (count <= ROOMY.limit) return width < SLIM_BELOW ? SLIM : ROOMY;
  return count <= MEDIUM.limit ? MEDIUM : DENSE;
}
