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

describe('dashboard', { skip, timeout: 300_000 }, () => {
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

  /** In the page: each text that is drawn outside of a box around it, or of the page, with the box that it leaves. */
  function escaped() {
    const found = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const text = walker.currentNode;
      const parent = text.parentElement;
      const unseen = '.hidden-text, .skip, script, style, option, dialog:not([open]), title';
      if (!text.data.trim() || parent.closest(unseen)) continue;
      const range = document.createRange();
      range.selectNodeContents(text);
      const places = [...range.getClientRects()].filter((place) => place.width > 0);
      for (let box = parent; box && places.length > 0; box = box.parentElement) {
        const style = getComputedStyle(box);
        // What a box scrolls does not leave the boxes around it.
        if (style.clipPath !== 'none' || ['auto', 'scroll'].includes(style.overflowX)) break;
        const isBox = !style.display.startsWith('inline') && style.display !== 'contents';
        const isText = box.tagName === 'text' || box.tagName === 'g';
        const { left, right } = box.getBoundingClientRect();
        // Half a letter may stand out of an axis: the ends of a scale are in the middle of their numbers.
        const slack = box.tagName === 'svg' ? 16 : 1;
        if (isBox && !isText && places.some((place) => place.left < left - slack || place.right > right + slack)) {
          const name = `${box.tagName.toLowerCase()}.${box.getAttribute('class')}`;
          found.push(`“${text.data.trim().slice(0, 40)}” leaves ${name}`);
          break;
        }
        // What a box cuts off is seen above; what floats above boxes does not belong to them.
        if (style.overflowX !== 'visible' || ['absolute', 'fixed'].includes(style.position)) break;
      }
    }
    const page = document.scrollingElement;
    const excess = page.scrollWidth - page.clientWidth;
    if (excess > 0) found.push(`the page is ${excess} px too wide`);
    return [...new Set(found)];
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

  /** The mock's jobs by name. */
  async function jobNamed(name) {
    const { items } = await get('/jobs?limit=25');
    return items.find((job) => job.name === name);
  }

  async function settled(page) {
    await page.locator('main h1').waitFor();
    await page.waitForFunction(() => !document.querySelector('.loading'));
  }

  /** Looks for text outside of its box at three widths, in both themes. */
  async function fits(page, what) {
    for (const colorScheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme });
      for (const width of [390, 1280, 1440]) {
        await page.setViewportSize({ width, height: 800 });
        // Charts take their new width in the frame after the change.
        await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
        assert.deepEqual(await page.evaluate(escaped), [], `${what}, ${colorScheme}, ${width} px`);
      }
    }
  }

  const JOBS = {
    'one arm': 'one arm alone',
    'three arms': 'norm placement and layer drop',
    'twelve arms': 'norm x layer drop x learning rate',
    '35 arms': 'every system that the reviewers asked for',
    'some diverged': 'a faster pre-training rate',
    'diverged': 'a rate at which all runs diverge',
    'timing alone': 'timing alone',
    'noisy': 'on a machine that does other work',
    'one pre-train seed': 'nightly 40',
    'cancelled': 'pre-ln against pld, stopped early',
    'running': 'pld on wiki',
  };

  for (const [what, name] of Object.entries(JOBS)) {
    it(`lets no text leave its box, job: ${what}`, { skip: mockOnly }, async () => {
      const { id } = await jobNamed(name);
      const view = await open(`#/jobs/${id}`, { token: TOKEN });
      for (const tab of ['', '/trials', '/spec']) {
        await view.page.evaluate((hash) => (location.hash = hash), `#/jobs/${id}${tab}`);
        await settled(view.page);
        const folds = view.page.getByRole('button', { name: /^Show all/ });
        while ((await folds.count()) > 0) await folds.first().click();
        await fits(view.page, tab || '/overview');
      }
      await view.close();
    });
  }

  it('lets no text leave its box on the other pages', { skip: mockOnly }, async () => {
    const trials = [];
    for (const name of [JOBS['one arm'], JOBS['35 arms'], JOBS.diverged]) {
      const { items } = await get(`/jobs/${(await jobNamed(name)).id}/trials?limit=500`);
      for (const stage of ['timing', 'pretrain', 'finetune', 'probe']) {
        trials.push(items.findLast((one) => one.stage === stage));
      }
    }
    const hashes = ['#/jobs', '#/nodes', '#/submit', ...trials.map((trial) => `#/trials/${trial.id}`)];
    for (const token of ['demo', 'empty']) {
      const view = await open(hashes[0], { token });
      for (const hash of token === 'demo' ? hashes : hashes.slice(0, 3)) {
        await view.page.evaluate((to) => (location.hash = to), hash);
        await settled(view.page);
        await fits(view.page, `${token} ${hash}`);
      }
      await view.close();
    }
  });

  for (const [what, name] of Object.entries(JOBS)) {
    it(`shows the answer above the fold, job: ${what}`, { skip: mockOnly }, async () => {
      const view = await open(`#/jobs/${(await jobNamed(name)).id}`, { token: TOKEN });
      await settled(view.page);
      const answer = view.page.getByRole('region', { name: /^Answer/ });
      // Of many arms, the counts and the first rows; otherwise every card.
      const { areMany, bottom } = await answer.evaluate((section) => {
        const rows = section.querySelectorAll('tbody tr');
        const cards = [...section.querySelectorAll('.card')];
        const last = rows.length > 0 ? rows[Math.min(rows.length, 5) - 1] : cards.at(-1);
        return { areMany: rows.length > 0, bottom: last.getBoundingClientRect().bottom };
      });
      assert.ok(bottom <= 800, `the answer ends at ${bottom}`);
      assert.equal(areMany, ['twelve arms', '35 arms'].includes(what));
      // On a phone the sentence, which comes first.
      await view.page.setViewportSize({ width: 390, height: 800 });
      if (what !== 'one arm') {
        const { sentence } = await get(`/jobs/${(await jobNamed(name)).id}/report`);
        const first = answer.locator('p').first();
        assert.equal(await first.textContent(), sentence);
        const { y, height } = await first.boundingBox();
        assert.ok(y + height <= 800, `the sentence ends at ${y + height}`);
      }
      await isSound(view);
      await view.close();
    });
  }

  /** In the page: the colour of each arm in every legend, name and chart, as `arm: colours`. */
  function coloured() {
    const found = {};
    const add = (arm, colour) => (found[arm] ??= new Set()).add(colour);
    for (const name of document.querySelectorAll('.arm:has(> .name)')) {
      const swatch = name.querySelector('i, line');
      const style = getComputedStyle(swatch);
      add(name.querySelector('.name').textContent, swatch.tagName === 'I' ? style.backgroundColor : style.stroke);
    }
    for (const drawn of document.querySelectorAll('[data-arm]')) {
      for (const mark of drawn.querySelectorAll('circle, polyline, .whisker, .band')) {
        const style = getComputedStyle(mark);
        add(drawn.dataset.arm, mark.matches('circle, .band') ? style.fill : style.stroke);
      }
    }
    return Object.fromEntries(Object.entries(found).map(([arm, colours]) => [arm, [...colours]]));
  }

  it('gives an arm one colour on every page and in every chart of a job', { skip: mockOnly }, async () => {
    for (const name of ['norm placement and layer drop', 'every system that the reviewers asked for']) {
      const job = await jobNamed(name);
      const trial = (await get(`/jobs/${job.id}/trials?stage=pretrain&arm=pld`)).items[0];
      const all = {};
      const view = await open(`#/jobs/${job.id}`, { token: TOKEN });
      for (const hash of [`#/jobs/${job.id}`, `#/jobs/${job.id}/trials`, `#/trials/${trial.id}`]) {
        await view.page.evaluate((to) => (location.hash = to), hash);
        await settled(view.page);
        await view.page.locator('.arm').first().waitFor();
        for (const [arm, colours] of Object.entries(await view.page.evaluate(coloured))) {
          all[arm] = [...new Set([...(all[arm] ?? []), ...colours])];
        }
      }
      assert.deepEqual(Object.keys(all).sort(), [...job.arms].sort());
      const several = Object.entries(all).filter(([, colours]) => colours.length > 1);
      assert.deepEqual(several, [], name);
      await view.close();
    }
  });

  it('draws a line in the colour of its legend, and brings a chosen arm to the front', { skip: mockOnly }, async () => {
    const drawn = (colour) => {
      const canvas = document.querySelector('.plot canvas');
      const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
      const [r, g, b] = colour.match(/\d+/g).map(Number);
      let pixels = 0;
      for (let i = 0; i < data.length; i += 4) {
        if (data[i] === r && data[i + 1] === g && data[i + 2] === b && data[i + 3] === 255) pixels += 1;
      }
      return pixels;
    };
    const few = await open(`#/jobs/${(await firstJob()).id}`, { token: TOKEN });
    await few.page.locator('.plot canvas').waitFor();
    await few.page.waitForTimeout(300);
    const colours = await few.page
      .locator('.readings .arm i')
      .evaluateAll((all) => all.map((swatch) => getComputedStyle(swatch).backgroundColor));
    assert.equal(colours.length, 3);
    for (const colour of colours) assert.ok((await few.page.evaluate(drawn, colour)) > 20, `a line in ${colour}`);
    await few.close();

    const many = await open(`#/jobs/${(await jobNamed(JOBS['35 arms'])).id}`, { token: TOKEN });
    await many.page.locator('.plot canvas').waitFor();
    const legend = many.page.locator('.many .grid button');
    assert.equal(await legend.count(), 35);
    for (const arm of ['pld-cosine', 'sandwich']) {
      const button = legend.filter({ hasText: arm });
      await button.click();
      assert.equal(await button.getAttribute('aria-pressed'), 'true');
      await many.page.mouse.move(0, 0);
      const colour = await button.locator('line').evaluate((line) => getComputedStyle(line).stroke);
      // The other arms are faint now, so that only the chosen one has its full colour.
      await many.page.waitForTimeout(100);
      assert.ok((await many.page.evaluate(drawn, colour)) > 20, `${arm} in ${colour}`);
      await many.page.getByRole('button', { name: 'Choose none' }).click();
    }
    await many.close();
  });

  it('sorts, filters and folds many arms', { skip: mockOnly }, async () => {
    const view = await open(`#/jobs/${(await jobNamed(JOBS['35 arms'])).id}`, { token: TOKEN });
    const { page } = view;
    const table = page.getByRole('region', { name: 'Arms against pre-ln' });
    const first = () => table.getByRole('rowheader').first().textContent();
    await table.getByRole('rowheader').first().waitFor();
    assert.equal(await table.getByRole('rowheader').count(), 8);
    const heading = table.getByRole('button', { name: 'Speed per step' });
    await heading.click();
    await heading.click();
    const column = table.getByRole('columnheader', { name: 'Speed per step' });
    assert.equal(await column.getAttribute('aria-sort'), 'descending');
    const values = await table.locator('tbody tr td:nth-of-type(1) b').allTextContents();
    const speeds = values.filter((one) => one.includes('×'));
    assert.ok(speeds.length > 1);
    assert.deepEqual(speeds, speeds.toSorted((a, b) => parseFloat(b) - parseFloat(a)));
    assert.notEqual((await first()).trim(), 'float32');
    await page.getByRole('button', { name: 'Show all 34 arms' }).first().click();
    assert.equal(await table.getByRole('rowheader').count(), 34);
    await page.getByLabel('Filter arms by name').fill('stochastic post');
    assert.equal(await table.getByRole('rowheader').count(), 2);
    await page.getByText('3 of 35 shown').waitFor();
    // The filter holds for every table and chart, and leaves the baseline.
    const speed = page.getByRole('region', { name: 'Speed', exact: true });
    assert.equal(await speed.getByRole('rowheader').count(), 3);
    assert.equal(await page.locator('.many .grid button').count(), 3);
    await page.getByLabel('Filter arms by name').fill('no such arm');
    await table.getByText('No arm matches').waitFor();
    await isSound(view);
    await view.close();
  });

  it('sorts and searches trials, and says among which', { skip: mockOnly }, async () => {
    const view = await open(`#/jobs/${(await firstJob()).id}/trials`, { token: TOKEN });
    const { page } = view;
    await page.getByText('100 of 694 trials are loaded.').waitFor();
    await page.getByRole('button', { name: 'Loss', exact: true }).click();
    await page.getByText('Only the 100 loaded of 694 trials are sorted.').waitFor();
    const losses = (await page.locator('td[data-name=loss]').allTextContents()).map(parseFloat).filter(Number.isFinite);
    assert.deepEqual(losses, losses.toSorted((a, b) => a - b));
    await page.getByRole('button', { name: 'Load all 694' }).click();
    await page.getByText('694 trials.').waitFor();
    await page.getByLabel('Search trials').fill('pld cola 5e-4');
    await page.getByText('15 of 694 trials match.').waitFor();
    await page.getByRole('button', { name: 'Score', exact: true }).click();
    await page.getByRole('cell', { name: /^\d\d?\.\d$/ }).first().waitFor();
    await isSound(view);
    await view.close();
  });

  it('fetches a report again only if it has changed', { skip: mockOnly }, async () => {
    const { id } = await jobNamed(JOBS['three arms']);
    const view = await open(`#/jobs/${id}`, { token: TOKEN });
    const answers = [];
    view.page.on('response', (response) => response.url().includes('/report') && answers.push(response.status()));
    await view.page.getByRole('heading', { name: 'Report' }).waitFor();
    await view.page.getByRole('link', { name: 'Trials' }).click();
    await view.page.getByRole('link', { name: 'Overview' }).click();
    await view.page.getByRole('heading', { name: 'Report' }).waitFor();
    assert.equal(answers.at(-1), 304);
    assert.ok(answers.filter((status) => status === 200).length <= 1, `answers: ${answers}`);
    await view.close();
  });

  it('says what is the case in a job without a result to compare', { skip: mockOnly }, async () => {
    const say = async (name, ...texts) => {
      const view = await open(`#/jobs/${(await jobNamed(name)).id}`, { token: TOKEN });
      for (const text of texts) await view.page.getByText(text, { exact: true }).first().waitFor();
      await view.close();
    };
    await say(JOBS.diverged, '3 of 3 seeds diverged', 'there is no pair of runs to compare');
    await say(JOBS['timing alone'], 'No pre-train trial has a point of this metric.');
    await say(JOBS['one arm'], 'One arm, so nothing is compared.');
    const view = await open('#/jobs', { token: TOKEN });
    const row = view.page.getByRole('row', { name: new RegExp(JOBS.cancelled) });
    await row.getByText(/^\d+ of \d+ trials succeeded$/).waitFor();
    assert.equal(await row.getByRole('progressbar').count(), 0, 'a cancelled job has no full bar');
    await view.close();
  });

  it('puts no number in bold on an interval that says nothing', { skip: mockOnly }, async () => {
    const view = await open(`#/jobs/${(await jobNamed(JOBS.noisy)).id}`, { token: TOKEN });
    await view.page.getByRole('heading', { name: 'Report', exact: true }).waitFor();
    const answer = view.page.getByRole('region', { name: 'pld against pre-ln' });
    assert.deepEqual(await answer.locator('.value').allTextContents(), new Array(3).fill('cannot tell'));
    const text = await view.page.locator('main').innerText();
    for (const absurd of ['603', '1212', '1,212', '1618', '109', '810', '80.9', '31.2', '240.0']) {
      assert.ok(!text.includes(absurd), `${absurd} stands on the page`);
    }
    const bold = await view.page.locator('.report b:not(.faint)').allTextContents();
    assert.deepEqual(bold.filter((one) => /5\.24|203/.test(one)), []);
    await answer.getByText('the interval of the speed-up spans a factor of two').waitFor();
    await view.close();
  });

  it('has a table in the report of a timing trial', { skip: mockOnly }, async () => {
    const { id } = await firstJob();
    const [timing] = (await get(`/jobs/${id}/trials?stage=timing`)).items;
    const view = await open(`#/trials/${timing.id}`, { token: TOKEN });
    const table = view.page.getByRole('region', { name: 'Time of a step by arm' });
    await table.getByRole('row', { name: /^pld .*144.ms 32 .* of 12 28\.5.k$/ }).waitFor();
    await isSound(view);
    await view.close();
  });

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
      await page.getByRole('radio', { name: 'Time', exact: true }).check({ force: true });
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
      await blocks.getByRole('img', { name: /removed, nats, by block.*pre-ln: from .* to \+\S+ at 1;/ }).waitFor();
      assert.equal(await blocks.locator('circle').count(), 3 * 12);
      await blocks.getByRole('radio', { name: 'Removed' }).focus();
      await page.keyboard.press('ArrowRight');
      await blocks.getByRole('img', { name: /block and next swapped, nats, by block/ }).waitFor();
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
      await all.getByRole('row', { name: /^pld( \d\d\.\d \[\d+\.\d, \d\d\.\d\]){4}$/ }).waitFor();

      // Rows of rates that were not selected appear on demand.
      const strips = page.locator('.strips', { hasText: 'RTE' });
      const more = strips.getByRole('button', { name: 'All 15 rows' });
      await more.waitFor();
      assert.equal(await strips.getByRole('rowheader').count(), 3);
      await more.click();
      assert.equal(await strips.getByRole('rowheader').count(), 8, 'many rows are folded');
      await strips.getByRole('button', { name: 'Show all 15 rows' }).click();
      assert.equal(await strips.getByRole('rowheader').count(), 15);
      await strips.getByRole('button', { name: 'Selected rates only' }).click();

      const rte = page.getByRole('region', { name: 'RTE by learning rate' });
      await rte.getByRole('img', { name: /^Colours: scores from \d+ to \d+$/ }).waitFor();
      const pld = rte.getByRole('grid', {
        name: /^pld: scores by learning rate and run, .* of 75 at or below the majority, or diverged, selected rate/,
      });
      assert.equal(await pld.getByRole('gridcell').count(), 5 * 15);
      assert.equal(await pld.getByRole('rowheader', { name: /selected$/ }).count(), 1);
      await rte.getByRole('gridcell', { name: /: diverged$/ }).first().waitFor();

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
      await row.getByRole('cell', { name: /2 of 3 21–94 %,\sΔ \+67 points \[/ }).waitFor();
      await row.getByRole('cell', { name: /8\.\d+ .*3\.\d+ without failures$/ }).waitFor();
      const pair = view.page.getByRole('region', { name: 'pre-ln-fast against pre-ln' });
      await pair.getByText('2 of 3 seeds diverged').waitFor();
      await isSound(view);
      await view.close();
    }
  });

  it('says of which checkpoints a p-value is', { skip: mockOnly }, async () => {
    const view = await open(`#/jobs/${(await jobNamed(JOBS['one pre-train seed'])).id}`, { token: TOKEN });
    const rte = view.page.locator('.strips', { hasText: 'RTE' });
    await rte.getByRole('columnheader', { name: 'p between these two checkpoints' }).waitFor();
    await view.page.getByText(/the runs of one checkpoint say nothing about those of another/).first().waitFor();
    await view.close();
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
    await row.getByRole('cell', { name: /^\d\.\d\d× \[\d\.\d\d, \d\.\d\d\]$/ }).waitFor();
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

  it('drains and resumes a node, and deletes one that is lost', { skip: mockOnly }, async () => {
    const view = await open('#/nodes', { token: TOKEN });
    const { page } = view;
    const live = page.getByRole('region', { name: 'gpu-01', exact: true });
    await live.getByRole('button', { name: 'Drain' }).click();
    await live.getByText('live, takes no new trials').waitFor();
    await live.getByRole('button', { name: 'Resume' }).click();
    await live.getByRole('button', { name: 'Drain' }).waitFor();
    assert.equal(await live.getByRole('button', { name: 'Delete' }).count(), 0, 'a live node cannot be deleted');
    const lost = page.getByRole('region', { name: 'old-workstation', exact: true });
    await lost.getByRole('button', { name: 'Delete' }).click();
    await lost.waitFor({ state: 'detached' });
    await isSound(view);
    await view.close();
  });

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

  it('names registered data, or the commands that make some', { skip: mockOnly }, async () => {
    const view = await open('#/submit', { token: 'demo' });
    const editor = view.page.getByLabel('Job, as JSON');
    await view.page.waitForFunction(() => document.querySelector('#spec').value !== '');
    const named = JSON.parse(await editor.inputValue());
    assert.deepEqual([named.corpus, named.vocabulary, named.glue.dataset], ['wiki', 'bert-base-uncased', 'glue']);
    await view.close();
    for (const hash of ['#/submit', '#/jobs']) {
      const other = await open(hash, { token: 'empty' });
      await other.page.getByText('lamina data fetch').first().waitFor();
      await other.page.getByText('lamina data generate --out').first().waitFor();
      await other.page.getByText('lamina data import').first().waitFor();
      await isSound(other);
      await other.close();
    }
  });

  it('plans a job, and leads from a problem to its place in the text', { skip: mockOnly }, async () => {
    const view = await open('#/submit', { token: 'demo' });
    const { page } = view;
    await page.getByRole('button', { name: 'Check and plan' }).click();
    await page.getByText('1 timing').waitFor();
    await page.getByRole('row', { name: /^pld 0\.5 / }).waitFor();
    const editor = page.getByLabel('Job, as JSON');
    const before = await editor.inputValue();
    await editor.fill((await editor.inputValue()).replace('"theta_limit": 0.5', '"theta_limit": 7'));
    await page.getByRole('button', { name: 'Submit' }).click();
    await page.getByRole('alert').getByText('invalid_job').waitFor();
    const selected = () => editor.evaluate((area) => area.value.slice(area.selectionStart, area.selectionEnd));
    await page.getByText('line 13', { exact: true }).waitFor();
    assert.equal(await selected(), '7', 'the first problem is selected at once');
    await page.getByRole('button', { name: '/arms/1/layer_drop/theta_limit' }).click();
    assert.equal(await selected(), '7');
    assert.equal(await page.locator('.gutter .bad').textContent(), '13');
    await editor.fill('{"name": "x",\n "arms": [}');
    await page.getByRole('button', { name: 'Check and plan' }).click();
    await page.getByRole('alert').getByText('malformed_json').waitFor();
    await editor.fill(before);
    await isSound(view, /4\d\d/);
    await view.close();
  });
});
