/** A workload: its pods and how they are, what it serves and asks for, its last hour. */
import { count, service } from '../format';
import { type Graph, isPresent, workloadKey } from '../graph';
import type { Grouping } from '../groups';
import { edgesOf } from '../select';
import type { Edge, Vertex } from '../view';
import { LastHour } from './course';
import { Links, sums } from './links';
import { Badge, Fact, PodList, Stats } from './parts';

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
  const kind = pods[0]?.workloadKind;
  const ports = served(edges, members);
  return (
    <article data-testid="workload-panel" data-workload={id}>
      <Health pods={pods} />
      <h2 class="breakable">{id.slice(id.indexOf('/') + 1)}</h2>
      <p class="subline">{[id.slice(0, id.indexOf('/')), kind].filter(Boolean).join(' · ')}</p>
      <Stats items={sums(edges)} />
      <dl>
        <Fact name="Pods">
          {count(pods.length)}, {count(pods.filter((pod) => pod.ready).length)} ready, on {count(nodes.size)}{' '}
          {nodes.size === 1 ? 'node' : 'nodes'}
        </Fact>
        {ports !== '' && <Fact name="Answers on">{ports}</Fact>}
      </dl>
      {kind != null && (
        <LastHour of={{ vertex: `workload:${id.replace('/', `/${kind}/`)}`, view: 'workload' }} />
      )}
      <Links edges={edges} graph={graph} none="No traffic seen from or to it yet." />
      <section>
        <h3>
          Pods <span>{count(pods.length)}</span>
        </h3>
        <PodList pods={pods} limit={MAX_PODS} />
      </section>
    </article>
  );
}
