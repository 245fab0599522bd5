/** Hubble beside Orrery: what both see, what only one does, and why. */
import { useSignal } from '@preact/signals';
import { type Choice, chosen, plain, type Row, SEEN, type Seen, share } from '../beside';
import { clock, count } from '../format';
import * as store from '../store';
import { useBeside } from './hubble';
import { Badge, Stats } from './parts';

/** Rows asked for, and shown. */
const ROWS = 500;
const NAMES: Record<Seen, string> = {
  both: 'both',
  'only-hubble': 'only Hubble',
  'only-orrery': 'only Orrery',
  unknown: 'unknown',
};

function Line({ row }: { row: Row }) {
  const why = row.differences.map((one) => (one.what === 'edge' ? one.reason : `${one.what}: ${one.reason}`));
  const edge = row.edges[0];
  const ends = `${plain(row.client)} → ${plain(row.server)}`;
  const port = row.port === 0 ? row.protocol : `${row.port}/${row.protocol}`;
  return (
    <tr data-testid="compare-row" data-seen={row.seen}>
      <th scope="row" class="breakable">
        {edge === undefined ? (
          ends
        ) : (
          <button type="button" class="link" onClick={() => store.select({ kind: 'edge', id: edge })}>
            {ends}
          </button>
        )}
        <small class="muted"> {port}</small>
      </th>
      <td>{NAMES[row.seen]}</td>
      <td title={row.differences.map((one) => one.why).join('; ')}>{why.join(', ')}</td>
    </tr>
  );
}

function Pick({
  label,
  test,
  options,
  onPick,
}: {
  label: string;
  test: string;
  options: readonly (readonly [string, string])[];
  onPick: (value: string | null) => void;
}) {
  return (
    <select
      class="chip select"
      aria-label={label}
      data-testid={test}
      onChange={(event) => onPick(event.currentTarget.value || null)}
    >
      <option value="">{label}</option>
      {options.map(([value, text]) => (
        <option key={value} value={value}>
          {text}
        </option>
      ))}
    </select>
  );
}

/** The comparison by itself. */
export function ComparePanel() {
  const beside = useBeside(`rows=${ROWS}`);
  const choice = useSignal<Choice>({ seen: null, reason: null });
  if (beside === null) return <p class="note">Asking the collector…</p>;
  if (beside === 'none')
    return (
      <article data-testid="compare">
        <h2>No Hubble to compare with</h2>
        <p class="note">Start the collector with --hubble-server, and it follows one.</p>
      </article>
    );
  const rows = chosen(beside.rows, choice.value);
  return (
    <article data-testid="compare">
      {beside.connected ? (
        <Badge tone={beside.unexplained > 0 ? 'warning' : 'good'}>{share(beside.agreement)} agree</Badge>
      ) : (
        <Badge tone="bad">Hubble is away</Badge>
      )}
      <h2>Beside Hubble</h2>
      <p class="subline" data-testid="compare-summary">
        {beside.error ??
          `${share(beside.besideExplained)} beside what is explained, since ${clock(beside.startMs)} UTC. ${count(beside.verdictsAgree)} of ${count(beside.verdictsCompared)} verdicts agree.`}
        {beside.lostEvents > 0 && ` Hubble lost ${count(beside.lostEvents)} events.`}
      </p>
      <Stats
        items={[
          { value: count(beside.both), label: 'both' },
          { value: count(beside.onlyHubble), label: 'only Hubble' },
          { value: count(beside.onlyOrrery), label: 'only Orrery' },
        ]}
      />
      <p>
        <Pick
          label="Seen by"
          test="compare-seen"
          options={SEEN.map((one) => [one, NAMES[one]] as const)}
          onPick={(seen) => {
            choice.value = { ...choice.value, seen: SEEN.find((one) => one === seen) ?? null };
          }}
        />
        <Pick
          label="Any reason"
          test="compare-reason"
          options={[...beside.reasons].map(([reason, times]) => [reason, `${reason} (${times})`] as const)}
          onPick={(reason) => {
            choice.value = { ...choice.value, reason };
          }}
        />
      </p>
      <table class="sides" data-testid="compare-table">
        <thead>
          <tr>
            <th scope="col">Link</th>
            <th scope="col">Seen by</th>
            <th scope="col">Why</th>
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <Line key={`${row.client} ${row.server} ${row.port} ${row.protocol}`} row={row} />
          ))}
        </tbody>
      </table>
      {beside.rows.length === ROWS && <p class="note">The first {ROWS}, what differs before the rest.</p>}
      <button
        type="button"
        class="row-button"
        data-testid="close-compare"
        onClick={() => {
          store.comparing.value = false;
        }}
      >
        <span>Back to the overview</span>
      </button>
    </article>
  );
}
