import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { useAction } from "../load";
import { Dialog } from "./Dialog";
import { Field } from "./Field";
import { Done, ProblemNote } from "./Note";

interface Props {
  title: string;
  /** What the button says. */
  verb: string;
  /** What kind of thing is named. */
  label: string;
  name: string;
  /** What happens. */
  children: ComponentChildren;
  /** Does it, and answers what to say of it. */
  work: () => Promise<ComponentChildren>;
  onClose: () => void;
}

/** Does what cannot be undone once the name of what it is about was typed, and says what came of it. */
export function ByName({ title, verb, label, name, children, work, onClose }: Props) {
  const [typed, setTyped] = useState("");
  const [done, setDone] = useState<ComponentChildren>(null);
  const { busy, problem, run } = useAction();
  const submit = (event: Event): void => {
    event.preventDefault();
    if (typed === name) void run(work, setDone);
  };
  return (
    <Dialog title={title} onClose={onClose}>
      {done ? (
        <Done>{done}</Done>
      ) : (
        <form onSubmit={submit}>
          <p>
            {children} Type <strong>{name}</strong> to go on.
          </p>
          <Field label={label}>
            <input autocomplete="off" spellcheck={false} autofocus value={typed} onInput={(event) => setTyped(event.currentTarget.value)} />
          </Field>
          {problem && <ProblemNote problem={problem} />}
          <footer>
            <button type="submit" class="danger" disabled={busy || typed !== name}>
              {verb}
            </button>
          </footer>
        </form>
      )}
    </Dialog>
  );
}
