/** One node: how fresh and how complete what we hear from it is. */
import { clock, count, span } from '../format';
import type { Graph } from '../graph';
import type { Grouping } from '../groups';
import { edgesOf } from '../select';
import * as store from '../store';
import type { NodeView } from '../view';
import { LastHour } from './course';
import { Kernel } from './kernel';
import { Links } from './links';
import { Badge, Fact, Stats } from './parts';

function offset(node: NodeView): string {
  if (node.clockOffsetMs === null) return 'not known yet';
  const sign = node.clockOffsetMs > 0 ? '+' : node.clockOffsetMs < 0 ? '−' : '';
  const error = node.clockErrorMs === null ? '' : ` ± ${node.clockErrorMs.toFixed(1)}`;
  return `${sign}${Math.abs(node.clockOffsetMs).toFixed(1)}${error} ms`;
}

/** Everything about one node's telemetry. */
export function NodePanel({ node, graph, grouping }: { node: NodeView; graph: Graph; grouping: Grouping }) {
  const edges = edgesOf({ kind: 'node', id: node.name }, graph, grouping);
  const past = store.rewound.value;
  const tone = node.state === 'lost' ? 'bad' : node.state === 'live' ? 'good' : 'warning';
  return (
    <article data-testid="node-panel" data-node={node.name}>
      <Badge tone={tone}>{node.state === 'live' ? '● live' : `▲ ${node.state}`}</Badge>
      <h2 class="breakable">{node.name}</h2>
      {node.why !== null && <p class="subline">{node.why}</p>}
      {past ? (
        <p class="note" data-testid="not-kept">
          How the node was heard then is kept. What it counted and lost, its clock and its drops are not: go
          back to Live to see them.
        </p>
      ) : (
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
      )}
      <dl>
        <Fact name="Tier">{node.tier ?? 'not known'}</Fact>
        <Fact name="Devices">{node.devices}</Fact>
        {!past && <Fact name="Clock offset">{offset(node)}</Fact>}
        {node.lastReportMs !== null && (
          <Fact name="Last report">
            {clock(node.lastReportMs)} UTC · {span(store.nowMs.value - node.lastReportMs)}
          </Fact>
        )}
        {node.tickMs !== null && <Fact name="Reports every">{node.tickMs} ms</Fact>}
        {!past && <Fact name="Counted as other">{count(node.otherSkbs)} skbs</Fact>}
        {node.agentVersion !== null && <Fact name="Agent">{node.agentVersion}</Fact>}
      </dl>
      <LastHour of={{ vertex: `node:${node.name}`, view: 'node' }} />
      <Kernel node={node} />
      {!past && (
        <Trouble
          title="Telemetry lost"
          none="None."
          items={node.losses.map((loss) => [loss.cause, count(loss.count)])}
        />
      )}
      <Trouble
        title="Blind spots"
        none="None."
        items={node.blindSpots.map((spot) => [spot.device, spot.reason])}
      />
      <Trouble title="Refused hooks" none="None." items={node.refusedHooks.map((hook) => [hook, ''])} />
      <Links edges={edges} graph={graph} none="No traffic seen here yet." />
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
