/** The rows of a table that can be sorted by its columns, and folded if there are many. */

import { FEW } from './arms.svelte';
import { type Key, next, type Order, sorted } from './sort';

/** Number of rows of a folded table. */
const FOLDED = 8;
/** A table of a few more rows is not folded: the button would take the place of the rows that it hides. */
const SPARED = 2;

export class Rows<Row> {
  order = $state.raw<Order | null>(null);
  isOpen = $state(false);

  readonly all: Row[] = $derived.by(() => {
    const rows = this.#rows();
    const { order } = this;
    return order ? sorted(rows, (row) => this.#keys(row)[order.column] ?? null, order.isFalling) : rows;
  });
  readonly canFold = $derived(this.all.length > FOLDED + SPARED);
  readonly shown = $derived(this.canFold && !this.isOpen ? this.all.slice(0, FOLDED) : this.all);
  /** True if there are so many rows that their order matters. */
  readonly canSort = $derived(this.all.length > FEW);

  #rows: () => Row[];
  #keys: (row: Row) => Record<string, Key>;

  /** `keys`: the values of a row in each column that rows can be sorted by. */
  constructor(rows: () => Row[], keys: (row: Row) => Record<string, Key>) {
    this.#rows = rows;
    this.#keys = keys;
  }

  /** Sorts by a column; a second call turns the order around, a third one ends it. */
  sort = (column: string): void => {
    this.order = next(this.order, column);
  };
}

/** The part of `Rows` that a heading or a button needs, whatever the rows are. */
export type Sortable = { order: Order | null; readonly canSort: boolean; sort(column: string): void };
export type Foldable = { readonly all: unknown[]; readonly canFold: boolean; isOpen: boolean };
