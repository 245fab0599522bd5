/** A workload: its pods and how they are, what it serves and asks for, its last hour. */
import { count, rate, service } from '../format';
import { type Graph, isPresent, workloadKey } from '../graph';
import type { Grouping } from '../groups';
import { chartOf, summed } from '../history';
import { edgesOf } from '../select';
import * as store from '../store';
import type { Edge, Vertex } from '../view';
import { Badge, Chart, EdgeList, Fact, Stats } from './parts';
import { sums, worstFirst } from './vertex';

/** Pods listed at once. */
const MAX_PODS = 40;

function Health({ pods }: { pods: readonly Vertex[] }) {
  const of = (phase: Vertex['phase']) => pods.filter((pod) => pod.phase === phase).length;
  const failing = of('failing');
  const pending = of('pending');
  if (failing > 0) return <Badge tone="bad">◆ {failing} failing</Badge>;
  if (pending > 0) return <Badge tone="warning">□ {pending} pending</Badge>;
  return <Badge tone="plain">workload</Badge>;
}

/** Ports that its pods answer on, busiest first. */
function served(edges: readonly Edge[], members: ReadonlySet<string>): string {
  const ports = new Map<string, number>();
  for (const edge of edges)
    if (members.has(edge.server)) {
      const name = service(edge);
      ports.set(name, (ports.get(name) ?? 0) + edge.rate.forwardSkbs);
    }
  const names = [...ports].sort((a, b) => b[1] - a[1]).map(([name]) => name);
  return names.length === 0 ? '' : names.slice(0, 6).join(', ') + (names.length > 6 ? ', …' : '');
}

/** Everything about `namespace/workload`. */
export function WorkloadPanel({ id, graph, grouping }: { id: string; graph: Graph; grouping: Grouping }) {
  const pods = [...graph.vertices.values()].filter(
    (vertex) => workloadKey(vertex) === id && isPresent(vertex),
  );
  const members = new Set(pods.map((pod) => pod.id));
  const edges = edgesOf({ kind: 'workload', id }, graph, grouping);
  const nodes = new Set(pods.map((pod) => pod.node).filter((node) => node !== null));
  const history = store.history.value.trails;
  const trails = edges.flatMap((edge) => history.get(edge.id) ?? []);
  const chart = trails.length === 0 ? null : chartOf(summed(trails));
  const ports = served(edges, members);
  const now = edges.reduce((sum, edge) => sum + edge.rate.forwardSkbs, 0);
  return (
    <article data-testid="workload-panel" data-workload={id}>
      <Health pods={pods} />
      <h2 class="breakable">{id.slice(id.indexOf('/') + 1)}</h2>
      <p class="subline">
        {[id.slice(0, id.indexOf('/')), pods[0]?.workloadKind].filter(Boolean).join(' · ')}
      </p>
      <Stats items={sums(edges)} />
      <dl>
        <Fact name="Pods">
          {count(pods.length)}, {count(pods.filter((pod) => pod.ready).length)} ready, on {count(nodes.size)}{' '}
          {nodes.size === 1 ? 'node' : 'nodes'}
        </Fact>
        {ports !== '' && <Fact name="Answers on">{ports}</Fact>}
      </dl>
      {chart !== null && (
        <section>
          <h3>
            Packets/s{' '}
            <span>
              {rate(chart.rate[0] ?? 0)} → {rate(now)} · {chart.span}
              {trails.length < edges.length && `, ${trails.length} of ${edges.length} links`}
            </span>
          </h3>
          <Chart values={chart.rate} tone="l4" label={`Packets per second, ${chart.span}`} />
        </section>
      )}
      <section>
        <h3>
          Links <span>{count(edges.length)}</span>
        </h3>
        {edges.length === 0 ? (
          <p class="note">No traffic seen from or to it yet.</p>
        ) : (
          <EdgeList edges={worstFirst(edges)} graph={graph} />
        )}
      </section>
      <section>
        <h3>
          Pods <span>{count(pods.length)}</span>
        </h3>
        <ul class="pod-list">
          {pods.slice(0, MAX_PODS).map((pod) => (
            <li key={pod.id}>
              <button
                type="button"
                class="pod-line"
                onClick={() => store.select({ kind: 'vertex', id: pod.id })}
              >
                <i class={`square ${pod.phase}`} />
                <span class="cut">{pod.name}</span>
                <span class="muted">{pod.node ?? ''}</span>
              </button>
            </li>
          ))}
        </ul>
        {pods.length > MAX_PODS && <p class="note">{count(pods.length - MAX_PODS)} more.</p>}
      </section>
    </article>
  );
}
