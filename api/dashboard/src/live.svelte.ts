/** Data that is fetched, kept, and fetched again while it may change. */

import { asProblem, type Problem } from './problem';

/** One thing on the server. Keeps showing what it has while a newer picture is on its way, and when that fails. */
export class Resource<T> {
  data = $state.raw<T>();
  error = $state.raw<Problem>();
  /** True until the first answer. */
  readonly loading = $derived(this.data === undefined && this.error === undefined);

  #load: (signal: AbortSignal) => Promise<T>;
  #spacing: number;
  #controller = new AbortController();
  #busy = false;
  #again = false;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** `spacing`: milliseconds between the end of one load and the start of the next, however often it is asked for. */
  constructor(load: (signal: AbortSignal) => Promise<T>, spacing = 1000) {
    this.#load = load;
    this.#spacing = spacing;
  }

  /** Loads now, or once more after the load that is under way. */
  refresh = (): void => {
    if (this.#controller.signal.aborted) return;
    if (this.#busy) {
      this.#again = true;
      return;
    }
    this.#busy = true;
    void this.#run();
  };

  /** Gives up the load that is under way: what is wanted has changed. */
  now = (): void => {
    this.#controller.abort();
    this.#controller = new AbortController();
    clearTimeout(this.#timer);
    this.#busy = this.#again = false;
    this.refresh();
  };

  /** Ends for good; nothing is written after it. */
  stop = (): void => {
    this.#controller.abort();
    clearTimeout(this.#timer);
  };

  async #run(): Promise<void> {
    const { signal } = this.#controller;
    try {
      const data = await this.#load(signal);
      if (signal.aborted) return;
      this.data = data;
      this.error = undefined;
    } catch (error) {
      // Aborting is how `now` and `stop` end a load; its failure is the wanted one.
      if (signal.aborted) return;
      this.error = asProblem(error);
    }
    this.#timer = setTimeout(() => {
      this.#busy = false;
      if (!this.#again) return;
      this.#again = false;
      this.refresh();
    }, this.#spacing);
  }
}

/** Calls `tick` every `milliseconds` while the page is visible, and at once when it becomes visible again. */
export function poll(tick: () => void, milliseconds: number): () => void {
  const timer = setInterval(() => document.hidden || tick(), milliseconds);
  const shown = () => document.hidden || tick();
  document.addEventListener('visibilitychange', shown);
  return () => {
    clearInterval(timer);
    document.removeEventListener('visibilitychange', shown);
  };
}

/** The time, once a second, for every "12 s ago" on the page. */
class Clock {
  now = $state.raw(new Date());

  constructor() {
    setInterval(() => (this.now = new Date()), 1000);
  }
}

export const clock = new Clock();
