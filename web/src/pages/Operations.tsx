import { useState } from "preact/hooks";
import { answer, api, type Schema } from "../api/client";
import { tick } from "../api/history";
import * as format from "../format";
import { useAction, useLoad } from "../load";
import { ProblemNote } from "../parts/Note";
import { OperationForm } from "./OperationForm";

type Operation = Schema["Operation"];
const TONES: Record<Operation["state"], string> = { queued: "", running: "warn", succeeded: "good", failed: "bad", cancelled: "", stopped: "bad" };
const isOver = ({ state }: Operation): boolean => state !== "queued" && state !== "running";

/** Long work on a namespace's items: what runs, how far it is, and what it led to. */
export function Operations({ namespace }: { namespace: string }) {
  const [orders, setOrders] = useState(false);
  const { data, problem, again } = useLoad(
    namespace,
    () => answer(api.GET("/v1/namespaces/{ns}/operations", { params: { path: { ns: namespace }, query: { limit: 100 } } })),
    String(tick.value),
  );
  const done = (): void => {
    setOrders(false);
    again();
  };
  return (
    <section aria-label="Operations">
      <div class="bar">
        <span class="dim">Work on many items that goes on by itself, also through a restart.</span>
        <span class="grow" />
        <button type="button" onClick={() => setOrders(true)}>
          Order an operation …
        </button>
      </div>
      {problem && <ProblemNote problem={problem} />}
      {data?.operations.length === 0 && <p class="empty">There are no operations.</p>}
      {data && data.operations.length > 0 && (
        <table class="list">
          <caption class="hidden">Operations</caption>
          <thead>
            <tr>
              <th scope="col">Operation</th>
              <th scope="col">State</th>
              <th scope="col" class="wide">Progress</th>
              <th scope="col" class="num">Done</th>
              <th scope="col" class="wide apart">Ordered</th>
              <th scope="col" class="wide">By</th>
              <th scope="col">
                <span class="hidden">What can be done</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {data.operations.map((operation) => (
              <Row key={operation.id} namespace={namespace} operation={operation} again={again} />
            ))}
          </tbody>
        </table>
      )}
      {orders && <OperationForm namespace={namespace} onDone={done} onClose={() => setOrders(false)} />}
    </section>
  );
}

/** What was ordered, in words. */
function workOf({ work }: Operation): string {
  const { kind, topic } = work;
  return [kind.replaceAll("_", " "), topic].filter(Boolean).join(" ");
}

function Row({ namespace, operation, again }: { namespace: string; operation: Operation; again: () => void }) {
  const { busy, problem, run } = useAction();
  const path = { ns: namespace, id: operation.id };
  const cancel = (): void => void run(() => answer(api.DELETE("/v1/namespaces/{ns}/operations/{id}", { params: { path } })), again);
  const { total, looked, outcome } = operation;
  return (
    <tr>
      <th scope="row">
        {workOf(operation)}
        {operation.dry_run && <span class="badge">dry run</span>}
      </th>
      <td class="wrap">
        <span class={`badge ${TONES[operation.state]}`}>{operation.cancelling && !isOver(operation) ? "cancelling" : operation.state}</span>
        {operation.error}
        {outcome && outcome.kept > 0 && <span class="dim"> {format.count(outcome.kept)} stayed dead</span>}
        {problem && <ProblemNote problem={problem} />}
      </td>
      <td class="wide">
        <progress max={Math.max(total, 1)} value={isOver(operation) ? Math.max(total, 1) : Math.min(looked, total)} aria-label={`${format.count(looked)} of ${format.count(total)} looked at`} />
        <small class="dim num">
          {" "}
          {format.count(looked)} of {format.count(total)}
        </small>
      </td>
      <td class="num">{format.count(outcome?.count ?? operation.done)}</td>
      <td class="num left wide apart">{format.moment(operation.created_at)}</td>
      <td class="wide">{operation.created_by}</td>
      <td class="does">
        {!isOver(operation) && (
          <button type="button" class="small" disabled={busy || operation.cancelling} onClick={cancel}>
            Cancel
          </button>
        )}
      </td>
    </tr>
  );
}
