import { useState } from "preact/hooks";
import { answer, api, refusalOf, type Problem, type Schema } from "../api/client";
import { objectText } from "../api/exact";
import { Dialog } from "../parts/Dialog";
import { Field } from "../parts/Field";
import { Done, ProblemNote } from "../parts/Note";
import type { TopicNames } from "./Topic";

type NewItem = Schema["NewItem"];

/** Enqueues one item that was typed in. */
export function SendItem({ namespace, topic, onClose }: TopicNames & { onClose: () => void }) {
  const [kind, setKind] = useState<"json" | "text">("json");
  const [body, setBody] = useState('{\n  "hello": "world"\n}');
  const [priority, setPriority] = useState("");
  const [delay, setDelay] = useState("");
  const [said, setSaid] = useState<string | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [wrong, setWrong] = useState<string | null>(null);
  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    setSaid(null);
    setProblem(null);
    setWrong(null);
    const item: NewItem = {};
    if (kind === "text") item.text = body;
    else {
      try {
        JSON.parse(body);
      } catch (error) {
        setWrong(String(error));
        return;
      }
    }
    if (priority !== "") item.priority = Number(priority);
    if (delay !== "") item.delay_ms = Math.round(Number(delay) * 1_000);
    try {
      const sent = await answer(
        api.POST("/v1/namespaces/{ns}/topics/{topic}/enqueue", {
          params: { path: { ns: namespace, topic } },
          body: { items: [item] },
          // What was typed goes out as it is: not every number would come through a parser unchanged.
          ...(kind === "json" ? { bodySerializer: () => `{"items":[${objectText(item, { json: body })}]}` } : {}),
        }),
      );
      const result = sent.results[0];
      setSaid(`${result?.status ?? "sent"}${result?.id ? `, id ${result.id}` : ""}`);
    } catch (error) {
      setProblem(refusalOf(error));
    }
  };
  return (
    <Dialog title="Send a test item" onClose={onClose}>
      <form onSubmit={(event) => void submit(event)}>
        <div role="group" aria-label="Payload as" class="choice">
          {(["json", "text"] as const).map((name) => (
            <button key={name} type="button" aria-pressed={kind === name} onClick={() => setKind(name)}>
              {name === "json" ? "JSON" : name}
            </button>
          ))}
        </div>
        <Field label="Payload">
          <textarea rows={8} spellcheck={false} autofocus value={body} onInput={(event) => setBody(event.currentTarget.value)} />
        </Field>
        <div class="fields">
          <Field label="Priority" hint="Smaller goes first">
            <input type="number" step="1" placeholder="default" value={priority} onInput={(event) => setPriority(event.currentTarget.value)} />
          </Field>
          <Field label="Delay" hint="Seconds">
            <input type="number" min="0" step="any" placeholder="0" value={delay} onInput={(event) => setDelay(event.currentTarget.value)} />
          </Field>
        </div>
        {wrong && (
          <p class="note bad" role="alert">
            {wrong}
          </p>
        )}
        {problem && <ProblemNote problem={problem} />}
        {said && <Done>{said}</Done>}
        <footer>
          <button type="submit" class="main">
            Send
          </button>
        </footer>
      </form>
    </Dialog>
  );
}
