import { signal } from "@preact/signals";
import type { Schema } from "./client";

type Snapshot = Schema["Snapshot"];
type Stats = Schema["TopicStats"];

/** A moment of a topic. Rates are per second. */
export interface Point {
  /** Seconds since the epoch. */
  at: number;
  in: number;
  out: number;
  acked: number;
  ready: number;
  scheduled: number;
  leased: number;
  dead: number;
}

export interface Latency {
  p50Us: number;
  p99Us: number;
  count: number;
}

/** An hour when few topics are watched, less when many are, so that a tab's memory stays bounded. */
const POINTS_MAX = 3_600;
const POINTS_MIN = 120;
const POINTS_TOTAL = 200_000;
const LATENCY_SECONDS = 60;
/** Events come twice a second; of two that are nearer than this the past keeps one. */
const APART_S = 0.9;

const points = new Map<string, Point[]>();
const totals = new Map<string, { at: number; stats: Stats }>();
let latencies: Schema["RouteLatency"][][] = [];

let recorded = 0;

/** Raised with every second, so that what draws the past draws again. */
export const tick = signal(0);

export const keyOf = (namespace: string, topic: string): string => `${namespace}/${topic}`;

export function past(key: string): readonly Point[] {
  return points.get(key) ?? [];
}

/** What the server remembers of the time before this tab was opened. */
export function pointsOf({ every_ms, moments }: Schema["TopicHistory"]): Point[] {
  const seconds = every_ms / 1_000;
  return moments.map(({ at, enqueued, delivered, acked, ...held }) => ({
    at: Date.parse(at) / 1_000,
    in: enqueued / seconds,
    out: delivered / seconds,
    acked: acked / seconds,
    ...held,
  }));
}

/** `older`, and what this tab saw itself from where it begins. */
export function joined(older: readonly Point[], own: readonly Point[]): readonly Point[] {
  const begins = own[0]?.at ?? Number.POSITIVE_INFINITY;
  return [...older.filter(({ at }) => at < begins), ...own];
}

/** The whole node: every topic's points added up, over the last `seconds`. */
export function pastOfAll(seconds: number): Point[] {
  const sums = new Map<number, Point>();
  for (const list of points.values()) {
    for (const p of list.slice(-seconds)) {
      const sum = sums.get(p.at);
      if (!sum) {
        sums.set(p.at, { ...p });
        continue;
      }
      sum.in += p.in;
      sum.out += p.out;
      sum.acked += p.acked;
      sum.ready += p.ready;
      sum.scheduled += p.scheduled;
      sum.leased += p.leased;
      sum.dead += p.dead;
    }
  }
  return [...sums.values()].sort((a, b) => a.at - b.at);
}

export function record(snapshot: Snapshot): void {
  const at = Date.parse(snapshot.at) / 1_000;
  // A clock that was set back begins anew.
  if (at >= recorded && at - recorded < APART_S) return;
  recorded = at;
  const most = Math.min(POINTS_MAX, Math.max(POINTS_MIN, Math.floor(POINTS_TOTAL / (snapshot.topics.length || 1))));
  const seen = new Set<string>();
  for (const { namespace, topic, stats } of snapshot.topics) {
    const key = keyOf(namespace, topic);
    seen.add(key);
    const before = totals.get(key);
    totals.set(key, { at, stats });
    const list = points.get(key) ?? [];
    list.push(point(at, stats, before));
    if (list.length > most) list.splice(0, list.length - most);
    points.set(key, list);
  }
  for (const key of points.keys()) {
    if (!seen.has(key)) {
      points.delete(key);
      totals.delete(key);
    }
  }
  if (snapshot.node) latencies = [...latencies.slice(-LATENCY_SECONDS), snapshot.node.latencies];
  tick.value += 1;
}

function point(at: number, stats: Stats, before: { at: number; stats: Stats } | undefined): Point {
  // Totals begin anew with the server: what is smaller than before says nothing.
  const rate = (now: number, then: number | undefined): number =>
    before && then !== undefined && now >= then && at > before.at ? (now - then) / (at - before.at) : 0;
  return {
    at,
    in: rate(stats.enqueued_total, before?.stats.enqueued_total),
    out: rate(stats.delivered_total, before?.stats.delivered_total),
    acked: rate(stats.acked_total, before?.stats.acked_total),
    ready: stats.ready,
    scheduled: stats.scheduled,
    leased: stats.leased,
    dead: stats.dead,
  };
}

/** How long the answers of the last minute took, by group of routes. */
export function recentLatency(route: string): Latency | null {
  const now = latencies.at(-1)?.find((entry) => entry.route === route);
  let then = latencies[0]?.find((entry) => entry.route === route);
  if (!now || latencies.length < 2) return null;
  // The server began anew: all it counted is recent.
  if (then && then.count > now.count) then = undefined;
  const count = now.count - (then?.count ?? 0);
  if (count === 0) return { p50Us: 0, p99Us: 0, count: 0 };
  const buckets = now.within_us.map(([bound, total], index) => ({
    bound: bound ?? 0,
    total: (total ?? 0) - (then?.within_us[index]?.[1] ?? 0),
  }));
  const quantile = (share: number): number =>
    buckets.find(({ total }) => total >= share * count)?.bound ?? Number.POSITIVE_INFINITY;
  return { p50Us: quantile(0.5), p99Us: quantile(0.99), count };
}
