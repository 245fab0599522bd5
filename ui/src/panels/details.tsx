/** Details of what is selected. */
import type { Graph } from '../graph';
import { ArrowIcon } from '../icons';
import { endName } from '../scene';
import type { Selection } from '../select';
import * as store from '../store';
import { EdgePanel } from './edge';
import { NodePanel } from './node';
import { BundlePanel, VertexPanel } from './vertex';
import { WorkloadPanel } from './workload';

/** The panel of whatever it is. */
export function Details({ selection, graph }: { selection: Selection; graph: Graph }) {
  const grouping = store.grouping.value;
  switch (selection.kind) {
    case 'edge': {
      const edge = graph.edges.get(selection.id);
      return edge === undefined ? (
        <Gone what="This link" id={selection.id} />
      ) : (
        <EdgePanel edge={edge} graph={graph} />
      );
    }
    case 'vertex': {
      const vertex = graph.vertices.get(selection.id);
      if (vertex === undefined) return <Gone what="This pod or address" id={selection.id} />;
      return <VertexPanel vertex={vertex} graph={graph} grouping={grouping} />;
    }
    case 'node': {
      const node = graph.nodes.get(selection.id);
      if (node === undefined) return <Gone what="This node" id={selection.id} />;
      return <NodePanel node={node} graph={graph} grouping={grouping} />;
    }
    case 'workload':
      return <WorkloadPanel id={selection.id} graph={graph} grouping={grouping} />;
    case 'group': {
      // A tile may be a workload itself.
      if (grouping === 'workload' && selection.id.includes('/'))
        return <WorkloadPanel id={selection.id} graph={graph} grouping={grouping} />;
      const group = store.groups.value.find((one) => one.id === selection.id);
      if (group === undefined) return <Gone what="This group" id={selection.id} />;
      const title = <span class="cut">{group.label}</span>;
      return (
        <BundlePanel title={title} selection={selection} group={group} graph={graph} grouping={grouping} />
      );
    }
    case 'link': {
      const title = (
        <>
          <span class="cut">{endName(selection.from, graph, grouping)}</span>
          <ArrowIcon />
          <span class="cut">{endName(selection.to, graph, grouping)}</span>
        </>
      );
      return (
        <BundlePanel
          title={title}
          selection={selection}
          group={undefined}
          graph={graph}
          grouping={grouping}
        />
      );
    }
  }
}

function Gone({ what, id }: { what: string; id: string }) {
  return (
    <article data-testid="gone">
      <h2>{what} is not here</h2>
      <p class="note breakable">{id}</p>
      <p class="note">It has left the picture, or has not been seen since the collector started.</p>
    </article>
  );
}
