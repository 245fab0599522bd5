/** What must not be overlooked: no stream, stale names, lost telemetry. Each with its own shape and words. */
import { span } from '../format';
import { WarningIcon } from '../icons';
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

/** Why the map is empty, and what to do. */
export function EmptyMap() {
  const graph = store.graph.value;
  const say = (title: string, text: string) => (
    <div class="empty-map" data-testid="empty">
      <h2>{title}</h2>
      <p>{text}</p>
    </div>
  );
  if (graph === null)
    return store.connection.value.kind === 'broken'
      ? say('The collector does not answer', 'The page tries again by itself.')
      : say('Connecting', 'Asking the collector for the first picture.');
  if (graph.nodes.size === 0 && graph.vertices.size === 0)
    return say('No agents yet', 'The collector is up, but no agent has reported. Start one on every node.');
  if (graph.vertices.size === 0)
    return graph.names === null || graph.names.state === 'none'
      ? say(
          'No names and no traffic yet',
          'The collector has no source of names. Traffic will show by address until it has one.',
        )
      : say('No pods and no traffic yet', 'Agents report, but nothing has been seen on their devices.');
  return null;
}
