import { useState } from "preact/hooks";
import { api, type Schema } from "../../api/client";
import { AS_TEXT, exact, textAt } from "../../api/exact";
import { tick } from "../../api/history";
import { has } from "../../api/live";
import { useLoad } from "../../load";
import { NavLink } from "../../parts/NavLink";
import { ProblemNote } from "../../parts/Note";
import { href, query } from "../../router";
import { Bindings } from "./Bindings";
import { Failures } from "./Failures";
import { Log } from "./Log";
import { Shadows } from "./Shadows";
import { TestCases } from "./TestCases";
import { TryIt } from "./TryIt";
import { Upload } from "./Upload";
import { Versions } from "./Versions";

const NUMBERS_EVERY_S = 3;
const TABS = [
  ["", "In force"],
  ["versions", "Versions"],
  ["try", "Try it"],
  ["tests", "Test cases"],
  ["log", "Log"],
  ["failures", "Failures"],
  ["shadows", "Shadows"],
] as const;

export interface HookNames {
  namespace: string;
  hook: string;
}

/** What the parts of a hook's page are given. */
export interface HookPart {
  names: HookNames;
  detail: Schema["HookDetail"];
  /** Whether the token and the hook's owner let it be changed here. */
  mayChange: boolean;
  /** Reads the hook again, after a change. */
  again: () => void;
}

/** One hook: where it is in force, its versions, what they did, and what they would do. */
export function Hook({ namespace, hook }: HookNames) {
  const names = { namespace, hook };
  const tab = query.value.get("tab") ?? "";
  const [uploads, setUploads] = useState(false);
  const { data: answered, problem, again } = useLoad(
    `${namespace}/${hook}`,
    () => exact<Schema["HookDetail"]>(api.GET("/v1/namespaces/{ns}/hooks/{hook}", { params: { path: { ns: namespace, hook } }, ...AS_TEXT })),
    String(Math.floor(tick.value / NUMBERS_EVERY_S)),
  );
  const data = answered?.data;
  const mayChange = has("hooks") && data?.owner === "api";
  return (
    <>
      <div class="head">
        <h1>
          <a class="dim" href={`${href("hooks")}?ns=${encodeURIComponent(namespace)}`}>
            {namespace}
          </a>
          <span class="dim">/</span>
          {hook}
          {data?.owner === "folder" && <span class="badge">from the plugins folder</span>}
        </h1>
        <span class="grow" />
        {mayChange && (
          <button type="button" onClick={() => setUploads(true)}>
            Upload a version …
          </button>
        )}
      </div>
      {data?.description && <p class="dim">{data.description}</p>}
      {data?.rejected && <p class="note bad">The plugins folder was not taken over: {data.rejected}</p>}
      {problem && <ProblemNote problem={problem} />}
      {(data || !problem) && (
        <nav class="tabs" aria-label="Parts of the hook">
          {TABS.map(([id, name]) => (
            <NavLink key={id} to={href("hooks", namespace, hook) + (id && `?tab=${id}`)} current={tab === id}>
              {name}
            </NavLink>
          ))}
        </nav>
      )}
      {data && <Part tab={tab} part={{ names, detail: data, mayChange, again }} />}
      {uploads && data && (
        <Upload
          namespace={namespace}
          hook={hook}
          newest={data.versions[0]}
          newestConfig={textAt(answered.text, ["versions", 0, "config"])}
          onDone={() => {
            setUploads(false);
            again();
          }}
          onClose={() => setUploads(false)}
        />
      )}
    </>
  );
}

function Part({ tab, part }: { tab: string; part: HookPart }) {
  switch (tab) {
    case "versions":
      return <Versions {...part} />;
    case "try":
      return <TryIt {...part} />;
    case "tests":
      return <TestCases {...part} />;
    case "log":
      return <Log {...part.names} />;
    case "failures":
      return <Failures {...part} />;
    case "shadows":
      return <Shadows {...part} />;
    default:
      return <Bindings {...part} />;
  }
}
