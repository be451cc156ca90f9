import { useState } from "preact/hooks";
import { answer, api, type Schema } from "../api/client";
import { useAction } from "../load";
import { topics } from "../names";
import { Dialog } from "../parts/Dialog";
import { Field } from "../parts/Field";
import { ProblemNote } from "../parts/Note";

type Kind = Schema["OperationKind"];

const KINDS: Record<Kind, string> = {
  redrive: "Redrive dead letters",
  discard_dead: "Discard dead letters",
  cancel: "Cancel items",
  purge: "Purge",
  delete_topic: "Delete the topic",
};

/** Whether what it does cannot be undone; a redrive can be. */
const destroys = (kind: Kind): boolean => kind !== "redrive";

interface Props {
  namespace: string;
  onDone: () => void;
  onClose: () => void;
}

/** Orders long work on a topic. */
export function OperationForm({ namespace, onDone, onClose }: Props) {
  const [kind, setKind] = useState<Kind>("redrive");
  const [topic, setTopic] = useState("");
  const [confirm, setConfirm] = useState("");
  const [contains, setContains] = useState("");
  const [olderThan, setOlderThan] = useState("");
  const [limit, setLimit] = useState("");
  const [rate, setRate] = useState("");
  const [to, setTo] = useState("");
  const [hook, setHook] = useState("");
  const { busy, problem, run } = useAction();
  const filters = kind === "redrive" || kind === "cancel";
  const order = (dry_run: boolean): void => {
    const body: Schema["OperationRequest"] = { kind, topic, dry_run };
    const filter: Schema["ItemFilter"] = {};
    if (filters && contains) filter.error_contains = contains;
    if (filters && olderThan) filter.older_than_ms = Math.round(Number(olderThan) * 1_000);
    if (Object.keys(filter).length > 0) body.filter = filter;
    if (filters && limit) body.limit = Number(limit);
    if (filters && rate) body.rate_per_s = Number(rate);
    if (kind === "redrive" && to) body.to_topic = to;
    if (kind === "redrive" && hook) body.hook = hook;
    if (kind === "delete_topic") body.confirm = confirm;
    void run(() => answer(api.POST("/v1/namespaces/{ns}/operations", { params: { path: { ns: namespace } }, body })), onDone);
  };
  const submit = (event: Event): void => {
    event.preventDefault();
    order(false);
  };
  return (
    <Dialog title="Order an operation" onClose={onClose}>
      <form onSubmit={submit}>
        <div class="fields">
          <Field label="What to do">
            <select value={kind} onChange={(event) => setKind(event.currentTarget.value as Kind)}>
              {Object.entries(KINDS).map(([id, name]) => (
                <option key={id} value={id}>
                  {name}
                </option>
              ))}
            </select>
          </Field>
          <Text label="Topic" value={topic} change={setTopic} required list="topics" />
          {filters && <Text label="Error contains" value={contains} change={setContains} />}
          {filters && <Text label="Older than" hint="Seconds" type="number" value={olderThan} change={setOlderThan} />}
          {filters && <Text label="At most" hint="Items; all, when empty" type="number" value={limit} change={setLimit} />}
          {filters && <Text label="Items per second" hint="As fast as it goes, when empty" type="number" value={rate} change={setRate} />}
          {kind === "redrive" && <Text label="To topic" hint="Back to where they were, when empty" value={to} change={setTo} list="topics" />}
          {kind === "redrive" && <Text label="Through the hook" hint="name or name@version" value={hook} change={setHook} />}
          {destroys(kind) && <Text label="The topic’s name once more" value={confirm} change={setConfirm} required />}
        </div>
        <datalist id="topics">
          {topics(namespace).map((name) => (
            <option key={name} value={name} />
          ))}
        </datalist>
        {problem && <ProblemNote problem={problem} />}
        <footer>
          <button type="button" disabled={busy || !topic} onClick={() => order(true)}>
            Dry run
          </button>
          <button type="submit" class={destroys(kind) ? "danger" : "main"} disabled={busy || !topic || (destroys(kind) && confirm !== topic)}>
            {KINDS[kind]}
          </button>
        </footer>
      </form>
    </Dialog>
  );
}

interface TextProps {
  label: string;
  hint?: string;
  value: string;
  change: (value: string) => void;
  type?: "text" | "number";
  required?: boolean;
  list?: string;
}

function Text({ label, hint, value, change, type = "text", required = false, list }: TextProps) {
  return (
    <Field label={label} {...(hint ? { hint } : {})}>
      <input type={type} min={type === "number" ? "1" : undefined} autocomplete="off" spellcheck={false} required={required} list={list} value={value} onInput={(event) => change(event.currentTarget.value)} />
    </Field>
  );
}
