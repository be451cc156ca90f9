import { useState } from "preact/hooks";
import { answer, api, refusalOf, type Problem } from "../api/client";
import * as format from "../format";
import { Dialog } from "../parts/Dialog";
import { Field } from "../parts/Field";
import { Done, ProblemNote } from "../parts/Note";
import type { TopicNames } from "./Topic";

/** Drops everything that waits or is leased, once the topic's name was typed. */
export function Purge({ namespace, topic, onClose }: TopicNames & { onClose: () => void }) {
  const [typed, setTyped] = useState("");
  const [purged, setPurged] = useState<number | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    if (typed !== topic) return;
    try {
      const { count } = await answer(
        api.POST("/v1/namespaces/{ns}/topics/{topic}/purge", { params: { path: { ns: namespace, topic } } }),
      );
      setPurged(count);
      setProblem(null);
    } catch (error) {
      setProblem(refusalOf(error));
    }
  };
  return (
    <Dialog title="Purge the topic" onClose={onClose}>
      {purged === null ? (
        <form onSubmit={(event) => void submit(event)}>
          <p>
            Every item that is ready, scheduled or leased is dropped for good. Dead letters stay. Type <strong>{topic}</strong> to go on.
          </p>
          <Field label="Topic">
            <input autocomplete="off" spellcheck={false} autofocus value={typed} onInput={(event) => setTyped(event.currentTarget.value)} />
          </Field>
          {problem && <ProblemNote problem={problem} />}
          <footer>
            <button type="submit" class="danger" disabled={typed !== topic}>
              Purge
            </button>
          </footer>
        </form>
      ) : (
        <Done>{format.count(purged)} items were dropped.</Done>
      )}
    </Dialog>
  );
}
