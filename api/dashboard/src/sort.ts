/** The order and the choice of rows. */

/** What rows are sorted by; rows without a value come last, whichever way the others are sorted. */
export type Key = string | number | null;

export interface Order {
  column: string;
  isFalling: boolean;
}

const TEXT = new Intl.Collator('en', { numeric: true });

/** A sorted copy. Rows with equal keys keep their order. */
export function sorted<Row>(rows: Row[], key: (row: Row) => Key, isFalling: boolean): Row[] {
  const sign = isFalling ? -1 : 1;
  const keyed = rows.map((row) => ({ row, key: key(row) }));
  keyed.sort((a, b) => {
    if (a.key === null || b.key === null) return Number(a.key === null) - Number(b.key === null);
    return sign * (typeof a.key === 'number' && typeof b.key === 'number' ? a.key - b.key : compared(a.key, b.key));
  });
  return keyed.map(({ row }) => row);
}

const compared = (a: Key, b: Key) => TEXT.compare(String(a), String(b));

/** The order after a click on a column: rising, then falling, then that of the rows themselves. */
export function next(order: Order | null, column: string): Order | null {
  if (order?.column !== column) return { column, isFalling: false };
  return order.isFalling ? null : { column, isFalling: true };
}

/** True if `text` contains every word of `search`, in any case and order. */
export function matches(text: string, search: string): boolean {
  const low = text.toLowerCase();
  return search
    .toLowerCase()
    .split(/\s+/)
    .every((word) => low.includes(word));
}
