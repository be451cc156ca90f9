const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const one = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });

export const count = (value: number): string => whole.format(value);

/** So many of what has `name` as its singular. */
export const some = (value: number, name: string): string => `${whole.format(value)} ${name}${value === 1 ? "" : "s"}`;

/** A rate per second; a true zero is not the same as a little. */
export const rate = (value: number): string => (value === 0 ? "0" : value >= 100 ? whole.format(value) : one.format(value));

/** A share of a whole; what there is a little of is not nothing. */
export const percent = (share: number): string => (share > 0 && share < 0.01 ? "< 1 %" : `${whole.format(share * 100)} %`);

export function bytes(value: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1_024 && unit < units.length - 1) {
    value /= 1_024;
    unit += 1;
  }
  return `${unit === 0 ? whole.format(value) : one.format(value)} ${units[unit] ?? ""}`;
}

/** `s` seconds in a large unit and what is left in the next; nothing of that when nothing is left. */
function pair(s: number, large: number, name: string, small: number, rest: string): string {
  const left = Math.floor((s % large) / small);
  return `${Math.floor(s / large)} ${name}${left === 0 ? "" : ` ${left} ${rest}`}`;
}

/** A length of time in the unit that fits it. */
export function duration(ms: number): string {
  if (ms <= 0) return "0 s";
  if (ms < 1_000) return `${whole.format(ms)} ms`;
  const s = ms / 1_000;
  if (s < 60) return `${Number.isInteger(s) ? s : one.format(s)} s`;
  if (s < 3_600) return pair(s, 60, "min", 1, "s");
  if (s < 86_400) return pair(s, 3_600, "h", 60, "min");
  return pair(s, 86_400, "d", 3_600, "h");
}

/** A bucket's upper bound: the value was at most this. */
export function within(us: number): string {
  if (us === Number.POSITIVE_INFINITY) return "> 30 s";
  if (us < 1_000) return `≤ ${us} µs`;
  return us < 1_000_000 ? `≤ ${us / 1_000} ms` : `≤ ${us / 1_000_000} s`;
}

/** The moment in the reader's own time, to the second. */
export function moment(text: string): string {
  const date = new Date(text);
  const pad = (value: number): string => String(value).padStart(2, "0");
  const day = `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
  return `${day} ${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`;
}
