import type { Problem } from "../api/client";

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
