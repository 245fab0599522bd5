/** One link: what each side saw, and what was lost between them. */
import { bytes, callName, clock, count, percent, rate, service } from '../format';
import type { Graph } from '../graph';
import { isLossy, lossRatio, lostPackets } from '../health';
import { ArrowIcon, LossIcon } from '../icons';
import { duration, roundTrips } from '../known';
import { isDns } from '../layers';
import * as store from '../store';
import type { Amount, Edge, Side } from '../view';
import { LastHour } from './course';
import { EdgeFacts } from './facts';
import { HubbleSays } from './hubble';
import { Ail, Badge, Fact, Stats, VertexLink } from './parts';

function State({ edge }: { edge: Edge }) {
  if (isLossy(edge))
    return (
      <Badge tone="bad">
        <LossIcon /> Losing packets
      </Badge>
    );
  const ill = store.sick.value.get(edge.id)?.[0];
  if (ill !== undefined)
    return (
      <Badge tone={ill.tone}>
        {ill.kind === 'connects' ? 'Connects fail' : ill.kind === 'drops' ? 'Dropping' : 'DNS fails'}
      </Badge>
    );
  if (edge.state !== 'live') return <Badge tone="plain">{edge.state}</Badge>;
  if (edge.loss.status !== 'measured') return <Badge tone="plain">{edge.loss.status}</Badge>;
  if (lostPackets(edge) > 0) return <Badge tone="plain">Lost some earlier</Badge>;
  return <Badge tone="good">No loss</Badge>;
}

/** A line of the two sides; `kept` where the past has it, too. */
interface SideLine<T> {
  readonly name: string;
  readonly read: (of: T) => string;
  readonly kept: boolean;
}
const line = <T,>(name: string, read: (of: T) => string, kept = true): SideLine<T> => ({ name, read, kept });
const AMOUNTS: readonly SideLine<Amount>[] = [
  line('skbs', (amount) => count(amount.skbs)),
  line('segments', (amount) => count(amount.segments)),
  line('L3 bytes', (amount) => bytes(amount.l3Bytes)),
  line('payload', (amount) => bytes(amount.payloadBytes), false),
];
const EVENTS: readonly SideLine<Side>[] = [
  line('opened', (side) => count(side.opened)),
  line('established', (side) => count(side.established)),
  line('closed', (side) => count(side.closed)),
  line('resets', (side) => count(side.resets)),
  line('ICMP errors', (side) => count(side.icmpErrors), false),
];

function SideHead({ name, side }: { name: string; side: Side | null }) {
  return (
    <th scope="col">
      {name}
      <small>
        {side === null ? 'not seen' : side.nodes.join(', ')}
        {side?.stale ? ' · stale' : ''}
      </small>
    </th>
  );
}

