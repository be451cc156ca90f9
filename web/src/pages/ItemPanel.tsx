import { answer, api, type Schema } from "../api/client";
import { AS_TEXT, exactItem, type Item } from "../api/exact";
import * as format from "../format";
import { useLoad } from "../load";
import { Copy } from "../parts/Copy";
import { Dialog } from "../parts/Dialog";
import { Headers } from "../parts/Headers";
import { ProblemNote } from "../parts/Note";
import { Payload } from "../parts/Payload";
import type { TopicNames } from "./Topic";

/** One item: why it is where it is, what it carries. */
export function ItemPanel({ namespace, topic, id, onClose }: TopicNames & { id: string; onClose: () => void }) {
  const params = { params: { path: { ns: namespace, topic, id } } };
  const item = useLoad(id, () => exactItem(api.GET("/v1/namespaces/{ns}/topics/{topic}/items/{id}", { ...params, ...AS_TEXT })));
  const explained = useLoad(id, () => answer(api.GET("/v1/namespaces/{ns}/topics/{topic}/items/{id}/explain", params)));
  return (
    <Dialog title={`Item ${id}`} wide onClose={onClose}>
      {item.problem && <ProblemNote problem={item.problem} />}
      {item.data && (
        <>
          {explained.data && <Explanation explanation={explained.data} />}
          <Facts item={item.data} />
          {item.data.headers && <Headers headers={item.data.headers} />}
          <Payload item={item.data} />
          <footer>
            <Copy text={id} name="Copy the id" />
            <button type="button" class="small" onClick={() => { item.again(); explained.again(); }}>
              Read again
            </button>
          </footer>
        </>
      )}
    </Dialog>
  );
}

function Explanation({ explanation }: { explanation: Schema["Explanation"] }) {
  return (
    <section class="note" aria-label="Explanation">
      <strong>{explanation.deliverable ? "Can be delivered now" : `Not delivered now: ${explanation.state}`}</strong>
      {explanation.reasons.map((reason) => (
        <p key={reason.code}>{reason.detail}</p>
      ))}
    </section>
  );
}

function Facts({ item }: { item: Item }) {
  const facts: [string, string | undefined][] = [
    ["State", item.state],
    ["Priority", String(item.priority)],
    ["Attempt", `${item.attempt} of ${item.max_attempts || "any number"}`],
    ["Lease", format.duration(item.lease_ms)],
    ["Enqueued", format.moment(item.enqueued_at)],
    ["Due", format.moment(item.deliver_after)],
    ["Expires", item.expires_at && format.moment(item.expires_at)],
    ["Leased until", item.lease_expires_at && format.moment(item.lease_expires_at)],
    ["Died", item.dead && `${format.moment(item.dead.at)}, ${item.dead.reason.replaceAll("_", " ")}`],
    ["Last error", item.last_error],
    ["Content type", item.content_type],
    ["Idempotency key", item.idempotency_key],
  ];
  return (
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
  );
}
