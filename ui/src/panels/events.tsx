/** What happened to the cluster itself: pods that came and went, workloads scaled, nodes that fell silent. */
import { clock } from '../format';
import type { Graph } from '../graph';
import * as store from '../store';
import type { ClusterEvent } from '../view';

/** Events listed; the graph keeps more. */
const SHOWN = 12;

/** Health colours are for what is unhealthy; the words say it, too. */
function tone(event: ClusterEvent): 'bad' | 'warning' | '' {
  if (event.kind === 'pod-failed' || event.kind === 'node-lost') return 'bad';
  return event.kind === 'node-late' ? 'warning' : '';
}

function target(event: ClusterEvent, graph: Graph): Parameters<typeof store.select>[0] {
  if (event.kind.startsWith('node-'))
    return graph.nodes.has(event.subject) ? { kind: 'node', id: event.subject } : null;
  const id = `pod:${event.subject}`;
  return graph.vertices.has(id) ? { kind: 'vertex', id } : null;
}

/** The newest events, newest first; those about something on the map select it. */
export function EventList({ graph }: { graph: Graph }) {
  if (graph.events.length === 0) return null;
  const newest = graph.events.slice(-SHOWN).reverse();
  return (
    <section data-testid="events">
      <h3>
        Events <span>{graph.events.length}</span>
      </h3>
      <ul class="pod-list">
        {newest.map((event) => {
          const to = target(event, graph);
          const line = (
            <>
              <span class="muted">{clock(event.timeMs)}</span>
              <span class="cut">{event.subject}</span>
              <span class={tone(event)}>{event.text}</span>
            </>
          );
          return (
            <li key={`${event.timeMs}/${event.kind}/${event.subject}/${event.text}`} data-kind={event.kind}>
              {to === null ? (
                <span class="pod-line">{line}</span>
              ) : (
                <button type="button" class="pod-line" onClick={() => store.select(to)}>
                  {line}
                </button>
              )}
            </li>
          );
        })}
      </ul>
    </section>
  );
}
