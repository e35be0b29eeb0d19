/** The options of uPlot: series, axes, colours. */

import type uPlot from 'uplot';

import { type Drawing, timeUnit, type XAxis } from '../curves';
import { compact, count, metric as number } from '../format';
import { COLOURS, type Look } from '../looks';

/** Up to this many points, each is marked: a line alone would hide how few there are. */
const MARKED = 30;
const FONT = '12px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';

export interface Palette {
  arms: string[];
  ink: string;
  line: string;
}

/** The colours of the style sheet in the current scheme. */
export function palette(root: Element): Palette {
  const style = getComputedStyle(root);
  const colour = (name: string) => style.getPropertyValue(name).trim();
  return {
    arms: Array.from({ length: COLOURS }, (_, i) => colour(`--arm-${i}`)),
    ink: colour('--ink-3'),
    line: colour('--line'),
  };
}

/** One line of the chart. */
export interface Trace {
  arm: string;
  kind: 'seed' | 'mean';
  values: (number | null)[];
}

/** Metrics of single steps, whose noise hides their trend. */
const NOISY = new Set(['train_loss', 'open_blocks', 'gradient_norm', 'step_seconds']);
/** Number of smoothed values that a noisy line has. */
const RESOLVED = 60;

/** Number of points on each side over which the mean of a metric is smoothed; 0 for a metric without noise. */
export function smoothing(metric: string, points: number): number {
  return NOISY.has(metric) ? Math.floor(points / RESOLVED / 2) : 0;
}

/**
 * Lines in drawing order, means above seeds. An arm of one seed has one line, unless its mean is smoothed. Among many
 * arms nobody can see which arm a seed belongs to, so `bare` leaves the seeds out.
 */
export function traces(drawing: Drawing, smoothed: boolean, bare: boolean): Trace[] {
  const seeds = drawing.arms.flatMap(({ arm, seeds }) => {
    if (bare || (seeds.length === 1 && !smoothed)) return [];
    return seeds.map((line): Trace => ({ arm, kind: 'seed', values: line.values }));
  });
  const means = drawing.arms.map(({ arm, seeds, mean }): Trace => {
    return { arm, kind: 'mean', values: seeds.length === 1 && !smoothed ? seeds[0]!.values : mean.values };
  });
  return [...seeds, ...means];
}

/** A key of the series. If it stays equal, the plot needs new data only, and the reader's zoom stays. */
export function shape(lines: Trace[]): string {
  return lines.map((line) => `${line.kind}:${line.arm}`).join('\n');
}

export interface Setting {
  look: (arm: string) => Look;
  shows: (arm: string) => boolean;
  weight: (line: Trace) => Weight;
  areMany: boolean;
  axis: XAxis;
  metric: string;
  xs: number[];
  colours: Palette;
  width: number;
  height: number;
  moved: (index: number | null) => void;
  /** Called with the line at the pointer, or with null. */
  pointed: (line: Trace | null) => void;
}

export interface Weight {
  width: number;
  alpha: number;
}

/** How strongly a line is drawn. `chosen`: the arms that the reader has brought to the front, if any. */
export function weight({ kind, arm }: Trace, chosen: ReadonlySet<string>, areMany: boolean): Weight {
  const width = kind === 'seed' ? 1 : areMany ? 1.5 : 2.25;
  if (chosen.size === 0) return { width, alpha: 1 };
  if (!chosen.has(arm)) return { width, alpha: 0.16 };
  return { width: kind === 'seed' ? 1 : 2.75, alpha: 1 };
}

/** Largest distance in pixels of a line from the pointer that points at it. */
const REACH = 24;

