import { useState } from "preact/hooks";
import { answer, api, refusalOf, type Problem, type Schema } from "../api/client";
import { joined, keyOf, past, pointsOf, tick } from "../api/history";
import { has, latest } from "../api/live";
import * as format from "../format";
import { useLoad } from "../load";
import { Chart } from "../parts/Chart";
import { NavLink } from "../parts/NavLink";
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

/** What the parts of a topic's page are given. */
export interface TopicPart extends TopicNames {
  stats: Schema["TopicStats"];
}

type Asked = "send" | "purge" | "delete";

/** One topic: its numbers, its items, and what may be done with it. */
export function Topic({ namespace, topic }: TopicNames) {
  const names = { namespace, topic };
  const [open, setOpen] = useState<Asked | null>(null);
  const close = (): void => setOpen(null);
  const now = latest.value;
  const row = now?.topics.find((entry) => entry.namespace === namespace && entry.topic === topic);
  return (
    <>
      {row ? (
        <Known {...row} ask={setOpen} />
      ) : now && now.topics_left_out > 0 ? (
        <LeftOut {...names} ask={setOpen} />
      ) : (
        <Unknown {...names} ask={setOpen} />
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

const LEFT_OUT_EVERY_S = 2;

/** A topic beyond those that the stream carries: it is asked for. */
function LeftOut({ namespace, topic, ask }: TopicNames & Asks) {
  const { data, problem } = useLoad(
    `${namespace}/${topic}`,
    () => answer(api.GET("/v1/namespaces/{ns}/topics/{topic}", { params: { path: { ns: namespace, topic } } })),
    String(Math.floor(tick.value / LEFT_OUT_EVERY_S)),
  );
  if (data) return <Known {...data} namespace={namespace} ask={ask} />;
  if (problem && problem.status !== 404) return <ProblemNote problem={problem} />;
  return problem ? <Unknown namespace={namespace} topic={topic} ask={ask} /> : null;
}

function Unknown({ ask, ...names }: TopicNames & Asks) {
  return (
    <>
      <Title {...names} paused={false} />
      <p class="empty">The topic has no items and no settings, or the token does not open it.</p>
      {has("enqueue") && (
        <div class="bar">
          <Send ask={ask} />
        </div>
      )}
    </>
  );
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
          <NavLink key={id} to={href("topics", namespace, topic) + (id && `?tab=${id}`)} current={tab === id}>
            {name}
            {id === "dead" && stats.dead > 0 && <small class="num"> {format.count(stats.dead)}</small>}
          </NavLink>
        ))}
      </nav>
      {tab === "dead" ? (
        <DeadLetters {...names} stats={stats} />
      ) : tab === "charts" ? (
        <Charts {...names} />
      ) : tab === "settings" ? (
        <TopicSettings {...names} />
      ) : (
        <Items {...names} stats={stats} />
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

const HISTORY_EVERY_S = 10;

function Charts({ namespace, topic }: TopicNames) {
  // What the tab saw itself is finer; the stream carries the first 1,000 topics, and of others all comes from here.
  const { data, problem } = useLoad(
    keyOf(namespace, topic),
    () => answer(api.GET("/v1/namespaces/{ns}/topics/{topic}/history", { params: { path: { ns: namespace, topic } } })),
    String(Math.floor(tick.value / HISTORY_EVERY_S)),
  );
  const older = data ? pointsOf(data) : [];
  const read = () => joined(older, past(keyOf(namespace, topic)));
  const begins = read()[0]?.at;
  return (
    <>
      {problem && <ProblemNote problem={problem} />}
      <div class="pair">
        <Chart title="Items per second" lines={RATES} read={read} seconds={SECONDS} />
        <Chart title="Items held" lines={DEPTHS} read={read} seconds={SECONDS} />
      </div>
      <p class="dim">
        {begins === undefined ? "Nothing is known yet: the node remembers an hour, a moment every ten seconds." : `Since ${format.moment(new Date(begins * 1_000).toISOString())}, as far as this node remembers: an hour at most, a moment every ten seconds, and every second since this tab was opened.`}
      </p>
    </>
  );
}
