import { latest } from "../api/live";
import * as format from "../format";
import { href } from "../router";

/** The namespaces the token names, or those that have topics. */
export function Namespaces() {
  const now = latest.value;
  const topics = now?.topics ?? [];
  const names = [...new Set([...(now?.namespaces ?? []), ...topics.map((row) => row.namespace)])].sort();
  return (
    <>
      <h1>Namespaces</h1>
      {names.length === 0 ? (
        <p class="empty">There is no namespace yet. A namespace appears with its first topic.</p>
      ) : (
        <table class="list">
          <caption class="hidden">Namespaces</caption>
          <thead>
            <tr>
              <th scope="col">Namespace</th>
              <th scope="col" class="num">Topics</th>
              <th scope="col" class="num">Ready</th>
              <th scope="col" class="num wide">Leased</th>
              <th scope="col" class="num">Dead</th>
              <th scope="col" class="num wide">In/s</th>
            </tr>
          </thead>
          <tbody>
            {names.map((name) => {
              const own = topics.filter((row) => row.namespace === name);
              const sum = (of: (row: (typeof own)[number]) => number): number => own.reduce((total, row) => total + of(row), 0);
              const dead = sum(({ stats }) => stats.dead);
              return (
                <tr key={name}>
                  <th scope="row">
                    <a data-row href={href("namespaces", name)}>
                      {name}
                    </a>
                  </th>
                  <td class="num">{format.count(own.length)}</td>
                  <td class="num">{format.count(sum(({ stats }) => stats.ready))}</td>
                  <td class="num wide">{format.count(sum(({ stats }) => stats.leased))}</td>
                  <td class={dead > 0 ? "num bad" : "num zero"}>{format.count(dead)}</td>
                  <td class="num wide">{format.rate(sum(({ stats }) => stats.enqueued_per_s))}</td>
                </tr>
              );
            })}
          </tbody>
        </table>
      )}
    </>
  );
}
