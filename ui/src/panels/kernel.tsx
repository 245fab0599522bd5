/** What a node's kernel lets its agent see: tiers, hooks, and drops that belong to no link. */
import { count } from '../format';
import { reasonWords, tierWords } from '../known';
import * as store from '../store';
import type { NodeView } from '../view';
import { Bar } from './facts';
import { Fact } from './parts';

function Tiers({ node }: { node: NodeView }) {
  return (
    <section data-testid="tiers">
      <h3>
        Tiers <span>devices</span>
      </h3>
      {node.tiers.length === 0 && <p class="note">No device is known.</p>}
      {node.tiers.map(({ tier, devices }) => (
        <div key={tier} class="tier">
          <b class={tier === 'unwatched' ? 'warning' : ''}>{tier}</b>
          <span class="muted">{tierWords(tier)}</span>
          <span>{count(devices)}</span>
        </div>
      ))}
      {node.reattached > 0 && (
        <dl>
          <Fact name="Attached again">
            <span class="warning">{count(node.reattached)} times</span>: somebody removed our programs
          </Fact>
        </dl>
      )}
    </section>
  );
}

function Hooks({ node }: { node: NodeView }) {
  return (
    <section data-testid="hooks">
      <h3>Hooks</h3>
      {node.hooks.length === 0 ? (
        <p class="note">The agent tells of packets only.</p>
      ) : (
        <table class="hooks">
          <thead>
            <tr>
              <th scope="col">Fact</th>
              <th scope="col">Told by</th>
              <th scope="col">Refused before</th>
            </tr>
          </thead>
          <tbody>
            {node.hooks.map(({ fact, form, refused }) => (
              <tr key={fact}>
                <th scope="row">{fact}</th>
                <td class={form === 'none' ? 'warning' : ''}>{form === 'none' ? '▲ nobody' : form}</td>
                <td class="breakable muted">{refused ?? '–'}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </section>
  );
}

function Unattributed({ node }: { node: NodeView }) {
  const known = node.hooks.some((hook) => hook.fact === 'drop' && hook.form !== 'none');
  const most = Math.max(...node.drops.map((drop) => drop.segments), 1);
  return (
    <section data-testid="unattributed">
      <h3>
        Drops of no link <span>segments</span>
      </h3>
      {node.drops.length === 0 && (
        <p class="note">{known ? 'None.' : 'Not known: no hook of this node tells of drops.'}</p>
      )}
      {node.drops.map((drop) => (
        <Bar
          key={`${drop.reason} ${drop.by}`}
          name={reasonWords(drop.reason)}
          value={drop.segments}
          most={most}
          bad={false}
          more={drop.by === 'tc' ? 'by a tc program' : 'in the stack'}
        />
      ))}
    </section>
  );
}

/** All of it. */
export function Kernel({ node }: { node: NodeView }) {
  return (
    <>
      <Tiers node={node} />
      <Hooks node={node} />
      {!store.rewound.value && <Unattributed node={node} />}
    </>
  );
}
