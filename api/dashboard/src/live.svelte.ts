/** Data that is fetched again while it may change, and the clock. */

import { asProblem, type ProblemError } from './problem';

/** One answer of the server. The last good answer stays while a newer one is loading, and if that fails. */
export class Resource<T> {
  data = $state.raw<T>();
  error = $state.raw<ProblemError>();
  /** True until the first answer. */
  readonly loading = $derived(this.data === undefined && this.error === undefined);

  #load: (signal: AbortSignal) => Promise<T>;
  #spacing: () => number;
  #controller = new AbortController();
  #busy = false;
  #again = false;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** `spacing`: least number of milliseconds between the end of one load and the start of the next. */
  constructor(load: (signal: AbortSignal) => Promise<T>, spacing: number | (() => number) = 1000) {
    this.#load = load;
    this.#spacing = typeof spacing === 'number' ? () => spacing : spacing;
  }

  /** Loads now; during a load, asks for one more load after it. */
  refresh = (): void => {
    if (this.#controller.signal.aborted) return;
    if (this.#busy) {
      this.#again = true;
      return;
    }
    this.#busy = true;
    void this.#run();
  };

  /** Aborts the current load, if any, and loads now: the request has changed. */
  now = (): void => {
    this.#controller.abort();
    this.#controller = new AbortController();
    clearTimeout(this.#timer);
    this.#busy = this.#again = false;
    this.refresh();
  };

  /** Aborts the current load; the resource never changes again. */
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
      // `now` and `stop` abort a load on purpose: that is no error.
      if (signal.aborted) return;
      this.error = asProblem(error);
    }
    this.#timer = setTimeout(() => {
      this.#busy = false;
      if (!this.#again) return;
      this.#again = false;
      this.refresh();
    }, this.#spacing());
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

/** The current time, renewed once a second, for every "12 s ago" on the page. */
class Clock {
  now = $state.raw(new Date());

  constructor() {
    setInterval(() => (this.now = new Date()), 1000);
  }
}

export const clock = new Clock();
