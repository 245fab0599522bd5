/** One link beside its packets: connects, round trips, drops, DNS, owners, and where it was counted. */
import type { Histogram, Owner, Sockets } from '../facts';
import { clock, count } from '../format';
import type { Graph } from '../graph';
import { canTell, duration, failures, pointWords, reasonWords, whyNot } from '../known';
import * as store from '../store';
import type { Edge, Side } from '../view';
import { Fact } from './parts';

/** A count with a bar beside it; what is bad is red. */
export function Bar({
  name,
  value,
  most,
  bad = true,
  more,
}: {
  name: string;
  value: number;
  most: number;
  bad?: boolean;
  more?: string;
}) {
  const tone = bad && value > 0 ? 'bad' : '';
  return (
    <div class="bar-line">
      <span class="bar-name" title={name}>
        {name}
        {more !== undefined && <small>{more}</small>}
      </span>
      <b class={tone}>{count(value)}</b>
      <span class="track">
        <i
          class={value === 0 ? '' : bad ? 'fill' : 'fill plain'}
          style={{ width: `${most === 0 ? 0 : Math.min(100, (value / most) * 100)}%` }}
        />
      </span>
    </div>
  );
}

function Sides({
  edge,
  children,
}: {
  edge: Edge;
  children: (side: Side, name: string) => preact.ComponentChildren;
}) {
  return (
    <>
      {edge.clientSide !== null && children(edge.clientSide, 'client')}
      {edge.serverSide !== null && children(edge.serverSide, 'server')}
    </>
  );
}

function ofSockets(edge: Edge): readonly (readonly [string, Sockets])[] {
  const sides = [
    ['client', edge.clientSide],
    ['server', edge.serverSide],
  ] as const;
  return sides.flatMap(([name, side]) =>
    side === null || side.sockets === null ? [] : [[name, side.sockets]],
  );
}

/** Attempts, and failures by cause, as the sockets of each end told. */
function Connects({ edge, graph }: { edge: Edge; graph: Graph }) {
  const told = ofSockets(edge);
  return (
    <section data-testid="connects">
      <h3>
        Connects <span>{told.length > 0 ? 'by sockets' : ''}</span>
      </h3>
      {told.length === 0 && <p class="note">{whyNot(edge, graph, 'connect', store.rewound.value)}</p>}
      {told.map(([name, sockets]) => (
        <div key={name} class="part">
          <h4>{name === 'client' ? 'Client: opened' : 'Server: taken'}</h4>
          <Bar name="attempts" value={sockets.attempts} most={sockets.attempts} bad={false} />
          <Bar name="established" value={sockets.established} most={sockets.attempts} bad={false} />
          {failures(sockets)
            .filter(([, value]) => value > 0)
            .map(([cause, value]) => (
              <Bar key={cause} name={cause} value={value} most={sockets.attempts} />
            ))}
          {sockets.aborted > 0 && (
            <Bar name="aborted when open" value={sockets.aborted} most={sockets.established} />
          )}
        </div>
      ))}
    </section>
  );
}

