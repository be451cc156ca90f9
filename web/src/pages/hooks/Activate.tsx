import { useState } from "preact/hooks";
import { answer, api, type Schema } from "../../api/client";
import { has } from "../../api/live";
import { useAction } from "../../load";
import { Dialog } from "../../parts/Dialog";
import { Field } from "../../parts/Field";
import { ProblemNote } from "../../parts/Note";
import { type Binding, seen } from "./Bindings";

interface Props {
  namespace: string;
  binding: Binding;
  versions: Schema["HookVersion"][];
  onDone: () => void;
  onClose: () => void;
}

/** Puts a version in force: for all items, or first for a share of them. */
export function Activate({ namespace, binding, versions, onDone, onClose }: Props) {
  const others = versions.filter(({ version }) => version !== binding.version);
  const [version, setVersion] = useState(String(others[0]?.version ?? binding.version));
  const [percent, setPercent] = useState("");
  const [force, setForce] = useState(false);
  const { busy, problem, run } = useAction();
  const submit = (event: Event): void => {
    event.preventDefault();
    const body: Schema["Activation"] = { version: Number(version) };
    if (percent !== "") body.canary_percent = Number(percent);
    if (force) body.force = true;
    const params = { path: { ns: namespace, binding: binding.id }, header: { "If-Match": seen(binding) } };
    void run(() => answer(api.POST("/v1/namespaces/{ns}/bindings/{binding}/activate", { params, body })), onDone);
  };
  return (
    <Dialog title={`Activate a version for ${binding.topic}`} onClose={onClose}>
      <form onSubmit={submit}>
        <div class="fields">
          <Field label="Version">
            <select value={version} onChange={(event) => setVersion(event.currentTarget.value)}>
              {versions.map((entry) => (
                <option key={entry.version} value={entry.version}>
                  {entry.version}
                  {entry.note ? ` – ${entry.note}` : ""}
                </option>
              ))}
            </select>
          </Field>
          <Field label="Canary, percent" hint="For all items, when empty">
            <input type="number" min="1" max="99" step="1" value={percent} onInput={(event) => setPercent(event.currentTarget.value)} />
          </Field>
        </div>
        <p class="dim">The version must pass all stored test cases first.</p>
        {has("admin") && (
          <label class="check">
            <input type="checkbox" checked={force} onChange={(event) => setForce(event.currentTarget.checked)} /> Even if it fails test cases
          </label>
        )}
        {problem && <ProblemNote problem={problem} />}
        <footer>
          <button type="submit" class="main" disabled={busy}>
            Activate
          </button>
        </footer>
      </form>
    </Dialog>
  );
}
