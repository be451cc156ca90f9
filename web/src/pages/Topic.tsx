import { useState } from "preact/hooks";
import { answer, api, refusalOf, type Problem, type Schema } from "../api/client";
import { keyOf, past } from "../api/history";
import { has, latest } from "../api/live";
import * as format from "../format";
import { Chart } from "../parts/Chart";
import { ProblemNote } from "../parts/Note";
import { Tile } from "../parts/Tile";
import { href, query } from "../router";
import { DEPTHS, RATES } from "./Overview";
import { DeadLetters } from "./DeadLetters";
import { DeleteTopic } from "./Delete";
import { Items } from "./Items";
import { Purge } from "./Purge";
import { SendItem } from "./SendItem";
import { TopicSettings } from "./TopicSettings";

const SECONDS = 3_600;
const TABS = [
  ["", "Items"],
  ["dead", "Dead letters"],
  ["charts", "Charts"],
  ["settings", "Settings"],
] as const;

export interface TopicNames {
  namespace: string;
  topic: string;
}

type Asked = "send" | "purge" | "delete";

/** One topic: its numbers, its items, and what may be done with it. */
export function Topic({ namespace, topic }: TopicNames) {
  const names = { namespace, topic };
  const [open, setOpen] = useState<Asked | null>(null);
  const close = (): void => setOpen(null);
  const row = latest.value?.topics.find((entry) => entry.namespace === namespace && entry.topic === topic);
  return (
    <>
      {row ? (
        <Known {...row} ask={setOpen} />
      ) : (
        <>
          <Title {...names} paused={false} />
          <p class="empty">The topic has no items and no settings, or the token does not open it.</p>
          {has("enqueue") && <Send ask={setOpen} />}
        </>
      )}
      {open === "send" && <SendItem {...names} onClose={close} />}
      {open === "purge" && <Purge {...names} onClose={close} />}
      {open === "delete" && <DeleteTopic {...names} onClose={close} />}
    </>
  );
}

interface Asks {
  ask: (what: Asked) => void;
}

function Send({ ask }: Asks) {
  return (
    <button type="button" onClick={() => ask("send")}>
      Send a test item
    </button>
  );
}

function Known({ namespace, topic, paused, stats, ask }: Schema["TopicEvent"] & Asks) {
  const names = { namespace, topic };
  const tab = query.value.get("tab") ?? "";
  return (
    <>
      <div class="head">
        <Title {...names} paused={paused} />
        <span class="grow" />
        {has("enqueue") && <Send ask={ask} />}
        {has("admin") && (
          <>
            <Pause {...names} paused={paused} />
            <button type="button" class="danger" onClick={() => ask("purge")}>
              Purge …
            </button>
            <button type="button" class="danger" onClick={() => ask("delete")}>
              Delete …
            </button>
          </>
        )}
      </div>
      <dl class="tiles">
        <Tile name="Ready" value={format.count(stats.ready)} />
        <Tile name="Scheduled" value={format.count(stats.scheduled)} />
        <Tile name="Leased" value={format.count(stats.leased)} />
        <Tile name="Dead" value={format.count(stats.dead)} bad={stats.dead > 0} />
        <Tile name="In" value={format.rate(stats.enqueued_per_s)} more="/s" />
        <Tile name="Out" value={format.rate(stats.delivered_per_s)} more="/s" />
        <Tile name="Acked" value={format.rate(stats.acked_per_s)} more="/s" />
        <Tile name="Oldest ready" value={format.duration(stats.oldest_ready_age_ms)} />
      </dl>
      <nav class="tabs" aria-label="Parts of the topic">
        {TABS.map(([id, name]) => (
          <a key={id} href={href("topics", namespace, topic) + (id && `?tab=${id}`)} aria-current={tab === id ? "page" : undefined}>
            {name}
            {id === "dead" && stats.dead > 0 && <small class="num"> {format.count(stats.dead)}</small>}
          </a>
        ))}
      </nav>
      {tab === "dead" ? (
        <DeadLetters {...names} />
      ) : tab === "charts" ? (
        <Charts {...names} />
      ) : tab === "settings" ? (
        <TopicSettings {...names} />
      ) : (
        <Items {...names} />
      )}
    </>
  );
}

function Title({ namespace, topic, paused }: TopicNames & { paused: boolean }) {
  return (
    <h1>
      <a class="dim" href={href("namespaces", namespace)}>
        {namespace}
      </a>
      <span class="dim">/</span>
      {topic}
      {paused && <span class="badge warn">paused</span>}
    </h1>
  );
}

function Pause({ namespace, topic, paused }: TopicNames & { paused: boolean }) {
  const [problem, setProblem] = useState<Problem | null>(null);
  const params = { params: { path: { ns: namespace, topic } } };
  const change = async (): Promise<void> => {
    try {
      await answer(
        paused
          ? api.POST("/v1/namespaces/{ns}/topics/{topic}/resume", params)
          : api.POST("/v1/namespaces/{ns}/topics/{topic}/pause", params),
      );
      setProblem(null);
    } catch (error) {
      setProblem(refusalOf(error));
    }
  };
  return (
    <>
      <button type="button" onClick={() => void change()}>
        {paused ? "Resume" : "Pause"}
      </button>
      {problem && <ProblemNote problem={problem} />}
    </>
  );
}

function Charts({ namespace, topic }: TopicNames) {
  const read = () => past(keyOf(namespace, topic));
  return (
    <>
      <div class="pair">
        <Chart title="Items per second" lines={RATES} read={read} seconds={SECONDS} />
        <Chart title="Items held" lines={DEPTHS} read={read} seconds={SECONDS} />
      </div>
      <p class="dim">The last hour, as far as this tab was open.</p>
    </>
  );
}
