import { useState } from "preact/hooks";
import { api } from "../api/client";
import { AS_TEXT, exactItems, type Item } from "../api/exact";
import * as format from "../format";
import { useLoad } from "../load";
import { ProblemNote } from "../parts/Note";
import { query, setQuery } from "../router";
import { ItemPanel } from "./ItemPanel";
import { ItemTable } from "./ItemTable";
import type { TopicPart } from "./Topic";

type State = "ready" | "scheduled" | "leased";
const STATES: readonly State[] = ["ready", "scheduled", "leased"];
const PAGE = 50;

/** Items in the order they go out, looked at and not leased. */
export function Items({ namespace, topic, stats }: TopicPart) {
  const state = STATES.find((name) => name === query.value.get("state")) ?? "ready";
  const id = query.value.get("id");
  const [pages, setPages] = useState<{ key: string; cursors: string[] }>({ key: "", cursors: [] });
  const cursors = pages.key === state ? pages.cursors : [];
  const cursor = cursors.at(-1);
  // New items are shown as they come: the counters say when there is something to read again.
  const moved = [stats.ready, stats.scheduled, stats.leased, stats.enqueued_total, stats.delivered_total].join();
  const { data, problem } = useLoad(
    [state, cursor].join(),
    () =>
      exactItems(
        api.GET("/v1/namespaces/{ns}/topics/{topic}/items", {
          params: { path: { ns: namespace, topic }, query: { state, limit: PAGE, ...(cursor ? { cursor } : {}) } },
          ...AS_TEXT,
        }),
      ),
    moved,
  );
  const find = (event: Event): void => {
    event.preventDefault();
    const input = new FormData(event.currentTarget as HTMLFormElement).get("id");
    if (typeof input === "string" && input.trim()) setQuery({ id: input.trim() });
  };
  return (
    <section aria-label="Items">
      <div class="bar">
        <div role="group" aria-label="State" class="choice">
          {STATES.map((name) => (
            <button key={name} type="button" aria-pressed={state === name} onClick={() => setQuery({ state: name === "ready" ? "" : name })}>
              {name}
              <small class="num"> {format.count(stats[name])}</small>
            </button>
          ))}
        </div>
        <span class="grow" />
        <form class="find" onSubmit={find}>
          <input type="search" name="id" placeholder="Find by id  /" aria-label="Find an item by its id" autocomplete="off" />
          <button type="submit">Find</button>
        </form>
      </div>
      {problem && <ProblemNote problem={problem} />}
      {data && <List items={data.items} state={state} />}
      <Pager
        first={cursors.length === 0}
        next={data?.next_cursor}
        onFirst={() => setPages({ key: state, cursors: [] })}
        onNext={(next) => setPages({ key: state, cursors: [...cursors, next] })}
      />
      {id && <ItemPanel namespace={namespace} topic={topic} id={id} onClose={() => setQuery({ id: "" })} />}
    </section>
  );
}

function List({ items, state }: { items: Item[]; state: State }) {
  if (items.length === 0) return <p class="empty">No item is {state}.</p>;
  return <ItemTable items={items} time={state === "leased" ? "lease" : state === "scheduled" ? "due" : "enqueued"} />;
}

interface PagerProps {
  first: boolean;
  next: string | undefined;
  onFirst: () => void;
  onNext: (cursor: string) => void;
}

export function Pager({ first, next, onFirst, onNext }: PagerProps) {
  if (first && !next) return null;
  return (
    <div class="bar pager">
      <button type="button" disabled={first} onClick={onFirst}>
        First page
      </button>
      <button type="button" disabled={!next} onClick={() => next && onNext(next)}>
        Next {PAGE}
      </button>
    </div>
  );
}
