import { useState } from "preact/hooks";
import { answer, api } from "../api/client";
import { has, looks } from "../api/live";
import { useLoad } from "../load";
import { NavLink } from "../parts/NavLink";
import { NoLookNote, ProblemNote } from "../parts/Note";
import { Settings } from "../parts/Settings";
import { SettingsForm } from "../parts/SettingsForm";
import { href, query } from "../router";
import { Audit } from "./Audit";
import { DeleteNamespace } from "./Delete";
import { Operations } from "./Operations";
import { Quota } from "./Quota";

/** Parts with the scopes of which one opens them. */
const TABS = [
  ["", "Quota and settings", null],
  ["operations", "Operations", ["admin"]],
  ["audit", "Audit log", ["admin", "hooks"]],
] as const;

/** One namespace: its quota, what its topics inherit, the long work on it, and who changed it. */
export function Namespace({ namespace }: { namespace: string }) {
  const [deletes, setDeletes] = useState(false);
  const tab = query.value.get("tab") ?? "";
  return (
    <>
      <div class="head">
        <h1>{namespace}</h1>
        <span class="grow" />
        {has("hooks") && (
          <a class="button" href={`${href("hooks")}?ns=${encodeURIComponent(namespace)}`}>
            Its hooks
          </a>
        )}
        {looks.value && (
          <a class="button" href={`${href("topics")}?q=${encodeURIComponent(`${namespace}/`)}`}>
            Its topics
          </a>
        )}
        {has("admin") && (
          <button type="button" class="danger" onClick={() => setDeletes(true)}>
            Delete …
          </button>
        )}
      </div>
      <nav class="tabs" aria-label="Parts of the namespace">
        {TABS.filter(([, , scopes]) => scopes === null || scopes.some((scope) => has(scope))).map(([id, name]) => (
          <NavLink key={id} to={href("namespaces", namespace) + (id && `?tab=${id}`)} current={tab === id}>
            {name}
          </NavLink>
        ))}
      </nav>
      {tab === "operations" ? (
        <Operations namespace={namespace} />
      ) : tab === "audit" ? (
        <Audit namespace={namespace} />
      ) : !looks.value ? (
        <NoLookNote />
      ) : (
        <>
          <Quota namespace={namespace} />
          <Inherited namespace={namespace} />
        </>
      )}
      {deletes && <DeleteNamespace namespace={namespace} onClose={() => setDeletes(false)} />}
    </>
  );
}

function Inherited({ namespace }: { namespace: string }) {
  const [edits, setEdits] = useState(false);
  const params = { params: { path: { ns: namespace } } };
  const { data, problem, again } = useLoad(namespace, () => answer(api.GET("/v1/namespaces/{ns}", params)));
  return (
    <section>
      <div class="bar">
        <h2>Settings its topics inherit</h2>
        <span class="grow" />
        {has("admin") && data && (
          <button type="button" onClick={() => setEdits(true)}>
            Edit the settings …
          </button>
        )}
      </div>
      {problem && <ProblemNote problem={problem} />}
      {data && <Settings own={data.settings} effective={data.effective} whose="this namespace" />}
      {edits && data && (
        <SettingsForm
          title={`Settings of ${namespace}`}
          own={data.settings}
          effective={data.effective}
          save={(body) => answer(api.PUT("/v1/namespaces/{ns}", { ...params, body }))}
          onDone={() => {
            setEdits(false);
            again();
          }}
          onClose={() => setEdits(false)}
        />
      )}
    </section>
  );
}
