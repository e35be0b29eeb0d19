/** From the report to the chart and table of blocks: one quantity at a time, one line per arm. */

import { fixed, signed } from '../format';
import type { ArmLine } from '../lines';
import type { BlockMeans, ProbeArm } from '../schema';

export type Quantity = Exclude<keyof BlockMeans, 'block'>;

export interface QuantityShown {
  value: Quantity;
  /** Text of its button. */
  name: string;
  /** Title of the vertical axis. */
  title: string;
  meaning: string;
  text: (value: number | null) => string;
  /** True if the vertical axis includes 0. */
  zero: boolean;
}

const added = (value: number | null) => signed(value, 4);

const QUANTITIES: QuantityShown[] = [
  {
    value: 'removed_adds',
    name: 'Removed',
    title: 'Rise of the validation loss, block removed, nats',
    meaning: 'Rise of the validation loss without the block.',
    text: added,
    zero: true,
  },
  {
    value: 'swapped_adds',
    name: 'Swapped',
    title: 'Rise of the validation loss, block and next swapped, nats',
    meaning: 'Rise of the validation loss when the block and the next one change places.',
    text: added,
    zero: true,
  },
  {
    value: 'cosine',
    name: 'Cosine',
    title: 'Cosine of before and after',
    meaning: 'Cosine between a token’s vector before and after the block, mean over tokens. At 1 its direction stays.',
    text: (value) => fixed(value, 4),
    zero: false,
  },
  {
    value: 'distance',
    name: 'Distance',
    title: 'L2 distance of before and after',
    meaning: 'L2 distance between a token’s vector before and after the block, mean over tokens.',
    text: (value) => fixed(value, 3),
    zero: true,
  },
  {
    value: 'gradient_norm',
    name: 'Gradient',
    title: 'Gradient norm',
    meaning: 'L2 norm of the gradient of the mean loss by the block’s weights.',
    text: (value) => fixed(value, 4),
    zero: true,
  },
];

/** The quantities that have a value: a model of one block has no blocks to swap. */
export function quantities(probes: ProbeArm[]): QuantityShown[] {
  return QUANTITIES.filter(({ value }) => probes.some((arm) => arm.blocks.some((block) => block[value] !== null)));
}

export function blockLines(probes: ProbeArm[], quantity: Quantity): ArmLine[] {
  return probes.map(({ arm, blocks }) => ({
    arm,
    points: blocks.flatMap((block) => {
      const value = block[quantity];
      return value === null ? [] : [{ x: block.block, y: value }];
    }),
  }));
}

/** One row for each block of the deepest arm, with one value per arm: null if the arm has none. */
export function blockRows(probes: ProbeArm[], quantity: Quantity): { block: number; values: (number | null)[] }[] {
  const depth = Math.max(0, ...probes.map((arm) => arm.blocks.length));
  return Array.from({ length: depth }, (_, i) => ({
    block: i + 1,
    values: probes.map((arm) => arm.blocks[i]?.[quantity] ?? null),
  }));
}
