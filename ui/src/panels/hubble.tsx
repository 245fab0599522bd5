/** What Hubble says, beside the map: one line on the overview, a few on a link. */
import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { type Beside, isNone, readBeside, share } from '../beside';
import { clock, count } from '../format';
import * as store from '../store';
import { Fact } from './parts';

/** How often the comparison is asked for while it is looked at. */
const EVERY_MS = 5000;

/** What the collector says, again and again; `none` where it follows no Hubble. */
export function useBeside(query: string): Beside | 'none' | null {
  const answer = useSignal<Beside | 'none' | null>(null);
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    let over = false;
    answer.value = null;
    const ask = async () => {
      const response = await fetch(`api/v1/compare?${query}`).catch(() => null);
      if (over) return;
      const body: unknown = response?.ok ? await response.json() : null;
      if (over) return;
      if (isNone(body)) {
        answer.value = 'none';
        return;
      }
      if (body !== null) answer.value = readBeside(body);
      timer = setTimeout(ask, EVERY_MS);
    };
    ask();
    return () => {
      over = true;
      clearTimeout(timer);
    };
  }, [answer, query]);
  return answer.value;
}

/** On the overview: one line, where a Hubble is followed. */
export function BesideHubble() {
  const beside = useBeside('rows=0');
  if (beside === null || beside === 'none') return null;
  return (
    <section data-testid="beside">
      <h3 class={beside.unexplained > 0 || !beside.connected ? 'warning' : ''}>
        Beside Hubble <span>{share(beside.agreement)}</span>
      </h3>
      <p class="note">
        {beside.connected
          ? `${count(beside.both)} links by both, ${count(beside.onlyHubble)} only by Hubble, ${count(beside.onlyOrrery)} only by Orrery; ${count(beside.unexplained)} unexplained.`
          : (beside.error ?? 'Not connected yet.')}
      </p>
      <button
        type="button"
        class="row-button"
        data-testid="open-compare"
        onClick={() => {
          store.comparing.value = true;
        }}
      >
        <span>Compare with Hubble</span>
      </button>
    </section>
  );
}

/** On a link: what only Hubble knows of it, marked as Hubble's. */
export function HubbleSays({ edge }: { edge: string }) {
  const beside = useBeside(`${new URLSearchParams({ edge })}`);
  if (beside === null || beside === 'none' || !beside.overlay) return null;
  const side = beside.rows[0]?.hubble;
  return (
    <section data-testid="hubble-says">
      <h3>
        Hubble says <span>not Orrery's own</span>
      </h3>
      {side === undefined || side === null ? (
        <p class="note">Nothing of this link since {clock(beside.startMs)} UTC.</p>
      ) : (
        <dl>
          <Fact name="Verdict">
            {side.verdict === 'dropped' ? <span class="bad">dropped</span> : (side.verdict ?? 'none')}
          </Fact>
          {[...side.reasons].map(([reason, times]) => (
            <Fact key={reason} name="Dropped by">
              {reason} · {count(times)}
            </Fact>
          ))}
          {side.policies.map((policy) => (
            <Fact key={policy} name="Policy">
              {policy}
            </Fact>
          ))}
          <Fact name="Told by">{side.nodes.join(', ')}</Fact>
        </dl>
      )}
    </section>
  );
}
