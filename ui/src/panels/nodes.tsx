/** Nodes: how fresh and how complete what we hear from them is. */
import { clock, count, span } from '../format';
import type { Graph } from '../graph';
import type { Grouping } from '../groups';
import { WarningIcon } from '../icons';
import { edgesOf } from '../select';
import * as store from '../store';
import type { NodeView } from '../view';
import { LastHour } from './course';
import { Kernel } from './kernel';
import { Badge, EdgeList, Fact, Stats } from './parts';

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

function offset(node: NodeView): string {
  if (node.clockOffsetMs === null) return 'not known yet';
  const sign = node.clockOffsetMs > 0 ? '+' : node.clockOffsetMs < 0 ? '−' : '';
  const error = node.clockErrorMs === null ? '' : ` ± ${node.clockErrorMs.toFixed(1)}`;
  return `${sign}${Math.abs(node.clockOffsetMs).toFixed(1)}${error} ms`;
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

/** Everything about one node's telemetry. */
export function NodePanel({ node, graph, grouping }: { node: NodeView; graph: Graph; grouping: Grouping }) {
  const edges = edgesOf({ kind: 'node', id: node.name }, graph, grouping);
  const tone = node.state === 'lost' ? 'bad' : node.state === 'live' ? 'good' : 'warning';
  return (
    <article data-testid="node-panel" data-node={node.name}>
      <Badge tone={tone}>{node.state === 'live' ? '● live' : `▲ ${node.state}`}</Badge>
      <h2 class="breakable">{node.name}</h2>
      {node.why !== null && <p class="subline">{node.why}</p>}
      <Stats
        items={[
          { value: count(node.seenSkbs), label: 'skbs seen' },
          {
            value: count(node.unseenSkbs),
            label: 'unseen',
            ...(node.unseenSkbs > 0 ? { tone: 'warning' as const } : {}),
          },
          {
            value: count(node.unaccountedSkbs),
            label: 'unaccounted',
            ...(node.unaccountedSkbs > 0 ? { tone: 'bad' as const } : {}),
          },
        ]}
      />
      <dl>
        <Fact name="Tier">{node.tier ?? 'not known'}</Fact>
        <Fact name="Devices">{node.devices}</Fact>
        <Fact name="Clock offset">{offset(node)}</Fact>
        {node.lastReportMs !== null && (
          <Fact name="Last report">
            {clock(node.lastReportMs)} UTC · {span(store.nowMs.value - node.lastReportMs)}
          </Fact>
        )}
        {node.tickMs !== null && <Fact name="Reports every">{node.tickMs} ms</Fact>}
        <Fact name="Counted as other">{count(node.otherSkbs)} skbs</Fact>
        {node.agentVersion !== null && <Fact name="Agent">{node.agentVersion}</Fact>}
      </dl>
      <LastHour of={{ vertex: `node:${node.name}`, view: 'node' }} />
      <Kernel node={node} />
      <Trouble
        title="Telemetry lost"
        none="None."
        items={node.losses.map((loss) => [loss.cause, count(loss.count)])}
      />
      <Trouble
        title="Blind spots"
        none="None."
        items={node.blindSpots.map((spot) => [spot.device, spot.reason])}
      />
      <Trouble title="Refused hooks" none="None." items={node.refusedHooks.map((hook) => [hook, ''])} />
      <section>
        <h3>
          Links <span>{edges.length}</span>
        </h3>
        <EdgeList edges={edges} graph={graph} limit={20} />
      </section>
    </article>
  );
}

function Trouble({
  title,
  none,
  items,
}: {
  title: string;
  none: string;
  items: readonly (readonly [string, string])[];
}) {
  return (
    <section>
      <h3>{title}</h3>
      {items.length === 0 ? (
        <p class="note">{none}</p>
      ) : (
        <dl>
          {items.map(([name, value]) => (
            <Fact key={`${name} ${value}`} name={name}>
              {value}
            </Fact>
          ))}
        </dl>
      )}
    </section>
  );
}
