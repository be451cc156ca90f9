import type { ComponentChildren } from "preact";
import { useAction } from "../load";
import { Dialog } from "./Dialog";
import { ProblemNote } from "./Note";

interface Props {
  title: string;
  /** What the button says. */
  verb: string;
  danger?: boolean;
  children: ComponentChildren;
  work: () => Promise<unknown>;
  onDone: () => void;
  onClose: () => void;
}

/** Asks once before something is done, and stays with the problem when it could not be. */
export function Confirm({ title, verb, danger = false, children, work, onDone, onClose }: Props) {
  const { busy, problem, run } = useAction();
  const submit = (event: Event): void => {
    event.preventDefault();
    void run(work, onDone);
  };
  return (
    <Dialog title={title} onClose={onClose}>
      <form onSubmit={submit}>
        <p>{children}</p>
        {problem && <ProblemNote problem={problem} />}
        <footer>
          <button type="button" onClick={onClose}>
            Cancel
          </button>
          <button type="submit" class={danger ? "danger" : "main"} disabled={busy}>
            {verb}
          </button>
        </footer>
      </form>
    </Dialog>
  );
}
