import { expect, test } from 'vitest';

import { Arms } from '../src/arms.svelte';
import { looks } from '../src/looks';

const text = (arms: string[]) => new Map([...looks(arms)].map(([arm, look]) => [arm, `${look.colour} ${look.dash}`]));
const many = Array.from({ length: 36 }, (_, i) => `pld theta ${i}`);

test('up to 36 arms of a job all look different, the first six by colour alone', () => {
  expect(new Set(text(many).values()).size).toBe(36);
  const six = looks(many.slice(0, 6));
  expect(new Set([...six.values()].map((look) => look.colour)).size).toBe(6);
  expect([...six.values()].every((look) => look.dash.length === 0)).toBe(true);
  expect(looks(Array.from({ length: 100 }, (_, i) => `arm ${i}`)).size).toBe(100);
});

test('an arm has one colour in every job, if no two arms of a job want the same one', () => {
  const jobs = [['pre-ln', 'pld'], ['post-ln', 'pre-ln', 'pld'], ['pld', 'pre-ln'], ['layerdrop', 'pre-ln', 'pld']];
  expect(new Set(jobs.map((arms) => text(arms).get('pld'))).size).toBe(1);
  expect(new Set(jobs.map((arms) => text(arms).get('pre-ln'))).size).toBe(1);
});

test('the baseline passes every filter, other arms only one whose words they contain', () => {
  const arms = new Arms(['pre-ln', 'pld-cosine', 'pld-step'], 'pre-ln');
  arms.filter = ' Cos pld';
  expect(arms.names.filter((arm) => arms.shows(arm))).toEqual(['pre-ln', 'pld-cosine']);
  arms.filter = '';
  expect(arms.names.every((arm) => arms.shows(arm))).toBe(true);
});
