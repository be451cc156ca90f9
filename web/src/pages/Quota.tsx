import { useState } from "preact/hooks";
import { answer, api, type Schema } from "../api/client";
import { tick } from "../api/history";
import { has, latest } from "../api/live";
import * as format from "../format";
import { useAction, useLoad } from "../load";
import { Dialog } from "../parts/Dialog";
import { Field } from "../parts/Field";
import { ProblemNote } from "../parts/Note";
import { Tile } from "../parts/Tile";

type Own = Schema["QuotaSettings"];

const QUOTA_EVERY_S = 5;

/** What a namespace may have and what it has of it. */
export function Quota({ namespace }: { namespace: string }) {
  const [edits, setEdits] = useState(false);
  const { data, problem, again } = useLoad(
    namespace,
    () => answer(api.GET("/v1/namespaces/{ns}/quota", { params: { path: { ns: namespace } } })),
    String(Math.floor(tick.value / QUOTA_EVERY_S)),
  );
  const done = (): void => {
    setEdits(false);
    again();
  };
  // The server lets only those change quotas who see the whole node.
  const mayChange = has("admin") && latest.value?.node !== undefined;
  return (
    <section>
      <div class="bar">
        <h2>Quota</h2>
        {data?.own && <span class="badge">set over the configuration</span>}
        <span class="grow" />
        {mayChange && data && (
          <button type="button" onClick={() => setEdits(true)}>
            Edit the quota …
          </button>
        )}
      </div>
      {problem && <ProblemNote problem={problem} />}
      {data && <QuotaTiles quota={data} />}
      {edits && data && <QuotaForm namespace={namespace} quota={data} onDone={done} onClose={() => setEdits(false)} />}
    </section>
  );
}

const share = (used: number | undefined, most: number | undefined): string => (most ? `${Math.round(((used ?? 0) / most) * 100)} %` : "");

function QuotaTiles({ quota }: { quota: Schema["Quota"] }) {
  const burst = quota.burst ?? 0;
  return (
    <dl class="tiles">
      {quota.limited ? (
        <>
          <Tile name="Items a minute" value={format.count(quota.per_minute ?? 0)} />
          <Tile name="At once" value={format.count(burst)} />
          <Tile name="Left now" value={format.count(quota.remaining ?? 0)} more={share(quota.remaining, burst)} bad={quota.remaining === 0} />
          <Tile name="Full again in" value={format.duration(quota.reset_ms ?? 0)} />
        </>
      ) : (
        <Tile name="Items a minute" value="not limited" />
      )}
      <Tile
        name="Stored"
        value={format.bytes(quota.stored_bytes ?? 0)}
        more={quota.stored_bytes_max ? `of ${format.bytes(quota.stored_bytes_max)}` : "not limited"}
        bad={isOver(quota.stored_bytes, quota.stored_bytes_max)}
      />
      <Tile
        name="With consumers"
        value={format.count(quota.leases ?? 0)}
        more={quota.leases_max ? `of ${format.count(quota.leases_max)}` : "not limited"}
        bad={isOver(quota.leases, quota.leases_max)}
      />
      <Tile name="Time for hooks" value={format.count(quota.hook_cpu_ms_per_s)} more="ms each second" />
    </dl>
  );
}

const isOver = (used: number | undefined, most: number | undefined): boolean => most !== undefined && most > 0 && (used ?? 0) >= most;

const FIELDS: readonly [keyof Own, string, string][] = [
  ["per_minute", "Items a minute", "0 is no limit"],
  ["burst", "Items at once", "Beside those of a minute; none when empty"],
  ["stored_bytes", "Stored bytes", "0 is no limit"],
  ["leases", "Items with consumers", "0 is no limit"],
  ["hook_cpu_ms_per_s", "Time for hooks", "Milliseconds each second"],
  ["hook_cpu_burst_ms", "Time hooks may save up", "Milliseconds"],
];

interface Props {
  namespace: string;
  quota: Schema["Quota"];
  onDone: () => void;
  onClose: () => void;
}

/** Sets a quota over the configuration's, or takes that away. */
function QuotaForm({ namespace, quota, onDone, onClose }: Props) {
  const [form, setForm] = useState<Own>(quota.own ?? {});
  const { busy, problem, run } = useAction();
  const params = { params: { path: { ns: namespace } } };
  const change = (key: keyof Own, text: string): void => {
    const { [key]: _, ...rest } = form;
    setForm(text === "" ? rest : { ...rest, [key]: Number(text) });
  };
  const submit = (event: Event): void => {
    event.preventDefault();
    void run(() => answer(api.PUT("/v1/namespaces/{ns}/quota", { ...params, body: form })), onDone);
  };
  const reset = (): void => void run(() => answer(api.DELETE("/v1/namespaces/{ns}/quota", params)), onDone);
  return (
    <Dialog title={`Quota of ${namespace}`} onClose={onClose}>
      <form onSubmit={submit}>
        <div class="fields">
          {FIELDS.map(([key, label, hint]) => (
            <Field key={key} label={label} hint={hint}>
              <input type="number" min="0" step="1" placeholder="configuration's" value={form[key] ?? ""} onInput={(event) => change(key, event.currentTarget.value)} />
            </Field>
          ))}
        </div>
        <p class="dim">What is empty comes from the configuration. What was spent stays spent.</p>
        {problem && <ProblemNote problem={problem} />}
        <footer>
          {quota.own && (
            <button type="button" disabled={busy} onClick={reset}>
              Back to the configuration’s
            </button>
          )}
          <button type="submit" class="main" disabled={busy}>
            Save
          </button>
        </footer>
      </form>
    </Dialog>
  );
}
