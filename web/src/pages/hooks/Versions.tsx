import { useState } from "preact/hooks";
import { answer, api, type Schema } from "../../api/client";
import { has } from "../../api/live";
import * as format from "../../format";
import { useAction } from "../../load";
import { Confirm } from "../../parts/Confirm";
import { ProblemNote } from "../../parts/Note";
import type { HookPart } from "./Hook";

type Stats = Schema["HookStats"];

/** Every version with what it did on this node. */
export function Versions({ names, detail, mayChange, again }: HookPart) {
  const [leaving, setLeaving] = useState<number | null>(null);
  const stats = new Map(detail.stats.map((entry) => [entry.version, entry]));
  const uses = usesOf(detail.bindings);
  const { busy, problem, run } = useAction();
  const acknowledge = (version: number): void =>
    void run(
      () =>
        answer(
          api.POST("/v1/namespaces/{ns}/hooks/{hook}/versions/{version}/acknowledge", {
            params: { path: { ns: names.namespace, hook: names.hook, version } },
          }),
        ),
      again,
    );
  return (
    <>
      <section>
        <h2>Versions</h2>
        {problem && <ProblemNote problem={problem} />}
        <table class="list">
          <caption class="hidden">Versions</caption>
          <thead>
            <tr>
              <th scope="col">Version</th>
              <th scope="col" class="wide">Added</th>
              <th scope="col" class="wide">By</th>
              <th scope="col">Note</th>
              <th scope="col" class="num wide">Module</th>
              <th scope="col" class="wide apart">Digest</th>
              <th scope="col">
                <span class="hidden">What can be done</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {detail.versions.map((version) => (
              <tr key={version.version}>
                <th scope="row" class="num left">
                  {version.version}
                </th>
                <td class="num left wide">{format.moment(version.created_at)}</td>
                <td class="wide">{version.created_by}</td>
                <td class="wrap">
                  {uses.get(version.version)?.map(({ text, tone }) => (
                    <span key={text} class={`badge ${tone}`}>
                      {text}
                    </span>
                  ))}
                  {version.quarantine && (
                    <span class="badge bad" title={`Since ${format.moment(version.quarantine.at)}: ${version.quarantine.trips} calls ran into what they may have, the last into its ${version.quarantine.ceiling.replaceAll("_", " ")}`}>
                      in quarantine
                    </span>
                  )}
                  {version.note ?? <span class="dim">–</span>}
                </td>
                <td class="num wide">{format.bytes(version.module_bytes)}</td>
                <td class="mono wide apart" title={version.digest}>
                  {version.digest.slice(0, 12)}
                </td>
                <td class="does">
                  {version.quarantine && has("hooks") && (
                    <button type="button" class="small" disabled={busy} onClick={() => acknowledge(version.version)}>
                      Let it run again
                    </button>
                  )}
                  {mayChange && !uses.has(version.version) && (
                    <button type="button" class="small" onClick={() => setLeaving(version.version)}>
                      Delete …
                    </button>
                  )}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </section>
      <Numbers stats={detail.versions.flatMap(({ version }) => stats.get(version) ?? [])} />
      {leaving !== null && (
        <Confirm
          title={`Delete version ${leaving}`}
          verb="Delete"
          danger
          work={() =>
            answer(
              api.DELETE("/v1/namespaces/{ns}/hooks/{hook}/versions/{version}", {
                params: { path: { ns: names.namespace, hook: names.hook, version: leaving } },
              }),
            )
          }
          onDone={() => {
            setLeaving(null);
            again();
          }}
          onClose={() => setLeaving(null)}
        >
          Its module and its configuration are gone for good.{" "}
          {detail.version_count === 1 && "It is the only version: the hook goes with it, its test cases too."}
        </Confirm>
      )}
    </>
  );
}

interface Use {
  text: string;
  tone: string;
}

/** What bindings do with each version they name. */
function usesOf(bindings: Schema["Binding"][]): Map<number, Use[]> {
  const uses = new Map<number, Use[]>();
  const add = (version: number | undefined, text: string, tone: string): void => {
    if (version === undefined) return;
    const own = uses.get(version) ?? [];
    if (!own.some((use) => use.text === text)) uses.set(version, [...own, { text, tone }]);
  };
  for (const { enabled, version, canary, shadow } of bindings) {
    const off = enabled ? "" : ", off";
    add(version, enabled ? "in force" : "bound, off", enabled ? "good" : "");
    if (canary) add(canary.version, `canary ${canary.percent} %${off}`, "warn");
    add(shadow, `shadow${off}`, "");
  }
  return uses;
}

const failed = (stats: Stats): number =>
  stats.invalid + stats.traps + stats.timeouts + stats.overloads + (stats.verdicts["error"] ?? 0);

const COLUMNS: readonly { name: string; show: (stats: Stats) => string; wide?: boolean }[] = [
  { name: "Calls", show: (stats) => format.count(stats.calls) },
  { name: "Items", show: (stats) => format.count(stats.items), wide: true },
  { name: "p50", show: (stats) => (stats.calls > 0 ? format.within(stats.run_p50_us) : "–"), wide: true },
  { name: "p99", show: (stats) => (stats.calls > 0 ? format.within(stats.run_p99_us) : "–"), wide: true },
  { name: "Memory, most", show: (stats) => format.bytes(stats.memory_bytes_max), wide: true },
  { name: "Traps", show: (stats) => format.count(stats.traps), wide: true },
  { name: "Timeouts", show: (stats) => format.count(stats.timeouts), wide: true },
  { name: "Not run", show: (stats) => format.count(stats.overloads), wide: true },
];

/** What versions did since the node started. */
export function Numbers({ stats }: { stats: Stats[] }) {
  return (
    <section>
      <h2>On this node, since it started</h2>
      {stats.length === 0 ? (
        <p class="empty">No version was called yet.</p>
      ) : (
        <table class="list">
          <caption class="hidden">What versions did</caption>
          <thead>
            <tr>
              <th scope="col">Version</th>
              {COLUMNS.map(({ name, wide }) => (
                <th key={name} scope="col" class={wide ? "num wide" : "num"}>
                  {name}
                </th>
              ))}
              <th scope="col" class="num">Failed</th>
              <th scope="col" class="apart">Verdicts</th>
            </tr>
          </thead>
          <tbody>
            {stats.map((entry) => (
              <tr key={entry.version}>
                <th scope="row" class="num left">
                  {entry.version}
                </th>
                {COLUMNS.map(({ name, show, wide }) => (
                  <td key={name} class={`num ${wide ? "wide" : ""} ${show(entry) === "0" ? "zero" : ""}`}>
                    {show(entry)}
                  </td>
                ))}
                <td class={failed(entry) > 0 ? "num bad" : "num zero"}>{format.count(failed(entry))}</td>
                <td class="apart">
                  {entry.breaker_open && <span class="badge bad">breaker open</span>}
                  <Verdicts counts={entry.verdicts} />
                  {entry.shadow_different > 0 && <span class="dim num"> shadow differs on {format.count(entry.shadow_different)}</span>}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </section>
  );
}

/** Verdicts with how often each came, the most frequent first. */
export function Verdicts({ counts }: { counts: Record<string, number> }) {
  const entries = Object.entries(counts)
    .filter(([, count]) => count > 0)
    .sort((a, b) => b[1] - a[1]);
  if (entries.length === 0) return <span class="dim">–</span>;
  return (
    <>
      {entries.map(([verdict, count]) => (
        <span key={verdict} class={`badge ${TONES[verdict] ?? ""}`}>
          {verdict.replaceAll("_", " ")} <span class="num">{format.count(count)}</span>
        </span>
      ))}
    </>
  );
}

/** How a verdict is coloured: what lets an item pass, what holds it up, what failed. */
export const TONES: Record<string, string> = {
  keep: "good",
  deliver: "good",
  replace: "good",
  edit: "good",
  split: "good",
  deliver_as: "good",
  deliver_edited: "good",
  defer: "warn",
  drop: "warn",
  reject: "warn",
  dead_letter: "warn",
  error: "bad",
  invalid: "bad",
  trap: "bad",
  timeout: "bad",
  overload: "bad",
};
