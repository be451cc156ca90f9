import type { ComponentChildren } from "preact";

/** One number with its name. */
export function Tile({ name, value, more, bad = false }: { name: string; value: string; more?: ComponentChildren; bad?: boolean }) {
  return (
    <div class="tile">
      <dt>{name}</dt>
      <dd class={bad ? "bad" : ""}>
        {value}
        {more && <small>{more}</small>}
      </dd>
    </div>
  );
}
