// Tests of the built dashboard (`npm run build`) in Chromium. They use the mock or, with LAMINA_URL and LAMINA_TOKEN, a
// real server that has at least one job. Without Chromium they are skipped; CHROMIUM gives the path of another binary.

import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { after, before, describe, it } from 'node:test';

import { chromium } from 'playwright-core';

import { serve } from '../dev/mock.mjs';
import { addresses } from './addresses.mjs';

const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
const REAL = process.env.LAMINA_URL?.replace(/\/$/, '');
const TOKEN = process.env.LAMINA_TOKEN ?? 'demo';
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const ARGS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];
/** Longest time of a wait, in milliseconds. */
const PATIENCE = 15_000;

const skip = existsSync(CHROMIUM) ? false : `there is no Chromium at ${CHROMIUM}`;
const mockOnly = skip || (REAL ? 'needs the mock’s data' : false);

describe('dashboard', { skip, timeout: 180_000 }, () => {
  let browser, server, base;

  before(async () => {
    if (!REAL) server = await serve();
    base = REAL ?? `http://127.0.0.1:${server.address().port}`;
    browser = await chromium.launch({ executablePath: CHROMIUM, args: ARGS });
  });

  after(async () => {
    await browser?.close();
    server?.closeAllConnections();
    server?.close();
  });

  /** A fresh browser profile; `faults` collects what the browser complains about. */
  async function open(hash, { token, scheme = 'light', width = 1280, at = base } = {}) {
    const context = await browser.newContext({ colorScheme: scheme, viewport: { width, height: 800 } });
    const page = await context.newPage();
    page.setDefaultTimeout(PATIENCE);
    const faults = [];
    page.on('console', (message) => ['error', 'warning'].includes(message.type()) && faults.push(message.text()));
    page.on('pageerror', (error) => faults.push(String(error)));
    await page.addInitScript((given) => {
      if (given) sessionStorage.setItem('lamina-token', given);
      globalThis.violations = [];
      addEventListener('securitypolicyviolation', (event) =>
        globalThis.violations.push(`${event.violatedDirective} ${event.blockedURI}`),
      );
    }, token);
    await page.goto(`${at}/${hash}`);
    return { page, faults, close: () => context.close() };
  }

  async function isSound({ page, faults }, allowed = /^$/) {
    assert.deepEqual(await page.evaluate(() => globalThis.violations), [], 'content security policy');
    assert.deepEqual(
      faults.filter((fault) => !allowed.test(fault)),
      [],
      'console',
    );
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(wide <= 0, `the page is ${wide} px wider than the window`);
    await page.evaluate(AXE);
    const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
    const serious = violations.filter(({ impact }) => impact === 'serious' || impact === 'critical');
    assert.deepEqual(
      serious.map((v) => `${v.id}: ${v.nodes.map((node) => node.html).join(' ')}`),
      [],
      'axe',
    );
  }

  /** In the page: true if the middle half of the chart has a line in some arm's colour. Equal lines hide each other. */
  function inked() {
    const canvas = document.querySelector('.plot canvas');
    const x = Math.floor(canvas.width / 4);
    const { data } = canvas.getContext('2d').getImageData(x, 0, 2 * x, canvas.height);
    const shown = [...document.querySelectorAll('figcaption .arm i')].map((swatch) =>
      getComputedStyle(swatch).backgroundColor.match(/\d+/g).map(Number),
    );
    const length = ([r, g, b]) => {
      let pixels = 0;
      for (let i = 0; i < data.length; i += 4)
        pixels += data[i] === r && data[i + 1] === g && data[i + 2] === b && data[i + 3] === 255;
      return pixels;
    };
    return shown.some((colour) => length(colour) > 20);
  }

  async function get(path) {
    return (await fetch(base + path, { headers: { Authorization: `Bearer ${TOKEN}` } })).json();
  }

  async function firstJob() {
    const wanted = REAL ? 0 : 2;
    const { items } = await get('/jobs');
    assert.ok(items.length > wanted, 'the server has a job');
    return get(`/jobs/${items[wanted].id}`);
  }

  it('explains why a token is refused, accepts a valid one, and signs out', async () => {
    const view = await open('');
    const { page } = view;
    await page.getByLabel('Access token').fill('wrong');
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByRole('alert').getByText('This token is not accepted').waitFor();
    await page.getByLabel('Access token').fill(TOKEN);
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'Jobs' }).waitFor();
    assert.equal(
      await page.evaluate(() => localStorage.length),
      0,
      'without “Stay signed in” the token stays in this tab',
    );
    // The browser reports the refused request on its console.
    await isSound(view, /401/);
    await page.getByRole('button', { name: 'Sign out' }).click();
    await page.getByLabel('Access token').waitFor();
    assert.equal(await page.evaluate(() => sessionStorage.length), 0);
    await view.close();
  });

  it('opens a job by keyboard from the list', async () => {
    const view = await open('#/jobs', { token: TOKEN });
    const job = await firstJob();
    const link = view.page.getByRole('link', { name: job.name, exact: true }).first();
    await link.focus();
    await view.page.keyboard.press('Enter');
    await view.page.getByRole('heading', { level: 1, name: job.name }).waitFor();
    await view.close();
  });

  for (const [scheme, width] of [
    ['light', 1280],
    ['dark', 400],
  ]) {
    it(`shows a job's curves and its report, ${scheme} at ${width}`, async () => {
      const job = await firstJob();
      const view = await open(`#/jobs/${job.id}`, { token: TOKEN, scheme, width });
      const { page } = view;
      await page.locator('.plot canvas').waitFor();
      await page.getByRole('heading', { name: 'Report' }).waitFor();
      await page.locator('.strips circle').first().waitFor();
      for (const metric of ['Train loss', 'Theta', 'Open blocks', 'Validation loss']) {
        await page.getByRole('radio', { name: metric }).check({ force: true });
        await page.locator('figcaption .label', { hasText: metric }).waitFor();
        await page.waitForFunction(inked);
        // Fine-tuning has a train loss too, but the curve of an arm is that of its pre-training.
        const means = page.locator('figcaption').getByText(/^mean of/);
        const wanted = job.spec.pretrain.seeds > 1 ? [`mean of ${job.spec.pretrain.seeds}`] : [];
        assert.deepEqual([...new Set(await means.allTextContents())], wanted);
      }
      if (job.spec.pretrain.probe) {
        await page.getByRole('radio', { name: 'Blocks', exact: true }).check({ force: true });
        await page.getByRole('img', { name: /^Cosine of block 1 by step/ }).waitFor();
        await page.getByRole('combobox', { name: /^Block/ }).selectOption('2');
        await page.getByRole('radio', { name: 'Gradient norm' }).check({ force: true });
        await page.getByRole('img', { name: /^Gradient norm of block 2 by step, at .*pre-ln: 0\.\d/ }).waitFor();
        await page.waitForFunction(inked);
      }
      await page.getByRole('radio', { name: 'Hours' }).check({ force: true });
      await page.getByRole('img', { name: /by training time/ }).waitFor();
      await page.waitForFunction(inked);
      await isSound(view);
      await view.close();
    });
  }

  for (const [scheme, width] of [
    ['light', 1280],
    ['dark', 400],
  ]) {
    it(`shows memory by open blocks and the probes of blocks, ${scheme} at ${width}`, { skip: mockOnly }, async () => {
      const view = await open(`#/jobs/${(await firstJob()).id}`, { token: TOKEN, scheme, width });
      const { page } = view;
      const memory = page.getByRole('region', { name: 'Memory', exact: true });
      await memory.getByRole('row', { name: /^pld .* at 5 .* at 12/ }).waitFor();
      await memory.getByRole('img', { name: /^Peak, MiB, by open blocks.*pld: from .* at 5 to .* at 12/ }).waitFor();

      const blocks = page.getByRole('region', { name: 'Contribution of each block', exact: true });
      await blocks.getByRole('columnheader', { name: 'All shuffled' }).waitFor();
      await blocks.getByRole('img', { name: /block removed, by block.*pre-ln: from .* to \+\S+ at 1;/ }).waitFor();
      assert.equal(await blocks.locator('circle').count(), 3 * 12);
      await blocks.getByRole('radio', { name: 'Removed' }).focus();
      await page.keyboard.press('ArrowRight');
      await blocks.getByRole('img', { name: /block and next swapped/ }).waitFor();
      assert.equal(await blocks.locator('circle').count(), 3 * 11, 'the last block has no next');
      await blocks.getByText('Every value').click();
      await blocks.getByRole('row', { name: '12 – – –' }).waitFor();
      await isSound(view);

      const chart = blocks.getByRole('img');
      await chart.hover();
      await blocks.locator('.reading', { hasText: /^block \d+/ }).waitFor();
      // Every box that scrolls can be reached by keyboard.
      const stuck = await page.evaluate(() =>
        [...document.querySelectorAll('.report .scroll')]
          .filter((box) => box.scrollWidth > box.clientWidth && box.tabIndex !== 0)
          .map((box) => box.getAttribute('aria-label')),
      );
      assert.deepEqual(stuck, []);
      await view.close();
    });
  }

  for (const [scheme, width] of [
    ['light', 1280],
    ['dark', 390],
  ]) {
    it(`shows scores by learning rate and run, ${scheme} at ${width}`, { skip: mockOnly }, async () => {
      const view = await open(`#/jobs/${(await firstJob()).id}`, { token: TOKEN, scheme, width });
      const { page } = view;
      const all = page.getByRole('region', { name: 'GLUE, all tasks' });
      await all.getByRole('row', { name: /^pld( \d\d\.\d){3} \d\d\.\d$/ }).waitFor();

      // Rows of rates that were not selected appear on demand.
      const strips = page.locator('.strips', { hasText: 'RTE' });
      const more = strips.getByRole('button', { name: 'All 15 rows' });
      await more.waitFor();
      assert.equal(await strips.getByRole('rowheader').count(), 3);
      await more.click();
      assert.equal(await strips.getByRole('rowheader').count(), 15);
      await strips.getByRole('button', { name: 'Selected rates only' }).click();

      const rte = page.getByRole('region', { name: 'RTE by learning rate' });
      await rte.getByRole('img', { name: /^Colours: scores from \d+ to \d+$/ }).waitFor();
      const pld = rte.getByRole('grid', {
        name: /^pld: scores by learning rate and run, .* of 75 failed, selected rate/,
      });
      assert.equal(await pld.getByRole('gridcell').count(), 5 * 15);
      assert.equal(await pld.getByRole('rowheader', { name: /selected$/ }).count(), 1);
      await rte.getByRole('gridcell', { name: /diverged, failed$/ }).first().waitFor();

      const reading = pld.locator('xpath=..').locator('.reading');
      await pld.getByRole('gridcell', { name: 'seed 3, pre-train seed 1, 5e-5' }).hover();
      await reading.getByText(/^seed 3, pre-train seed 1, 5e-5: \d/).waitFor();
      await page.mouse.move(0, 0);
      await reading.waitFor({ state: 'detached' });
      // The Tab key stops once in a map; arrow keys move from there.
      assert.equal(await pld.locator('[tabindex="0"]').count(), 1);
      await pld.locator('[tabindex="0"]').focus();
      for (const key of ['ArrowDown', 'ArrowDown', 'End', 'ArrowLeft']) await page.keyboard.press(key);
      await reading.getByText(/^seed 3, pre-train seed 2, 1e-4: \d/).waitFor();
      const focused = await page.evaluate(() => document.activeElement.getAttribute('aria-label'));
      assert.equal(focused, await reading.textContent());
      await isSound(view);
      await view.close();
    });
  }

  it('shows the rate, the time and the diverged seeds of pre-training', { skip: mockOnly }, async () => {
    const { items } = await (await fetch(`${base}/jobs`, { headers: { Authorization: 'Bearer demo' } })).json();
    for (const width of [1280, 390]) {
      const view = await open(`#/jobs/${items[4].id}`, { token: 'demo', width });
      const loss = view.page.locator('.strips', { hasText: 'Validation loss' });
      const row = loss.getByRole('row', { name: /^pre-ln-fast rate 4e-3 / });
      await row.getByRole('cell', { name: /6.min 4.s ref\. 5.min 53.s/ }).waitFor();
      await row.getByRole('cell', { name: '2 of 3 21–94 %' }).waitFor();
      const pair = view.page.getByRole('region', { name: 'pre-ln-fast against pre-ln' });
      await pair.getByText('2 seeds diverged').waitFor();
      await isSound(view);
      await view.close();
    }
  });

  it('shows which trial another one waits for, and links to it', { skip: mockOnly }, async () => {
    const { items } = await (await fetch(`${base}/jobs`, { headers: { Authorization: 'Bearer demo' } })).json();
    const view = await open(`#/jobs/${items[1].id}/trials?stage=pretrain`, { token: 'demo' });
    const { page } = view;
    await page.getByRole('cell', { name: 'waits for the timing trial, which is queued' }).first().waitFor();
    await page.locator('tbody th a').first().click();
    await page.getByText('the measured time of a step decides how many steps it gets').waitFor();
    await isSound(view);
    await page.getByRole('link', { name: 'the timing trial' }).click();
    await page.getByText('Waits for a node on which nothing else runs.').waitFor();
    await view.close();
  });

  it('shows the effects of layer drop and of the norm apart', { skip: mockOnly }, async () => {
    const view = await open(`#/jobs/${(await firstJob()).id}`, { token: TOKEN, width: 390 });
    const table = view.page.getByRole('region', { name: 'Effects of layer drop and norm', exact: true });
    const row = table.getByRole('row', { name: /^Pre-LN and layer drop pld post-ln 1e-3 [+−]\d/ });
    await row.getByRole('cell', { name: /^\d\.\d\d×$/ }).waitFor();
    assert.equal(await table.getByRole('rowheader').count(), 3);
    await isSound(view);
    await view.close();
  });

  it('shows no heat map for a single learning rate', { skip: mockOnly }, async () => {
    const { items } = await (await fetch(`${base}/jobs`, { headers: { Authorization: 'Bearer demo' } })).json();
    const view = await open(`#/jobs/${items[4].id}`, { token: 'demo' });
    await view.page.locator('.strips', { hasText: 'RTE' }).waitFor();
    assert.equal(await view.page.getByRole('grid').count(), 0);
    await view.close();
  });

  it('leaves out memory and blocks if nothing was measured', { skip: mockOnly }, async () => {
    const { items } = await (await fetch(`${base}/jobs`, { headers: { Authorization: 'Bearer demo' } })).json();
    const view = await open(`#/jobs/${items[1].id}`, { token: 'demo' });
    await view.page.getByText('No trial has a result yet').waitFor();
    assert.equal(await view.page.getByRole('heading', { name: /^(Memory|Contribution of each block)$/ }).count(), 0);
    await view.close();
  });

  it('lists trials, filters them, and shows one with its log', async () => {
    const job = await firstJob();
    const view = await open(`#/jobs/${job.id}/trials`, { token: TOKEN });
    const { page } = view;
    await page.locator('tbody tr').first().waitFor();
    await page.getByLabel('Stage').selectOption('pretrain');
    await page.waitForFunction(() =>
      [...document.querySelectorAll('tbody th a')].every((a) => a.textContent === 'Pre-train'),
    );
    assert.match(page.url(), /stage=pretrain/);
    await isSound(view);
    await page.locator('tbody th a').first().click();
    await page.getByRole('heading', { name: /^Pre-train, .*seed 0/ }).waitFor();
    await page.getByRole('heading', { name: 'Attempts' }).waitFor();
    await page.locator('.log .line').first().waitFor();
    await page.getByRole('columnheader', { name: 'Device' }).waitFor();
    await isSound(view);
    await view.close();
  });

  for (const width of [1280, 400]) {
    it(`has no fault on any page, ${width} pixels wide`, async () => {
      const job = await firstJob();
      const trial = (await get(`/jobs/${job.id}/trials`)).items[0];
      for (const hash of addresses(job.id, trial.id)) {
        const view = await open(hash, { token: TOKEN, width });
        await view.page.locator('main h1').waitFor();
        await view.page.waitForFunction(() => !document.querySelector('.loading'));
        await isSound(view);
        await view.close();
      }
    });
  }

  it('shows the problem code of a job that does not exist', async () => {
    const view = await open('#/jobs/0199c0de-0000-7000-8000-000000000000', { token: TOKEN });
    await view.page.getByRole('alert').getByText('not_found').first().waitFor();
    await isSound(view, /404/);
    await view.close();
  });

  it('follows a running job as it moves, and cancels it after asking', { skip: mockOnly }, async () => {
    const view = await open('#/jobs', { token: 'demo' });
    const { page } = view;
    await page.getByRole('link', { name: 'pld on wiki', exact: true }).click();
    await page.getByText('live', { exact: true }).waitFor();
    const bar = page.getByRole('progressbar');
    const before = await bar.locator('span').getAttribute('style');
    await page.waitForFunction(
      (old) => document.querySelector('[role=progressbar] span')?.getAttribute('style') !== old,
      before,
    );
    await page.getByRole('button', { name: 'Cancel job' }).click();
    await page.getByRole('dialog').waitFor();
    await isSound(view);
    await page.getByRole('button', { name: 'Keep it running' }).click();
    await page.getByRole('dialog').waitFor({ state: 'hidden' });
    await page.getByRole('button', { name: 'Cancel job' }).click();
    await page.getByRole('button', { name: 'Cancel the job' }).click();
    await page.getByLabel('Status of the job').getByText('cancelled').waitFor();
    await view.close();
  });

  it('reports a lost server, and goes on when it is back', { skip: mockOnly }, async () => {
    const other = await serve();
    const { port } = other.address();
    const view = await open('#/jobs', { token: 'demo', at: `http://127.0.0.1:${port}` });
    const { page } = view;
    await page.getByRole('link', { name: 'pld on wiki', exact: true }).click();
    await page.getByText('live', { exact: true }).waitFor();
    other.closeAllConnections();
    await new Promise((resolve) => other.close(resolve));
    await page.getByText('polling', { exact: true }).waitFor();
    await page.getByRole('alert').getByText('The server cannot be reached').first().waitFor();
    const back = await serve(port);
    await page.getByText('live', { exact: true }).waitFor();
    await page.getByRole('alert').first().waitFor({ state: 'detached' });
    back.closeAllConnections();
    back.close();
    await view.close();
  });

  it('shows how to post the first job if there is none', { skip: mockOnly }, async () => {
    const view = await open('#/jobs', { token: 'empty', width: 400 });
    await view.page.getByText(`curl ${base}/jobs`).waitFor();
    await isSound(view);
    await view.close();
  });

  it('plans a job, and leads from a problem to its place in the text', { skip: mockOnly }, async () => {
    const view = await open('#/submit', { token: 'demo' });
    const { page } = view;
    await page.getByRole('button', { name: 'Check and plan' }).click();
    await page.getByText('1 timing').waitFor();
    await page.getByRole('row', { name: /^pld 0\.5 / }).waitFor();
    const editor = page.getByLabel('Job, as JSON');
    await editor.fill((await editor.inputValue()).replace('"theta_limit": 0.5', '"theta_limit": 7'));
    await page.getByRole('button', { name: 'Submit' }).click();
    await page.getByRole('alert').getByText('invalid_job').waitFor();
    await page.getByRole('button', { name: '/arms/1/layer_drop/theta_limit' }).click();
    assert.equal(await editor.evaluate((area) => area.value.slice(area.selectionStart, area.selectionEnd)), '7');
    await isSound(view, /422/);
    await view.close();
  });
});
