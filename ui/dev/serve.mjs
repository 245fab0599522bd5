/**
 * Serves dist/ with the collector's content policy and a stream from an invented cluster.
 *
 *   node dev/serve.mjs [small|still|big|empty] [port]
 *   node dev/serve.mjs http://127.0.0.1:7380 [port]    the stream of a running collector instead
 */
import { createReadStream, existsSync } from 'node:fs';
import { createServer, get } from 'node:http';
import { dirname, extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { another, big, grow, small } from './cluster.mjs';

const dist = join(dirname(fileURLToPath(import.meta.url)), '..', 'dist');
const kind = process.argv[2] ?? 'small';
const port = Number(process.argv[3] ?? 7399);
const now = () => Date.now();
const empty = { nodes: [], vertices: [], edges: [], cart: [], cluster: 'lab' };
const cluster = kind === 'big' ? big(now()) : kind === 'empty' ? empty : small(now());
const started = now();
const base = new Map(cluster.edges.map((edge) => [edge.id, edge.rate]));
const extra = [];
const hidden = { edges: 0, vertices: 0, noise: { own: 0, dns: 0, scrapes: 0, probes: 0, kube_system: 0 } };
let revision = 1;
const clients = new Set();
const TYPES = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.svg': 'image/svg+xml',
  '.woff2': 'font/woff2',
};

const send = (response, event, data) =>
  response.write(`event: ${event}\nid: dev-${data.revision}\ndata: ${JSON.stringify(data)}\n\n`);

function snapshot() {
  return {
    run: 'dev',
    revision,
    view: 'pod',
    time_ms: now(),
    since_ms: started,
    cluster: cluster.cluster,
    names: { source: 'file', state: 'fresh', error: null, read_ms: started },
    hidden,
    nodes: cluster.nodes,
    vertices: cluster.vertices,
    edges: cluster.edges,
    events: [],
  };
}

function step() {
  const vertices = { upsert: [], remove: [] };
  const edges = { upsert: [], remove: [] };
  const seconds = Math.floor((now() - started) / 1000) % 60;
  const [like] = cluster.cart;
  const wanted = like === undefined ? 0 : seconds > 12 && seconds < 40 ? 6 : seconds >= 40 ? 1 : 0;
  while (extra.length < wanted) {
    const pod = another(like, extra.length, now());
    extra.push(pod);
    cluster.vertices.push(pod);
    vertices.upsert.push(pod);
  }
  while (extra.length > wanted) {
    const pod = extra.pop();
    cluster.vertices.splice(cluster.vertices.indexOf(pod), 1);
    vertices.remove.push(pod.id);
  }
  const share = kind === 'big' ? 0.1 : 1;
  cluster.edges.forEach((edge, index) => {
    if (Math.random() > share) return;
    const rate = base.get(edge.id);
    const wobble = edge.port >= 9000 && edge.port < 9003 ? 1 : 0.9 + Math.random() * 0.2;
    const next = {
      ...grow(edge),
      last_seen_ms: now(),
      rate: { ...rate, forward_skbs: rate.forward_skbs * wobble },
    };
    cluster.edges[index] = next;
    edges.upsert.push(next);
  });
  const delta = {
    run: 'dev',
    revision: revision + 1,
    base: revision,
    time_ms: now(),
    names: null,
    hidden,
    nodes: { upsert: [], remove: [] },
    vertices,
    edges,
    events: [],
  };
  revision += 1;
  for (const client of clients) send(client, 'delta', delta);
}

const server = createServer((request, response) => {
  const path = new URL(request.url, 'http://localhost').pathname;
  if (path === '/api/v1/stream' && kind.startsWith('http')) {
    const from = get(new URL(request.url, kind), { headers: request.headers }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    from.on('error', () => response.destroy());
    request.on('close', () => from.destroy());
    return;
  }
  if (path === '/api/v1/stream') {
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
    send(response, 'snapshot', snapshot());
    clients.add(response);
    request.on('close', () => clients.delete(response));
    return;
  }
  const file = join(dist, normalize(path === '/' ? '/index.html' : path));
  if (!file.startsWith(dist) || !existsSync(file)) {
    response.writeHead(404).end('not found');
    return;
  }
  response.writeHead(200, {
    'content-type': TYPES[extname(file)] ?? 'application/octet-stream',
    'content-security-policy':
      "default-src 'self'; script-src 'self'; style-src 'self'; worker-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'",
  });
  createReadStream(file).pipe(response);
});
// Port 0 takes a free one.
server.listen(port, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}/ (${kind})`));
// A still one never changes: for pictures that are compared.
if (kind !== 'still') setInterval(step, kind === 'big' ? 100 : 200);
