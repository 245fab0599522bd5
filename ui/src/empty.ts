/** Pure: why there is nothing to see, and what to do about it. */
import { count } from './format';
import type { Graph } from './graph';
import type { Connection } from './stream';
import type { Hidden } from './view';

/** What a browser asks the collector to show. */
export interface Wish {
  readonly filter: string;
  readonly hideNoise: boolean;
}

/** What the explanation hangs on. */
export interface Situation {
  readonly graph: Graph | null;
  readonly connection: Connection;
  readonly shown: Wish;
}

/** An explanation, and what would show more. */
export interface Reason {
  readonly title: string;
  readonly text: string;
  readonly remedy: 'clear-filter' | 'show-noise' | null;
}

/** Edges left out as noise. */
export function noiseCount({ noise }: Hidden): number {
  return noise.own + noise.dns + noise.scrapes + noise.probes + noise.kubeSystem;
}

/** Kinds of noise with their counts, in words. */
export function noiseWords({ noise }: Hidden): string {
  const kinds: [number, string][] = [
    [noise.dns, 'to the name service'],
    [noise.kubeSystem, 'of kube-system'],
    [noise.probes, 'probes'],
    [noise.scrapes, 'scrapes'],
    [noise.own, "Orrery's own"],
  ];
  return kinds
    .filter(([number]) => number > 0)
    .map(([number, word]) => `${count(number)} ${word}`)
    .join(', ');
}

/** Why no link is there; null when there is one. Of several reasons the first that has to be met. */
export function whyEmpty({ graph, connection, shown }: Situation): Reason | null {
  const say = (title: string, text: string, remedy: Reason['remedy'] = null): Reason => ({
    title,
    text,
    remedy,
  });
  if (graph === null)
    return connection.kind === 'broken'
      ? say('The collector does not answer', `${sentence(connection.why)} The page tries again by itself.`)
      : say('Connecting', 'Asking the collector for the first picture.');
  if (graph.edges.size > 0) return null;
  const noise = noiseCount(graph.hidden);
  if (graph.hidden.edges + noise > 0 && shown.filter !== '' && graph.hidden.edges > 0)
    return say(
      'The filter hides everything',
      `${links(graph.hidden.edges)} there, but “${shown.filter}” matches none of them.`,
      'clear-filter',
    );
  if (noise > 0)
    return say('All there is, is noise', `Hidden are ${noiseWords(graph.hidden)}.`, 'show-noise');
  if (shown.filter !== '' && graph.hidden.vertices > 0 && graph.vertices.size === 0)
    return say(
      'The filter hides everything',
      `“${shown.filter}” matches nothing in the cluster.`,
      'clear-filter',
    );
  if (graph.nodes.size === 0)
    return say('No agents yet', 'The collector is up, but no agent has reported. Start one on every node.');
  const nodes = [...graph.nodes.values()];
  const reporting = nodes.filter((node) => node.lastReportMs !== null);
  if (reporting.length === 0)
    return say(
      'No agent has reported',
      `The pod list names ${nodes.length === 1 ? 'one node' : `${count(nodes.length)} nodes`}, but nothing came from any of them. Start an agent on every node.`,
    );
  if (nodes.every((node) => node.state === 'lost'))
    return say('Every node is silent', 'No agent reports any more, so nothing new can be shown.');
  if (reporting.every((node) => node.devices === 0))
    return say(
      'No devices are watched',
      'Agents report, but found no pod-facing device. The nodes’ panels say what was refused.',
    );
  const names = graph.names === null || graph.names.state === 'none';
  return say(
    'No traffic yet',
    names
      ? 'Agents watch, but no packet passed. The collector has no source of names either: traffic will show by address.'
      : 'Agents watch, but no packet passed since the collector started. A link appears with its first packet.',
  );
}

function links(number: number): string {
  return number === 1 ? 'One link is' : `${count(number)} links are`;
}

function sentence(text: string): string {
  const clean = text.trim();
  if (clean === '') return '';
  return /[.!?]$/.test(clean) ? clean : `${clean}.`;
}
