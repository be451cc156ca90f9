import { useState } from "preact/hooks";
import type { Schema } from "../api/client";
import { useAction } from "../load";
import { Dialog } from "./Dialog";
import { Field } from "./Field";
import { ProblemNote } from "./Note";

type Own = Schema["Settings"];
type Effective = Schema["EffectiveSettings"];

/** Numbers, in the unit people think in; the server's is `scale` of it. */
const NUMBERS = [
  ["priority", "Priority", "Smaller goes first", 1],
  ["lease_ms", "Lease", "Seconds, 1 to 43,200", 1_000],
  ["max_attempts", "Most attempts", "1 to 1,000", 1],
  ["ttl_ms", "Time to live", "Seconds; 0 for ever", 1_000],
  ["dead_retention_ms", "Dead letters kept", "Seconds; 0 for ever", 1_000],
  ["dedup_window_ms", "Deduplication window", "Seconds", 1_000],
] as const;

const CHOICES = [
  ["on_expiry", "On expiry", ["drop", "dead"]],
  ["delivery", "Delivery", ["at_least_once", "at_most_once"]],
] as const;

const BACKOFF = [
  ["initial_ms", "First wait after a failure", "Seconds", 1_000],
  ["factor", "Each further wait times", "1 or more", 1],
  ["cap_ms", "Longest wait", "Seconds", 1_000],
  ["jitter", "Spread", "0 to 1", 1],
] as const;

type Backoff = NonNullable<Own["backoff"]>;

interface Props<T extends Own> {
  title: string;
  own: T;
  effective: Effective;
  save: (settings: T) => Promise<unknown>;
  onDone: () => void;
  onClose: () => void;
}

/** Changes one's own settings; what is left empty is inherited. */
export function SettingsForm<T extends Own>({ title, own, effective, save, onDone, onClose }: Props<T>) {
  const [form, setForm] = useState<T>(own);
  const { busy, problem, run } = useAction();
  const submit = (event: Event): void => {
    event.preventDefault();
    void run(() => save(form), onDone);
  };
  return (
    <Dialog title={title} wide onClose={onClose}>
      <form onSubmit={submit}>
        <div class="fields">
          {NUMBERS.map(([key, label, hint, scale]) => (
            <Field key={key} label={label} hint={hint}>
              <input
                type="number"
                step="any"
                placeholder={scaled(effective[key] ?? 0, scale)}
                value={scaled(form[key], scale)}
                onInput={(event) => setForm(put(form, key, number(event.currentTarget.value, scale)))}
              />
            </Field>
          ))}
          {CHOICES.map(([key, label, values]) => (
            <Field key={key} label={label}>
              <select value={form[key] ?? ""} onChange={(event) => setForm(put(form, key, event.currentTarget.value || undefined))}>
                <option value="">inherited</option>
                {values.map((value) => (
                  <option key={value} value={value}>
                    {value.replaceAll("_", " ")}
                  </option>
                ))}
              </select>
            </Field>
          ))}
          {BACKOFF.map(([key, label, hint, scale]) => (
            <Field key={key} label={label} hint={hint}>
              <input
                type="number"
                step="any"
                placeholder={scaled(effective.backoff[key], scale)}
                value={scaled(form.backoff?.[key], scale)}
                onInput={(event) => setForm(put(form, "backoff", backoff(form.backoff, key, number(event.currentTarget.value, scale))))}
              />
            </Field>
          ))}
        </div>
        <p class="dim">What is empty is inherited: its value is the grey one. A backoff is taken as a whole.</p>
        {problem && <ProblemNote problem={problem} />}
        <footer>
          <button type="submit" class="main" disabled={busy}>
            Save
          </button>
        </footer>
      </form>
    </Dialog>
  );
}

const scaled = (value: number | undefined | null, scale: number): string => (value == null ? "" : String(value / scale));
const number = (text: string, scale: number): number | undefined => (text === "" ? undefined : Math.round(Number(text) * scale * 1_000) / 1_000);

/** `form` with `key`, or without it. */
function put<T extends object>(form: T, key: string, value: unknown): T {
  const { [key]: _, ...rest } = form as Record<string, unknown>;
  return (value === undefined ? rest : { ...rest, [key]: value }) as T;
}

function backoff(own: Backoff | undefined, key: keyof Backoff, value: number | undefined): Backoff | undefined {
  const changed = put(own ?? {}, key, value);
  return Object.keys(changed).length > 0 ? changed : undefined;
}
