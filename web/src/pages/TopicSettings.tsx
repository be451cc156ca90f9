import { useState } from "preact/hooks";
import { answer, api } from "../api/client";
import { has } from "../api/live";
import { useLoad } from "../load";
import { ProblemNote } from "../parts/Note";
import { Settings } from "../parts/Settings";
import { SettingsForm } from "../parts/SettingsForm";
import type { TopicNames } from "./Topic";

export function TopicSettings({ namespace, topic }: TopicNames) {
  const [edits, setEdits] = useState(false);
  const params = { params: { path: { ns: namespace, topic } } };
  const { data, problem, again } = useLoad(`${namespace}/${topic}`, () => answer(api.GET("/v1/namespaces/{ns}/topics/{topic}", params)));
  if (problem) return <ProblemNote problem={problem} />;
  if (!data) return null;
  return (
    <section aria-label="Settings">
      {has("admin") && (
        <div class="bar">
          <button type="button" onClick={() => setEdits(true)}>
            Edit the settings …
          </button>
        </div>
      )}
      <Settings own={data.settings} effective={data.effective} whose="this topic" />
      {edits && (
        <SettingsForm
          title={`Settings of ${topic}`}
          own={data.settings}
          effective={data.effective}
          save={(body) => answer(api.PUT("/v1/namespaces/{ns}/topics/{topic}", { ...params, body }))}
          onDone={() => {
            setEdits(false);
            again();
          }}
          onClose={() => setEdits(false)}
        />
      )}
    </section>
  );
}
