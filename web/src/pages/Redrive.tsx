import { useState } from "preact/hooks";
import { answer, api, refusalOf, type Problem, type Schema } from "../api/client";
import * as format from "../format";
import { Dialog } from "../parts/Dialog";
import { Field } from "../parts/Field";
import { Done, ProblemNote } from "../parts/Note";
import type { TopicNames } from "./Topic";

type Reason = Schema["DeadReason"];
const REASONS: readonly Reason[] = ["attempts_exhausted", "rejected", "expired", "hook"];

/** Brings dead letters back: the chosen ones, or those that a filter fits. */
export function Redrive({ namespace, topic, ids, onClose }: TopicNames & { ids: string[]; onClose: () => void }) {
  const [reason, setReason] = useState<Reason | "">("");
  const [contains, setContains] = useState("");
  const [to, setTo] = useState("");
  const [perSecond, setPerSecond] = useState("");
  const [result, setResult] = useState<Schema["RedriveResponse"] | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [busy, setBusy] = useState(false);
  const send = async (dry_run: boolean): Promise<void> => {
    const filter: Schema["ItemFilter"] = {};
    if (ids.length > 0) filter.ids = ids;
    if (reason) filter.reason = reason;
    if (contains) filter.error_contains = contains;
    const body: Schema["RedriveRequest"] = { dry_run, filter };
    if (to) body.to_topic = to;
    if (perSecond) body.rate_per_s = Number(perSecond);
    setBusy(true);
    try {
      setResult(
        await answer(
          api.POST("/v1/namespaces/{ns}/topics/{topic}/dead/redrive", { params: { path: { ns: namespace, topic } }, body }),
        ),
      );
      setProblem(null);
    } catch (error) {
      setResult(null);
      setProblem(refusalOf(error));
    }
    setBusy(false);
  };
  const submit = (event: Event): void => {
    event.preventDefault();
    void send(false);
  };
  return (
    <Dialog title={ids.length > 0 ? `Redrive ${format.some(ids.length, "dead letter")}` : "Redrive dead letters"} onClose={onClose}>
      <form onSubmit={submit}>
        {ids.length === 0 && (
          <div class="fields">
            <Field label="Reason">
              <select value={reason} onChange={(event) => setReason(event.currentTarget.value as Reason | "")}>
                <option value="">any</option>
                {REASONS.map((name) => (
                  <option key={name} value={name}>
                    {name.replaceAll("_", " ")}
                  </option>
                ))}
              </select>
            </Field>
            <Field label="Error contains">
              <input autocomplete="off" value={contains} onInput={(event) => setContains(event.currentTarget.value)} />
            </Field>
          </div>
        )}
        <div class="fields">
          <Field label="To topic" hint="Back to where they were, when empty">
            <input autocomplete="off" placeholder={topic} value={to} onInput={(event) => setTo(event.currentTarget.value)} />
          </Field>
          <Field label="Items per second" hint="All at once, when empty">
            <input type="number" min="1" step="1" value={perSecond} onInput={(event) => setPerSecond(event.currentTarget.value)} />
          </Field>
        </div>
        {problem && <ProblemNote problem={problem} />}
        {result && (
          <Done>
            {result.dry_run
              ? `${format.count(result.count)} would come back. Nothing was changed.`
              : `${format.count(result.count)} came back.${result.more ? " There are more: redrive again." : ""}`}
          </Done>
        )}
        <footer>
          <button type="button" disabled={busy} onClick={() => void send(true)}>
            Dry run
          </button>
          <button type="submit" class="main" disabled={busy}>
            Redrive
          </button>
        </footer>
      </form>
    </Dialog>
  );
}
