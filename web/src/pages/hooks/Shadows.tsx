import { useState } from "preact/hooks";
import { api, type Schema } from "../../api/client";
import { AS_TEXT, exact, textAt } from "../../api/exact";
import * as format from "../../format";
import { useLoad } from "../../load";
import { Dialog } from "../../parts/Dialog";
import { ProblemNote } from "../../parts/Note";
import type { HookPart } from "./Hook";
import { brief, ChangeView, Diff } from "./Outcome";
import { TONES } from "./Versions";

type Difference = Schema["HookDifference"];
type Said = Schema["HookSaid"];

/** A difference and its very text. */
type Shown = readonly [Difference, string];

/** The last items that a shadow said something else of than what counted. */
export function Shadows({ names, detail }: HookPart) {
  const [open, setOpen] = useState<Shown | null>(null);
  const version = detail.stats.map((entry) => entry.shadow_different).join();
  const { data, problem } = useLoad(
    `${names.namespace}/${names.hook}`,
    () =>
      exact<Schema["HookDifferenceList"]>(
        api.GET("/v1/namespaces/{ns}/hooks/{hook}/differences", { params: { path: { ns: names.namespace, hook: names.hook } }, ...AS_TEXT }),
      ),
    version,
  );
  if (problem) return <ProblemNote problem={problem} />;
  if (!data) return null;
  const differences = data.data.differences.map((difference, at) => [difference, textAt(data.text, ["differences", at]) ?? "{}"] as const);
  if (differences.length === 0) {
    const runs = detail.bindings.some((binding) => binding.shadow !== undefined);
    return (
      <p class="empty">
        {runs
          ? "The shadow said nothing else than what counts yet."
          : "No version runs as a shadow: a binding can have one, which sees copies of some items and changes none of them."}
      </p>
    );
  }
  return (
    <section aria-label="Differences">
      <table class="list">
        <caption class="hidden">What shadows said otherwise</caption>
        <thead>
          <tr>
            <th scope="col">Item</th>
            <th scope="col">What counted</th>
            <th scope="col">What the shadow said</th>
            <th scope="col" class="wide">Topic</th>
            <th scope="col" class="wide apart">When</th>
          </tr>
        </thead>
        <tbody>
          {differences.map((shown, at) => (
            <Row key={`${shown[0].at}${at}`} difference={shown[0]} onOpen={() => setOpen(shown)} />
          ))}
        </tbody>
      </table>
      {open && (
        <Dialog title={`Item ${open[0].id}`} wide onClose={() => setOpen(null)}>
          <Compared difference={open[0]} text={open[1]} />
        </Dialog>
      )}
    </section>
  );
}

function Row({ difference, onOpen }: { difference: Difference; onOpen: () => void }) {
  return (
    <tr>
      <th scope="row">
        <button type="button" data-row class="link num" onClick={onOpen}>
          {difference.id}
        </button>
      </th>
      <td class="wrap">
        <Verdict said={difference.counted} />
      </td>
      <td class="wrap">
        <Verdict said={difference.said} />
      </td>
      <td class="wide">
        {difference.topic} <span class="dim">{difference.side}</span>
      </td>
      <td class="num left wide apart">{format.moment(difference.at)}</td>
    </tr>
  );
}

function Verdict({ said }: { said: Said }) {
  return (
    <>
      <span class={`badge ${TONES[said.verdict] ?? ""}`}>{said.verdict.replaceAll("_", " ")}</span> <span class="dim">{brief(said)}</span>
    </>
  );
}

/** What counted and what the shadow said, one after the other, and how their payloads differ. */
function Compared({ difference, text }: { difference: Difference; text: string }) {
  const sides = [
    [`Version ${difference.version}, which counted`, difference.counted, ["counted"]],
    [`Version ${difference.shadow}, the shadow`, difference.said, ["said"]],
  ] as const;
  return (
    <>
      {sides.map(([title, said, path]) => (
        <section key={title} aria-label={title}>
          <h3>{title}</h3>
          <p>
            <Verdict said={said} />
          </p>
          {said.changes?.map((change, at) => (
            <ChangeView key={at} change={change} text={textAt(text, [...path, "changes", at]) ?? "{}"} before={undefined} title={said.changes?.length === 1 ? "What changes" : `Item ${at + 1}`} />
          ))}
        </section>
      ))}
      {difference.diff && (
        <section aria-label="How the payloads differ">
          <h3>How the payloads differ</h3>
          <Diff diff={difference.diff} text={textAt(text, ["diff", "patch"]) ?? "[]"} before={textAt(text, ["counted", "changes", 0, "json"])} />
        </section>
      )}
      {difference.cut && <p class="dim">The changes are too large to be kept.</p>}
    </>
  );
}
