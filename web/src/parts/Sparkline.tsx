const WIDTH = 96;
const HEIGHT = 20;
/** How many values it is wide; fewer of them end where it ends. */
const VALUES = 60;

/** The shape of the last values; the numbers beside it say how much. */
export function Sparkline({ values, name }: { values: number[]; name: string }) {
  const shown = values.slice(-VALUES);
  const top = Math.max(...shown, 0);
  const step = WIDTH / (VALUES - 1);
  const x = (at: number): number => WIDTH - (shown.length - 1 - at) * step;
  const y = (value: number): number => HEIGHT - 1 - (top > 0 ? (value / top) * (HEIGHT - 2) : 0);
  const line = shown.map((value, at) => `${x(at).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
  return (
    <svg class="spark" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={name} preserveAspectRatio="none">
      <line x1={0} x2={WIDTH} y1={HEIGHT - 0.5} y2={HEIGHT - 0.5} />
      <polyline points={line} />
    </svg>
  );
}
