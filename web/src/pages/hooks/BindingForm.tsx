import { useState } from "preact/hooks";
import { answer, api, type Schema } from "../../api/client";
import { useAction } from "../../load";
import { topics } from "../../names";
import { Dialog } from "../../parts/Dialog";
import { Field } from "../../parts/Field";
import { ProblemNote } from "../../parts/Note";
import { type Binding, seen } from "./Bindings";
import type { HookNames } from "./Hook";

type Policy = Schema["HookPolicy"];
const POLICIES: readonly Policy[] = ["closed", "open", "dead_letter", "retry_previous"];
const KINDS = [
  ["error", "On an error"],
  ["trap", "On a trap"],
  ["timeout", "On a timeout"],
  ["overload", "When it cannot run"],
] as const;

interface Props {
  names: HookNames;
  detail: Schema["HookDetail"];
  /** The one to change; a new one when absent. */
  binding?: Binding;
  onDone: () => void;
  onClose: () => void;
}

/** What the fields of a new binding begin with. */
function draft({ detail, binding }: Props): Schema["BindingDraft"] & { id: string } {
  if (binding) {
    const { previous: _, activated_at: __, revision: ___, ready: ____, quarantined: _____, ...kept } = binding;
    return kept;
  }
  return {
    id: detail.hook,
    topic: "",
    side: detail.exports[0] ?? "enqueue",
    hook: detail.hook,
    version: detail.latest ?? 1,
    position: 100,
    enabled: true,
    auto_rollback: false,
  };
}

/** Makes a binding, or changes the one that was seen. */
export function BindingForm(props: Props) {
  const { names, detail, binding, onDone, onClose } = props;
  const [form, setForm] = useState(() => draft(props));
  const { busy, problem, run } = useAction();
  const change = (part: Partial<typeof form>): void => setForm({ ...form, ...part });
  const submit = (event: Event): void => {
    event.preventDefault();
    const { id, ...body } = form;
    const header: { "If-Match"?: string; "If-None-Match"?: string } = binding ? { "If-Match": seen(binding) } : { "If-None-Match": "*" };
    const params = { path: { ns: names.namespace, binding: id }, header };
    void run(() => answer(api.PUT("/v1/namespaces/{ns}/bindings/{binding}", { params, body })), onDone);
  };
  const versions = detail.versions.map(({ version }) => (
    <option key={version} value={version}>
      {version}
    </option>
  ));
  return (
    <Dialog title={binding ? `Binding ${binding.id}` : `Bind ${names.hook} to a topic`} wide onClose={onClose}>
      <form onSubmit={submit}>
        <div class="fields">
          <Field label="Topic" hint="A name, or how names begin and *">
            <input required autofocus autocomplete="off" spellcheck={false} list="topics" value={form.topic} onInput={(event) => change({ topic: event.currentTarget.value })} />
          </Field>
          {!binding && (
            <Field label="Name of the binding">
              <input required autocomplete="off" spellcheck={false} value={form.id} onInput={(event) => change({ id: event.currentTarget.value })} />
            </Field>
          )}
          <Field label="Side">
            <select value={form.side} onChange={(event) => change({ side: event.currentTarget.value as Schema["Side"] })}>
              {detail.exports.map((side) => (
                <option key={side} value={side}>
                  {side}
                </option>
              ))}
            </select>
          </Field>
          <Field label="Version">
            <select value={form.version} onChange={(event) => change({ version: Number(event.currentTarget.value) })}>
              {versions}
            </select>
          </Field>
          <Field label="Order in the chain" hint="Smaller runs first">
            <input type="number" min="0" max="65535" step="1" required value={form.position} onInput={(event) => change({ position: Number(event.currentTarget.value) })} />
          </Field>
          <Field label="Shadow" hint="Runs on copies, to compare">
            <select value={form.shadow ?? ""} onChange={(event) => setForm(withShadow(form, event.currentTarget.value))}>
              <option value="">none</option>
              {versions}
            </select>
          </Field>
          {form.shadow !== undefined && (
            <Field label="Shadow's share" hint="Percent of the items">
              <input type="number" min="1" max="100" step="1" required value={form.shadow_percent ?? 1} onInput={(event) => change({ shadow_percent: Number(event.currentTarget.value) })} />
            </Field>
          )}
          {KINDS.map(([kind, label]) => (
            <Field key={kind} label={label}>
              <select value={form.policies?.[kind] ?? "closed"} onChange={(event) => change({ policies: { ...form.policies, [kind]: event.currentTarget.value as Policy } })}>
                {POLICIES.map((policy) => (
                  <option key={policy} value={policy}>
                    {policy.replaceAll("_", " ")}
                  </option>
                ))}
              </select>
            </Field>
          ))}
        </div>
        <datalist id="topics">
          {topics(names.namespace).map((topic) => (
            <option key={topic} value={topic} />
          ))}
        </datalist>
        <label class="check">
          <input type="checkbox" checked={form.enabled ?? true} onChange={(event) => change({ enabled: event.currentTarget.checked })} /> In force
        </label>
        <label class="check">
          <input type="checkbox" checked={form.auto_rollback ?? false} onChange={(event) => change({ auto_rollback: event.currentTarget.checked })} /> Go back by itself when a new version keeps failing
        </label>
        {problem && <ProblemNote problem={problem} />}
        <footer>
          <button type="submit" class="main" disabled={busy}>
            {binding ? "Save" : "Bind"}
          </button>
        </footer>
      </form>
    </Dialog>
  );
}

function withShadow<T extends { shadow?: number; shadow_percent?: number }>(form: T, version: string): T {
  const { shadow: _, ...rest } = form;
  return (version === "" ? rest : { ...rest, shadow: Number(version) }) as T;
}
