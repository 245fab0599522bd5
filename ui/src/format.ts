/** Pure: numbers, times and names as people read them. */
import type { Edge, Vertex } from './view';

const COUNT = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 });

/** A whole count with separators. */
export function count(value: number): string {
  return COUNT.format(value);
}

/** Packets per second. */
export function rate(value: number): string {
  if (value === 0) return '0';
  if (value < 0.05) return '<0.1';
  if (value < 10) return value.toFixed(1);
  if (value < 10_000) return COUNT.format(value);
  if (value < 1_000_000) return `${(value / 1000).toFixed(value < 100_000 ? 1 : 0)}k`;
  return `${(value / 1_000_000).toFixed(1)}M`;
}

/** Bytes in decimal units. */
export function bytes(value: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
  let unit = 0;
  let scaled = value;
  while (scaled >= 1000 && unit < units.length - 1) {
    scaled /= 1000;
    unit += 1;
  }
  const digits = unit === 0 || scaled >= 100 ? 0 : 1;
  return `${scaled.toFixed(digits)} ${units[unit]}`;
}

/** A share as per cent; small ones keep their digits, none is rounded to nothing. */
export function percent(ratio: number): string {
  const value = ratio * 100;
  if (value === 0) return '0%';
  if (value < 0.01) return '<0.01%';
  return `${value.toFixed(value < 1 ? 2 : value < 99.95 ? 1 : 0)}%`;
}

/** A duration given in microseconds. */
export function micros(us: number): string {
  if (us < 999.5) return `${us.toFixed(us < 10 ? 1 : 0)} µs`;
  if (us < 1_000_000) return `${(us / 1000).toFixed(us < 100_000 ? 1 : 0)} ms`;
  return `${(us / 1_000_000).toFixed(1)} s`;
}

/** Time of day, UTC. */
export function clock(ms: number): string {
  const second = Math.floor(ms / 1000) % 86_400;
  const part = (of: number) => String(Math.floor(of)).padStart(2, '0');
  return `${part(second / 3600)}:${part((second / 60) % 60)}:${part(second % 60)}`;
}

/** How long ago, or how long. */
export function span(ms: number): string {
  const seconds = Math.max(0, ms / 1000);
  if (seconds < 1) return 'now';
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

/** Port and protocol; protocols without ports name only themselves. */
export function service(edge: Edge): string {
  return edge.port === 0 ? edge.protocol.toUpperCase() : `${edge.protocol.toUpperCase()} ${edge.port}`;
}

/** What a vertex is called among others: its workload, else its name. */
export function callName(vertex: Vertex | undefined, id: string): string {
  return vertex === undefined ? id : (vertex.workload ?? vertex.name);
}

/** A pod's name without its template hash, which says nothing to the eye. */
export function shortName(vertex: Vertex): string {
  const { workload, name } = vertex;
  if (workload === null || !name.startsWith(`${workload}-`)) return name;
  const rest = name.slice(workload.length + 1).split('-');
  return rest.length > 1 ? `${workload}-${rest[rest.length - 1]}` : name;
}
