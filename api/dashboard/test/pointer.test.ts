import { expect, test } from 'vitest';

import { locate } from '../src/pointer';

const TEXT = `{
  "name": "a \\" } ] name",
  "pretrain": {"steps": 0, "a/b~c": [true, null]},
  "arms": [{"name": "x"}, {"name": "y", "layer_drop": {"theta_limit": 2e0}}]
}`;

function found(pointer: string, text = TEXT): string | undefined {
  const span = locate(text, pointer);
  return span && text.slice(span.start, span.end);
}

test.each([
  ['/pretrain/steps', '0'],
  ['/arms/1/layer_drop/theta_limit', '2e0'],
  ['/arms/1/name', '"y"'],
  ['/name', '"a \\" } ] name"'],
  ['/pretrain/a~1b~0c/1', 'null'],
  ['/arms/0', '{"name": "x"}'],
  ['', TEXT],
])('%s is found', (pointer, text) => {
  expect(found(pointer)).toBe(text);
});

test('a missing value is located by the object that should contain it', () => {
  expect(found('/arms/0/norm')).toBe('{"name": "x"}');
  expect(found('/arms/7')).toBe('[{"name": "x"}, {"name": "y", "layer_drop": {"theta_limit": 2e0}}]');
});

test('in text that is no JSON, the best place before the error is found', () => {
  expect(found('/a', '{"a": 1, oops')).toBe('1');
  expect(found('/a', 'oops!')).toBeUndefined();
});
