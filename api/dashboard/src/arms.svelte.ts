/** The arms of a job as its pages show them: their looks, and which of them the reader has asked for. */

import { COLOURS, type Look, looks } from './looks';
import { matches } from './sort';

/** Stands in for an arm that the job does not name, such as that of a timing trial, which runs all arms. */
const UNNAMED: Look = { colour: 0, dash: [] };

/** Up to this many arms a page shows everything about each of them; more can be filtered, sorted and folded. */
export const FEW = 6;

export class Arms {
  readonly names: string[];
  readonly baseline: string | undefined;
  readonly areMany: boolean;
  /** True if looks differ in dashes too, so that a legend has to show lines. */
  readonly areDashed: boolean;
  /** Words that the names of shown arms contain. */
  filter = $state('');
  /** The arm that the reader points at, which charts bring to the front. */
  pointed = $state<string | null>(null);

  #looks: Map<string, Look>;

  constructor(names: string[], baseline?: string) {
    this.names = names;
    this.baseline = baseline;
    this.areMany = names.length > FEW;
    this.areDashed = names.length > COLOURS;
    this.#looks = looks(names);
  }

  look(arm: string): Look {
    return this.#looks.get(arm) ?? UNNAMED;
  }

  /** The place of an arm in the job. */
  place(arm: string): number {
    return this.names.indexOf(arm);
  }

  /** True if the filter leaves the arm. It always leaves the baseline, with which the others are compared. */
  shows(arm: string): boolean {
    return arm === this.baseline || matches(arm, this.filter);
  }
}
