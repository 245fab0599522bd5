/** The invented cluster of dev/serve.mjs, for tests that need no collector: it serves the built page itself. */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { skipping } from './browser';

/** Whether there is a page to serve; says so where there is none. */
export function isBuilt(): boolean {
  const built = existsSync(new URL('../dist/index.html', import.meta.url));
  if (!built) skipping('the page is not built: npm run build');
  return built;
}

/** A server that runs, and how to end it. */
export interface Invented {
  readonly address: string;
  readonly close: () => void;
}

/** Starts it; `still` never changes. */
export async function invent(kind: 'small' | 'still'): Promise<Invented> {
  const script = new URL('../dev/serve.mjs', import.meta.url).pathname;
  const server = spawn(process.execPath, [script, kind, '0'], { stdio: ['ignore', 'pipe', 'inherit'] });
  // It says where it listens once it does.
  const address = await new Promise<string>((resolve, reject) => {
    let said = '';
    server.stdout.on('data', (bytes) => {
      said += String(bytes);
      const found = /http:\/\/\S+\//.exec(said)?.[0];
      if (found !== undefined) resolve(found);
    });
    server.on('exit', (code) => reject(new Error(`the server ended with ${code}: ${said}`)));
  });
  return { address, close: () => server.kill() };
}

/** What its stream says first. */
export async function snapshotOf<T>(address: string): Promise<T> {
  const response = await fetch(`${address}api/v1/stream`);
  let text = '';
  for await (const chunk of response.body ?? []) {
    text += Buffer.from(chunk as Uint8Array).toString('utf8');
    const data = /event: snapshot[\s\S]*?data: (.*)\n\n/.exec(text)?.[1];
    if (data !== undefined) return JSON.parse(data) as T;
  }
  throw new Error('the stream ended before its snapshot');
}
