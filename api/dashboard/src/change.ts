/** What the messages of a job's event stream say. */

import type { EventRow, TrialState } from './schema';
import type { SseMessage } from './sse';
import { isEnded } from './trial';

/** True if the report may differ after the message: it rests on trials that have ended, and on nothing else. */
export function changesReport(message: SseMessage): boolean {
  if (message.event === 'poll' || message.event === 'job') return true;
  const state = changeOf(message)?.state;
  return state !== undefined && isEnded({ state });
}

/** The new state of a trial and the time of its change; undefined if the message reports something else. */
export function changeOf({ event, data }: SseMessage): { state: TrialState; at: string } | undefined {
  if (event !== 'trial') return undefined;
  try {
    const row = JSON.parse(data) as EventRow & { data: { state: TrialState } };
    return { state: row.data.state, at: row.at };
  } catch {
    // What cannot be read changes nothing here; the message still reaches the listeners, which fetch the new state.
    return undefined;
  }
}
