/** Geometry of a chart with few points per arm, such as one for each block: components draw it as SVG. */

export interface Point {
  x: number;
  y: number;
}

export interface ArmLine {
  arm: string;
  /** Sorted by ascending x. */
  points: Point[];
}

/** Whole numbers from `first` to `last` as ticks of an axis of `width` pixels, at least `gap` pixels apart. */
export function wholeTicks(first: number, last: number, width: number, gap: number): number[] {
  const room = Math.max(1, Math.floor(width / gap));
  const step = [1, 2, 3, 4, 5, 6, 10, 20, 50, 100].find((step) => (last - first) / step <= room) ?? last - first;
  const [low, high] = [Math.ceil(first), Math.floor(last)];
  return Array.from({ length: Math.max(0, high - low + 1) }, (_, i) => low + i).filter((tick) => tick % step === 0);
}

/** Every x at which a line has a point, ascending. */
export function places(lines: ArmLine[]): number[] {
  return [...new Set(lines.flatMap((line) => line.points.map((point) => point.x)))].sort((a, b) => a - b);
}

/** The number in `xs` that is nearest to `x`. */
export function nearest(xs: number[], x: number): number | undefined {
  return xs.reduce<number | undefined>(
    (best, one) => (best === undefined || Math.abs(one - x) < Math.abs(best - x) ? one : best),
    undefined,
  );
}

/** Up to this many points move aside for one another. */
const MOST_ASIDE = 6;

/**
 * The same points in pixels. An arm with one point has no line beside which its point could be seen, so this point
 * moves sideways, no further than needed, until it covers no other point. Of many such points the last ones would
 * stand far from where they belong, so then they stay.
 */
export function laid(
  lines: ArmLine[],
  x: (value: number) => number,
  y: (value: number) => number,
  radius: number,
): Point[][] {
  const out = lines.map((line) => line.points.map((point) => ({ x: x(point.x), y: y(point.y) })));
  const lone = out.filter((points) => points.length === 1).flat();
  const placed = out.filter((points) => points.length > 1).flat();
  if (lone.length > MOST_ASIDE) return out;
  for (const point of lone) {
    const middle = point.x;
    const free = () => placed.every((other) => Math.hypot(other.x - point.x, other.y - point.y) >= 2 * radius - 1e-9);
    // It tries right and left in turn, each time one step further.
    for (let i = 1; !free(); i++) point.x = middle + 2 * radius * Math.ceil(i / 2) * (i % 2 === 1 ? 1 : -1);
    placed.push(point);
  }
  return out;
}
