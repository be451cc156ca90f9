import { useEffect, useState } from "preact/hooks";
import { type Problem, type Schema } from "../../api/client";
import { pause, readEvents } from "../../api/stream";
import * as format from "../../format";
import { ProblemNote } from "../../parts/Note";
import { token } from "../../session";
import type { HookNames } from "./Hook";

type Line = Schema["HookLogLine"];
const LINES_MAX = 1_000;
/** The server says every 15 seconds that it lives. */
const SILENCE_MS = 40_000;
const AGAIN_MS = 2_000;
const LEVELS = ["trace", "debug", "info", "warn", "error"] as const;

/** The log's lines as they come, the newest first, through restarts of the server. */
function useLines({ namespace, hook }: HookNames): { lines: Line[]; problem: Problem | null } {
  const [lines, setLines] = useState<Line[]>([]);
  const [problem, setProblem] = useState<Problem | null>(null);
  useEffect(() => {
    const stop = new AbortController();
    const path = `/v1/namespaces/${encodeURIComponent(namespace)}/hooks/${encodeURIComponent(hook)}/logs?follow=true`;
    const follow = async (): Promise<void> => {
      let last = 0;
      let first = true;
      while (!stop.signal.aborted && token.value !== null) {
        // Without a number the stream begins with the newest lines.
        const url = first ? path : `${path}&after=${last}`;
        const failure = await readEvents({ url, token: token.value, stop: stop.signal, silenceMs: SILENCE_MS }, (text) => {
          const line = JSON.parse(text) as Line;
          last = line.seq;
          first = false;
          setProblem(null);
          setLines((before) => [line, ...before.slice(0, LINES_MAX - 1)]);
        });
        if (stop.signal.aborted) return;
        setProblem(failure);
        await pause(AGAIN_MS, stop.signal);
      }
    };
    void follow();
    return () => stop.abort();
  }, [namespace, hook]);
  return { lines, problem };
}

/** What the hook logs, live. */
export function Log(names: HookNames) {
  const { lines, problem } = useLines(names);
  const [level, setLevel] = useState<(typeof LEVELS)[number]>("trace");
  const [held, setHeld] = useState<Line[] | null>(null);
  const shown = (held ?? lines).filter((line) => LEVELS.indexOf(line.level) >= LEVELS.indexOf(level));
  return (
    <section aria-label="Log">
      <div class="bar">
        <label class="inline">
          From{" "}
          <select value={level} onChange={(event) => setLevel(event.currentTarget.value as (typeof LEVELS)[number])}>
            {LEVELS.map((name) => (
              <option key={name} value={name}>
                {name}
              </option>
            ))}
          </select>
        </label>
        <button type="button" aria-pressed={held !== null} onClick={() => setHeld(held ? null : lines)}>
          {held ? "Go on" : "Hold"}
        </button>
        <span class="dim">The newest first, from this node.</span>
      </div>
      {problem && <ProblemNote problem={problem} />}
      {shown.length === 0 ? (
        <p class="empty">Nothing was logged yet. New lines appear by themselves.</p>
      ) : (
        <table class="list log">
          <caption class="hidden">Log lines</caption>
          <thead>
            <tr>
              <th scope="col">Time</th>
              <th scope="col">Level</th>
              <th scope="col" class="num wide">Version</th>
              <th scope="col" class="apart">Message</th>
            </tr>
          </thead>
          <tbody>
            {shown.map((line) => (
              <tr key={line.seq}>
                <td class="num left">{format.moment(line.at)}</td>
                <td class={line.level === "error" ? "bad" : line.level === "warn" ? "warn" : "dim"}>{line.level}</td>
                <td class="num wide">{line.version === 0 ? "server" : line.version}</td>
                <td class="mono wrap apart">{line.message}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </section>
  );
}
