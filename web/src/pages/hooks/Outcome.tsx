import type { Schema } from "../../api/client";
import { type Exact, indented, textAt } from "../../api/exact";
import * as format from "../../format";
import { TONES, Verdicts } from "./Versions";

type DryRun = Schema["DryRun"];
type Tried = Schema["DryRunItem"];
type Change = Schema["ItemChange"];

interface Props {
  run: Exact<DryRun>;
  /** The text of the item that was typed in, which a difference is shown against. */
  item: string | null;
  onKeep: (() => void) | undefined;
}

/** What a version said of each item, and what would become of it. */
export function Outcome({ run: { data: run, text }, item, onKeep }: Props) {
  const before = item === null ? undefined : textAt(item, ["json"]);
  return (
    <>
      <div class="bar">
        <strong>{run.version}</strong>
        <Verdicts counts={run.verdicts} />
        <span class="grow" />
        {onKeep && (
          <button type="button" class="small" onClick={onKeep}>
            Keep as a test case …
          </button>
        )}
      </div>
      {run.items.length === 0 && <p class="empty">There is no such item in {run.topic}.</p>}
      {run.not_run > 0 && <p class="note">{format.some(run.not_run, "item")} {run.not_run === 1 ? "was" : "were"} not run: the answer would be too large.</p>}
      {run.items.map((tried, at) => (
        <details key={tried.id ?? at} class="card" open={run.items.length === 1}>
          <summary>
            <span class={`badge ${TONES[tried.verdict] ?? ""}`}>{tried.verdict.replaceAll("_", " ")}</span>
            <span class="num">{tried.id ?? "the item"}</span>
            <span class="dim"> {brief(tried)}</span>
          </summary>
          <Detail tried={tried} text={textAt(text, ["items", at]) ?? "{}"} before={before} />
        </details>
      ))}
    </>
  );
}

/** The outcome in half a line. */
export function brief(tried: Schema["HookSaid"]): string {
  if (tried.failure) return tried.failure;
  if (tried.reason) return `${tried.reason.code}: ${tried.reason.message}`;
  if (tried.delay_ms !== undefined) return `for ${format.duration(tried.delay_ms)}`;
  const changes = tried.changes?.length ?? 0;
  return changes > 1 ? `into ${changes} items` : changes === 1 ? "changed" : "";
}

/** One item: `text` is that of `tried`, and `before` that of the JSON it was given. */
function Detail({ tried, text, before }: { tried: Tried; text: string; before: string | undefined }) {
  const { usage, limits } = tried;
  const nearest = Math.max(limits.time_percent, limits.memory_percent, limits.output_percent, limits.host_calls_percent, limits.log_lines_percent);
  return (
    <>
      {tried.changes?.map((change, at) => (
        <ChangeView key={at} change={change} text={textAt(text, ["changes", at]) ?? "{}"} before={before} title={tried.changes?.length === 1 ? "What changes" : `Item ${at + 1}`} />
      ))}
      <dl class="facts">
        <Fact name="Time" value={`${format.count(usage.run_us)} µs`} />
        {usage.instructions !== undefined && <Fact name="Instructions" value={format.count(usage.instructions)} />}
        <Fact name="Memory" value={format.bytes(usage.memory_bytes)} />
        <Fact name="Calls of imports" value={format.count(usage.host_calls)} />
        <Fact name="Nearest limit" value={`${nearest} % used`} />
      </dl>
      {tried.log.length > 0 && (
        <pre class="lines" tabIndex={0} aria-label="What it logged">
          {tried.log.map((line) => `${line.level.padEnd(5)} ${line.message}`).join("\n")}
        </pre>
      )}
    </>
  );
}

function Fact({ name, value }: { name: string; value: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}

/** What changes about an item: `text` is that of `change`, and `before` that of the JSON it was, where that is known. */
export function ChangeView({ change, text, before, title }: { change: Change; text: string; before: string | undefined; title: string }) {
  const payload = payloadOf(change, textAt(text, ["json"]));
  const others: [string, string | undefined][] = [
    ["Topic", change.topic],
    ["Priority", change.priority === undefined ? undefined : String(change.priority)],
    ["Due", change.deliver_after && format.moment(change.deliver_after)],
    ["Headers", change.headers && Object.entries(change.headers).map(([name, value]) => `${name}: ${value}`).join("\n")],
  ];
  return (
    <section aria-label={title}>
      <h3>{title}</h3>
      {change.diff && <Diff diff={change.diff} text={textAt(text, ["diff", "patch"]) ?? "[]"} before={before} />}
      {payload !== undefined && (
        <pre class="lines" tabIndex={0} aria-label="The new payload">
          {payload}
        </pre>
      )}
      {others.some(([, value]) => value !== undefined) && (
        <dl class="facts">{others.map(([name, value]) => value !== undefined && <Fact key={name} name={name} value={value} />)}</dl>
      )}
    </section>
  );
}

/** The new payload, if it has one: `json` is the text of it where it is JSON. */
function payloadOf(change: Change, json: string | undefined): string | undefined {
  if (json !== undefined) return indented(json);
  return change.text ?? (change.payload === undefined ? undefined : `${format.bytes(atob(change.payload).length)} that are no text`);
}

interface Step {
  op: string;
  path: string;
}

/** What `path`, an RFC 6901 pointer, leads to in the text of some JSON. */
const pointed = (json: string, path: string): string | undefined =>
  textAt(json, path.split("/").slice(1).map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~")));

/** A patch, whose text is `text`, as lines that go and lines that come. */
export function Diff({ diff, text, before }: { diff: Schema["PayloadDiff"]; text: string; before: string | undefined }) {
  if (diff.kind === "same") return <p class="dim">The payload stays the same.</p>;
  if (!diff.patch) {
    return (
      <p class="num">
        {format.bytes(diff.before_bytes ?? 0)} become {format.bytes(diff.after_bytes ?? 0)}
      </p>
    );
  }
  return (
    <div class="diff" role="group" aria-label="Difference">
      {(diff.patch as Step[]).flatMap((step, at) => {
        const lines = [];
        if (step.op !== "add") {
          lines.push(
            <del key={`${step.path}-`}>
              − {step.path} {before && pointed(before, step.path)}
            </del>,
          );
        }
        if (step.op !== "remove") {
          lines.push(
            <ins key={`${step.path}+`}>
              + {step.path} {textAt(text, [at, "value"])}
            </ins>,
          );
        }
        return lines;
      })}
    </div>
  );
}
