import type { Problem } from "../api/client";
import { latest, looks } from "../api/live";
import * as format from "../format";

/** A problem as the server told it. */
export function ProblemNote({ problem }: { problem: Problem }) {
  return (
    <div class="note bad" role="alert">
      <strong>{problem.title}</strong>
      <p>{problem.detail}</p>
      {problem.errors?.map((error) => (
        <p key={error.field}>
          <code>{error.field}</code> {error.detail}
        </p>
      ))}
      {problem.request_id && (
        <p class="dim">
          request <code>{problem.request_id}</code>
        </p>
      )}
    </div>
  );
}

export function Done({ children }: { children: preact.ComponentChildren }) {
  return (
    <div class="note good" role="status">
      {children}
    </div>
  );
}

/** Says that there are more topics than the stream carries, when there are. */
export function LeftOutNote() {
  const more = latest.value?.topics_left_out ?? 0;
  if (more === 0) return null;
  return <p class="note">{format.some(more, "topic")} more {more === 1 ? "is" : "are"} not shown and not in these numbers: the stream carries the first 1,000. The address of a topic opens it all the same.</p>;
}

/** Says why no topic is shown to a token that opens none. */
export function NoLookNote() {
  if (looks.value) return null;
  return <p class="note">Topics, items and quotas are shown to tokens with one of the scopes enqueue, dequeue and admin; this one has {[...(latest.value?.scopes ?? [])].join(", ") || "none"}.</p>;
}
