/** What happened to the cluster itself: pods that came and went, workloads scaled, nodes that fell silent. */
import { clock } from '../format';
import type { Graph } from '../graph';
import { subjectOf, toneOf } from '../past';
import * as store from '../store';
import type { ClusterEvent } from '../view';

/** Events listed; the graph keeps more. */
const SHOWN = 12;

/** What an event is about, if it is on the map. */
export function targetOf(event: ClusterEvent, graph: Graph): Parameters<typeof store.select>[0] {
  if (event.kind.startsWith('node-'))
    return graph.nodes.has(event.subject) ? { kind: 'node', id: event.subject } : null;
  if (event.kind.startsWith('edge-'))
    return graph.edges.has(event.subject) ? { kind: 'edge', id: event.subject } : null;
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
          const to = targetOf(event, graph);
          const line = (
            <>
              <span class="muted">{clock(event.timeMs)}</span>
              <span class="cut">{subjectOf(event.subject)}</span>
              <span class={toneOf(event.kind)}>{event.text}</span>
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
