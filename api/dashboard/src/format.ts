/** Numbers and times for people. */

const NUMBER = new Intl.NumberFormat('en-US');
/** Between the digits and a unit: thin enough to read as one word, and it never breaks. */
const GAP = '\u202f';
const NONE = '–';

export function count(value: number): string {
  return NUMBER.format(value);
}

export function plural(value: number, noun: string): string {
  return `${count(value)} ${noun}${value === 1 ? '' : 's'}`;
}

/** 12.3k, 4.56M. */
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

/** 1,234.5 of the unit that heads its column. */
export function mebibytes(value: number, digits: number): string {
  return (value / 2 ** 20).toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** At least `digits` significant digits, never in exponent form, integer digits kept: 0.182, 18.2, 1820. */
export function significant(value: number, digits: number): string {
  if (!Number.isFinite(value)) return NONE;
  if (value === 0) return '0';
  const whole = Math.floor(Math.log10(Math.abs(value))) + 1;
  return value.toFixed(Math.max(0, Math.min(digits - whole, 12)));
}

/** A metric value, whatever its size: 2.314, 0.5, 1.0e-4. */
export function metric(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return NONE;
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2).replace('e+', 'e');
  return significant(value, 4);
}

/** 1e-4, 2.5e-5: as people write a learning rate. */
export function rate(value: number): string {
  return value === 0 ? '0' : value.toExponential().replace('e+', 'e');
}

/** A fraction times 100: the unit of every score. */
export function score(value: number | null | undefined, digits = 1): string {
  return value === null || value === undefined || !Number.isFinite(value) ? NONE : minus((value * 100).toFixed(digits));
}

export function percent(value: number | null | undefined, digits = 0): string {
  return value === null || value === undefined || !Number.isFinite(value)
    ? NONE
    : `${minus((value * 100).toFixed(digits))}${GAP}%`;
}

/** Below 100 % until all of it is done. */
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

/** Two units at most: 840 ms, 12.3 s, 4 min 12 s, 2 h 5 min, 3 d 4 h. */
export function duration(seconds: number): string {
  if (!Number.isFinite(seconds)) return NONE;
  if (seconds > 0 && seconds < 1) return `${significant(seconds * 1e3, 3)}${GAP}ms`;
  // A count of whole seconds claims no more than that.
  if (seconds < 59.95) return `${Number.isInteger(seconds) ? seconds : significant(seconds, 3)}${GAP}s`;
  // Rounded in the smaller unit first: 86,399 s is a day, not 24 h.
  if (Math.round(seconds) < 3600) return pair(Math.round(seconds), 60, 'min', 's');
  if (Math.round(seconds / 60) < 1440) return pair(Math.round(seconds / 60), 60, 'h', 'min');
  return pair(Math.round(seconds / 3600), 24, 'd', 'h');
}

function pair(value: number, size: number, large: string, small: string): string {
  const rest = value % size;
  const head = `${Math.floor(value / size)}${GAP}${large}`;
  return rest === 0 ? head : `${head} ${rest}${GAP}${small}`;
}

/** One unit, from `now`: 12 s ago, in 3 min, just now. */
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

/** A word of the API for people: `non_finite_loss` is "non-finite loss", `sst-2` stays. */
export function words(name: string): string {
  return name.replaceAll('_', ' ').replace(/^non /, 'non-');
}

/** The visible part of a UUID: version 7 ids that were made together differ at their end. */
export function shortId(id: string): string {
  return id.slice(-6);
}
