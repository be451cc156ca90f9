import { type Problem, problemOf } from "./client";

export interface Source {
  /** Path and query; never with the token in it. */
  url: string;
  token: string;
  stop: AbortSignal;
  /** A stream that is silent for longer is taken for broken. */
  silenceMs: number;
}

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
  return { data: data.filter(Boolean), rest };
}

/**
 * Reads one stream of server-sent events to its end, with fetch so that the token stands in a header. Answers the
 * problem when there was no stream.
 */
export async function readEvents({ url, token, stop, silenceMs }: Source, arrived: (data: string) => void): Promise<Problem | null> {
  const silence = new AbortController();
  let timer = setTimeout(() => silence.abort(), silenceMs);
  try {
    const response = await fetch(url, {
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
      timer = setTimeout(() => silence.abort(), silenceMs);
      const { data, rest } = cut(buffer + value);
      buffer = rest;
      for (const text of data) arrived(text);
    }
  } catch {
    return problemOf(null, 0);
  } finally {
    clearTimeout(timer);
  }
}

export const pause = (ms: number, stop: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    stop.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
