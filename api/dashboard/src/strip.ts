/** Geometry of a strip plot, without drawing: components draw it as SVG. */

export interface Scale {
  (value: number): number;
  domain: [number, number];
  ticks: number[];
}

/** A linear scale from values to pixels. The ends of its domain are round numbers that enclose all `values`. */
export function scaleOver(values: number[], range: [number, number], wantedTicks = 5): Scale {
  const finite = values.filter(Number.isFinite);
  let low = finite.length > 0 ? Math.min(...finite) : 0;
  let high = finite.length > 0 ? Math.max(...finite) : 1;
  if (low === high) {
    const pad = Math.abs(low) * 0.05 || 0.05;
    low -= pad;
    high += pad;
  }
  const step = niceStep((high - low) / Math.max(wantedTicks - 1, 1));
  const first = Math.floor(low / step + 1e-9);
  const last = Math.ceil(high / step - 1e-9);
  const domain: [number, number] = [first * step, last * step];
  // 3 * 0.1 is 0.30000000000000004: each tick is rounded to the digits of the step.
  const digits = Math.max(0, -Math.floor(Math.log10(step)) + 1);
  const ticks = Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toFixed(digits)));
  const scale = (value: number) => range[0] + ((value - domain[0]) / (domain[1] - domain[0])) * (range[1] - range[0]);
  return Object.assign(scale, { domain, ticks });
}

/** The smallest of 1, 2, 2.5, 5 times a power of ten that is at least `raw`. */
function niceStep(raw: number): number {
  const power = 10 ** Math.floor(Math.log10(raw));
  const factor = [1, 2, 2.5, 5, 10].find((f) => f * power >= raw * (1 - 1e-9)) ?? 10;
  return factor * power;
}

/**
 * Vertical offsets from the middle line of a row, one per x, so that dots of `radius` with equal or near x do not hide
 * each other: each dot takes the free place nearest to the middle. If they need more than `halfHeight`, all offsets
 * shrink by the same factor, so that the dots overlap evenly.
 */
export function swarm(xs: number[], radius: number, halfHeight: number): number[] {
  const gap = 2 * radius;
  const order = xs.map((_, i) => i).sort((a, b) => xs[a]! - xs[b]! || a - b);
  const ys = new Array<number>(xs.length).fill(0);
  const placed: number[] = [];
  for (const i of order) {
    const near = placed.filter((j) => xs[i]! - xs[j]! < gap);
    const taken = near.map((j) => ({ y: ys[j]!, reach: Math.sqrt(Math.max(0, gap ** 2 - (xs[i]! - xs[j]!) ** 2)) }));
    const candidates = [0, ...taken.flatMap(({ y, reach }) => [y + reach, y - reach])];
    candidates.sort((a, b) => Math.abs(a) - Math.abs(b) || b - a);
    ys[i] = candidates.find((y) => taken.every((t) => Math.abs(y - t.y) >= t.reach - 1e-9)) ?? 0;
    placed.push(i);
  }
  const tallest = Math.max(0, ...ys.map(Math.abs));
  const room = Math.max(0, halfHeight - radius);
  const shrink = tallest > room ? room / tallest : 1;
  return ys.map((y) => y * shrink);
}
