import { useState } from "preact/hooks";
import { answer, api, type Schema } from "../../api/client";
import { AS_TEXT, exact, indented, textAt } from "../../api/exact";
import { useAction, useLoad } from "../../load";
import { Confirm } from "../../parts/Confirm";
import { ProblemNote } from "../../parts/Note";
import type { HookPart } from "./Hook";
import { type CaseDraft, TestForm } from "./TestForm";

type Stored = Schema["StoredTest"];

/** The cases every version must pass before it goes into force. */
export function TestCases({ names, detail, mayChange }: HookPart) {
  const [version, setVersion] = useState(String(detail.latest ?? ""));
  const [edited, setEdited] = useState<CaseDraft | null>(null);
  const [leaving, setLeaving] = useState<string | null>(null);
  const [results, setResults] = useState<Schema["TestsRun"] | null>(null);
  const { busy, problem, run } = useAction();
  const path = { ns: names.namespace, hook: names.hook };
  const cases = useLoad(`${path.ns}/${path.hook}`, () => exact<Schema["TestList"]>(api.GET("/v1/namespaces/{ns}/hooks/{hook}/tests", { params: { path }, ...AS_TEXT })));
  const done = (): void => {
    setEdited(null);
    setLeaving(null);
    setResults(null);
    cases.again();
  };
  const runAll = (): void =>
    void run(
      () => answer(api.POST("/v1/namespaces/{ns}/hooks/{hook}/versions/{version}/tests", { params: { path: { ...path, version: Number(version) } } })),
      setResults,
    );
  const tests = cases.data?.data.tests ?? [];
  const blank: Schema["TestCase"] = { side: detail.exports[0] ?? "enqueue", item: { json: {} }, expect: { verdict: detail.exports[0] === "dequeue" ? "deliver" : "keep" } };
  const textOf = (at: number): string => indented(textAt(cases.data?.text ?? "", ["tests", at, "case"]) ?? "{}");
  return (
    <section aria-label="Test cases">
      <div class="bar">
        {tests.length > 0 && (
          <>
            <label class="inline">
              Version{" "}
              <select value={version} onChange={(event) => setVersion(event.currentTarget.value)}>
                {detail.versions.map((entry) => (
                  <option key={entry.version} value={entry.version}>
                    {entry.version}
                  </option>
                ))}
              </select>
            </label>
            <button type="button" class="main" disabled={busy} onClick={runAll}>
              Run all
            </button>
          </>
        )}
        <span role="status">
          {results && (
            <span class={`badge ${results.failed > 0 ? "bad" : "good"}`}>
              {results.passed} passed, {results.failed} failed
            </span>
          )}
        </span>
        <span class="grow" />
        {mayChange && (
          <button type="button" onClick={() => setEdited({ name: "", text: indented(JSON.stringify(blank)) })}>
            Add a test case …
          </button>
        )}
      </div>
      {problem && <ProblemNote problem={problem} />}
      {cases.problem && <ProblemNote problem={cases.problem} />}
      {cases.data && tests.length === 0 && <p class="empty">There are no test cases. Every version must pass them all before it goes into force.</p>}
      {tests.length > 0 && (
        <table class="list">
          <caption class="hidden">Test cases</caption>
          <thead>
            <tr>
              <th scope="col">Name</th>
              <th scope="col" class="wide">Side</th>
              <th scope="col" class="wide">Expects</th>
              <th scope="col">Result</th>
              <th scope="col">
                <span class="hidden">What can be done</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {tests.map((test, at) => (
              <Row key={test.name} test={test} result={results?.results.find(({ name }) => name === test.name)} onEdit={() => setEdited({ name: test.name, text: textOf(at) })} onDelete={mayChange ? setLeaving : undefined} />
            ))}
          </tbody>
        </table>
      )}
      {edited && <TestForm names={names} draft={edited} onDone={done} onClose={() => setEdited(null)} />}
      {leaving !== null && (
        <Confirm
          title={`Delete test case ${leaving}`}
          verb="Delete"
          danger
          work={() => answer(api.DELETE("/v1/namespaces/{ns}/hooks/{hook}/tests/{test}", { params: { path: { ...path, test: leaving } } }))}
          onDone={done}
          onClose={() => setLeaving(null)}
        >
          Versions need not pass it any more.
        </Confirm>
      )}
    </section>
  );
}

interface RowProps {
  test: Stored;
  result: Schema["TestRun"] | undefined;
  onEdit: () => void;
  /** Absent where the hook cannot be changed. */
  onDelete: ((name: string) => void) | undefined;
}

function Row({ test, result, onEdit, onDelete }: RowProps) {
  const { case: stored } = test;
  return (
    <tr>
      <th scope="row">
        {stored && onDelete ? (
          <button type="button" data-row class="link" onClick={onEdit}>
            {test.name}
          </button>
        ) : (
          test.name
        )}
      </th>
      <td class="wide">{stored?.side}</td>
      <td class="wide">{stored?.expect.verdict.replaceAll("_", " ")}</td>
      <td class="wrap">
        {result && <span class={`badge ${result.passed ? "good" : "bad"}`}>{result.passed ? "passed" : "failed"}</span>}
        {result?.mismatch}
      </td>
      <td class="does">
        {onDelete && (
          <button type="button" class="small" aria-label={`Delete ${test.name}`} onClick={() => onDelete(test.name)}>
            Delete …
          </button>
        )}
      </td>
    </tr>
  );
}
