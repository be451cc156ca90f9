import { type Namespace, useNamespaces } from "../api/namespaces";
import { type Snapshot, latest, looks } from "../api/live";
import * as format from "../format";
import { LeftOutNote, NoLookNote } from "../parts/Note";
import { href } from "../router";

type Topic = Snapshot["topics"][number];

/** The namespaces the token names, and those that have topics or settings. */
export function Namespaces() {
  const now = latest.value;
  const topics = now?.topics ?? [];
  const known = new Map(useNamespaces()?.map((entry) => [entry.namespace, entry]));
  const names = [...new Set([...(now?.namespaces ?? []), ...known.keys(), ...topics.map((row) => row.namespace)])].sort();
  return (
    <>
      <h1>Namespaces</h1>
      <NoLookNote />
      <LeftOutNote />
      {names.length === 0 ? (
        <p class="empty">There is no namespace yet. A namespace appears with its first topic.</p>
      ) : (
        <table class="list">
          <caption class="hidden">Namespaces</caption>
          <thead>
            <tr>
              <th scope="col">Namespace</th>
              {looks.value && (
                <>
                  <th scope="col" class="num">Topics</th>
                  <th scope="col" class="num">Ready</th>
                  <th scope="col" class="num wide">Leased</th>
                  <th scope="col" class="num">Dead</th>
                  <th scope="col" class="num wide">In/s</th>
                  <th scope="col" class="num wide">Stored</th>
                  <th scope="col" class="num wide">With consumers</th>
                  <th scope="col" class="num wide">Left of the rate</th>
                </>
              )}
            </tr>
          </thead>
          <tbody>
            {names.map((name) => (
              <Row key={name} name={name} topics={topics.filter((row) => row.namespace === name)} known={known.get(name)} />
            ))}
          </tbody>
        </table>
      )}
    </>
  );
}

function Row({ name, topics, known }: { name: string; topics: Topic[]; known: Namespace | undefined }) {
  const sum = (of: (row: Topic) => number): number => topics.reduce((total, row) => total + of(row), 0);
  const dead = sum(({ stats }) => stats.dead);
  const quota = known?.quota;
  return (
    <tr>
      <th scope="row">
        <a data-row href={href("namespaces", name)}>
          {name}
        </a>
      </th>
      {looks.value && (
        <>
          <td class="num">{format.count(known?.topics ?? topics.length)}</td>
          <td class="num">{format.count(sum(({ stats }) => stats.ready))}</td>
          <td class="num wide">{format.count(sum(({ stats }) => stats.leased))}</td>
          <td class={dead > 0 ? "num bad" : "num zero"}>{format.count(dead)}</td>
          <td class="num wide">{format.rate(sum(({ stats }) => stats.enqueued_per_s))}</td>
          <Used used={quota?.stored_bytes} most={quota?.stored_bytes_max} show={format.bytes} />
          <Used used={quota?.leases} most={quota?.leases_max} show={format.count} />
          {quota?.limited ? (
            <td class={quota.remaining === 0 ? "num wide bad" : "num wide"}>
              {format.count(quota.remaining ?? 0)} <span class="dim">of {format.count(quota.burst ?? 0)}</span>
            </td>
          ) : (
            <td class="num wide zero">{quota ? "not limited" : "–"}</td>
          )}
        </>
      )}
    </tr>
  );
}

/** What of a limit is used, and the limit where there is one. */
function Used({ used, most, show }: { used: number | undefined; most: number | undefined; show: (value: number) => string }) {
  if (used === undefined) return <td class="num wide zero">–</td>;
  const isFull = most !== undefined && most > 0 && used >= most;
  return (
    <td class={isFull ? "num wide bad" : "num wide"}>
      {show(used)}
      {most ? <span class="dim"> of {show(most)}</span> : null}
    </td>
  );
}
