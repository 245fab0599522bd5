/** What must not be overlooked: no stream, stale names, lost telemetry. Each with its own shape and words. */
import type { Reason } from '../empty';
import { span } from '../format';
import { WarningIcon } from '../icons';
import { LAYERS } from '../layers';
import * as store from '../store';

/** All banners that apply. */
export function Banners() {
  const connection = store.connection.value;
  const graph = store.graph.value;
  const names = graph?.names ?? null;
  const { nodes } = store.trouble.value;
  const now = store.nowMs.value;
  return (
    <div class="banners" role="status">
      {connection.kind === 'broken' && (
        <p class="banner bad" data-testid="banner-stream">
          <WarningIcon />
          <span>
            <b>Not connected</b> ({connection.why}). The picture is as of{' '}
            {span(Math.max(0, Date.now() - connection.sinceMs))} ago and stands still; the page keeps trying.
          </span>
        </p>
      )}
      {names !== null && (names.state === 'stale' || names.state === 'partial') && (
        <p class="banner warning" data-testid="banner-names">
          <WarningIcon />
          <span>
            <b>Names are {names.state}</b>
            {names.readMs !== null && `, as of ${span(now - names.readMs)} ago`}
            {names.error !== null && `: ${names.error}`}
          </span>
        </p>
      )}
      {nodes.length > 0 && (
        <p class="banner warning" data-testid="banner-telemetry">
          <WarningIcon />
          <span>
            {nodes.length === 1 && nodes[0] !== undefined ? (
              <>
                <b>
                  Node {nodes[0].name} is {nodes[0].state}
                </b>
                {nodes[0].why !== null && `: ${nodes[0].why}`}
              </>
            ) : (
              <>
                <b>{nodes.length} nodes are not well heard</b>:{' '}
                {nodes
                  .slice(0, 6)
                  .map((node) => `${node.name} ${node.state}`)
                  .join(', ')}
                {nodes.length > 6 && ', …'}
              </>
            )}
          </span>
          <button
            type="button"
            class="text-button"
            onClick={() => {
              const [first] = nodes;
              if (first !== undefined) store.select({ kind: 'node', id: first.name });
            }}
          >
            Details
          </button>
        </p>
      )}
    </div>
  );
}

const REMEDIES = {
  'clear-filter': { word: 'Clear the filter', run: store.clearFilter },
  'show-noise': { word: 'Show noise', run: store.toggleNoise },
} as const;

/** Why nothing is there, and what to do. */
export function Why({ reason }: { reason: Reason }) {
  const remedy = reason.remedy === null ? null : REMEDIES[reason.remedy];
  return (
    <>
      <h2>{reason.title}</h2>
      <p>{reason.text}</p>
      {remedy !== null && (
        <button type="button" class="text-button" data-testid="remedy" onClick={remedy.run}>
          {remedy.word}
        </button>
      )}
    </>
  );
}

/** Over the map while no link is drawn on it. */
export function EmptyMap() {
  const reason = store.empty.value;
  if (reason !== null)
    return (
      <div class={store.layout.value === null ? 'empty-map' : 'empty-map over'} data-testid="empty">
        <Why reason={reason} />
      </div>
    );
  const scene = store.scene.value;
  if (scene === null || scene.links.length > 0 || store.layers.value.size === LAYERS.length) return null;
  return (
    <div class="empty-map over" data-testid="empty">
      <h2>No layer shows a link</h2>
      <p>Layers that are off: {LAYERS.filter((one) => !store.layers.value.has(one)).join(', ')}.</p>
    </div>
  );
}
