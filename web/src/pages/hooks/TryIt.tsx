import { useState } from "preact/hooks";
import { api, type Schema } from "../../api/client";
import { AS_TEXT, type Exact, exact, indented, objectText, textAt } from "../../api/exact";
import { useAction } from "../../load";
import { topics } from "../../names";
import { Field } from "../../parts/Field";
import { ProblemNote } from "../../parts/Note";
import type { HookPart } from "./Hook";
import { Outcome } from "./Outcome";
import { type CaseDraft, TestForm } from "./TestForm";

type State = Schema["ItemState"];
type Source = "item" | "topic";
const STATES: readonly State[] = ["ready", "scheduled", "leased", "dead"];

/** What was asked for, beside what came of it. */
interface Tried {
  run: Exact<Schema["DryRun"]>;
  /** The text of the item that was typed in. */
  item: string | null;
}

/** `name: value` per line as headers. */
function headersOf(text: string): Record<string, string> {
  const lines = text.split("\n").filter((line) => line.trim());
  return Object.fromEntries(
    lines.map((line) => {
      const at = line.indexOf(":");
      if (at < 1) throw new Error(`“${line}” is no header: write name: value.`);
      return [line.slice(0, at).trim(), line.slice(at + 1).trim()];
    }),
  );
}

/** Runs a version on an item that was typed in, or on what is in a topic. Nothing is written. */
export function TryIt({ names, detail, mayChange }: HookPart) {
  const [version, setVersion] = useState(String(detail.latest ?? ""));
  const [side, setSide] = useState<Schema["Side"]>(detail.exports[0] ?? "enqueue");
  const [source, setSource] = useState<Source>("item");
  const [kind, setKind] = useState<"json" | "text">("json");
  const [body, setBody] = useState('{\n  "email": "ada@example.com"\n}');
  const [headers, setHeaders] = useState("");
  const [topic, setTopic] = useState(topicOf(detail.bindings[0]?.topic) ?? topics(names.namespace)[0] ?? "");
  const [state, setState] = useState<State>("ready");
  const [last, setLast] = useState("20");
  const [scopes, setScopes] = useState("");
  const [tried, setTried] = useState<Tried | null>(null);
  const [kept, setKept] = useState<CaseDraft | null>(null);
  const { busy, problem, run } = useAction();
  /** The item as it was typed: not every number would come through a parser unchanged. */
  const typed = (): string => {
    const more = headers.trim() ? { headers: headersOf(headers) } : {};
    if (kind === "text") return JSON.stringify({ text: body, ...more });
    JSON.parse(body);
    return objectText(more, { json: body });
  };
  const rehearse = async (): Promise<Tried> => {
    const item = source === "item" ? typed() : null;
    const request: Schema["DryRunRequest"] = item !== null ? { side } : { side, last: Number(last), state };
    if (topic) request.topic = topic;
    if (scopes.trim()) request.scopes = scopes.trim().split(/\s+/);
    const path = { ns: names.namespace, hook: names.hook, version: Number(version) };
    const bodySerializer = (): string => objectText(request, item !== null ? { items: `[${item}]` } : {});
    const call = api.POST("/v1/namespaces/{ns}/hooks/{hook}/versions/{version}/dry-run", { params: { path }, body: request, bodySerializer, ...AS_TEXT });
    return { item, run: await exact(call) };
  };
  const submit = (event: Event): void => {
    event.preventDefault();
    void run(rehearse, setTried);
  };
  return (
    <div class="pair">
      <section aria-label="What to run it on">
        <form onSubmit={submit}>
          <div class="fields">
            <Field label="Version">
              <select value={version} onChange={(event) => setVersion(event.currentTarget.value)}>
                {detail.versions.map((entry) => (
                  <option key={entry.version} value={entry.version}>
                    {entry.version}
                    {entry.note ? ` – ${entry.note}` : ""}
                  </option>
                ))}
              </select>
            </Field>
            {detail.exports.length > 1 && (
              <Field label="Side">
                <select value={side} onChange={(event) => setSide(event.currentTarget.value as Schema["Side"])}>
                  {detail.exports.map((name) => (
                    <option key={name} value={name}>
                      {name}
                    </option>
                  ))}
                </select>
              </Field>
            )}
            <Field label="Topic">
              <input autocomplete="off" spellcheck={false} list="topics" required={source === "topic"} placeholder="test" value={topic} onInput={(event) => setTopic(event.currentTarget.value)} />
            </Field>
          </div>
          <datalist id="topics">
            {topics(names.namespace).map((name) => (
              <option key={name} value={name} />
            ))}
          </datalist>
          <div role="group" aria-label="Items" class="choice">
            {(["item", "topic"] as const).map((id) => (
              <button key={id} type="button" aria-pressed={source === id} onClick={() => setSource(id)}>
                {id === "item" ? "An item" : "Items of the topic"}
              </button>
            ))}
          </div>
          {source === "item" ? (
            <>
              <div role="group" aria-label="Payload as" class="choice">
                {(["json", "text"] as const).map((name) => (
                  <button key={name} type="button" aria-pressed={kind === name} onClick={() => setKind(name)}>
                    {name === "json" ? "JSON" : name}
                  </button>
                ))}
              </div>
              <Field label="Payload">
                <textarea rows={8} spellcheck={false} value={body} onInput={(event) => setBody(event.currentTarget.value)} />
              </Field>
              <Field label="Headers" hint="name: value, one a line">
                <textarea rows={2} spellcheck={false} value={headers} onInput={(event) => setHeaders(event.currentTarget.value)} />
              </Field>
            </>
          ) : (
            <div class="fields">
              <Field label="State">
                <select value={state} onChange={(event) => setState(event.currentTarget.value as State)}>
                  {STATES.map((name) => (
                    <option key={name} value={name}>
                      {name === "dead" ? "dead letters" : name}
                    </option>
                  ))}
                </select>
              </Field>
              <Field label="At most" hint="1 to 100, the last accepted">
                <input type="number" min="1" max="100" step="1" required value={last} onInput={(event) => setLast(event.currentTarget.value)} />
              </Field>
            </div>
          )}
          <Field label="Scopes of who asks" hint="As the hook sees them, such as dequeue pii">
            <input autocomplete="off" spellcheck={false} value={scopes} onInput={(event) => setScopes(event.currentTarget.value)} />
          </Field>
          {problem && <ProblemNote problem={problem} />}
          <button type="submit" class="main" disabled={busy}>
            Try it
          </button>
        </form>
      </section>
      <section aria-label="What it would do" aria-live="polite">
        {tried ? (
          <Outcome run={tried.run} item={tried.item} onKeep={mayChange && tried.item !== null ? () => setKept(draftOf(tried)) : undefined} />
        ) : (
          <p class="empty">The verdict, what would change, and what it cost appear here. Nothing is written.</p>
        )}
      </section>
      {kept && <TestForm names={names} draft={kept} onDone={() => setKept(null)} onClose={() => setKept(null)} />}
    </div>
  );
}

/** A binding's topic when it is one and no pattern. */
const topicOf = (pattern: string | undefined): string | undefined => (pattern?.includes("*") ? undefined : pattern);

/** A test case that holds what was just seen. */
function draftOf({ run: { data, text }, item }: Tried): CaseDraft {
  const outcome = data.items[0];
  const expect: Schema["Expected"] = { verdict: outcome?.verdict ?? "keep" };
  if (outcome?.reason) expect.code = outcome.reason.code;
  const change = outcome?.changes?.length === 1 ? outcome.changes[0] : undefined;
  const json = change && textAt(text, ["items", 0, "changes", 0, "json"]);
  if (json === undefined && change?.text !== undefined) expect.text = change.text;
  const expected = objectText(expect, json === undefined ? {} : { json });
  return { name: "", text: indented(objectText({ side: data.side, topic: data.topic }, { item: item ?? "{}", expect: expected })) };
}
