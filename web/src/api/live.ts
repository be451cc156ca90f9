import { computed, signal } from "@preact/signals";
import { refuseToken } from "../session";
import type { Problem, Schema } from "./client";
import { record } from "./history";
import { pause, readEvents } from "./stream";

export type Snapshot = Schema["Snapshot"];
export type Scope = "enqueue" | "dequeue" | "admin" | "hooks";

/** The last event; stays while the server is away. */
export const latest = signal<Snapshot | null>(null);
/** Whether the server does not answer. */
export const lost = signal(false);

export const scopes = computed(() => new Set(latest.value?.scopes ?? []));
/** Whether the token shows topics and items at all: hooks alone do not. */
export const looks = computed(() => (["enqueue", "dequeue", "admin"] as const).some((scope) => scopes.value.has(scope)));
export const has = (scope: Scope): boolean => scopes.value.has(scope);

const SILENCE_MS = 5_000;
const WAIT_MS = { first: 500, most: 10_000 };

let running: AbortController | null = null;

/**
 * Watches with `token` until {@link unwatch} or until the token is refused, through restarts of the server.
 * Resolves with nothing at the first event, or with the problem of the first try; it tries again all the same.
 */
export function watch(token: string): Promise<Problem | null> {
  unwatch();
  const stop = new AbortController();
  running = stop;
  return new Promise((resolve) => {
    const run = async (): Promise<void> => {
      let wait = WAIT_MS.first;
      while (!stop.signal.aborted) {
        const source = { url: "/v1/events", token, stop: stop.signal, silenceMs: SILENCE_MS };
        const problem = await readEvents(source, (text) => {
          const snapshot = JSON.parse(text) as Snapshot;
          record(snapshot);
          latest.value = snapshot;
          lost.value = false;
          wait = WAIT_MS.first;
          resolve(null);
        });
        if (stop.signal.aborted) return;
        if (problem) resolve(problem);
        if (problem?.status === 401) {
          lost.value = false;
          refuseToken(problem.detail);
          return;
        }
        // A stream that ended in good order says no more than that: its token may just have expired.
        if (problem) lost.value = true;
        await pause(wait * (0.75 + Math.random() / 2), stop.signal);
        wait = Math.min(wait * 2, WAIT_MS.most);
      }
    };
    void run();
  });
}

export function unwatch(): void {
  running?.abort();
  running = null;
  lost.value = false;
}
