import { effect } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { type Point, tick } from "../api/history";
import { theme } from "../theme";

export interface Line {
  name: string;
  /** A custom property of the style sheet. */
  colour: string;
  value: (point: Point) => number;
  show: (value: number) => string;
}

interface Props {
  title: string;
  lines: readonly Line[];
  read: () => readonly Point[];
  /** How long the axis is at most, in seconds. */
  seconds: number;
}

const HEIGHT = 168;
const SECONDS_MIN = 60;
const systemDark = matchMedia("(prefers-color-scheme: dark)");

function options(element: HTMLElement, lines: readonly Line[]): uPlot.Options {
  const style = getComputedStyle(element);
  const colour = (name: string): string => style.getPropertyValue(name).trim();
  const axis = {
    stroke: colour("--dim"),
    font: "11px system-ui, sans-serif",
    grid: { stroke: colour("--line"), width: 1 },
    ticks: { show: false },
  };
  return {
    width: Math.max(element.clientWidth, 200),
    height: HEIGHT,
    padding: [8, 24, 0, 0],
    cursor: { y: false, drag: { x: false, y: false } },
    legend: { live: true },
    scales: { y: { range: (_, __, max) => [0, max > 0 ? max * 1.08 : 1] } },
    axes: [
      { ...axis, size: 28, values: "{HH}:{mm}:{ss}", space: 72 },
      { ...axis, size: 52, space: 32, values: (_, ticks) => ticks.map((value) => compact.format(value)) },
    ],
    series: [
      { label: "time", value: (_, value: number | null) => (value == null ? "–" : clock(value)) },
      ...lines.map(
        (line): uPlot.Series => ({
          label: line.name,
          stroke: colour(line.colour),
          width: 1.5,
          points: { show: false },
          value: (_, value: number | null) => (value == null ? "–" : line.show(value)),
        }),
      ),
    ],
  };
}

/** The time of day, in the reader's own time. */
const clock = (at: number): string => new Date(at * 1_000).toTimeString().slice(0, 8);

const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 2 });

/** Lines over time, to now; the legend has the values under the pointer, or the last ones. */
export function Chart({ title, lines, read, seconds }: Props) {
  const holder = useRef<HTMLDivElement>(null);
  const source = useRef(read);
  source.current = read;
  useEffect(() => {
    const element = holder.current;
    if (!element) return undefined;
    let plot: uPlot | null = null;
    const data = (): uPlot.AlignedData => {
      const points = source.current();
      return [points.map((point) => point.at), ...lines.map((line) => points.map(line.value))];
    };
    const draw = (): void => {
      if (!plot) return;
      const points = data();
      const now = points[0].at(-1) ?? Date.now() / 1_000;
      // A chart that just began is wide enough to read, and grows to its full length.
      const span = Math.min(seconds, Math.max(SECONDS_MIN, now - (points[0][0] ?? now)));
      plot.batch(() => {
        plot?.setData(points, false);
        plot?.setScale("x", { min: now - span, max: now });
      });
      const { left = -1, top = -1 } = plot.cursor;
      // The lines move on below a pointer that rests.
      if (left >= 0) plot.setCursor({ left, top });
      else if (points[0].length > 0) plot.setLegend({ idx: points[0].length - 1 });
    };
    const make = (): void => {
      plot?.destroy();
      plot = new uPlot(options(element, lines), data(), element);
      draw();
    };
    make();
    const endTicks = effect(() => {
      void tick.value;
      draw();
    });
    const endTheme = effect(() => {
      void theme.value;
      make();
    });
    systemDark.addEventListener("change", make);
    const sizes = new ResizeObserver(() => plot?.setSize({ width: Math.max(element.clientWidth, 200), height: HEIGHT }));
    sizes.observe(element);
    return () => {
      endTicks();
      endTheme();
      systemDark.removeEventListener("change", make);
      sizes.disconnect();
      plot?.destroy();
    };
  }, [lines, seconds]);
  return (
    <figure class="chart">
      <figcaption>{title}</figcaption>
      <div ref={holder} />
    </figure>
  );
}