export function options(lines: Trace[], look: Setting): uPlot.Options {
  const unit = timeUnit(look.xs.at(-1) ?? 0);
  const axis: uPlot.Axis = {
    stroke: look.colours.ink,
    font: FONT,
    labelFont: FONT,
    grid: { stroke: look.colours.line, width: 1 },
    ticks: { show: false },
  };
  return {
    width: look.width,
    height: look.height,
    padding: [12, 28, 0, 0],
    legend: { show: false },
    cursor: {
      y: false,
      drag: { x: true, y: false },
      points: { size: 8, width: 2, one: look.areMany },
      focus: { prox: REACH },
    },
    scales: { x: { time: false }, y: { range: range(look) } },
    axes: [
      {
        ...axis,
        grid: { show: false },
        space: 72,
        label: look.axis === 'step' ? 'steps' : `training time, ${unit.name}`,
        labelSize: 22,
        size: 30,
        values: (_, ticks) => ticks.map((tick) => (look.axis === 'step' ? stepText(tick) : tickText(tick / unit.size))),
        // Ticks stand on whole minutes or hours, not on round numbers of seconds.
        ...(look.axis === 'time' ? { incrs: INCREMENTS.map((step) => step * unit.size) } : {}),
      },
      { ...axis, size: 58, gap: 8, values: (_, ticks) => ticks.map((tick) => (tick === null ? '' : tickText(tick))) },
    ],
    series: [{}, ...lines.map((line) => series(line, look))],
    hooks: {
      setCursor: [(plot) => look.moved(plot.cursor.idx ?? null)],
      setSeries: [
        (_, index, change) => {
          if ('focus' in change) look.pointed(index === null ? null : (lines[index - 1] ?? null));
        },
      ],
    },
  };
}

const INCREMENTS = [1e-3, 1e-2, 1e-1, 1, 10, 100, 1000].flatMap((power) => [power, 2 * power, 5 * power]);

function series(line: Trace, look: Setting): uPlot.Series {
  const { colour: number, dash } = look.look(line.arm);
  const colour = look.colours.arms[number]!;
  const known = line.values.reduce<number>((sum, value) => sum + (value === null ? 0 : 1), 0);
  return {
    label: line.arm,
    show: look.shows(line.arm),
    stroke: line.kind === 'mean' ? colour : `${colour}70`,
    ...look.weight(line),
    ...(dash.length > 0 ? { dash: [...dash] } : {}),
    spanGaps: true,
    points: { show: line.kind === 'mean' && known <= MARKED && !look.areMany, size: 5, fill: colour, stroke: colour },
  };
}

/** First share of the x axis. The y axis leaves its losses out: they fall by ten times the differences of interest. */
const FALL = 0.08;
/** That share for many arms, whose differences are smaller. */
const FALL_OF_MANY = 0.3;

function range({ metric, areMany }: Setting): uPlot.Scale.Range {
  if (metric === 'theta') return [0, 1.02];
  if (metric === 'open_blocks') return (_, __, max) => [0, max === null ? 1 : Math.ceil(max * 1.05)];
  return (plot, min, max) => {
    if (min === null || max === null) return [0, 1];
    if (metric.endsWith('_loss')) max = settled(plot, areMany ? FALL_OF_MANY : FALL) ?? max;
    const pad = (max - min) * 0.06 || Math.abs(max) * 0.05 || 1;
    return [min - pad, max + pad];
  };
}

/** The largest visible value after the first fall; undefined if points are few or the fall is not in view. */
function settled(plot: uPlot, fall: number): number | undefined {
  const xs = plot.data[0];
  const [first = 0, last = 0] = [xs[0], xs[xs.length - 1]];
  const from = first + (last - first) * fall;
  // While uPlot sets the scales, only the series know which part of the x axis is in view.
  const [left, right] = plot.series[0]?.idxs ?? [0, 0];
  if (xs.length < 8 || left > 0 || right < xs.length - 1) return undefined;
  const later = plot.data
    .slice(1)
    .flatMap((values, i) =>
      plot.series[i + 1]?.show
        ? Array.from(values).filter((value, at): value is number => value != null && xs[at]! >= from)
        : [],
    );
  return later.length === 0 ? undefined : later.reduce((a, b) => Math.max(a, b));
}

function stepText(step: number): string {
  return step < 1e5 ? count(step) : compact(step);
}

function tickText(value: number): string {
  const rounded = Number(value.toPrecision(6));
  return Math.abs(rounded) >= 1e4 || (rounded !== 0 && Math.abs(rounded) < 1e-3) ? number(rounded) : String(rounded);
}
