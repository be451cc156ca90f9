const WIDTH = 96;
const HEIGHT = 20;

/** The shape of the last values; the numbers beside it say how much. */
export function Sparkline({ values, name }: { values: number[]; name: string }) {
  const top = Math.max(...values, 0);
  const step = WIDTH / Math.max(values.length - 1, 1);
  const y = (value: number): number => HEIGHT - 1 - (top > 0 ? (value / top) * (HEIGHT - 2) : 0);
  const line = values.map((value, at) => `${(at * step).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
  return (
    <svg class="spark" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={name} preserveAspectRatio="none">
      <polyline points={line} />
    </svg>
  );
}
