/** All nodes, and how well each is heard. */
import type { Graph } from '../graph';
import { WarningIcon } from '../icons';
import * as store from '../store';
import type { NodeView } from '../view';

/** A node's state as a word with a shape of its own. */
export function NodeState({ node }: { node: NodeView }) {
  if (node.state === 'live') return <span class="state good">● live</span>;
  if (node.state === 'unknown') return <span class="state">○ unknown</span>;
  return (
    <span class={node.state === 'lost' ? 'state bad' : 'state warning'}>
      <WarningIcon /> {node.state}
    </span>
  );
}

/** All nodes, each a line that opens its details. */
export function NodeList({ graph }: { graph: Graph }) {
  if (graph.nodes.size === 0)
    return (
      <p class="note">
        No agent has reported yet. Start one on every node; its reports go to the collector's report port.
      </p>
    );
  return (
    <ul class="node-list" data-testid="node-list">
      {[...graph.nodes.values()].map((node) => (
        <li key={node.name}>
          <button
            type="button"
            class="node-line"
            data-testid="node-row"
            data-node={node.name}
            data-state={node.state}
            onClick={() => store.select({ kind: 'node', id: node.name })}
          >
            <b class="cut">{node.name}</b>
            <NodeState node={node} />
            <span class="muted cut">
              {node.why ??
                `${node.tier ?? 'no tier'} · ${node.devices} ${node.devices === 1 ? 'device' : 'devices'}`}
            </span>
          </button>
        </li>
      ))}
    </ul>
  );
}
