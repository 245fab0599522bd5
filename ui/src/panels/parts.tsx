/** Small pieces all panels share. */
import type { ComponentChildren } from 'preact';
import { percent, rate, service, shortName } from '../format';
import type { Graph } from '../graph';
import { isLossy, lossRatio, type Sickness } from '../health';
import { ArrowIcon, ConnectsIcon, DnsIcon, DropsIcon, LossIcon } from '../icons';
import * as store from '../store';
import type { Edge, Vertex } from '../view';

/** A word on a tinted pill. */
export function Badge({
  tone,
  children,
}: {
  tone: 'bad' | 'warning' | 'plain' | 'good';
  children: ComponentChildren;
}) {
  return <span class={`badge ${tone}`}>{children}</span>;
}

/** Up to three numbers side by side. */
export function Stats({
  items,
}: {
  items: readonly { value: string; label: string; tone?: 'bad' | 'warning'; testid?: string }[];
}) {
  return (
    <dl class="stats">
      {items.map((item) => (
        <div key={item.label}>
          <dt>{item.label}</dt>
          <dd class={item.tone ?? ''} data-testid={item.testid}>
            {item.value}
          </dd>
        </div>
      ))}
    </dl>
  );
}

/** A named line. */
export function Fact({ name, children }: { name: string; children: ComponentChildren }) {
  return (
    <div class="fact">
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

const SICK_ICONS = { connects: ConnectsIcon, drops: DropsIcon, dns: DnsIcon } as const;

/** What is wrong with a link beside loss, with the shape that it has on the map. */
export function Ail({ of }: { of: Sickness }) {
  const Sign = SICK_ICONS[of.kind];
  return (
    <span class={`${of.tone} lossy`} data-testid="ail" data-kind={of.kind} data-tone={of.tone}>
      <Sign />
      {of.words}
    </span>
  );
}

/** A line chart over all of its values, filled below; it breaks where nothing is known. `hand` marks a place on it. */
export function Chart({
  values,
  tone,
  label,
  hand,
}: {
  values: readonly (number | null)[];
  tone: 'bad' | 'l4';
  label: string;
  hand: number | null;
}) {
  const most = Math.max(...values.map((value) => value ?? 0), tone === 'bad' ? 0.02 : 1) * 1.15;
  const width = 300;
  const height = 32;
  const step = width / Math.max(1, values.length - 1);
  const runs: { from: number; points: string[] }[] = [];
  values.forEach((value, index) => {
    if (value === null) return;
    if (index === 0 || values[index - 1] === null || runs.length === 0)
      runs.push({ from: index, points: [] });
    const y = height - 1.5 - (value / most) * (height - 4);
    runs[runs.length - 1]?.points.push(`${(index * step).toFixed(1)},${y.toFixed(1)}`);
  });
  return (
    <svg
      class={`chart ${tone}`}
      viewBox={`0 0 ${width} ${height}`}
      preserveAspectRatio="none"
      role="img"
      aria-label={label}
    >
      {runs.map(({ from, points }) => {
        const [left, right] = [from, from + points.length - 1].map((index) => (index * step).toFixed(1));
        return (
          <g key={from}>
            <path class="chart-fill" d={`M${left},${height} L${points.join(' L')} L${right},${height} Z`} />
            <path class="chart-line" d={`M${points.join(' L')}`} vector-effect="non-scaling-stroke" />
          </g>
        );
      })}
      {hand !== null && hand >= 0 && hand <= 1 && (
        <rect class="chart-hand" x={(hand * width).toFixed(1)} y="0" width="1.2" height={height} />
      )}
    </svg>
  );
}

/** The name of a vertex as a button that selects it. */
export function VertexLink({ id, graph }: { id: string; graph: Graph }) {
  const vertex = graph.vertices.get(id);
  return (
    <button
      type="button"
      class="text-button"
      title={vertex?.name ?? id}
      onClick={() => store.select({ kind: 'vertex', id })}
    >
      {vertex?.name ?? id}
    </button>
  );
}

/** Links as a short list, for panels about something that has several. */
export function EdgeList({
  edges,
  graph,
  limit = 40,
}: {
  edges: readonly Edge[];
  graph: Graph;
  limit?: number;
}) {
  return (
    <ul class="edge-list">
      {edges.slice(0, limit).map((edge) => {
        const lossy = isLossy(edge);
        const ill = store.sick.value.get(edge.id)?.[0];
        const name = (id: string) => {
          const vertex = graph.vertices.get(id);
          return vertex === undefined ? id : shortName(vertex);
        };
        return (
          <li key={edge.id}>
            <button
              type="button"
              class="edge-line"
              data-edge-id={edge.id}
              onClick={() => store.select({ kind: 'edge', id: edge.id })}
            >
              <span class="edge-ends">
                <span class="cut">{name(edge.client)}</span>
                <ArrowIcon bad={lossy} />
                <span class="cut">{name(edge.server)}</span>
                <span class="edge-rate">{rate(edge.rate.forwardSkbs)}/s</span>
              </span>
              <span class="edge-more">
                <span>{service(edge)}</span>
                {edge.state !== 'live' && <em>{edge.state}</em>}
                {lossy && (
                  <span class="bad lossy">
                    <LossIcon />
                    {percent(lossRatio(edge))}
                  </span>
                )}
                {ill !== undefined && <Ail of={ill} />}
              </span>
            </button>
          </li>
        );
      })}
      {edges.length > limit && <li class="muted">and {edges.length - limit} more in the table</li>}
    </ul>
  );
}

/** Pods as a list of lines, each of which selects its pod. */
export function PodList({ pods, limit }: { pods: readonly Vertex[]; limit: number }) {
  return (
    <>
      <ul class="pod-list">
        {pods.slice(0, limit).map((pod) => (
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
      {pods.length > limit && <p class="note">{pods.length - limit} more.</p>}
    </>
  );
}
