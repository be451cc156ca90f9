import { useState } from "preact/hooks";
import { answer, api, type Schema } from "../api/client";
import { tick } from "../api/history";
import { has, latest } from "../api/live";
import * as format from "../format";
import { useAction, useLoad } from "../load";
import { Confirm } from "../parts/Confirm";
import { NavLink } from "../parts/NavLink";
import { ProblemNote } from "../parts/Note";
import { href, query, setQuery } from "../router";
import { Audit } from "./Audit";
import { MoveSlots } from "./MoveSlots";
import { ShardTable } from "./Shards";

const LOOK_EVERY_S = 3;
const TABS = [
  ["", "Nodes, shards, configuration"],
  ["audit", "Audit log"],
] as const;

/** What the node runs on. */
export function Node() {
  const opens = has("admin") && latest.value?.node !== undefined;
  const tab = query.value.get("tab") ?? "";
  return (
    <>
      <h1>Node</h1>
      {opens ? (
        <>
          <nav class="tabs" aria-label="Parts of the node">
            {TABS.map(([id, name]) => (
              <NavLink key={id} to={href("node") + (id && `?tab=${id}`)} current={tab === id}>
                {name}
              </NavLink>
            ))}
          </nav>
          {tab === "audit" ? <Audit /> : <Opened />}
        </>
      ) : (
        <p class="empty">Nodes, shards, the configuration and what was changed anywhere are for tokens with the scope admin that open every namespace.</p>
      )}
    </>
  );
}

/** The cluster it is in, its shards, and its configuration. */
function Opened() {
  const [moves, setMoves] = useState(false);
  const turn = String(Math.floor(tick.value / LOOK_EVERY_S));
  const nodes = useLoad("nodes", () => answer(api.GET("/v1/nodes")), turn);
  const shards = useLoad("shards", () => answer(api.GET("/v1/shards")), turn);
  const config = useLoad("config", () => answer(api.GET("/v1/config")), turn);
  return (
    <>
      <section>
        <h2>Nodes</h2>
        {nodes.problem && <ProblemNote problem={nodes.problem} />}
        {nodes.data && <NodeTable nodes={nodes.data.nodes} again={nodes.again} />}
      </section>
      <section aria-label="Shards">
        <div class="bar">
          <h2>Shards</h2>
          <span class="grow" />
          {has("admin") && shards.data && shards.data.shards.length > 1 && (
            <button type="button" onClick={() => setMoves(true)}>
              Move slots …
            </button>
          )}
        </div>
        {shards.problem && <ProblemNote problem={shards.problem} />}
        {shards.data && <ShardTable shards={shards.data.shards} />}
        {shards.data?.moves.map((move) => (
          <p key={`${move.from}-${move.to}`} class="note">
            {format.some(move.slots, "slot")} {move.slots === 1 ? "moves" : "move"} from shard {move.from} to shard {move.to}: {move.state.replaceAll("_", " ")}.
          </p>
        ))}
        {shards.data?.waits_for && <p class="note">The moves wait for {shards.data.waits_for}.</p>}
      </section>
      {moves && shards.data && (
        <MoveSlots
          shards={shards.data.shards}
          onDone={() => {
            setMoves(false);
            shards.again();
          }}
          onClose={() => setMoves(false)}
        />
      )}
      {config.problem && <ProblemNote problem={config.problem} />}
      {config.data && <Configuration configuration={config.data} again={config.again} />}
    </>
  );
}

const STATES: Record<Schema["NodeState"], string> = { running: "good", stopped: "dim", missing: "bad" };

