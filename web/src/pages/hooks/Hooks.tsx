import { useState } from "preact/hooks";
import { answer, api, type Schema } from "../../api/client";
import { has } from "../../api/live";
import * as format from "../../format";
import { useLoad } from "../../load";
import { namespaces } from "../../names";
import { ProblemNote } from "../../parts/Note";
import { go, href, query, setQuery } from "../../router";
import { Upload } from "./Upload";

/** The hooks of one namespace. */
export function Hooks() {
  const names = namespaces();
  const namespace = query.value.get("ns") ?? names[0] ?? "";
  const [uploads, setUploads] = useState(false);
  return (
    <>
      <div class="head">
        <h1>Hooks</h1>
        <input
          type="search"
          class="short"
          list="namespaces"
          aria-label="Namespace"
          placeholder="Namespace"
          value={namespace}
          onChange={(event) => setQuery({ ns: event.currentTarget.value.trim() })}
        />
        <datalist id="namespaces">
          {names.map((name) => (
            <option key={name} value={name} />
          ))}
        </datalist>
        <span class="grow" />
        {has("hooks") && namespace && (
          <button type="button" onClick={() => setUploads(true)}>
            Upload a hook …
          </button>
        )}
      </div>
      {namespace ? <List namespace={namespace} /> : <p class="empty">Name a namespace to see its hooks.</p>}
      {uploads && (
        <Upload
          namespace={namespace}
          onDone={({ hook }) => go(href("hooks", namespace, hook))}
          onClose={() => setUploads(false)}
        />
      )}
    </>
  );
}

function List({ namespace }: { namespace: string }) {
  const { data, problem } = useLoad(namespace, () => answer(api.GET("/v1/namespaces/{ns}/hooks", { params: { path: { ns: namespace } } })));
  if (problem) return <ProblemNote problem={problem} />;
  if (!data) return null;
  if (data.hooks.length === 0) return <p class="empty">The namespace has no hooks. Upload a WebAssembly module, or its text, to make one.</p>;
  return (
    <table class="list">
      <caption class="hidden">Hooks</caption>
      <thead>
        <tr>
          <th scope="col">Hook</th>
          <th scope="col" class="wide">What it is</th>
          <th scope="col" class="wide">Sides</th>
          <th scope="col">Bound by</th>
          <th scope="col" class="num wide">Versions</th>
          <th scope="col" class="num">Newest</th>
        </tr>
      </thead>
      <tbody>
        {data.hooks.map((hook) => (
          <Row key={hook.hook} namespace={namespace} hook={hook} />
        ))}
      </tbody>
    </table>
  );
}

function Row({ namespace, hook }: { namespace: string; hook: Schema["HookSummary"] }) {
  return (
    <tr>
      <th scope="row">
        <a data-row href={href("hooks", namespace, hook.hook)}>
          {hook.hook}
        </a>
        {hook.owner === "folder" && <span class="badge">folder</span>}
        {hook.rejected && <span class="badge bad">rejected</span>}
      </th>
      <td class="dim wide">{hook.description}</td>
      <td class="wide">{hook.exports.join(", ")}</td>
      <td>{hook.bound_by.length > 0 ? hook.bound_by.join(", ") : <span class="dim">nothing</span>}</td>
      <td class="num wide">{format.count(hook.version_count)}</td>
      <td class="num">{hook.latest ?? "–"}</td>
    </tr>
  );
}
