/** The events of one job, passed on to every component that shows a part of the job. */

import { api } from './client';
import { poll } from './live.svelte';
import { follow, type SseMessage } from './sse';

/** Milliseconds between two fetches while no stream reports changes. */
const POLL = 5_000;

/** The message that stands for everything that may have happened while no stream reported it. */
const POLLED: SseMessage = { event: 'poll', data: '' };

/**
 * A message says that something changed; it does not carry the new state, which listeners fetch. A lost message, a
 * reconnection and a poll are therefore handled in the same way, and the page cannot keep a wrong state.
 */
export class Feed {
  /** True while the stream is connected; otherwise the feed polls. */
  live = $state(false);
  ended = $state(false);

  #listeners = new Set<(message: SseMessage) => void>();
  #controller: AbortController | undefined;

  /** Follows `job` until `end`, or until the caller calls the returned function. */
  start(job: string): () => void {
    const controller = (this.#controller = new AbortController());
    const { signal } = controller;
    const stopPolling = poll(() => this.live || this.ended || this.#notify(POLLED), POLL);
    void follow(
      {
        open: (headers, abort) => api.events(job, headers, abort),
        message: (message) => this.#notify(message),
        connected: (connected) => {
          if (this.ended) return controller.abort();
          // Events between the last fetch and this connection were missed: fetch once.
          if (connected && !this.live) this.#notify(POLLED);
          this.live = connected;
        },
      },
      signal,
    );
    return () => (controller.abort(), stopPolling());
  }

  /** The job has ended: nothing will change any more. */
  end(): void {
    if (this.ended) return;
    this.ended = true;
    this.live = false;
    this.#controller?.abort();
    this.#notify(POLLED);
  }

  /** Calls `listener` with each message until the caller calls the returned function. */
  on(listener: (message: SseMessage) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #notify(message: SseMessage): void {
    for (const listener of this.#listeners) listener(message);
  }
}
