import type { ComponentChildren } from "preact";
import type { Item } from "../api/exact";
import * as format from "../format";
import { bytesOf } from "../parts/Payload";
import { setQuery } from "../router";

export type Time = "enqueued" | "due" | "lease" | "died";

const TIMES: Record<Time, { name: string; of: (item: Item) => string | undefined }> = {
  enqueued: { name: "Enqueued", of: (item) => item.enqueued_at },
  due: { name: "Due", of: (item) => item.deliver_after },
  lease: { name: "Leased until", of: (item) => item.lease_expires_at },
  died: { name: "Died", of: (item) => item.dead?.at },
};

const PREVIEW_LETTERS = 120;

/** The beginning of a payload in one line. */
function preview(item: Item): string {
  if (item.raw !== undefined) return item.raw.slice(0, PREVIEW_LETTERS);
  if (item.text !== undefined) return item.text.slice(0, PREVIEW_LETTERS);
  return `${bytesOf(item).length} bytes`;
}

interface Props {
  items: Item[];
  time: Time;
  /** A cell before each row, and one after. */
  before?: (item: Item) => ComponentChildren;
  error?: boolean;
}

export function ItemTable({ items, time, before, error = false }: Props) {
  const { name, of } = TIMES[time];
  return (
    <table class="list">
      <caption class="hidden">Items</caption>
      <thead>
        <tr>
          {before && <th scope="col" class="tick"><span class="hidden">Chosen</span></th>}
          <th scope="col">Id</th>
          {error && <th scope="col">Why</th>}
          <th scope="col" class={error ? "wide" : ""}>Payload</th>
          <th scope="col" class="num wide">Priority</th>
          <th scope="col" class="num wide">Attempt</th>
          <th scope="col" class="wide apart">{name}</th>
        </tr>
      </thead>
      <tbody>
        {items.map((item) => {
          const at = of(item);
          return (
            <tr key={item.id}>
              {before && <td class="tick">{before(item)}</td>}
              <th scope="row">
                <button type="button" data-row class="link num" onClick={() => setQuery({ id: item.id })}>
                  {item.id}
                </button>
              </th>
              {error && (
                <td class="clip error">
                  <div>
                    <span class="badge bad">{item.dead?.reason.replaceAll("_", " ")}</span> {item.last_error}
                  </div>
                </td>
              )}
              <td class={error ? "clip mono wide" : "clip mono"}>{preview(item)}</td>
              <td class="num wide">{item.priority}</td>
              <td class="num wide">
                {item.attempt}
                <span class="dim">/{item.max_attempts || "∞"}</span>
              </td>
              <td class="num left wide">{at ? format.moment(at) : "–"}</td>
            </tr>
          );
        })}
      </tbody>
    </table>
  );
}
