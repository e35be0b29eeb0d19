import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';

import { serve } from './dev/mock.mjs';
import document from './openapi.json' with { type: 'json' };

/** Where the development server sends API calls: to the mock with `npm run dev:mock`, otherwise to a real server. */
async function target(mode: string): Promise<string> {
  if (mode !== 'mock') return process.env.LAMINA_URL ?? 'http://127.0.0.1:8642';
  return `http://127.0.0.1:${(await serve()).address().port}`;
}

/** The first parts of all paths of the API. */
const PREFIXES = new Set(Object.keys(document.paths).map((path) => `/${path.split('/')[1]}`));

async function proxy(mode: string): Promise<Record<string, string>> {
  const url = await target(mode);
  return Object.fromEntries([...PREFIXES].map((prefix) => [prefix, url]));
}

export default defineConfig(async ({ command, mode }) => ({
  plugins: [svelte()],
  build: {
    target: 'es2022',
    // The server's content security policy is `default-src 'self'`: nothing may become a data: URL or an inline script.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: command === 'serve' && mode !== 'test' ? { proxy: await proxy(mode) } : {},
  // The palette test reads the style sheet.
  test: { include: ['test/**/*.test.ts'], css: true },
}));
