/** Numbers and times as text for readers. */

const NUMBER = new Intl.NumberFormat('en-US');
/** Narrow no-break space between the digits and the unit. */
const GAP = '\u202f';
const NONE = '–';

export function count(value: number): string {
  return NUMBER.format(value);
}

export function plural(value: number, noun: string): string {
  return `${count(value)} ${noun}${value === 1 ? '' : 's'}`;
}

/** Three digits and a suffix: 12.3 k, 4.56 M. */
export function compact(value: number): string {
  for (const [size, suffix] of [
    [1e12, 'T'],
    [1e9, 'G'],
    [1e6, 'M'],
    [1e3, 'k'],
  ] as const) {
    if (Math.abs(value) >= size) return `${significant(value / size, 3)}${GAP}${suffix}`;
  }
  return significant(value, 3);
}

export function bytes(value: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  const power = Math.min(Math.floor(Math.log2(Math.max(value, 1)) / 10), units.length - 1);
  return `${significant(value / 1024 ** power, 3)}${GAP}${units[power]}`;
}

/** Bytes as MiB without the unit, such as 1,234.5: the column names the unit. */
export function mebibytes(value: number, digits: number): string {
  return (value / 2 ** 20).toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** Keeps `digits` significant digits and all digits before the point, without an exponent: 0.182, 18.2, 1820. */
export function significant(value: number, digits: number): string {
  if (!Number.isFinite(value)) return NONE;
  if (value === 0) return '0';
  const whole = Math.floor(Math.log10(Math.abs(value))) + 1;
  return value.toFixed(Math.max(0, Math.min(digits - whole, 12)));
}

/** A metric value of any size: 2.314, 0.5000, 1.00e-4. */
export function metric(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return NONE;
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2).replace('e+', 'e');
  return significant(value, 4);
}

/** A learning rate as people write it: 1e-4, 2.5e-5. */
export function rate(value: number): string {
  return value === 0 ? '0' : value.toExponential().replace('e+', 'e');
}

/** A score, which is a fraction, times 100. */
export function score(value: number | null | undefined, digits = 1): string {
  return value === null || value === undefined || !Number.isFinite(value) ? NONE : minus((value * 100).toFixed(digits));
}

export function percent(value: number | null | undefined, digits = 0): string {
  return value === null || value === undefined || !Number.isFinite(value)
    ? NONE
    : `${minus((value * 100).toFixed(digits))}${GAP}%`;
}

/** A share of work in percent; it reads 100 % only when all work is done. */
export function progress(value: number): string {
  return percent(value >= 1 ? 1 : Math.min(Math.floor(value * 100) / 100, 0.99));
}

export function fixed(value: number | null | undefined, digits: number): string {
  return value === null || value === undefined || !Number.isFinite(value) ? NONE : minus(value.toFixed(digits));
}

export function signed(value: number | null | undefined, digits: number): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return NONE;
  const text = fixed(value, digits);
  return value > 0 && Number(text) !== 0 ? `+${text}` : text;
}

function minus(text: string): string {
  return text.startsWith('-') ? (Number(text) === 0 ? text.slice(1) : `\u2212${text.slice(1)}`) : text;
}

/** A duration in at most two units: 840 ms, 12.3 s, 4 min 12 s, 2 h 5 min, 3 d 4 h. */
export function duration(seconds: number): string {
  if (!Number.isFinite(seconds)) return NONE;
  if (seconds > 0 && seconds < 1) return `${significant(seconds * 1e3, 3)}${GAP}ms`;
  // Whole seconds are shown without decimals, which would claim more precision than there is.
  if (seconds < 59.95) return `${Number.isInteger(seconds) ? seconds : significant(seconds, 3)}${GAP}s`;
  // The smaller unit is rounded before the larger one is chosen: 86,399 s is 1 d, not 24 h.
  if (Math.round(seconds) < 3600) return pair(Math.round(seconds), 60, 'min', 's');
  if (Math.round(seconds / 60) < 1440) return pair(Math.round(seconds / 60), 60, 'h', 'min');
  return pair(Math.round(seconds / 3600), 24, 'd', 'h');
}

function pair(value: number, size: number, large: string, small: string): string {
  const rest = value % size;
  const head = `${Math.floor(value / size)}${GAP}${large}`;
  return rest === 0 ? head : `${head} ${rest}${GAP}${small}`;
}

/** The distance from `now` in one unit: 12 s ago, in 3 min, just now. */
export function relative(at: Date, now: Date): string {
  const seconds = (at.getTime() - now.getTime()) / 1e3;
  const size = Math.abs(seconds);
  if (size < 2) return 'just now';
  const [value, unit] =
    size < 60
      ? [size, 's']
      : size < 3600
        ? [size / 60, 'min']
        : size < 86_400
          ? [size / 3600, 'h']
          : [size / 86_400, 'd'];
  const text = `${Math.floor(value)}${GAP}${unit}`;
  return seconds < 0 ? `${text} ago` : `in ${text}`;
}

const ABSOLUTE = new Intl.DateTimeFormat('en-GB', {
  year: 'numeric',
  month: 'short',
  day: 'numeric',
  hour: '2-digit',
  minute: '2-digit',
  second: '2-digit',
  timeZoneName: 'short',
});

export function absolute(at: Date): string {
  return ABSOLUTE.format(at);
}

/** A name of the API in words: `non_finite_loss` becomes "non-finite loss", `sst-2` stays. */
export function words(name: string): string {
  return name.replaceAll('_', ' ').replace(/^non /, 'non-');
}

/** The end of a UUID: ids of version 7 that were made together differ only there. */
export function shortId(id: string): string {
  return id.slice(-6);
}
