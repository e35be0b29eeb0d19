// The addresses whose pages `browser.test.mjs` examines: one or more for each page of the dashboard.

export const addresses = (job, trial) => [
  '#/jobs',
  `#/jobs/${job}`,
  `#/jobs/${job}/trials`,
  `#/jobs/${job}/spec`,
  `#/trials/${trial}`,
  '#/nodes',
  '#/submit',
  '#/nowhere',
];
