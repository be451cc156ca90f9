import { type Point, keyOf, past, tick } from "../api/history";
import { type Snapshot, latest } from "../api/live";
import { fullest, useNamespaces } from "../api/namespaces";
import * as format from "../format";
import { LeftOutNote, NoLookNote } from "../parts/Note";
import { Sparkline } from "../parts/Sparkline";
import { href, query, setQuery } from "../router";

type Row = Snapshot["topics"][number] & { quota: ReturnType<typeof fullest> };

interface Column {
  id: string;
  name: string;
  value: (row: Row) => number | string;
  show?: (row: Row) => string;
  /** Left out on narrow screens. */
  wide?: boolean;
}

const COLUMNS: readonly Column[] = [
  { id: "name", name: "Topic", value: (row) => keyOf(row.namespace, row.topic) },
  { id: "ready", name: "Ready", value: ({ stats }) => stats.ready },
  { id: "scheduled", name: "Scheduled", value: ({ stats }) => stats.scheduled, wide: true },
  { id: "leased", name: "Leased", value: ({ stats }) => stats.leased, wide: true },
  { id: "dead", name: "Dead", value: ({ stats }) => stats.dead },
  { id: "in", name: "In/s", value: ({ stats }) => stats.enqueued_per_s, show: ({ stats }) => format.rate(stats.enqueued_per_s) },
  { id: "out", name: "Out/s", value: ({ stats }) => stats.delivered_per_s, show: ({ stats }) => format.rate(stats.delivered_per_s), wide: true },
  { id: "acked", name: "Ack/s", value: ({ stats }) => stats.acked_per_s, show: ({ stats }) => format.rate(stats.acked_per_s), wide: true },
  { id: "oldest", name: "Oldest ready", value: ({ stats }) => stats.oldest_ready_age_ms, show: ({ stats }) => format.duration(stats.oldest_ready_age_ms), wide: true },
  { id: "quota", name: "Quota", value: ({ quota }) => quota?.share ?? 0, show: ({ quota }) => (quota ? format.percent(quota.share) : "–"), wide: true },
];

/** What is drawn of the last minute. */
const SPARKS = [
  ["In", (point: Point) => point.in],
  ["Out", (point: Point) => point.out],
  ["Acked", (point: Point) => point.acked],
] as const;

const SPARK_SECONDS = 60;

/** Numbers largest first, names from a on; a `-` before the column's id turns that round. */
function compare(column: Column, turned: boolean): (a: Row, b: Row) => number {
  const sign = turned ? -1 : 1;
  return (a, b) => {
    const [x, y] = [column.value(a), column.value(b)];
    const order = typeof x === "number" && typeof y === "number" ? y - x : String(x).localeCompare(String(y));
    return sign * order || keyOf(a.namespace, a.topic).localeCompare(keyOf(b.namespace, b.topic));
  };
}

/** Every topic of the token's namespaces. */
export function Topics() {
  void tick.value;
  const filter = query.value.get("q") ?? "";
  const sort = query.value.get("sort") ?? "name";
  const turned = sort.startsWith("-");
  const column = COLUMNS.find(({ id }) => id === sort.replace("-", "")) ?? COLUMNS[0];
  const quotas = new Map(useNamespaces()?.map(({ namespace, quota }) => [namespace, fullest(quota)]));
  const all = (latest.value?.topics ?? []).map((row): Row => ({ ...row, quota: quotas.get(row.namespace) ?? null }));
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = all.filter((row) => words.every((word) => keyOf(row.namespace, row.topic).toLowerCase().includes(word)));
  if (column) rows.sort(compare(column, turned));
  const pick = (id: string): void => setQuery({ sort: sort === id ? `-${id}` : id === "name" ? "" : id });
  return (
    <>
      <div class="head">
        <h1>Topics</h1>
        <input
          type="search"
          placeholder="Filter  /"
          aria-label="Filter topics"
          value={filter}
          onInput={(event) => setQuery({ q: event.currentTarget.value })}
        />
        <span class="dim num" role="status">
          {rows.length === all.length ? format.some(all.length, "topic") : `${format.count(rows.length)} of ${format.some(all.length, "topic")}`}
        </span>
      </div>
      <NoLookNote />
      <LeftOutNote />
      {rows.length === 0 ? (
        <p class="empty">{all.length === 0 ? "There is no topic yet. A topic appears with its first item." : "No topic fits the filter."}</p>
      ) : (
        <table class="list">
          <caption class="hidden">Topics</caption>
          <thead>
            <tr>
              {COLUMNS.map(({ id, name, wide }) => {
                const sorted = column?.id === id;
                const ascending = (id === "name") !== turned;
                return (
                  <th key={id} scope="col" class={cls(id !== "name" && "num", wide && "wide")} aria-sort={sorted ? (ascending ? "ascending" : "descending") : undefined}>
                    <button type="button" onClick={() => pick(id)}>
                      {name}
                    </button>
                  </th>
                );
              })}
              {SPARKS.map(([name]) => (
                <th key={name} scope="col" class="wide apart spark">
                  {name}
                  <span class={name === "In" ? "" : "hidden"}>, last minute</span>
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {rows.map((row) => (
              <TopicRow key={keyOf(row.namespace, row.topic)} row={row} />
            ))}
          </tbody>
        </table>
      )}
    </>
  );
}

const cls = (...names: (string | false | undefined)[]): string => names.filter(Boolean).join(" ");

function TopicRow({ row }: { row: Row }) {
  const key = keyOf(row.namespace, row.topic);
  const points = past(key).slice(-SPARK_SECONDS);
  return (
    <tr>
      <th scope="row">
        <a data-row href={href("topics", row.namespace, row.topic)}>
          <span class="dim">{row.namespace}/</span>
          {row.topic}
        </a>
        {row.paused && <span class="badge warn">paused</span>}
      </th>
      {COLUMNS.slice(1).map((column) => {
        const value = column.value(row);
        const zero = value === 0 ? "zero" : column.id === "dead" && "bad";
        return (
          <td key={column.id} class={cls("num", column.wide && "wide", zero)} title={column.id === "quota" && row.quota ? `${row.namespace} uses ${format.percent(row.quota.share)} ${row.quota.what}` : undefined}>
            {column.show ? column.show(row) : format.count(Number(value))}
          </td>
        );
      })}
      {SPARKS.map(([name, of]) => {
        const values = points.map(of);
        return (
          <td key={name} class="wide apart spark">
            <Sparkline values={values} name={`${name} per second in the last minute, highest ${format.rate(Math.max(0, ...values))}`} />
          </td>
        );
      })}
    </tr>
  );
}
