import { useState } from "preact/hooks";
import { api, type Schema } from "../api/client";
import { AS_TEXT, exact, indented, textAt } from "../api/exact";
import * as format from "../format";
import { useLoad } from "../load";
import { Dialog } from "../parts/Dialog";
import { ProblemNote } from "../parts/Note";
import { query, setQuery } from "../router";

type Entry = Schema["AuditEntry"];
const PAGE = 50;

/** A change, and its text in the answer. */
interface Opened {
  entry: Entry;
  text: string;
}

/** Who changed what in a namespace, or anywhere and on the node itself when none is named; the newest first. */
export function Audit({ namespace }: { namespace?: string }) {
  const action = query.value.get("action") ?? "";
  const actor = query.value.get("actor") ?? "";
  const [places, setPlaces] = useState<number[]>([]);
  const [open, setOpen] = useState<Opened | null>(null);
  const after = places.at(-1);
  const { data: answered, problem } = useLoad([namespace, action, actor, after].join(" "), () => {
    const asked = { order: "newest", limit: PAGE, ...(after === undefined ? {} : { after }), ...(action ? { action } : {}), ...(actor ? { actor } : {}) };
    return exact<Schema["AuditLog"]>(
      namespace === undefined
        ? api.GET("/v1/audit", { params: { query: asked }, ...AS_TEXT })
        : api.GET("/v1/namespaces/{ns}/audit", { params: { path: { ns: namespace }, query: asked }, ...AS_TEXT }),
    );
  });
  const data = answered?.data;
  const filter = (changes: Record<string, string>): void => {
    setPlaces([]);
    setQuery(changes);
  };
  return (
    <section aria-label="Audit log">
      <div class="bar">
        <input type="search" class="short" placeholder="Action: topic.  /" aria-label="Only this action" value={action} onChange={(event) => filter({ action: event.currentTarget.value.trim() })} />
        <input type="search" class="short" placeholder="By whom" aria-label="Only by" value={actor} onChange={(event) => filter({ actor: event.currentTarget.value.trim() })} />
      </div>
      {problem && <ProblemNote problem={problem} />}
      {data?.entries.length === 0 && <p class="empty">Nothing was changed{action || actor ? " that fits the filter" : ""}.</p>}
      {data && data.entries.length > 0 && (
        <table class="list">
          <caption class="hidden">Changes</caption>
          <thead>
            <tr>
              <th scope="col">Action</th>
              {namespace === undefined && (
                <th scope="col" class="wide">
                  Namespace
                </th>
              )}
              <th scope="col">Target</th>
              <th scope="col" class="wide">By</th>
              <th scope="col" class="wide">From</th>
              <th scope="col">When</th>
            </tr>
          </thead>
          <tbody>
            {data.entries.map((entry, at) => (
              <tr key={entry.id}>
                <th scope="row">
                  <button type="button" data-row class="link" onClick={() => setOpen({ entry, text: textAt(answered?.text ?? "", ["entries", at]) ?? "{}" })}>
                    {entry.action}
                  </button>
                </th>
                {namespace === undefined && <td class="wide">{entry.namespace ?? <span class="dim">–</span>}</td>}
                <td class="wrap">{entry.target}</td>
                <td class="wide">{entry.actor}</td>
                <td class="wide dim">{entry.peer ?? "–"}</td>
                <td>{format.moment(entry.at)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {(places.length > 0 || data?.next_after !== undefined) && (
        <div class="bar pager">
          <button type="button" disabled={places.length === 0} onClick={() => setPlaces([])}>
            Newest
          </button>
          <button type="button" disabled={data?.next_after === undefined} onClick={() => data?.next_after !== undefined && setPlaces([...places, data.next_after])}>
            Next {PAGE}
          </button>
        </div>
      )}
      {open && <EntryDialog {...open} onClose={() => setOpen(null)} />}
    </section>
  );
}

function EntryDialog({ entry, text, onClose }: Opened & { onClose: () => void }) {
  const facts: [string, string | undefined][] = [
    ["Namespace", entry.namespace],
    ["Target", entry.target],
    ["By", entry.actor],
    ["From", entry.peer],
    ["When", format.moment(entry.at)],
    ["Request", entry.request_id],
  ];
  return (
    <Dialog title={entry.action} wide onClose={onClose}>
      <dl class="facts">
        {facts.map(
          ([name, value]) =>
            value !== undefined && (
              <div key={name}>
                <dt>{name}</dt>
                <dd>{value}</dd>
              </div>
            ),
        )}
      </dl>
      {(["before", "after"] as const).map(
        (side) =>
          entry[side] !== undefined && (
            <section key={side} aria-label={side === "before" ? "Before" : "After"}>
              <h3>{side === "before" ? "Before" : "After"}</h3>
              <pre class="lines" tabIndex={0}>
                {indented(textAt(text, [side]) ?? "")}
              </pre>
            </section>
          ),
      )}
    </Dialog>
  );
}
