import { useState } from "preact/hooks";
import { api } from "../api/client";
import { AS_TEXT, exactItems } from "../api/exact";
import { has } from "../api/live";
import { useLoad } from "../load";
import { ProblemNote } from "../parts/Note";
import { query, setQuery } from "../router";
import { ItemPanel } from "./ItemPanel";
import { ItemTable } from "./ItemTable";
import { Pager } from "./Items";
import { Redrive } from "./Redrive";
import type { TopicPart } from "./Topic";

/** What died, why, and the way back. */
export function DeadLetters({ namespace, topic, stats }: TopicPart) {
  const id = query.value.get("id");
  const [cursors, setCursors] = useState<string[]>([]);
  const [chosen, setChosen] = useState<ReadonlySet<string>>(new Set());
  const [open, setOpen] = useState(false);
  const cursor = cursors.at(-1);
  const { data, problem, again } = useLoad(
    cursor ?? "",
    () =>
      exactItems(
        api.GET("/v1/namespaces/{ns}/topics/{topic}/dead", {
          params: { path: { ns: namespace, topic }, query: { limit: 50, ...(cursor ? { cursor } : {}) } },
          ...AS_TEXT,
        }),
      ),
    // As many may have gone as came.
    [stats.dead, stats.dead_total].join(),
  );
  const choose = (item: string): void => {
    const next = new Set(chosen);
    if (!next.delete(item)) next.add(item);
    setChosen(next);
  };
  const close = (): void => {
    setOpen(false);
    setChosen(new Set());
    again();
  };
  return (
    <section aria-label="Dead letters">
      {has("admin") && data && data.items.length > 0 && (
        <div class="bar">
          <button type="button" onClick={() => setOpen(true)}>
            {chosen.size > 0 ? `Redrive ${chosen.size} chosen …` : "Redrive …"}
          </button>
        </div>
      )}
      {problem && <ProblemNote problem={problem} />}
      {data?.items.length === 0 && <p class="empty">There are no dead letters.</p>}
      {data && data.items.length > 0 && (
        <ItemTable
          items={data.items}
          time="died"
          error
          before={(item) => (
            <input type="checkbox" aria-label={`Choose ${item.id}`} checked={chosen.has(item.id)} onChange={() => choose(item.id)} />
          )}
        />
      )}
      <Pager first={cursors.length === 0} next={data?.next_cursor} onFirst={() => setCursors([])} onNext={(next) => setCursors([...cursors, next])} />
      {open && <Redrive namespace={namespace} topic={topic} ids={[...chosen]} onClose={close} />}
      {id && <ItemPanel namespace={namespace} topic={topic} id={id} onClose={() => setQuery({ id: "" })} />}
    </section>
  );
}
