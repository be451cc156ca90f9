import { useState } from "preact/hooks";
import { answer, api, type Schema } from "../../api/client";
import * as format from "../../format";
import { useLoad } from "../../load";
import { Dialog } from "../../parts/Dialog";
import { Headers } from "../../parts/Headers";
import { ProblemNote } from "../../parts/Note";
import { Payload } from "../../parts/Payload";
import type { HookPart } from "./Hook";

type Failure = Schema["HookFailure"];

/** The items the hook failed on within a day, with what it was given. */
export function Failures({ names, detail }: HookPart) {
  const [open, setOpen] = useState<Failure | null>(null);
  const failed = detail.stats.map((entry) => [entry.invalid, entry.traps, entry.timeouts, entry.verdicts["error"] ?? 0].join()).join(";");
  const { data, problem } = useLoad(
    `${names.namespace}/${names.hook}`,
    () => answer(api.GET("/v1/namespaces/{ns}/hooks/{hook}/failures", { params: { path: { ns: names.namespace, hook: names.hook } } })),
    failed,
  );
  if (problem) return <ProblemNote problem={problem} />;
  if (!data) return null;
  if (data.failures.length === 0) {
    const keeps = detail.versions[0]?.manifest.keep_failures === true;
    return <p class="empty">{keeps ? "The hook failed on nothing within the last day." : "Inputs it fails on are not kept: “keep_failures” in its manifest has them kept for a day."}</p>;
  }
  return (
    <section aria-label="Failures">
      <table class="list">
        <caption class="hidden">Failures</caption>
        <thead>
          <tr>
            <th scope="col">Item</th>
            <th scope="col">What happened</th>
            <th scope="col" class="wide">Topic</th>
            <th scope="col" class="num wide">Version</th>
            <th scope="col" class="wide apart">When</th>
          </tr>
        </thead>
        <tbody>
          {data.failures.map((failure, at) => (
            <tr key={`${failure.at}${at}`}>
              <th scope="row">
                <button type="button" data-row class="link num" onClick={() => setOpen(failure)}>
                  {failure.id}
                </button>
              </th>
              <td class="wrap">{failure.detail}</td>
              <td class="wide">
                {failure.topic} <span class="dim">{failure.side}</span>
              </td>
              <td class="num wide">{failure.version}</td>
              <td class="num left wide apart">{format.moment(failure.at)}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {open && (
        <Dialog title={`Item ${open.id}`} wide onClose={() => setOpen(null)}>
          <p class="note bad">{open.detail}</p>
          <dl class="facts">
            {Object.entries({ Attempt: open.attempt, Priority: open.priority, "Content type": open.content_type ?? "none" }).map(([name, value]) => (
              <div key={name}>
                <dt>{name}</dt>
                <dd>{String(value)}</dd>
              </div>
            ))}
          </dl>
          {open.headers && <Headers headers={open.headers} />}
          {open.payload === undefined ? <p class="dim">The payload was too large to be kept.</p> : <Payload item={{ payload: open.payload }} />}
        </Dialog>
      )}
    </section>
  );
}
