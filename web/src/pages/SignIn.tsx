import { useState } from "preact/hooks";
import type { Problem } from "../api/client";
import { unwatch, watch } from "../api/live";
import { Field } from "../parts/Field";
import { ProblemNote } from "../parts/Note";
import { keepToken, refused } from "../session";

/** Asks for a token and tries it. */
export function SignIn() {
  const [text, setText] = useState("");
  const [problem, setProblem] = useState<Problem | null>(null);
  const [busy, setBusy] = useState(false);
  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    const token = text.trim().replace(/^bearer\s+/i, "");
    if (!token || busy) return;
    setBusy(true);
    const failure = await watch(token);
    setBusy(false);
    setProblem(failure);
    if (failure) unwatch();
    else keepToken(token);
  };
  return (
    <form class="sign-in" onSubmit={(event) => void submit(event)}>
      {refused.value && !problem && (
        <p class="note" role="status">
          Sign in again to go on: {refused.value}.
        </p>
      )}
      <Field label="Token" hint="“mqueue token” makes one. It is kept in this tab alone.">
        <input
          type="password"
          autocomplete="off"
          spellcheck={false}
          autofocus
          required
          value={text}
          onInput={(event) => setText(event.currentTarget.value)}
        />
      </Field>
      {problem && <ProblemNote problem={problem} />}
      <button type="submit" class="main" disabled={busy}>
        Sign in
      </button>
    </form>
  );
}