function NodeTable({ nodes, again }: { nodes: Schema["ClusterNode"][]; again: () => void }) {
  const [lost, setLost] = useState<number | null>(null);
  return (
    <>
      <table class="list">
        <caption class="hidden">Nodes</caption>
        <thead>
          <tr>
            <th scope="col">Node</th>
            <th scope="col">State</th>
            <th scope="col">Address</th>
            <th scope="col" class="wide">Version</th>
            <th scope="col" class="wide">Since</th>
            <th scope="col" class="num">Silent for</th>
          </tr>
        </thead>
        <tbody>
          {nodes.map((node) => (
            <tr key={node.node}>
              <th scope="row">
                {node.node}
                {node.this && <span class="badge">this one</span>}
              </th>
              <td class="wrap">
                <span class={`state ${STATES[node.state]}`}>
                  <i aria-hidden="true" /> {node.state}
                </span>{" "}
                {has("admin") && node.state === "missing" && (
                  <button type="button" class="danger" onClick={() => setLost(node.node)}>
                    Forget …
                  </button>
                )}
              </td>
              <td class="wrap">{node.address}</td>
              <td class="wide">{node.version}</td>
              <td class="num left wide">{format.moment(node.started_at)}</td>
              <td class="num">{format.duration(node.silent_ms)}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {lost !== null && (
        <Confirm
          title={`Forget node ${lost}`}
          verb="Forget"
          danger
          work={() => answer(api.DELETE("/v1/nodes/{node}", { params: { path: { node: String(lost) } } }))}
          onDone={() => {
            setLost(null);
            again();
          }}
          onClose={() => setLost(null)}
        >
          Only for a node that never comes back: the items that only its log has are lost, and nobody waits for them any more.
        </Confirm>
      )}
    </>
  );
}

/** How the last reload of the configuration went. */
export function LastReload({ reloads }: { reloads: Schema["Reloads"] }) {
  const { last } = reloads;
  return (
    <>
      <p>
        Read <span class="num">{format.moment(reloads.loaded_at)}</span>.{" "}
        {last ? (
          <>
            The last reload, asked for by a {last.trigger} at <span class="num">{format.moment(last.at)}</span>,{" "}
            <span class={`badge ${last.ok ? "good" : "bad"}`}>{last.ok ? "was taken over" : "was refused"}</span>
            {last.ok && last.changed.length > 0 && <> {last.changed.join(", ")}</>}
          </>
        ) : (
          <span class="dim">It was not reloaded since the start.</span>
        )}
      </p>
      {last && !last.ok && (
        <div class="note bad">
          {last.faults.map((fault) => (
            <p key={`${fault.key}${fault.detail}`}>
              {fault.key && <code>{fault.key}</code>} {fault.detail}
            </p>
          ))}
        </div>
      )}
      {reloads.restart_needed.length > 0 && <p class="note">Changed, and in force after a restart: {reloads.restart_needed.join(", ")}</p>}
    </>
  );
}

function Configuration({ configuration, again }: { configuration: Schema["Configuration"]; again: () => void }) {
  const { busy, problem, run } = useAction();
  const filter = query.value.get("q") ?? "";
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  // Most keys have their defaults: who looks for one of them filters, or asks for all.
  const all = query.value.get("keys") === "all";
  const shown = configuration.entries.filter((entry) => all || words.length > 0 || entry.source !== "default");
  const entries = shown.filter((entry) => words.every((word) => `${entry.key} ${entry.source}`.toLowerCase().includes(word)));
  const reload = (): void => void run(() => answer(api.POST("/v1/config/reload")), again);
  return (
    <section aria-label="Configuration">
      <div class="bar">
        <h2>Configuration</h2>
        <div role="group" aria-label="Keys" class="choice">
          {(["set", "all"] as const).map((id) => (
            <button key={id} type="button" aria-pressed={all === (id === "all")} onClick={() => setQuery({ keys: id === "all" ? id : "" })}>
              {id === "all" ? "All" : "What was set"}
            </button>
          ))}
        </div>
        <input type="search" class="short" placeholder="Filter  /" aria-label="Filter keys" value={filter} onInput={(event) => setQuery({ q: event.currentTarget.value })} />
        <span class="grow" />
        {has("admin") && (
          <button type="button" disabled={busy} onClick={reload}>
            Reload
          </button>
        )}
      </div>
      {problem && <ProblemNote problem={problem} />}
      <LastReload reloads={configuration.reloads} />
      <table class="list">
        <caption class="hidden">Configuration in force</caption>
        <thead>
          <tr>
            <th scope="col">Key</th>
            <th scope="col">Value</th>
            <th scope="col" class="wide">From</th>
            <th scope="col" class="wide">Changes</th>
          </tr>
        </thead>
        <tbody>
          {entries.map((entry) => (
            <tr key={entry.key}>
              <th scope="row" class="mono">
                {entry.key.split(/(?<=[._])/).map((part) => (
                  <>
                    {part}
                    <wbr />
                  </>
                ))}
              </th>
              <td class="mono wrap">{entry.value || <span class="dim">–</span>}</td>
              <td class={entry.source === "default" ? "wide dim" : "wide"}>{entry.source}</td>
              <td class="wide dim">{entry.reloadable ? "while running" : "at a restart"}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}
