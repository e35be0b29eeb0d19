// Takes the pictures of docs/screenshots: the built dashboard in Chromium, with the mock's data.
// Usage: node dev/screenshots.mjs FOLDER. CHROMIUM names another browser than /usr/bin/chromium.

import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';

import { chromium } from 'playwright-core';

import { serve } from './mock.mjs';

const folder = process.argv[2];
if (!folder) throw new Error('usage: node dev/screenshots.mjs FOLDER');

const server = await serve();
const base = `http://127.0.0.1:${server.address().port}`;
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--headless', '--no-sandbox', '--disable-gpu'],
});
try {
  await mkdir(folder, { recursive: true });
  const context = await browser.newContext({ colorScheme: 'light', viewport: { width: 1280, height: 820 } });
  await context.addInitScript(() => sessionStorage.setItem('lamina-token', 'demo'));
  const page = await context.newPage();
  const answer = await fetch(`${base}/jobs`, { headers: { Authorization: 'Bearer demo' } });
  const { items } = await answer.json();
  // The third job of the mock has ended, and has everything that a report can have.
  await page.goto(`${base}/#/jobs/${items[2].id}`);
  await page.locator('.plot canvas').waitFor();
  await page.locator('.strips circle').first().waitFor();
  await page.screenshot({ path: join(folder, 'job.png') });
  await page.getByRole('heading', { name: 'Report', exact: true }).evaluate((heading) => {
    heading.scrollIntoView({ block: 'start' });
    scrollBy(0, -24);
  });
  await page.screenshot({ path: join(folder, 'report.png') });
} finally {
  await browser.close();
  server.closeAllConnections();
  server.close();
}
