import { answer, api } from "../api/client";
import { useLoad } from "../load";
import { ProblemNote } from "../parts/Note";
import { Settings } from "../parts/Settings";
import type { TopicNames } from "./Topic";

export function TopicSettings({ namespace, topic }: TopicNames) {
  const { data, problem } = useLoad(`${namespace}/${topic}`, () =>
    answer(api.GET("/v1/namespaces/{ns}/topics/{topic}", { params: { path: { ns: namespace, topic } } })),
  );
  if (problem) return <ProblemNote problem={problem} />;
  return data && <Settings own={data.settings} effective={data.effective} whose="this topic" />;
}
