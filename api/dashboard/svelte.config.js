import { vitePreprocess } from '@sveltejs/vite-plugin-svelte';

export default {
  preprocess: vitePreprocess(),
  compilerOptions: {
    warningFilter: ({ code }) =>
      // Some browsers drop the roles of a table whose parts are laid out as blocks on a narrow screen, so tables state
      // them.
      code !== 'a11y_no_redundant_roles' &&
      // A box that scrolls must be reachable by keyboard.
      code !== 'a11y_no_noninteractive_tabindex',
  },
};
