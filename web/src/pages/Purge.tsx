import { answer, api } from "../api/client";
import * as format from "../format";
import { ByName } from "../parts/ByName";
import type { TopicNames } from "./Topic";

/** Drops everything that waits or is leased, once the topic's name was typed. */
export function Purge({ namespace, topic, onClose }: TopicNames & { onClose: () => void }) {
  const work = async () => {
    const params = { path: { ns: namespace, topic } };
    const { count } = await answer(api.POST("/v1/namespaces/{ns}/topics/{topic}/purge", { params }));
    return `${format.some(count, "item")} ${count === 1 ? "was" : "were"} dropped.`;
  };
  return (
    <ByName title="Purge the topic" verb="Purge" label="Topic" name={topic} work={work} onClose={onClose}>
      Every item that is ready, scheduled or leased is dropped for good. Dead letters stay.
    </ByName>
  );
}
