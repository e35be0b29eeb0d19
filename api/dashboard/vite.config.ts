import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  plugins: [svelte()],
  build: {
    target: 'es2022',
    // The server's content security policy is `default-src 'self'`: nothing may become a data: URL or an inline script.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: {
    proxy: Object.fromEntries(
      ['/jobs', '/trials', '/nodes', '/datasets', '/healthz', '/openapi.json'].map((path) => [
        path,
        process.env.LAMINA_URL ?? 'http://127.0.0.1:8642',
      ]),
    ),
  },
  // `css`: the palette is tested as the style sheet has it.
  test: { include: ['test/**/*.test.ts'], css: true },
});
