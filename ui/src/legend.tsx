/** What the marks on the map mean. */
import { count } from './format';
import { spacing } from './rate';
import * as store from './store';
import { TOPS } from './url';

const RATES = [
  [1, '1/s'],
  [100, '100/s'],
  [10_000, '10k/s'],
] as const;

/** Particles as far apart as they are on the map, as many as the room holds. */
function Gaps({ rate }: { rate: number }) {
  const gap = spacing(rate) ?? 0;
  const width = rate === 1 ? 128 : 46;
  const dots = [];
  for (let x = 3; x < width; x += gap)
    dots.push(<rect key={x} x={x - 1.3} y="3.7" width="2.6" height="2.6" />);
  return (
    <svg width={width} height="10" class="gaps" aria-hidden="true">
      {dots}
    </svg>
  );
}

/** How many links are drawn, of how many, and how many may be. */
export function TopPicker() {
  const scene = store.scene.value;
  const drawn = scene?.links.length ?? 0;
  const hidden = scene?.hiddenLinks ?? 0;
  return (
    <label
      class="top"
      title="The busiest are drawn, and everything unhealthy. Zoom in, or raise the limit, for more."
    >
      <span data-testid="drawn">
        {hidden === 0 ? `all ${count(drawn)} links` : `${count(drawn)} of ${count(drawn + hidden)} links`}
      </span>
      <select
        data-testid="top"
        aria-label="Links drawn at the most"
        value={store.top.value}
        onChange={(event) => {
          store.top.value = Number(event.currentTarget.value);
        }}
      >
        {TOPS.map((one) => (
          <option key={one} value={one}>
            top {count(one)}
          </option>
        ))}
      </select>
    </label>
  );
}

/** The legend, at the map's lower left. */
export function Legend() {
  return (
    <div class="legend" data-testid="legend">
      <span>
        <i class="line l4" />
        L4
      </span>
      <span>
        <i class="line dns" />
        DNS
      </span>
      <span class="rates" title="The gap between particles is the rate, in packets per second">
        {RATES.map(([rate, label]) => (
          <span key={rate}>
            <Gaps rate={rate} />
            {label}
          </span>
        ))}
      </span>
      {!store.narrow.value && <TopPicker />}
      <span class="marks">
        <span>
          <i class="square fresh" />
          new
        </span>
        <span>
          <i class="square pending" />
          pending
        </span>
        <span>
          <i class="square failing" />
          failing
        </span>
        <span>
          <i class="square silent" />
          silent, gone
        </span>
      </span>
    </div>
  );
}
