// The statistics of a made-up report: simpler than those of scheduler/report, and close to them.

const T95 = [0, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];

/** The 97.5 % quantile of Student's t. */
export function quantile(freedom) {
  return T95[freedom] ?? 1.96 + 2.5 / freedom;
}

export const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;

export function deviation(values) {
  const centre = mean(values);
  return Math.sqrt(values.reduce((sum, value) => sum + (value - centre) ** 2, 0) / (values.length - 1));
}

/** Number, mean, standard deviation and 95 % interval of the mean; null without values. */
export function estimate(values) {
  if (values.length === 0) return null;
  const centre = mean(values);
  const sd = values.length < 2 ? null : deviation(values);
  const half = sd ? (quantile(values.length - 1) * sd) / Math.sqrt(values.length) : null;
  return { n: values.length, mean: centre, sd, interval: half === null ? null : [centre - half, centre + half] };
}

/** The p-value of a two-sided t test (Abramowitz & Stegun, 26.7.3 and 26.7.4). */
export function twoSided(t, freedom) {
  const angle = Math.atan(Math.abs(t) / Math.sqrt(freedom));
  const [sine, cosine] = [Math.sin(angle), Math.cos(angle)];
  const odd = freedom % 2 === 1;
  let term = odd ? cosine : 1;
  let sum = freedom === 1 ? 0 : term;
  for (let k = odd ? 3 : 2; k < freedom; k += 2) {
    term *= ((k - 1) / k) * cosine ** 2;
    sum += term;
  }
  return Math.max(0, 1 - (odd ? (2 / Math.PI) * (angle + sine * sum) : sine * sum));
}

/** 95 % Wilson interval of the share `k / n`; null without values. */
export function wilson(k, n) {
  if (n === 0) return null;
  const z = 1.96;
  const centre = (k + z ** 2 / 2) / (n + z ** 2);
  const half = (z / (n + z ** 2)) * Math.sqrt((k * (n - k)) / n + z ** 2 / 4);
  return [Math.max(0, centre - half), Math.min(1, centre + half)];
}

/** The share `k / n` minus another one, with the interval that follows from those of both (Newcombe 1998). */
export function shareDifference([k, n], [otherK, otherN]) {
  const [share, other] = [k / n, otherK / otherN];
  const [[low, high], [otherLow, otherHigh]] = [wilson(k, n), wilson(otherK, otherN)];
  const difference = share - other;
  return {
    difference,
    interval: [
      difference - Math.hypot(share - low, otherHigh - other),
      difference + Math.hypot(high - share, other - otherLow),
    ],
  };
}

/** The expected largest of `k` values drawn without replacement. */
export function expectedBest(values, k) {
  const factors = (n, of) => Array.from({ length: of }, (_, i) => (n - i) / (of - i));
  const choose = (n, of) => (of > n ? 0 : factors(n, of).reduce((a, b) => a * b, 1));
  const sorted = values.toSorted((a, b) => a - b);
  return sorted.reduce((sum, value, i) => sum + (value * choose(i, k - 1)) / choose(sorted.length, k), 0);
}
