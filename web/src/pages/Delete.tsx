import { answer, api, type Schema } from "../api/client";
import { latest } from "../api/live";
import * as format from "../format";
import { ByName } from "../parts/ByName";
import { href } from "../router";
import type { TopicNames } from "./Topic";

const held = ({ stats }: Schema["TopicEvent"]): number => stats.ready + stats.scheduled + stats.leased + stats.dead;

/** Deletes a topic with everything in it, once its name was typed. */
export function DeleteTopic({ namespace, topic, onClose }: TopicNames & { onClose: () => void }) {
  const work = async () => {
    const params = { path: { ns: namespace, topic }, query: { confirm: topic } };
    const { count } = await answer(api.DELETE("/v1/namespaces/{ns}/topics/{topic}", { params }));
    return `The topic is gone, and ${format.some(count, "item")} with it.`;
  };
  return (
    <ByName title="Delete the topic" verb="Delete" label="Topic" name={topic} work={work} onClose={onClose}>
      The topic goes with its settings and every item in it, leased ones and dead letters too. It appears again with the first item that is sent to it.
    </ByName>
  );
}

/** Orders the end of a namespace, once its name was typed. */
export function DeleteNamespace({ namespace, onClose }: { namespace: string; onClose: () => void }) {
  const topics = latest.value?.topics.filter((topic) => topic.namespace === namespace) ?? [];
  const items = topics.reduce((sum, topic) => sum + held(topic), 0);
  const work = async () => {
    const params = { path: { ns: namespace }, query: { confirm: namespace } };
    const { id } = await answer(api.DELETE("/v1/namespaces/{ns}", { params }));
    return (
      <>
        It is being deleted: <a href={`${href("namespaces", namespace)}?tab=operations`}>operation {id}</a> shows how far it is.
      </>
    );
  };
  return (
    <ByName title="Delete the namespace" verb="Delete" label="Namespace" name={namespace} work={work} onClose={onClose}>
      Its {topics.length === 1 ? "1 topic goes with its" : `${format.count(topics.length)} topics go with their`} settings and what is in {topics.length === 1 ? "it" : "them"},{" "}
      {format.some(items, "item")}, leased ones and dead letters too, and so do the namespace’s settings. Its hooks, its quota and its log of changes stay.
    </ByName>
  );
}
