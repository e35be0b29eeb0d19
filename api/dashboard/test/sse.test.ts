import { expect, test } from 'vitest';

import { follow, SseParser, type SseMessage } from '../src/sse';

const STREAM = [
  ': a comment, as proxies like it\n',
  'event: started\nid: 1\ndata: {"step":0}\n\n',
  'data: two\ndata:lines\r\n\r\n',
  'event: nothing\r\r',
  'id: 3\rdata\r\rdata: späße – 漢字\n\n',
  'retry: 250\nevent: cut off\nid: 4\ndata: never ends',
].join('');

const WANTED: SseMessage[] = [
  { event: 'started', data: '{"step":0}' },
  { event: 'message', data: 'two\nlines' },
  { event: 'message', data: '' },
  { event: 'message', data: 'späße – 漢字' },
];

function parse(pieces: string[]) {
  const parser = new SseParser();
  return { messages: pieces.flatMap((piece) => parser.push(piece)), parser };
}

test('a stream in one piece gives its complete messages', () => {
  const { messages, parser } = parse([`\uFEFF${STREAM}`]);
  expect(messages).toEqual(WANTED);
  expect(parser.retry).toBe(250);
});

test('the id of an incomplete event is not taken: the event would be skipped after the reconnection', () => {
  expect(parse([STREAM]).parser.lastEventId).toBe('3');
});

test('a stream gives the same messages wherever it is cut', () => {
  for (let i = 0; i <= STREAM.length; i++) {
    expect(parse([STREAM.slice(0, i), STREAM.slice(i)]).messages, `cut at ${i}`).toEqual(WANTED);
  }
  expect(parse([...STREAM]).messages).toEqual(WANTED);
  expect(parse([...STREAM].flatMap((char) => [char, ''])).messages).toEqual(WANTED);
});

test('follow reconnects with the id of the last event, after the wait that the server has set', async () => {
  const controller = new AbortController();
  const asked: (string | undefined)[] = [];
  const waits: number[] = [];
  const connected: boolean[] = [];
  const messages: string[] = [];
  const bodies = ['id: 7\ndata: a\n\n', null, 'retry: 5\ndata: b\n\n'];
  await follow(
    {
      open: async (headers) => {
        asked.push(headers['Last-Event-ID']);
        const body = bodies[asked.length - 1];
        if (!body) throw new Error('refused');
        return new Blob([body]).stream();
      },
      message: (message) => void messages.push(message.data),
      connected: (now) => void connected.push(now),
      wait: async (milliseconds) => {
        waits.push(milliseconds);
        if (waits.length === 3) controller.abort();
      },
    },
    controller.signal,
  );
  expect(messages).toEqual(['a', 'b']);
  expect(asked).toEqual([undefined, '7', '7']);
  expect(connected).toEqual([true, false, false, true, false]);
  expect(waits).toEqual([1000, 2000, 5]);
});
