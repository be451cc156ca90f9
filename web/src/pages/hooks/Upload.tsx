import { useState } from "preact/hooks";
import { answer, api, type Schema } from "../../api/client";
import { indented, objectText } from "../../api/exact";
import { useAction } from "../../load";
import { Dialog } from "../../parts/Dialog";
import { Field } from "../../parts/Field";
import { Done, ProblemNote } from "../../parts/Note";

type Version = Schema["HookVersion"];
type Added = Schema["AddedVersion"];

interface Props {
  namespace: string;
  /** Asked for when it is absent: the first version of a hook. */
  hook?: string;
  newest?: Version | undefined;
  /** The text of its configuration. */
  newestConfig?: string | undefined;
  onDone: (added: Added) => void;
  onClose: () => void;
}

/** What follows the comma of a data URL. */
function base64(file: File): Promise<string> {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result).replace(/^[^,]*,/, ""));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}

const shown = (value: unknown): string => JSON.stringify(value ?? {}, null, 2);

/** Uploads a version: a module or its text, and what it is run with. */
export function Upload({ namespace, hook, newest, newestConfig, onDone, onClose }: Props) {
  const [name, setName] = useState(hook ?? "");
  const [kind, setKind] = useState<"file" | "wat">("file");
  const [file, setFile] = useState<File | null>(null);
  const [wat, setWat] = useState("");
  const [note, setNote] = useState("");
  const [config, setConfig] = useState(indented(newestConfig ?? "{}"));
  const [manifest, setManifest] = useState(shown(newest?.manifest));
  const [secrets, setSecrets] = useState("");
  const [added, setAdded] = useState<Added | null>(null);
  const { busy, problem, run } = useAction();
  const upload = async (): Promise<Added> => {
    const body: Schema["VersionUpload"] = {};
    // What was typed goes out as it is: not every number would come through a parser unchanged.
    const raw: Record<string, string> = { config: objectOf("configuration", config), manifest: objectOf("manifest", manifest) };
    if (kind === "file" && file) body.module = await base64(file);
    if (kind === "wat" && wat.trim()) body.wat = wat;
    if (note.trim()) body.note = note.trim();
    if (secrets.trim()) raw["secrets"] = objectOf("secrets", secrets);
    const params = { path: { ns: namespace, hook: name } };
    return answer(api.POST("/v1/namespaces/{ns}/hooks/{hook}/versions", { params, body, bodySerializer: () => objectText(body, raw) }));
  };
  const submit = (event: Event): void => {
    event.preventDefault();
    void run(upload, setAdded);
  };
  return (
    <Dialog title={hook ? `Upload a version of ${hook}` : `Upload a hook to ${namespace}`} wide onClose={() => (added ? onDone(added) : onClose())}>
      {added ? (
        <Uploaded added={added} onDone={() => onDone(added)} />
      ) : (
        <form onSubmit={submit}>
          <div class="fields">
            {!hook && (
              <Field label="Name" hint="Letters, digits, - and _">
                <input required autofocus autocomplete="off" spellcheck={false} value={name} onInput={(event) => setName(event.currentTarget.value)} />
              </Field>
            )}
            <Field label="Note" hint="A word on why">
              <input autocomplete="off" value={note} onInput={(event) => setNote(event.currentTarget.value)} />
            </Field>
          </div>
          <div role="group" aria-label="Module as" class="choice">
            {(["file", "wat"] as const).map((id) => (
              <button key={id} type="button" aria-pressed={kind === id} onClick={() => setKind(id)}>
                {id === "file" ? "File" : "WebAssembly text"}
              </button>
            ))}
          </div>
          {kind === "file" ? (
            <Field label="Module" hint={newest ? `A component, a core module, or the text of either. Version ${newest.version}'s own, when none is chosen.` : "A component, a core module, or the text of either."}>
              <input type="file" accept=".wasm,.wat,application/wasm" required={!newest} onChange={(event) => setFile(event.currentTarget.files?.[0] ?? null)} />
            </Field>
          ) : (
            <Field label="WebAssembly text">
              <textarea rows={10} spellcheck={false} required value={wat} onInput={(event) => setWat(event.currentTarget.value)} />
            </Field>
          )}
          <Field label="Configuration" hint="A JSON object the hook reads">
            <textarea rows={4} spellcheck={false} value={config} onInput={(event) => setConfig(event.currentTarget.value)} />
          </Field>
          <details>
            <summary>Manifest and secrets</summary>
            <div class="fields">
              <Field label="Manifest" hint="description, instance (fresh or warm), input (full or meta), limits, keep_failures">
                <textarea rows={6} spellcheck={false} value={manifest} onInput={(event) => setManifest(event.currentTarget.value)} />
              </Field>
              <Field label="Secrets" hint={secretsHint(newest)}>
                <textarea rows={6} spellcheck={false} autocomplete="off" value={secrets} onInput={(event) => setSecrets(event.currentTarget.value)} />
              </Field>
            </div>
          </details>
          {problem && <ProblemNote problem={problem} />}
          <footer>
            <button type="submit" class="main" disabled={busy}>
              {busy ? "Compiling …" : "Upload"}
            </button>
          </footer>
        </form>
      )}
    </Dialog>
  );
}

const secretsHint = (newest: Version | undefined): string =>
  newest && newest.secrets.length > 0
    ? `A JSON object of texts; ${newest.secrets.join(", ")} taken over when empty`
    : "A JSON object of texts; never shown again";

/** `text` as a JSON object. */
function objectOf(what: string, text: string): string {
  const typed = text.trim() || "{}";
  const value: unknown = JSON.parse(typed);
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new Error(`The ${what} is no JSON object.`);
  return typed;
}

function Uploaded({ added, onDone }: { added: Added; onDone: () => void }) {
  return (
    <>
      <Done>
        {added.created
          ? `Version ${added.version} of ${added.hook} was added; compiling it took ${added.compile_ms} ms.`
          : `Nothing new: version ${added.version} of ${added.hook} is just this.`}{" "}
        It is not in force before a binding names it.
      </Done>
      {added.warnings.map((warning) => (
        <p key={warning} class="note">
          {warning}
        </p>
      ))}
      <footer>
        <button type="button" class="main" onClick={onDone}>
          Go on
        </button>
      </footer>
    </>
  );
}
