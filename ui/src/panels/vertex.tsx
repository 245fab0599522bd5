/** One pod, machine, service or address of the world; and groups of them. */
import { clock } from '../format';
import type { Graph } from '../graph';
import type { Group, Grouping } from '../groups';
import { isLossy } from '../health';
import { edgesOf, type Selection } from '../select';
import * as store from '../store';
import type { Vertex } from '../view';
import { LastHour } from './course';
import { Links, sums } from './links';
import { Badge, Fact, Stats } from './parts';

function PhaseBadge({ vertex }: { vertex: Vertex }) {
  if (vertex.kind !== 'pod') return <Badge tone="plain">{vertex.kind}</Badge>;
  if (vertex.phase === 'failing') return <Badge tone="bad">◆ failing</Badge>;
  if (vertex.phase === 'pending') return <Badge tone="warning">□ pending</Badge>;
  return <Badge tone="plain">{vertex.phase}</Badge>;
}

/** Everything about one vertex. */
export function VertexPanel({
  vertex,
  graph,
  grouping,
}: {
  vertex: Vertex;
  graph: Graph;
  grouping: Grouping;
}) {
  const edges = edgesOf({ kind: 'vertex', id: vertex.id }, graph, grouping);
  const { node } = vertex;
  return (
    <article data-testid="vertex-panel" data-vertex-id={vertex.id}>
      <PhaseBadge vertex={vertex} />
      <h2 class="breakable">{vertex.name}</h2>
      <p class="subline">
        {[vertex.namespace, vertex.workloadKind, vertex.workload].filter(Boolean).join(' · ')}
      </p>
      <Stats items={sums(edges)} />
      <dl>
        {node !== null && (
          <Fact name="Node">
            <button
              type="button"
              class="text-button"
              onClick={() => store.select({ kind: 'node', id: node })}
            >
              {node}
            </button>
          </Fact>
        )}
        <Fact name="Addresses">
          {vertex.addresses.length === 0 ? (
            <span class="muted">none known</span>
          ) : (
            vertex.addresses.map((address) => (
              <span key={address} class="address">
                {address}
              </span>
            ))
          )}
        </Fact>
        {vertex.dnsNames.length > 0 && (
          <Fact name="Names by DNS">
            <span data-testid="dns-names">
              {vertex.dnsNames.map((name) => (
                <span key={name} class="address cut" title={name}>
                  {name}
                </span>
              ))}
            </span>
          </Fact>
        )}
        {vertex.kind === 'external' && vertex.dnsNames.length === 0 && (
          <Fact name="Names by DNS">
            <span class="muted">none known</span>
          </Fact>
        )}
        {vertex.kind === 'pod' && <Fact name="Ready">{vertex.ready ? 'yes' : 'no'}</Fact>}
        {vertex.hostNetwork && <Fact name="Network">the node's own</Fact>}
        {vertex.createdMs !== null && <Fact name="Created">{clock(vertex.createdMs)} UTC</Fact>}
      </dl>
      <LastHour of={{ vertex: vertex.id, view: 'pod' }} />
      <Links edges={edges} graph={graph} none="No traffic seen from or to it yet." />
    </article>
  );
}

/** A group, or a link that stands for several. */
export function BundlePanel({
  title,
  selection,
  group,
  graph,
  grouping,
}: {
  title: preact.ComponentChildren;
  selection: Selection;
  group: Group | undefined;
  graph: Graph;
  grouping: Grouping;
}) {
  const edges = edgesOf(selection, graph, grouping);
  const lossy = edges.filter(isLossy).length;
  return (
    <article data-testid="group-panel">
      {lossy > 0 ? (
        <Badge tone="bad">
          ⊗ {lossy} {lossy === 1 ? 'link loses' : 'links lose'} packets
        </Badge>
      ) : (
        <Badge tone="plain">{selection.kind === 'link' ? 'bundle' : grouping}</Badge>
      )}
      <h2 class="ends">{title}</h2>
      {group !== undefined && (
        <p class="subline">
          {group.members.length} {group.members.length === 1 ? 'member' : 'members'}
        </p>
      )}
      <Stats items={sums(edges)} />
      {grouping === 'namespace' && selection.kind === 'group' && !selection.id.startsWith('~') && (
        <LastHour of={{ vertex: `namespace:${selection.id}`, view: 'namespace' }} />
      )}
      <Links edges={edges} graph={graph} none="No traffic seen here yet." />
    </article>
  );
}
