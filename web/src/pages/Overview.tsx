import { pastOfAll, recentLatency, tick } from "../api/history";
import { type Snapshot, latest, looks } from "../api/live";
import * as format from "../format";
import { Chart, type Line } from "../parts/Chart";
import { LeftOutNote, NoLookNote } from "../parts/Note";
import { Tile } from "../parts/Tile";
import { LastReload } from "./Node";
import { ShardTable } from "./Shards";

const SECONDS = 300;
const readAll = () => pastOfAll(SECONDS);

export const RATES: readonly Line[] = [
  { name: "in", colour: "--c1", value: (point) => point.in, show: format.rate },
  { name: "out", colour: "--c2", value: (point) => point.out, show: format.rate },
  { name: "acked", colour: "--c3", value: (point) => point.acked, show: format.rate },
];
export const DEPTHS: readonly Line[] = [
  { name: "ready", colour: "--c1", value: (point) => point.ready, show: format.count },
  { name: "scheduled", colour: "--c2", value: (point) => point.scheduled, show: format.count },
  { name: "leased", colour: "--c3", value: (point) => point.leased, show: format.count },
  { name: "dead", colour: "--c4", value: (point) => point.dead, show: format.count },
];

/** The node at a glance. */
export function Overview() {
  const now = latest.value;
  if (!now) return null;
  return (
    <>
      <h1>Overview</h1>
      <NoLookNote />
      {looks.value && <Items now={now} />}
      <div class="pair">
        <Health now={now} />
        {now.node && <Latencies now={now.node} />}
      </div>
      {now.node && (
        <section>
          <h2>Shards</h2>
          <ShardTable shards={now.node.shards} />
        </section>
      )}
      {now.node && <Log node={now.node} />}
      {now.node && (
        <section>
          <h2>Configuration</h2>
          <LastReload reloads={now.node.config} />
        </section>
      )}
    </>
  );
}

/** What all topics have and do together. */
function Items({ now }: { now: Snapshot }) {
  const sum = (of: (stats: Snapshot["topics"][number]["stats"]) => number): number =>
    now.topics.reduce((total, { stats }) => total + of(stats), 0);
  const dead = sum((stats) => stats.dead);
  const oldest = Math.max(0, ...now.topics.map(({ stats }) => stats.oldest_ready_age_ms));
  return (
    <>
      <dl class="tiles">
        <Tile name="In" value={format.rate(sum((s) => s.enqueued_per_s))} more="/s" />
        <Tile name="Out" value={format.rate(sum((s) => s.delivered_per_s))} more="/s" />
        <Tile name="Acked" value={format.rate(sum((s) => s.acked_per_s))} more="/s" />
        <Tile name="Ready" value={format.count(sum((s) => s.ready))} />
        <Tile name="Scheduled" value={format.count(sum((s) => s.scheduled))} />
        <Tile name="Leased" value={format.count(sum((s) => s.leased))} />
        <Tile name="Dead" value={format.count(dead)} bad={dead > 0} />
        <Tile name="Oldest ready" value={format.duration(oldest)} />
      </dl>
      <LeftOutNote />
      <div class="pair">
        <Chart title="Items per second" lines={RATES} read={readAll} seconds={SECONDS} />
        <Chart title="Items held" lines={DEPTHS} read={readAll} seconds={SECONDS} />
      </div>
    </>
  );
}

function Health({ now }: { now: Snapshot }) {
  return (
    <section>
      <h2>
        Health <span class={`badge ${now.ready ? "good" : "bad"}`}>{now.ready ? "accepting items" : "not ready"}</span>
      </h2>
      <table class="plain">
        <caption class="hidden">Parts of the node</caption>
        <thead>
          <tr>
            <th scope="col">Part</th>
            <th scope="col">State</th>
            <th scope="col">Detail</th>
          </tr>
        </thead>
        <tbody>
          {now.parts.map((part) => (
            <tr key={part.part}>
              <th scope="row">{part.part}</th>
              <td>
                <span class={`state ${part.ok ? "good" : "bad"}`}>
                  <i aria-hidden="true" /> {part.ok ? "well" : "ill"}
                </span>
              </td>
              <td class="dim wrap">{readable(part.detail)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

/** The node tells bytes and moments as programs do; people read larger units, and their own time. */
const readable = (detail: string): string =>
  detail
    .replace(/(\d+) of (\d+) bytes/, (_, used: string, max: string) => `${format.bytes(Number(used))} of ${format.bytes(Number(max))}`)
    .replaceAll(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, format.moment);

const ROUTES = [
  ["enqueue", "Enqueue"],
  ["dequeue", "Dequeue, waiting included"],
  ["settle", "Settle"],
  ["namespaces", "Looking and changing"],
] as const;

function Latencies({ now }: { now: NonNullable<Snapshot["node"]> }) {
  void tick.value;
  void now;
  return (
    <section>
      <h2>Latency, last minute</h2>
      <table class="plain">
        <caption class="hidden">Latency by route over the last minute</caption>
        <thead>
          <tr>
            <th scope="col">Requests</th>
            <th scope="col" class="num">
              Count
            </th>
            <th scope="col" class="num">
              p50
            </th>
            <th scope="col" class="num">
              p99
            </th>
          </tr>
        </thead>
        <tbody>
          {ROUTES.map(([route, name]) => {
            const latency = recentLatency(route);
            const some = latency && latency.count > 0;
            return (
              <tr key={route}>
                <th scope="row">{name}</th>
                <td class="num">{format.count(latency?.count ?? 0)}</td>
                <td class="num">{some ? format.within(latency.p50Us) : "–"}</td>
                <td class="num">{some ? format.within(latency.p99Us) : "–"}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </section>
  );
}

function Log({ node }: { node: NonNullable<Snapshot["node"]> }) {
  const sync = node.log_syncs > 0 ? node.log_sync_us / node.log_syncs / 1_000 : 0;
  return (
    <section>
      <h2>Log</h2>
      <dl class="tiles">
        <Tile name="Size" value={format.bytes(node.log_bytes)} />
        <Tile name="Segments" value={format.count(node.log_segments)} />
        <Tile name="Waiting for the disk" value={format.bytes(node.log_pending_bytes)} />
        <Tile name="Not yet in a shard" value={format.count(node.flush_lag_records)} more={node.flush_lag_records === 1 ? "record" : "records"} />
        <Tile name="Written since start" value={format.bytes(node.log_written_bytes)} />
        <Tile name="Syncs since start" value={format.count(node.log_syncs)} />
        <Tile name="Mean sync" value={sync.toFixed(2)} more="ms" />
      </dl>
    </section>
  );
}
