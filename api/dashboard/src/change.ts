/** What the messages of a job's event stream say. */

import type { EventRow, TrialState } from './schema';
import type { SseMessage } from './sse';
import { isEnded } from './trial';

/** True if the report may differ after the message: it rests on trials that have ended, and on nothing else. */
export function changesReport({ event, data }: SseMessage): boolean {
  if (event === 'poll' || event === 'job') return true;
  if (event !== 'trial') return false;
  try {
    const row = JSON.parse(data) as EventRow & { data: { state: TrialState } };
    return isEnded(row.data);
  } catch {
    // Every listener fetches the new state after a message that cannot be read, and so does the report.
    return true;
  }
}
