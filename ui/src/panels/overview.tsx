/** With nothing selected: what is unhealthy first, then who talks most. */
import { count } from '../format';
import type { Graph } from '../graph';
import { LossIcon, WarningIcon } from '../icons';
import { busiest } from '../links';
import * as store from '../store';
import type { Vertex } from '../view';
import { EventList } from './events';
import { BesideHubble } from './hubble';
import { NodeList } from './nodes';
import { Badge, EdgeList, PodList } from './parts';

function Pods({ title, pods }: { title: string; pods: readonly Vertex[] }) {
  if (pods.length === 0) return null;
  return (
    <section>
      <h3>
        {title} <span>{pods.length}</span>
      </h3>
      <PodList pods={pods} limit={12} />
    </section>
  );
}

/** One sentence about everything, then the lists. */
export function Overview({ graph }: { graph: Graph }) {
  const { lossy, nodes, failing, pending } = store.trouble.value;
  // A link that loses packets stands above, with all that ails it.
  const sick = store.trouble.value.sick.filter((edge) => !lossy.includes(edge));
  const red = sick.filter((edge) => store.sick.value.get(edge.id)?.[0]?.tone === 'bad').length;
  const talkers = busiest(graph, 8);
  const troubled = lossy.length + sick.length + nodes.length + failing.length;
  return (
    <article data-testid="overview">
      {graph.nodes.size === 0 ? (
        <Badge tone="plain">Waiting</Badge>
      ) : troubled === 0 ? (
        <Badge tone="good">All quiet</Badge>
      ) : (
        <Badge tone={lossy.length + red + failing.length > 0 ? 'bad' : 'warning'}>Needs a look</Badge>
      )}
      <h2>
        {graph.nodes.size === 0
          ? 'Nothing heard yet'
          : troubled === 0
            ? 'Nothing unhealthy'
            : summary(lossy.length, sick.length, nodes.length, failing.length)}
      </h2>
      <p class="subline">
        {count(graph.edges.size)} links on {count(graph.nodes.size)} nodes. Pick one on the map or in the
        table.
      </p>
      {graph.names?.state === 'none' && (
        <p class="note" data-testid="no-names">
          <b>No names.</b> The collector was given no pod list, so everything goes by its address.
        </p>
      )}
      {lossy.length > 0 && (
        <section>
          <h3 class="bad">
            <LossIcon /> Losing packets <span>{lossy.length}</span>
          </h3>
          <EdgeList edges={lossy} graph={graph} limit={12} />
        </section>
      )}
      {sick.length > 0 && (
        <section data-testid="sick">
          <h3 class={red > 0 ? 'bad' : 'warning'}>
            Failing links{' '}
            <span title="By what grew within the last minute: connects that failed, segments that a kernel dropped, DNS queries without a good answer">
              {store.spanWords.value} · {sick.length}
            </span>
          </h3>
          <EdgeList edges={sick} graph={graph} limit={12} />
        </section>
      )}
      {store.unfollowed.value > 0 && (
        <p class="note">
          {count(store.unfollowed.value)} more links have failed at some time; this page follows 4,096.
        </p>
      )}
      <Pods title="Failing pods" pods={failing} />
      <Pods title="Pending pods" pods={pending} />
      <section>
        <h3 class={nodes.length > 0 ? 'warning' : ''}>
          {nodes.length > 0 && <WarningIcon />} Nodes <span>{graph.nodes.size}</span>
        </h3>
        {graph.nodes.size > 12 ? <FewNodes graph={graph} /> : <NodeList graph={graph} />}
      </section>
      <BesideHubble />
      <EventList graph={graph} />
      <section>
        <h3>
          Top talkers <span>packets/s</span>
        </h3>
        {talkers.length === 0 ? (
          <p class="note">Nothing is moving right now.</p>
        ) : (
          <EdgeList edges={talkers} graph={graph} />
        )}
      </section>
    </article>
  );
}

/** On a big cluster only the nodes that need attention are listed here. */
function FewNodes({ graph }: { graph: Graph }) {
  const { nodes } = store.trouble.value;
  if (nodes.length === 0) return <p class="note">All {count(graph.nodes.size)} are live.</p>;
  return (
    <NodeList graph={{ ...graph, nodes: new Map(nodes.slice(0, 12).map((node) => [node.name, node])) }} />
  );
}

function summary(lossy: number, sick: number, nodes: number, failing: number): string {
  const parts = [
    lossy > 0 ? `${lossy} ${lossy === 1 ? 'link loses' : 'links lose'} packets` : '',
    sick > 0 ? `${sick} ${sick === 1 ? 'link fails' : 'links fail'}` : '',
    failing > 0 ? `${failing} ${failing === 1 ? 'pod fails' : 'pods fail'}` : '',
    nodes > 0 ? `${nodes} ${nodes === 1 ? 'node is' : 'nodes are'} not well heard` : '',
  ];
  return parts.filter(Boolean).join(', ');
}
