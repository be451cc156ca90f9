import { computed, signal } from "@preact/signals";
import { refuseToken } from "../session";
import { type Problem, type Schema, problemOf } from "./client";
import { record } from "./history";

export type Snapshot = Schema["Event"];
export type Scope = "enqueue" | "dequeue" | "admin" | "hooks";

/** The last event; stays while the server is away. */
export const latest = signal<Snapshot | null>(null);
/** Whether events arrive. */
export const lost = signal(false);

export const scopes = computed(() => new Set(latest.value?.scopes ?? []));
export const has = (scope: Scope): boolean => scopes.value.has(scope);

const SILENCE_MS = 5_000;
const WAIT_MS = { first: 500, most: 10_000 };

let running: AbortController | null = null;

/** Events whose data is complete in `text`, and what is left of it. */
function cut(text: string): { data: string[]; rest: string } {
  const parts = text.split("\n\n");
  const rest = parts.pop() ?? "";
  const data = parts.map((part) =>
    part
      .split("\n")
      .filter((line) => line.startsWith("data: "))
      .map((line) => line.slice(6))
      .join("\n"),
  );
  return { data, rest };
}

/** Reads one stream to its end. Answers the problem when there was no stream. */
async function read(token: string, stop: AbortSignal, arrived: () => void): Promise<Problem | null> {
  const silence = new AbortController();
  let timer = setTimeout(() => silence.abort(), SILENCE_MS);
  try {
    const response = await fetch("/v1/events", {
      headers: { Authorization: `Bearer ${token}` },
      signal: AbortSignal.any([stop, silence.signal]),
      cache: "no-store",
    });
    if (!response.ok || !response.body) {
      return problemOf(await response.json().catch(() => null), response.status);
    }
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let buffer = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return null;
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), SILENCE_MS);
      const { data, rest } = cut(buffer + value);
      buffer = rest;
      for (const text of data) {
        const snapshot = JSON.parse(text) as Snapshot;
        record(snapshot);
        latest.value = snapshot;
        lost.value = false;
        arrived();
      }
    }
  } catch {
    return problemOf(null, 0);
  } finally {
    clearTimeout(timer);
  }
}

const pause = (ms: number, stop: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    stop.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });

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
        const problem = await read(token, stop.signal, () => {
          wait = WAIT_MS.first;
          resolve(null);
        });
        if (stop.signal.aborted) return;
        if (problem) resolve(problem);
        if (problem?.status === 401) {
          refuseToken(problem.detail);
          return;
        }
        lost.value = true;
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
