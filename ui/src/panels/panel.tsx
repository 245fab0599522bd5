/** The panel beside or below the map: details of what is selected, else the overview. */

import type { Graph } from '../graph';
import { ArrowIcon, CloseIcon } from '../icons';
import { endName } from '../scene';
import type { Selection } from '../select';
import * as store from '../store';
import { ComparePanel } from './compare';
import { EdgePanel } from './edge';
import { NodePanel } from './nodes';
import { Overview } from './overview';
import { BundlePanel, VertexPanel } from './vertex';
import { WorkloadPanel } from './workload';

function Details({ selection, graph }: { selection: Selection; graph: Graph }) {
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

/** The whole panel. */
export function Panel() {
  const graph = store.graph.value;
  const selection = store.selection.value;
  return (
    <aside
      class={store.narrow.value ? 'sheet' : 'panel'}
      aria-label="Details"
      data-testid="panel"
      tabIndex={0}
    >
      {store.narrow.value && <i class="grip" />}
      {selection !== null && (
        <button
          type="button"
          class="icon-button close"
          aria-label="Close details"
          data-testid="close-details"
          onClick={() => store.select(null)}
        >
          <CloseIcon />
        </button>
      )}
      {graph === null ? (
        <article>
          <h2>Waiting for the collector</h2>
          <p class="note">The first picture comes as soon as the stream opens.</p>
        </article>
      ) : selection === null && store.comparing.value ? (
        <ComparePanel />
      ) : selection === null ? (
        <Overview graph={graph} />
      ) : (
        <Details selection={selection} graph={graph} />
      )}
    </aside>
  );
}
