/**
 * Server-sent events over fetch: `EventSource` cannot send an Authorization header.
 * Format: https://html.spec.whatwg.org/multipage/server-sent-events.html
 */

export interface SseMessage {
  event: string;
  data: string;
}

/** Turns a stream of text, which may be cut at any character, into messages. */
export class SseParser {
  /** The id of the last *complete* event; after a broken connection it is sent as Last-Event-ID. */
  lastEventId: string;
  /** Milliseconds to wait before the next connection; undefined if the server has not set it. */
  retry: number | undefined;

  #rest = '';
  #afterReturn = false;
  #first = true;
  #id: string;
  #event = '';
  #data: string[] = [];

  constructor(lastEventId = '') {
    this.lastEventId = this.#id = lastEventId;
  }

  push(text: string): SseMessage[] {
    if (this.#first && text !== '') {
      this.#first = false;
      if (text.startsWith('\uFEFF')) text = text.slice(1);
    }
    // A line that ended with "\r" at the end of the last piece may have its "\n" at the start of this one.
    if (this.#afterReturn && text.startsWith('\n')) text = text.slice(1);
    if (text !== '') this.#afterReturn = text.endsWith('\r');

    const lines = (this.#rest + text).split(/\r\n|\r|\n/);
    this.#rest = lines.pop() ?? '';
    return lines.flatMap((line) => this.#line(line) ?? []);
  }

  #line(line: string): SseMessage | undefined {
    if (line === '') return this.#dispatch();
    const colon = line.indexOf(':');
    if (colon === 0) return;
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (field === 'event') this.#event = value;
    else if (field === 'data') this.#data.push(value);
    else if (field === 'id' && !value.includes('\0')) this.#id = value;
    else if (field === 'retry' && /^\d+$/.test(value)) this.retry = Number(value);
  }

  #dispatch(): SseMessage | undefined {
    const message = { event: this.#event || 'message', data: this.#data.join('\n') };
    const empty = this.#data.length === 0;
    this.lastEventId = this.#id;
    this.#event = '';
    this.#data = [];
    return empty ? undefined : message;
  }
}

export interface Follow {
  /** Opens the stream; rejects when it cannot be opened. */
  open(headers: Record<string, string>, signal: AbortSignal): Promise<ReadableStream<Uint8Array>>;
  message(message: SseMessage): void;
  /** Called with true when messages start to arrive, and with false when they stop: the caller then polls. */
  connected(connected: boolean): void;
  /** Waits between two connections; tests replace it. */
  wait?(milliseconds: number, signal: AbortSignal): Promise<void>;
}

const FIRST_WAIT = 1_000;
const LONGEST_WAIT = 30_000;

/** Reads a stream until `signal` aborts. After each end it opens the stream again with the id of the last event. */
export async function follow(stream: Follow, signal: AbortSignal): Promise<void> {
  const wait = stream.wait ?? sleep;
  let lastEventId = '';
  let failures = 0;
  while (!signal.aborted) {
    const parser = new SseParser(lastEventId);
    try {
      const headers: Record<string, string> = { Accept: 'text/event-stream' };
      if (lastEventId) headers['Last-Event-ID'] = lastEventId;
      const body = await stream.open(headers, signal);
      stream.connected(true);
      const reader = body.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>).getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        for (const message of parser.push(value)) {
          failures = 0;
          stream.message(message);
        }
        lastEventId = parser.lastEventId;
      }
    } catch {
      // A stream is expected to break: `connected(false)` reports it below, and the next round opens the stream again.
    }
    if (signal.aborted) return;
    stream.connected(false);
    await wait(parser.retry ?? Math.min(FIRST_WAIT * 2 ** failures++, LONGEST_WAIT), signal);
  }
}

function sleep(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener('abort', () => (clearTimeout(timer), resolve()), { once: true });
  });
}
