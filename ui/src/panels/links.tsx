/** What the links of a pod, a workload, a node or a group add up to, and their list. */
import { bytes, count, rate } from '../format';
import type { Graph } from '../graph';
import { isLossy } from '../health';
import * as store from '../store';
import type { Edge } from '../view';
import { EdgeList } from './parts';

/** How many links, and what they carry. */
export function sums(edges: readonly Edge[]) {
  let packets = 0;
  let volume = 0;
  // What carries other traffic would count it twice.
  for (const { rate: one, tunnel } of edges) {
    if (tunnel !== null) continue;
    packets += one.forwardSkbs + one.reverseSkbs;
    volume += one.forwardBytes + one.reverseBytes;
  }
  return [
    { value: String(edges.length), label: edges.length === 1 ? 'link' : 'links' },
    { value: rate(packets), label: 'packets/s' },
    { value: bytes(volume), label: 'bytes/s' },
  ];
}

/** What is ill first, then what is busiest. */
const worstFirst = (edges: readonly Edge[]) => {
  const ill = (edge: Edge) => {
    if (isLossy(edge)) return 3;
    const tone = store.sick.value.get(edge.id)?.[0]?.tone;
    return tone === 'bad' ? 2 : tone === 'warning' ? 1 : 0;
  };
  return [...edges].sort((a, b) => ill(b) - ill(a) || b.rate.forwardSkbs - a.rate.forwardSkbs);
};

/** The list, under its head. */
export function Links({ edges, graph, none }: { edges: readonly Edge[]; graph: Graph; none: string }) {
  return (
    <section>
      <h3>
        Links <span>{count(edges.length)}</span>
      </h3>
      {edges.length === 0 ? <p class="note">{none}</p> : <EdgeList edges={worstFirst(edges)} graph={graph} />}
    </section>
  );
}
