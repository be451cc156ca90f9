import { useState } from "preact/hooks";
import { answer, api, type Schema } from "../../api/client";
import { useAction } from "../../load";
import { Dialog } from "../../parts/Dialog";
import { Field } from "../../parts/Field";
import { ProblemNote } from "../../parts/Note";
import type { HookNames } from "./Hook";

export interface CaseDraft {
  /** Empty for a new one. */
  name: string;
  /** The case as JSON, letter by letter. */
  text: string;
}

interface Props {
  names: HookNames;
  draft: CaseDraft;
  onDone: () => void;
  onClose: () => void;
}

/** Stores a test case: an item and what the hook must say of it. */
export function TestForm({ names, draft, onDone, onClose }: Props) {
  const [name, setName] = useState(draft.name);
  const [text, setText] = useState(draft.text);
  const { busy, problem, run } = useAction();
  const store = async (): Promise<unknown> => {
    const body = JSON.parse(text) as Schema["TestCase"];
    const params = { path: { ns: names.namespace, hook: names.hook, test: name } };
    // What was typed goes out as it is: not every number would come through a parser unchanged.
    return answer(api.PUT("/v1/namespaces/{ns}/hooks/{hook}/tests/{test}", { params, body, bodySerializer: () => text }));
  };
  const submit = (event: Event): void => {
    event.preventDefault();
    void run(store, onDone);
  };
  return (
    <Dialog title={draft.name ? `Test case ${draft.name}` : "A test case"} wide onClose={onClose}>
      <form onSubmit={submit}>
        {!draft.name && (
          <Field label="Name" hint="Letters, digits, - and _">
            <input required autofocus autocomplete="off" spellcheck={false} value={name} onInput={(event) => setName(event.currentTarget.value)} />
          </Field>
        )}
        <Field label="Case" hint="The item has json, text or payload; expect has the verdict, and whatever else matters">
          <textarea rows={14} spellcheck={false} value={text} onInput={(event) => setText(event.currentTarget.value)} />
        </Field>
        {problem && <ProblemNote problem={problem} />}
        <footer>
          <button type="submit" class="main" disabled={busy}>
            Store
          </button>
        </footer>
      </form>
    </Dialog>
  );
}
