import { vitePreprocess } from '@sveltejs/vite-plugin-svelte';

export default {
  preprocess: vitePreprocess(),
  compilerOptions: {
    // Tables that narrow screens lay out as blocks lose their roles in some browsers, so these say them.
    warningFilter: (warning) => warning.code !== 'a11y_no_redundant_roles',
  },
};
