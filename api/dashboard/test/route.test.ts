import { expect, test } from 'vitest';

import { links, PAGES, parseRoute } from '../src/route';
import { addresses } from './addresses.mjs';

test('every link leads to its page', () => {
  expect(parseRoute(links.jobs())).toMatchObject({ page: 'jobs' });
  expect(parseRoute(links.job('a/b'))).toMatchObject({ page: 'job', id: 'a/b', tab: 'overview' });
  expect(parseRoute(links.job('1', 'spec'))).toMatchObject({ page: 'job', id: '1', tab: 'spec' });
  expect(parseRoute(links.trial('1'))).toEqual({ page: 'trial', id: '1' });
  expect(parseRoute(links.nodes())).toEqual({ page: 'nodes' });
  expect(parseRoute(links.submit())).toEqual({ page: 'submit' });
});

test('the browser examines every page', () => {
  const examined = addresses('1', '1').map((hash) => parseRoute(hash).page);
  for (const page of PAGES) expect(examined).toContain(page);
});

test('a filter in a link is in the parsed route', () => {
  const link = links.trials('1', { stage: 'finetune', arm: 'a&b=c', state: '' });
  const route = parseRoute(link);
  expect(route).toMatchObject({ page: 'job', tab: 'trials' });
  expect('query' in route && [...route.query]).toEqual([
    ['stage', 'finetune'],
    ['arm', 'a&b=c'],
  ]);
});

test.each(['#/jobs/1/nothing', '#/jobs/1/trials/2', '#/elsewhere', '#/trials', '#/jobs/%E0'])(
  '%s leads to a page without an error',
  (hash) => {
    expect(['unknown', 'job']).toContain(parseRoute(hash).page);
  },
);

test('an empty hash leads to the list of jobs', () => {
  expect(['', '#', '#/'].map((hash) => parseRoute(hash).page)).toEqual(['jobs', 'jobs', 'jobs']);
});
