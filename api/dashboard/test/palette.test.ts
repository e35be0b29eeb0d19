/** People with any colour vision can tell the colours of arms and of scores apart, on both backgrounds. */

import { expect, test } from 'vitest';

import css from '../src/app.css?raw';
import { COLOURS } from '../src/looks';
import { HEATS } from '../src/parts/heat';

type Triple = [number, number, number];
type Matrix = [Triple, Triple, Triple];

/** Full dichromacy in linear RGB (Machado, Oliveira, Fernandes 2009, table 1, severity 1.0). */
const VISION: Record<string, Matrix> = {
  usual: [
    [1, 0, 0],
    [0, 1, 0],
    [0, 0, 1],
  ],
  protanopia: [
    [0.152286, 1.052583, -0.204868],
    [0.114503, 0.786281, 0.099216],
    [-0.003882, -0.048116, 1.051998],
  ],
  deuteranopia: [
    [0.367322, 0.860646, -0.227968],
    [0.280085, 0.672501, 0.047413],
    [-0.01182, 0.04294, 0.968881],
  ],
  tritanopia: [
    [1.255528, -0.076749, -0.178779],
    [-0.078411, 0.930809, 0.147602],
    [0.004733, 0.691367, 0.3039],
  ],
};

const [light = '', dark = ''] = css.split('@media (prefers-color-scheme: dark)');

function colour(sheet: string, name: string): Triple {
  const hex = new RegExp(`--${name}: #([0-9a-f]{6});`).exec(sheet)?.[1];
  if (hex === undefined) throw new Error(`no colour --${name}`);
  return [0, 2, 4].map((at) => {
    const value = parseInt(hex.slice(at, at + 2), 16) / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  }) as Triple;
}

function seen(by: Matrix, rgb: Triple): Triple {
  return by.map((row) => Math.min(1, Math.max(0, row[0] * rgb[0] + row[1] * rgb[1] + row[2] * rgb[2]))) as Triple;
}

function luminance([r, g, b]: Triple): number {
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function contrast(a: Triple, b: Triple): number {
  const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y) as [number, number];
  return (high + 0.05) / (low + 0.05);
}

/** CIELAB under D65. */
function lab([r, g, b]: Triple): Triple {
  const f = (t: number) => (t > 216 / 24389 ? Math.cbrt(t) : ((24389 / 27) * t + 16) / 116);
  const x = f((0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.95047);
  const y = f(luminance([r, g, b]));
  const z = f((0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.08883);
  return [116 * y - 16, 500 * (x - y), 200 * (y - z)];
}

const SHEETS = { light, dark };
const ARMS = Array.from({ length: COLOURS }, (_, i) => i);

test.each(Object.entries(SHEETS))('%s: lines have the contrast of graphics, text that of text', (_, sheet) => {
  const surface = colour(sheet, 'surface');
  for (const arm of ARMS)
    expect(contrast(colour(sheet, `arm-${arm}`), surface), `arm ${arm}`).toBeGreaterThanOrEqual(3);
  for (const ink of ['ink', 'ink-2', 'ink-3', 'accent', 'good', 'bad', 'warn']) {
    for (const below of ['surface', 'bg']) {
      expect(contrast(colour(sheet, ink), colour(sheet, below)), `${ink} on ${below}`).toBeGreaterThanOrEqual(4.5);
    }
  }
  expect(contrast(colour(sheet, 'accent-ink'), colour(sheet, 'accent'))).toBeGreaterThanOrEqual(4.5);
});

const SEEN = Object.keys(VISION).flatMap((vision) =>
  Object.entries(SHEETS).map(([name, sheet]) => ({ vision, name, sheet })),
);

function apart(a: Triple, b: Triple): number {
  return Math.hypot(...a.map((value, k) => value - b[k]!));
}

test.each(SEEN)('$name, $vision: no two arms look alike', ({ vision, sheet }) => {
  const labs = ARMS.map((arm) => lab(seen(VISION[vision]!, colour(sheet, `arm-${arm}`))));
  for (const i of ARMS) {
    for (const j of ARMS.slice(0, i)) {
      const distance = apart(labs[i]!, labs[j]!);
      // A difference of 2.3 is just noticeable.
      expect(distance, `arms ${j} and ${i}`).toBeGreaterThan(10);
    }
  }
});

test.each(SEEN)('$name, $vision: a higher score is further from the background, by even steps', ({ vision, sheet }) => {
  const labs = Array.from({ length: HEATS }, (_, i) => lab(seen(VISION[vision]!, colour(sheet, `heat-${i}`))));
  const away = Math.sign(labs.at(-1)![0] - labs[0]![0]);
  expect(away).toBe(sheet === light ? -1 : 1);
  const steps = labs.slice(1).map(([lightness], i) => away * (lightness - labs[i]![0]));
  expect(Math.min(...steps)).toBeGreaterThan(6);
  expect(Math.max(...steps) / Math.min(...steps)).toBeLessThan(3);
  // A cell with the lowest score must differ from an empty cell.
  expect(apart(labs[0]!, lab(seen(VISION[vision]!, colour(sheet, 'surface'))))).toBeGreaterThan(10);
});

test.each(Object.entries(SHEETS))('%s: the cross of a failed run is seen on its cell', (_, sheet) => {
  for (const cell of ['heat-0', 'line'])
    expect(contrast(colour(sheet, 'ink'), colour(sheet, cell)), cell).toBeGreaterThan(7);
});
