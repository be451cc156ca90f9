import type { Schema } from "../api/client";
import * as format from "../format";

type Shard = Schema["ShardEvent"];

const STATES: Record<Schema["ShardState"], { tone: string; text: string }> = {
  closed: { tone: "good", text: "well" },
  half_open: { tone: "warn", text: "being tried" },
  open: { tone: "bad", text: "left alone" },
};

/** The shards with their breakers. */
export function ShardTable({ shards }: { shards: Shard[] }) {
  return (
    <table class="list">
      <caption class="hidden">Shards</caption>
      <thead>
        <tr>
          <th scope="col">Shard</th>
          <th scope="col">State</th>
          <th scope="col" class="num">Items</th>
          <th scope="col" class="num wide">Topics</th>
          <th scope="col" class="num wide">Slots</th>
          <th scope="col" class="num wide">Left alone</th>
          <th scope="col" class="num wide">Refused calls</th>
        </tr>
      </thead>
      <tbody>
        {shards.map((shard) => (
          <tr key={shard.shard}>
            <th scope="row">{shard.shard}</th>
            <td class="wrap">
              <span class={`state ${STATES[shard.state].tone}`}>
                <i aria-hidden="true" /> {STATES[shard.state].text}
              </span>
              {shard.failure && <span class="dim"> {shard.failure}</span>}
            </td>
            <td class="num">{format.count(shard.items)}</td>
            <td class="num wide">{format.count(shard.topics)}</td>
            <td class="num wide">{format.count(shard.slots)}</td>
            <td class={shard.openings > 0 ? "num wide" : "num wide zero"}>{format.count(shard.openings)}</td>
            <td class={shard.refused > 0 ? "num wide" : "num wide zero"}>{format.count(shard.refused)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
