/** From the report to the memory table and its chart. */

import { mebibytes } from '../format';
import type { ArmLine } from '../lines';
import type { ArmMemory, ArmSpeed } from '../report';

export interface OpenPeak {
  blocks: number;
  peak: string;
}

export interface MemoryRow {
  arm: string;
  /** MiB; null where the arm's memory was not measured. */
  taken: { state: string; mean: string; peak: string } | null;
  /** Null where every step opened as many blocks. */
  fewest: OpenPeak | null;
  most: OpenPeak | null;
  largest: number | null;
}

export interface MemoryShown {
  rows: MemoryRow[];
  measured: boolean;
  /** Whether some arm's steps differ in open blocks. */
  varies: boolean;
  /** Whether a largest batch was looked for. */
  sought: boolean;
  /** Peak in MiB by open blocks. */
  lines: ArmLine[];
}

/** Undefined where no arm has anything to show. */
export function memoryShown(arms: ArmSpeed[]): MemoryShown | undefined {
  const measured = arms.some((arm) => arm.memory !== null);
  const sought = arms.some((arm) => arm.largest_batch !== null);
  if (!measured && !sought) return undefined;
  const smallest = Math.min(...arms.flatMap((arm) => (arm.memory ? [arm.memory.state_bytes] : [])));
  // Of a model for trying things out, a tenth of a MiB says something.
  const digits = smallest < 100 * 2 ** 20 ? 1 : 0;
  const mib = (value: number) => mebibytes(value, digits);
  const open = (row: ArmMemory['by_open'][number] | undefined) =>
    row ? { blocks: row.open_sublayers / 2, peak: mib(row.peak_bytes) } : null;
  return {
    measured,
    sought,
    varies: arms.some((arm) => (arm.memory?.by_open.length ?? 0) > 1),
    rows: arms.map(({ arm, memory, largest_batch }) => ({
      arm,
      taken: memory && {
        state: mib(memory.state_bytes),
        mean: mib(memory.mean_bytes),
        peak: mib(memory.peak_bytes),
      },
      fewest: memory && memory.by_open.length > 1 ? open(memory.by_open[0]) : null,
      most: open(memory?.by_open.at(-1)),
      largest: largest_batch,
    })),
    lines: arms.flatMap(({ arm, memory }) =>
      memory
        ? [{ arm, points: memory.by_open.map((row) => ({ x: row.open_sublayers / 2, y: row.peak_bytes / 2 ** 20 })) }]
        : [],
    ),
  };
}
