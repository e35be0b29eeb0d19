/** What happens in a job, told to whoever shows a part of it. */

import { api } from './client';
import { poll } from './live.svelte';
import { follow, type SseMessage } from './sse';

/** How often everything is asked for anew while no stream tells of changes. */
const POLL = 5_000;

/**
 * A message says that something changed, not what is true now: listeners fetch that. So a lost message, a reconnection
 * and a poll are all the same case, and nothing can drift.
 */
export class Feed {
  /** Whether changes arrive by themselves; while they do not, the feed polls. */
  live = $state(false);
  ended = $state(false);

  #listeners = new Set<(message: SseMessage) => void>();
  #controller: AbortController | undefined;

  /** Follows `job` until the answer is called, or until `end`. */
  start(job: string): () => void {
    const controller = (this.#controller = new AbortController());
    const { signal } = controller;
    const stopPolling = poll(() => this.live || this.ended || this.#tell({ event: 'poll', data: '' }), POLL);
    void follow(
      {
        open: (headers, abort) => api.events(job, headers, abort),
        message: (message) => this.#tell(message),
        connected: (connected) => {
          // What happened between the first fetch, or the break, and now was not told.
          if (connected && !this.live) this.#tell({ event: 'poll', data: '' });
          this.live = connected;
        },
      },
      signal,
    );
    return () => (controller.abort(), stopPolling());
  }

  /** The job is over: nothing will change any more. */
  end(): void {
    if (this.ended) return;
    this.ended = true;
    this.live = false;
    this.#controller?.abort();
    this.#tell({ event: 'poll', data: '' });
  }

  /** Calls `listener` with each message; the answer ends that. */
  on(listener: (message: SseMessage) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #tell(message: SseMessage): void {
    for (const listener of this.#listeners) listener(message);
  }
}