/** Both sides beside each other; they are never added up. */
function Sides({ edge }: { edge: Edge }) {
  const { clientSide, serverSide } = edge;
  const past = store.rewound.value;
  const cell = (side: Side | null, kept: boolean, read: (side: Side) => string) => {
    if (past && !kept)
      return (
        <td class="muted" title="Not kept for the past">
          not kept
        </td>
      );
    return <td class={side === null ? 'muted' : ''}>{side === null ? '–' : read(side)}</td>;
  };
  const part = (title: string, way: 'forward' | 'reverse') => (
    <>
      <tr class="sub">
        <th scope="rowgroup" colSpan={3}>
          {title}
        </th>
      </tr>
      {AMOUNTS.map(({ name, read, kept }) => (
        <tr key={name}>
          <th scope="row">{name}</th>
          {cell(clientSide, kept, (side) => read(side[way]))}
          {cell(serverSide, kept, (side) => read(side[way]))}
        </tr>
      ))}
    </>
  );
  return (
    <table class="sides" data-testid="sides">
      <thead>
        <tr>
          <td />
          <SideHead name="Client side" side={clientSide} />
          <SideHead name="Server side" side={serverSide} />
        </tr>
      </thead>
      <tbody>{part('Client → server', 'forward')}</tbody>
      <tbody>{part('Server → client', 'reverse')}</tbody>
      <tbody>
        <tr class="sub">
          <th scope="rowgroup" colSpan={3}>
            Connections
          </th>
        </tr>
        {EVENTS.map(({ name, read, kept }) => (
          <tr key={name}>
            <th scope="row">{name}</th>
            {cell(clientSide, kept, read)}
            {cell(serverSide, kept, read)}
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function LostBetween({ edge }: { edge: Edge }) {
  const { loss } = edge;
  if (loss.status !== 'measured')
    return (
      <p class="note" data-testid="loss-between" data-status={loss.status}>
        <b>{loss.status}</b>
        {loss.why !== null && `: ${loss.why}`}
      </p>
    );
  const line = (name: string, lost: number | null, ratio: number | null) => {
    const bad = (lost ?? 0) > 0;
    return (
      <div class="way">
        <span>{name}</span>
        <b class={bad ? 'bad' : ''}>{lost === null ? '–' : count(Math.max(0, lost))}</b>
        <span class="track">
          <i class={bad ? 'fill' : ''} style={{ width: `${Math.min(100, (ratio ?? 0) * 100)}%` }} />
        </span>
        <span class={bad ? 'bad share' : 'share'}>{ratio === null ? '–' : percent(ratio)}</span>
      </div>
    );
  };
  return (
    <div data-testid="loss-between" data-status={loss.status}>
      {line('client → server', loss.forwardLost, loss.forwardRatio)}
      {line('server → client', loss.reverseLost, loss.reverseRatio)}
    </div>
  );
}

/** Everything about one link. */
export function EdgePanel({ edge, graph }: { edge: Edge; graph: Graph }) {
  const lossy = isLossy(edge);
  const client = graph.vertices.get(edge.client);
  const server = graph.vertices.get(edge.server);
  const measured = edge.loss.status === 'measured';
  const layer = edge.tunnel !== null ? 'underlay' : isDns(edge) ? 'dns' : 'l4';
  const rtt = roundTrips(edge);
  const ails = store.sick.value.get(edge.id) ?? [];
  return (
    <article data-testid="edge-panel" data-edge-id={edge.id}>
      <State edge={edge} />
      <h2 class="ends">
        <span class="cut">{callName(client, edge.client)}</span>
        <ArrowIcon bad={lossy} />
        <span class="cut">{callName(server, edge.server)}</span>
      </h2>
      <p class="subline">
        <i class={`dot ${layer}`} />
        {layer === 'underlay' ? 'Underlay' : layer === 'dns' ? 'DNS' : 'L4'} · {service(edge)}
        {edge.tunnel !== null && ` · ${edge.tunnel}`}
        {edge.guessed && ' · client guessed'}
        {edge.own && " · Orrery's own"}
      </p>
      <Stats
        items={[
          lossy || measured
            ? {
                value: percent(lossRatio(edge)),
                label: 'lost between',
                testid: 'edge-loss',
                ...(lossy ? { tone: 'bad' as const } : {}),
              }
            : { value: '–', label: edge.loss.status, testid: 'edge-loss' },
          { value: rate(edge.rate.forwardSkbs), label: 'packets/s', testid: 'edge-rate' },
          rtt === null
            ? { value: bytes(edge.rate.forwardBytes), label: 'bytes/s' }
            : { value: duration(rtt.p50Us), label: 'RTT p50', testid: 'edge-rtt' },
        ]}
      />
      {ails.length > 0 && (
        <ul class="ails" aria-label={`Troubles: ${store.spanWords.value}`}>
          {ails.map((ail) => (
            <li key={ail.kind}>
              <Ail of={ail} /> <span class="muted">{store.spanWords.value}</span>
            </li>
          ))}
        </ul>
      )}
      <LastHour of={{ edge: edge.id }} />
      <section>
        <h3>
          Lost between <span>segments · {store.rewound.value ? store.spanWords.value : 'last 10 s'}</span>
        </h3>
        <LostBetween edge={edge} />
      </section>
      <EdgeFacts edge={edge} graph={graph} />
      <HubbleSays edge={edge.id} />
      <section>
        <h3>
          Both sides <span>{store.rewound.value ? store.spanWords.value : ''}</span>
        </h3>
        <Sides edge={edge} />
      </section>
      <section>
        <h3>Link</h3>
        <dl>
          <Fact name="Client">
            <VertexLink id={edge.client} graph={graph} />
          </Fact>
          <Fact name="Server">
            <VertexLink id={edge.server} graph={graph} />
          </Fact>
          <Fact name="Asks">
            {rate(edge.rate.forwardSkbs)} packets/s · {bytes(edge.rate.forwardBytes)}/s
          </Fact>
          <Fact name="Answers">
            {rate(edge.rate.reverseSkbs)} packets/s · {bytes(edge.rate.reverseBytes)}/s
          </Fact>
          <Fact name="Connections">{rate(edge.rate.connections)}/s</Fact>
          <Fact name="State">{edge.state}</Fact>
          <Fact name="First seen">{clock(edge.firstSeenMs)} UTC</Fact>
          <Fact name="Last seen">{clock(edge.lastSeenMs)} UTC</Fact>
        </dl>
      </section>
    </article>
  );
}
