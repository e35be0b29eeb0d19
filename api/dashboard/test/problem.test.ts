import { expect, test } from 'vitest';

import { asProblem, ProblemError, problemOf, unreachable } from '../src/problem';

const DETAILS = {
  type: 'urn:lamina:problem:invalid_job',
  title: 'Invalid job',
  status: 422,
  detail: '2 things are wrong with this job',
  code: 'invalid_job',
  problems: [
    { pointer: '/pretrain/steps', message: '0 steps: at least 1' },
    { pointer: '/baseline', message: 'no arm is named x' },
  ],
};

test('the server’s problem keeps its code, its sentence and every pointer', () => {
  const problem = problemOf(422, 'application/problem+json', JSON.stringify(DETAILS));
  expect(problem).toMatchObject({ code: 'invalid_job', title: 'Invalid job', status: 422, message: DETAILS.detail });
  expect(problem.fields).toEqual(DETAILS.problems);
});

test.each([
  ['a proxy’s page', 502, 'text/html', '<h1>Bad gateway</h1>', '<h1>Bad gateway</h1>'],
  ['JSON that broke off', 500, 'application/problem+json', '{"code":', '{"code":'],
  ['JSON of another kind', 500, 'application/json', '[1]', '[1]'],
  ['nothing', 503, null, '', 'Its answer was empty.'],
])('%s is still a problem that says what came', (_, status, type, body, message) => {
  expect(problemOf(status, type, body)).toMatchObject({ code: 'unexpected_answer', status, message, fields: [] });
});

test('every thrown value becomes a problem', () => {
  const known = new ProblemError({ code: 'conflict', title: 'Conflict' });
  expect(asProblem(known)).toBe(known);
  expect(known.message).toBe('Conflict');
  expect(asProblem(new TypeError('x is undefined'))).toMatchObject({ code: 'dashboard', message: 'x is undefined' });
  expect(unreachable(new TypeError('Failed to fetch'))).toMatchObject({
    code: 'unreachable',
    status: 0,
    message: 'Failed to fetch',
  });
});
