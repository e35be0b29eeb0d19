import { expect, test } from 'vitest';

import document from '../openapi.json';
import { curlOf, exampleJob, FETCH, missing } from '../src/example';
import { marksOf } from '../src/parts/marks';
import { ProblemError } from '../src/problem';
import type { DatasetView, JobSpec } from '../src/schema';

type Data = Pick<DatasetView, 'name' | 'kind' | 'facts'>;
const corpus = (name: string): Data => ({ name, kind: 'corpus', facts: { kind: 'corpus' } });
const vocabulary = (name: string): Data => ({ name, kind: 'vocabulary', facts: { kind: 'vocabulary', tokens: 9 } });
const glue = (name: string, tasks: string[]): Data => ({
  name,
  kind: 'glue',
  facts: { kind: 'glue', examples: Object.fromEntries(tasks.map((task) => [task, 100])) },
});
const job = (datasets: Data[]) => JSON.parse(exampleJob(datasets)) as JobSpec;

test('the example names what is registered, real data before generated ones', () => {
  const tasks = glue('glue', ['mrpc', 'mnli', 'cola']);
  const found = job([corpus('generated-text'), corpus('books'), vocabulary('uncased'), tasks]);
  expect([found.corpus, found.vocabulary, found.model]).toEqual(['books', 'uncased', 'narrow']);
  expect([found.glue!.dataset, found.glue!.tasks]).toEqual(['glue', ['mrpc', 'cola', 'mnli']]);
});

test('the example names the margins of the API, which cannot be chosen later', () => {
  const { default: margins } = document.components.schemas.Rules.properties.margins;
  expect(job([]).rules).toEqual({ margins });
});

test('with what `lamina data fetch` brings the example names it', () => {
  const found = job([vocabulary('bert-base-uncased'), corpus('wikitext-103'), glue('glue', ['rte', 'mrpc', 'cola'])]);
  expect([found.corpus, found.vocabulary, found.glue!.dataset]).toEqual(['wikitext-103', 'bert-base-uncased', 'glue']);
  expect(FETCH.split('\n')[0]).toBe('lamina data fetch');
});

test('with generated data the example is small', () => {
  const found = job([corpus('generated-text'), vocabulary('generated-words'), glue('generated-glue', ['rte', 'cola'])]);
  expect([found.name, found.pretrain!.steps, found.glue!.tasks]).toEqual(['pld on generated text', 200, ['rte']]);
});

test('without GLUE data the example does not fine-tune', () => {
  expect(job([corpus('books'), vocabulary('uncased')]).glue).toBeUndefined();
});

test('without any data the example names what the commands beside it will make', () => {
  expect(missing([])).toEqual(['corpus', 'vocabulary']);
  expect(missing([corpus('books')])).toEqual(['vocabulary']);
  const found = job([]);
  expect([found.corpus, found.vocabulary, found.glue!.dataset]).toEqual([
    'generated-text',
    'generated-words',
    'generated-glue',
  ]);
});

test('a quote in a name does not end the text that the shell reads', () => {
  expect(curlOf('http://x', exampleJob([corpus("it's"), vocabulary('v')]))).toContain("it'\\''s");
});

const TEXT = '{\n  "name": "x",\n  "arms": [\n    {"name": "a", "norm": "sideways"}\n  ]\n}';
const problem = (over: object) => new ProblemError({ code: 'invalid_job', title: 'Invalid job', ...over });

test('problems stand at their lines, from top to bottom', () => {
  const problems = [
    { pointer: '/arms/0/norm', message: 'norm' },
    { pointer: '/name', message: 'name' },
  ];
  const marks = marksOf(problem({ problems }), TEXT);
  expect(marks.map((mark) => [mark.line, mark.message, TEXT.slice(mark.span.start, mark.span.end)])).toEqual([
    [2, 'name', '"x"'],
    [4, 'norm', '"sideways"'],
  ]);
});

test('text that is no JSON is marked where the server stopped reading', () => {
  const [mark] = marksOf(problem({ detail: 'expected `,` or `}` at line 3 column 3' }), TEXT);
  expect([mark!.line, TEXT.slice(mark!.span.start, mark!.span.end)]).toEqual([3, '"']);
  expect(marksOf(problem({ detail: 'the server is busy' }), TEXT)).toEqual([]);
  expect(marksOf(undefined, TEXT)).toEqual([]);
});
