/** From the report to the memory table and its charts. */

import { mebibytes } from '../format';
import type { ArmLine } from '../lines';
import type { ArmSpeed, OpenMemory } from '../schema';

/** A number of bytes, and its text in MiB. */
export interface Amount {
  bytes: number;
  text: string;
}

export interface OpenPeak {
  blocks: number;
  peak: string;
}

export interface MemoryRow {
  arm: string;
  /** Null if the arm's memory was not measured. */
  taken: { state: Amount; mean: Amount; peak: Amount } | null;
  /** Null if every step opened the same number of blocks. */
  fewest: OpenPeak | null;
  most: OpenPeak | null;
  largest: number | null;
}

/** MiB by open blocks, one line per arm. */
export interface MemoryChart {
  value: 'peak' | 'mean';
  name: string;
  title: string;
  lines: ArmLine[];
}

export interface MemoryShown {
  rows: MemoryRow[];
  measured: boolean;
  /** True if the steps of some arm differ in open blocks. */
  varies: boolean;
  /** True if the largest batch was looked for. */
  sought: boolean;
  charts: MemoryChart[];
}

/** Undefined if no arm has anything to show. */
export function memoryShown(arms: ArmSpeed[]): MemoryShown | undefined {
  const measured = arms.some((arm) => arm.memory !== null);
  const sought = arms.some((arm) => arm.largest_batch !== null);
  if (!measured && !sought) return undefined;
  const smallest = Math.min(...arms.flatMap((arm) => (arm.memory ? [arm.memory.state_bytes] : [])));
  // In a small model, a tenth of a MiB is a difference worth seeing.
  const digits = smallest < 100 * 2 ** 20 ? 1 : 0;
  const mib = (value: number) => mebibytes(value, digits);
  const amount = (bytes: number): Amount => ({ bytes, text: mib(bytes) });
  const open = (row: OpenMemory | undefined) =>
    row ? { blocks: row.open_sublayers / 2, peak: mib(row.peak_bytes) } : null;
  return {
    measured,
    sought,
    varies: arms.some((arm) => (arm.memory?.by_open.length ?? 0) > 1),
    rows: arms.map(({ arm, memory, largest_batch }) => ({
      arm,
      taken: memory && {
        state: amount(memory.state_bytes),
        mean: amount(memory.mean_bytes),
        peak: amount(memory.peak_bytes),
      },
      fewest: memory && memory.by_open.length > 1 ? open(memory.by_open[0]) : null,
      most: open(memory?.by_open.at(-1)),
      largest: largest_batch,
    })),
    charts: [
      { value: 'peak', name: 'Peak', title: 'Peak, MiB', lines: linesOf(arms, (row) => row.peak_bytes) },
      { value: 'mean', name: 'Mean', title: 'Mean, MiB', lines: linesOf(arms, (row) => row.mean_bytes) },
    ].filter((chart): chart is MemoryChart => chart.lines.length > 0),
  };
}

function linesOf(arms: ArmSpeed[], bytes: (row: OpenMemory) => number | null | undefined): ArmLine[] {
  return arms.flatMap(({ arm, memory }) => {
    const points = (memory?.by_open ?? []).flatMap((row) => {
      const value = bytes(row);
      return value == null ? [] : [{ x: row.open_sublayers / 2, y: value / 2 ** 20 }];
    });
    return points.length === 0 ? [] : [{ arm, points }];
  });
}
