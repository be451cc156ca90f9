import type { Schema } from "../api/client";
import * as format from "../format";

interface Props {
  own: Schema["Settings"];
  effective: Schema["EffectiveSettings"];
  whose: string;
}

const forever = (ms: number | null | undefined): string => (ms == null ? "no limit" : format.duration(ms));

/** The settings in force, and which of them are this one's own. */
export function Settings({ own, effective, whose }: Props) {
  const { backoff } = effective;
  const rows: [keyof Schema["Settings"], string, string][] = [
    ["priority", "Priority", String(effective.priority)],
    ["lease_ms", "Lease", format.duration(effective.lease_ms)],
    ["max_attempts", "Most attempts", effective.max_attempts === 0 ? "no limit" : String(effective.max_attempts)],
    [
      "backoff",
      "Backoff",
      `${format.duration(backoff.initial_ms ?? 0)} × ${backoff.factor ?? 1}, at most ${format.duration(backoff.cap_ms ?? 0)}`,
    ],
    ["ttl_ms", "Time to live", forever(effective.ttl_ms)],
    ["on_expiry", "On expiry", effective.on_expiry],
    ["dead_retention_ms", "Dead letters kept", forever(effective.dead_retention_ms)],
    ["dedup_window_ms", "Deduplication window", format.duration(effective.dedup_window_ms)],
    ["delivery", "Delivery", effective.delivery.replaceAll("_", " ")],
  ];
  return (
    <table class="plain">
      <caption class="hidden">Settings in force</caption>
      <thead>
        <tr>
          <th scope="col">Setting</th>
          <th scope="col">In force</th>
          <th scope="col">From</th>
        </tr>
      </thead>
      <tbody>
        {rows.map(([key, name, value]) => (
          <tr key={key}>
            <th scope="row">{name}</th>
            <td class="num left">{value}</td>
            <td class="dim">{own[key] === undefined ? "inherited" : whose}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
