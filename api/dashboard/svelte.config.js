import { vitePreprocess } from '@sveltejs/vite-plugin-svelte';

export default {
  preprocess: vitePreprocess(),
  compilerOptions: {
    // Some browsers drop the roles of a table whose parts are laid out as blocks on a narrow screen, so tables state them.
    warningFilter: (warning) => warning.code !== 'a11y_no_redundant_roles',
  },
};
