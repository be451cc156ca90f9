const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const one = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });

export const count = (value: number): string => whole.format(value);

/** A rate per second; a true zero is not the same as a little. */
export const rate = (value: number): string => (value === 0 ? "0" : value >= 100 ? whole.format(value) : one.format(value));

export function bytes(value: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1_024 && unit < units.length - 1) {
    value /= 1_024;
    unit += 1;
  }
  return `${unit === 0 ? whole.format(value) : one.format(value)} ${units[unit] ?? ""}`;
}

/** A length of time in the unit that fits it. */
export function duration(ms: number): string {
  if (ms <= 0) return "0 s";
  if (ms < 1_000) return `${whole.format(ms)} ms`;
  const s = ms / 1_000;
  if (s < 60) return `${one.format(s)} s`;
  if (s < 3_600) return `${Math.floor(s / 60)} min ${Math.floor(s % 60)} s`;
  if (s < 86_400) return `${Math.floor(s / 3_600)} h ${Math.floor((s % 3_600) / 60)} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3_600)} h`;
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