function Quantiles({ of }: { of: Histogram }) {
  return (
    <dl class="quantiles">
      {(
        [
          ['p50', duration(of.p50Us)],
          ['p95', duration(of.p95Us)],
          ['mean', duration(of.meanUs)],
        ] as const
      ).map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd data-testid={`quantile-${name}`}>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

function RoundTrips({ edge, graph }: { edge: Edge; graph: Graph }) {
  const told = ofSockets(edge).filter(([, sockets]) => sockets.rtt.count > 0);
  const resent = ofSockets(edge);
  return (
    <section data-testid="rtt">
      <h3>
        Round trips <span>estimated in powers of two</span>
      </h3>
      {told.length === 0 && <p class="note">{whyNot(edge, graph, 'rtt', store.rewound.value)}</p>}
      {told.map(([name, sockets]) => (
        <div key={name} class="part">
          <h4>
            As the {name} has it <small>{count(sockets.rtt.count)} samples</small>
          </h4>
          <Quantiles of={sockets.rtt} />
        </div>
      ))}
      <dl>
        {resent.length === 0 || !(store.rewound.value || canTell(edge, graph, 'retransmit')) ? (
          <Fact name="Sent again">{store.rewound.value ? 'none told of then' : 'not known'}</Fact>
        ) : (
          resent.map(([name, sockets]) => (
            <Fact key={name} name={`Sent again by the ${name}`}>
              {count(sockets.retransmitted)} segments
            </Fact>
          ))
        )}
      </dl>
    </section>
  );
}

function Drops({ edge, graph }: { edge: Edge; graph: Graph }) {
  const most = Math.max(...edge.drops.map((drop) => drop.segments), 1);
  const known = canTell(edge, graph, 'drop');
  return (
    <section data-testid="drops">
      <h3>
        Dropped by a kernel <span>segments</span>
      </h3>
      {edge.drops.length === 0 && (
        <p class="note">
          {known && !store.rewound.value
            ? 'None that a kernel told of.'
            : whyNot(edge, graph, 'drop', store.rewound.value)}
        </p>
      )}
      {edge.drops.map((drop) => (
        <Bar
          key={`${drop.reason} ${drop.by} ${drop.forward}`}
          name={reasonWords(drop.reason)}
          value={drop.segments}
          most={most}
          more={`${drop.by === 'tc' ? 'by a tc program' : 'in the stack'}${
            drop.nodes.length === 0 ? '' : ` of ${drop.nodes.join(', ')}`
          }, ${drop.forward ? 'to the server' : 'to the client'}`}
        />
      ))}
    </section>
  );
}

function Dns({ edge, graph }: { edge: Edge; graph: Graph }) {
  const { dns } = edge;
  if (dns === null && edge.port !== 53) return null;
  if (dns === null)
    return (
      <section data-testid="dns">
        <h3>DNS</h3>
        <p class="note">{whyNot(edge, graph, 'dns', store.rewound.value)}</p>
      </section>
    );
  return (
    <section data-testid="dns">
      <h3>
        <i class="dot dns" /> DNS <span>{count(dns.queries)} queries</span>
      </h3>
      {dns.rcodes.map(({ rcode, count: value }) => (
        <Bar key={rcode} name={rcode} value={value} most={dns.queries} bad={rcode !== 'NOERROR'} />
      ))}
      <Bar name="no answer" value={dns.timeouts} most={dns.queries} />
      {dns.unparsed > 0 && <Bar name="not understood" value={dns.unparsed} most={dns.queries} bad={false} />}
      {store.rewound.value ? (
        <p class="note">
          How long answers took and what was asked is not kept for the past. Go back to Live to see it.
        </p>
      ) : (
        <>
          <h4>
            Latency <small>{count(dns.latency.count)} answers</small>
          </h4>
          <Quantiles of={dns.latency} />
        </>
      )}
      {dns.questions.length > 0 && (
        <table class="questions" data-testid="questions">
          <thead>
            <tr>
              <th scope="col">Asked most</th>
              <th scope="col">Type</th>
              <th scope="col">Failed</th>
              <th scope="col">Last</th>
            </tr>
          </thead>
          <tbody>
            {dns.questions.map((question) => (
              <tr key={`${question.name} ${question.type}`}>
                <td class="cut" title={question.name}>
                  {question.name === '' ? '(hidden)' : question.name}
                </td>
                <td>{question.type}</td>
                <td class={question.failures > 0 ? 'bad' : ''}>
                  {count(question.failures)} of {count(question.queries)}
                </td>
                <td title={`${clock(question.lastMs)} UTC`}>
                  {question.lastRcode === 'none' ? 'no answer' : question.lastRcode}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </section>
  );
}

function OwnerLine({ owner, graph }: { owner: Owner; graph: Graph }) {
  const id = owner.pod === null ? null : `pod:${owner.pod}`;
  return (
    <li class="owner">
      <b class="cut" title={owner.process}>
        {owner.process === '' ? 'process not known' : owner.process}
      </b>
      {id !== null && graph.vertices.has(id) ? (
        <button
          type="button"
          class="text-button cut"
          title={owner.pod ?? ''}
          onClick={() => store.select({ kind: 'vertex', id })}
        >
          {owner.pod}
        </button>
      ) : (
        <span class="cut muted" title={owner.podUid}>
          {owner.pod ?? (owner.podUid === '' ? 'no pod' : `pod ${owner.podUid}`)}
        </span>
      )}
      <span class="cut muted" title={owner.container}>
        {owner.container === '' ? 'no container' : owner.container.slice(0, 12)}
      </span>
    </li>
  );
}

function Owners({ edge, graph }: { edge: Edge; graph: Graph }) {
  const some = (edge.clientSide?.owners.length ?? 0) + (edge.serverSide?.owners.length ?? 0) > 0;
  return (
    <section data-testid="owners">
      <h3>Owners</h3>
      {!some && <p class="note">{whyNot(edge, graph, 'owner', store.rewound.value)}</p>}
      {some && (
        <Sides edge={edge}>
          {(side, name) =>
            side.owners.length > 0 && (
              <div key={name} class="part">
                <h4>{name === 'client' ? 'Client' : 'Server'}</h4>
                <ul>
                  {side.owners.map((owner) => (
                    <OwnerLine key={`${owner.process} ${owner.container}`} owner={owner} graph={graph} />
                  ))}
                </ul>
              </div>
            )
          }
        </Sides>
      )}
    </section>
  );
}

function Counted({ edge }: { edge: Edge }) {
  return (
    <section data-testid="counted">
      <h3>Counted</h3>
      <dl>
        <Sides edge={edge}>
          {(side, name) => (
            <Fact key={name} name={`At the ${name}`}>
              {store.rewound.value ? 'where is not kept for the past' : pointWords(side.points)}
              {side.pathChanged && <span class="address muted">then another way: a few may be missing</span>}
            </Fact>
          )}
        </Sides>
        {edge.tunnel !== null && <Fact name="Carries other traffic">{edge.tunnel}</Fact>}
        {edge.via.length > 0 && (
          <Fact name="By way of">
            {edge.via.map(({ address, port, service }) => (
              <span key={`${address} ${port}`} class="address">
                {service !== null && `${service}, `}
                {address.includes(':') ? `[${address}]` : address}:{port}
              </span>
            ))}
          </Fact>
        )}
        {edge.translated && (
          <Fact name="Translated">
            another link may count the same packets, before or after the translation
          </Fact>
        )}
      </dl>
    </section>
  );
}

/** All of it. */
export function EdgeFacts({ edge, graph }: { edge: Edge; graph: Graph }) {
  const stream = edge.protocol === 'tcp';
  return (
    <>
      <Dns edge={edge} graph={graph} />
      <Drops edge={edge} graph={graph} />
      {stream && <Connects edge={edge} graph={graph} />}
      {stream && <RoundTrips edge={edge} graph={graph} />}
      {edge.tunnel === null && <Owners edge={edge} graph={graph} />}
      <Counted edge={edge} />
    </>
  );
}
