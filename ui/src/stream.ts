/**
 * The live stream: native EventSource, one snapshot, then deltas.
 *
 * A gap, another run or an undecodable frame closes the source and opens a new one; a new EventSource carries no
 * Last-Event-ID, so the collector answers with a fresh snapshot.
 */
import { applyDelta, fromSnapshot, type Graph } from './graph';
import { decodeDelta, decodeSnapshot } from './view';

/** How the page stands to the collector. */
export type Connection =
  | { readonly kind: 'connecting' }
  | { readonly kind: 'live' }
  | { readonly kind: 'broken'; readonly why: string; readonly sinceMs: number };

/** The part of EventSource that is used. */
export interface Source {
  readonly readyState: number;
  onopen: ((event: Event) => void) | null;
  onerror: ((event: Event) => void) | null;
  addEventListener(type: string, listener: (event: MessageEvent<string>) => void): void;
  close(): void;
}

/** What the stream needs from its surroundings. */
export interface StreamOptions {
  readonly open: () => Source;
  /** Asks why a source was refused: it cannot tell by itself. Null where nothing is wrong any more. */
  readonly explain: () => Promise<string | null>;
  readonly onGraph: (graph: Graph) => void;
  readonly onConnection: (connection: Connection) => void;
  readonly later: (run: () => void, ms: number) => void;
  readonly now: () => number;
}

const CLOSED = 2;
/** First and longest wait before a source is opened anew. */
const RETRY_MS = { first: 500, longest: 8000 } as const;

/** Follows the stream for as long as the page lives; returns how to stop it. */
export function follow(options: StreamOptions): () => void {
  let graph: Graph | null = null;
  let source: Source | null = null;
  let wait: number = RETRY_MS.first;
  let stopped = false;
  let broken: number | null = null;

  const failed = (why: string) => {
    broken ??= options.now();
    options.onConnection({ kind: 'broken', why, sinceMs: broken });
  };
  const reopen = () => {
    source?.close();
    source = null;
    options.later(() => {
      if (!stopped && source === null) connect();
    }, wait);
    wait = Math.min(wait * 2, RETRY_MS.longest);
  };
  const took = (next: Graph) => {
    graph = next;
    broken = null;
    options.onGraph(next);
    options.onConnection({ kind: 'live' });
  };
  const guard = (mine: Source, read: (data: unknown) => void) => (event: MessageEvent<string>) => {
    if (mine !== source) return;
    try {
      read(JSON.parse(event.data));
    } catch (error) {
      failed(error instanceof Error ? error.message : String(error));
      reopen();
    }
  };
  const connect = () => {
    const mine = options.open();
    source = mine;
    mine.addEventListener(
      'snapshot',
      guard(mine, (data) => {
        took(fromSnapshot(graph, decodeSnapshot(data)));
        wait = RETRY_MS.first;
      }),
    );
    mine.addEventListener(
      'delta',
      guard(mine, (data) => {
        const delta = decodeDelta(data);
        const step = graph === null ? null : applyDelta(graph, delta);
        if (step?.kind === 'applied') took(step.graph);
        else reopen();
      }),
    );
    mine.onopen = () => {
      if (mine === source && graph !== null) {
        broken = null;
        options.onConnection({ kind: 'live' });
      }
    };
    mine.onerror = () => {
      if (mine !== source) return;
      failed('the stream ended');
      // While it is CONNECTING the browser tries again by itself, with Last-Event-ID.
      if (mine.readyState !== CLOSED) return;
      reopen();
      options.explain().then(
        (why) => {
          if (why !== null && !stopped && broken !== null) failed(why);
        },
        () => undefined,
      );
    };
  };
  options.onConnection({ kind: 'connecting' });
  connect();
  return () => {
    stopped = true;
    source?.close();
    source = null;
  };
}
