import { afterAll, beforeAll, expect, test } from 'vitest';

import { type MockServer, serve } from '../dev/mock.mjs';
import document from '../openapi.json';

/** A schema of the OpenAPI document, with the keywords that the document uses. */
interface Schema {
  $ref?: string;
  allOf?: Schema[];
  oneOf?: Schema[];
  type?: string | string[];
  enum?: unknown[];
  required?: string[];
  properties?: Record<string, Schema>;
  items?: Schema;
}

const DOCUMENT: any = document;
/** The mock makes up its whole world for each request, which takes a moment. */
const PATIENCE = 60_000;

let server: MockServer;
let base: string;

beforeAll(async () => {
  server = await serve();
  base = `http://127.0.0.1:${server.address().port}`;
});

afterAll(() => {
  server.closeAllConnections();
  server.close();
});

/** The mock's answer to a GET, after a comparison with the document's schema of `template`. */
async function answer(template: string, path = template): Promise<any> {
  const response = await fetch(base + path, { headers: { Authorization: 'Bearer demo' } });
  const body = await response.json();
  const schema = DOCUMENT.paths[template].get.responses[200].content['application/json'].schema;
  expect(faults(schema, body, path)).toEqual([]);
  return body;
}

/** What contradicts `schema` in `value`, each with its place. */
function faults(schema: Schema, value: any, place: string): string[] {
  if (schema.$ref) return faults(DOCUMENT.components.schemas[schema.$ref.split('/').at(-1)!], value, place);
  const found = (schema.allOf ?? []).flatMap((part) => faults(part, value, place));
  const choices = (schema.oneOf ?? []).map((choice) => faults(choice, value, place));
  if (choices.length > 0 && choices.every((choice) => choice.length > 0)) found.push(...choices[0]!);
  const types = schema.type === undefined ? [] : [schema.type].flat();
  if (types.length > 0 && !types.includes(typeOf(value)) && !(types.includes('number') && typeOf(value) === 'integer')) {
    return [...found, `${place}: ${JSON.stringify(value)} is no ${types.join(' or ')}`];
  }
  if (schema.enum && !schema.enum.includes(value)) found.push(`${place}: ${value} is none of ${schema.enum.join(', ')}`);
  if (Array.isArray(value)) {
    return [...found, ...value.flatMap((item, i) => faults(schema.items ?? {}, item, `${place}/${i}`))];
  }
  if (typeof value !== 'object' || value === null) return found;
  const missing = (schema.required ?? []).filter((name) => !(name in value)).map((name) => `${place}: no ${name}`);
  const inside = Object.entries(schema.properties ?? {})
    .filter(([name]) => name in value)
    .flatMap(([name, property]) => faults(property, value[name], `${place}/${name}`));
  return [...found, ...missing, ...inside];
}

function typeOf(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  return Number.isInteger(value) ? 'integer' : typeof value;
}

/** Jobs by their place in the list: running, waiting, with three arms, one, twelve and 35, diverged, timing
 * alone, noisy. */
const INDEXES = [0, 1, 4, 5, 6, 7, 8, 9, 10];

test.each(INDEXES)('job %i of the mock is as the OpenAPI document says', { timeout: PATIENCE }, async (index) => {
  const { items } = await answer('/jobs', '/jobs?limit=11');
  const { id } = items[index];
  await answer('/jobs/{id}', `/jobs/${id}`);
  await answer('/jobs/{id}/report', `/jobs/${id}/report`);
  await answer('/jobs/{id}/curves', `/jobs/${id}/curves?name=validation_loss&points=20`);
  const trials = await answer('/jobs/{id}/trials', `/jobs/${id}/trials?limit=500`);
  for (const stage of ['timing', 'pretrain', 'finetune', 'probe']) {
    const trial = trials.items.find((one: { stage: string }) => one.stage === stage);
    if (trial === undefined) continue;
    await answer('/trials/{id}', `/trials/${trial.id}`);
    const kept = trial.stage === 'pretrain' && trial.state === 'succeeded';
    if (kept) await answer('/trials/{id}/checkpoint', `/trials/${trial.id}/checkpoint`);
    await answer('/trials/{id}/logs', `/trials/${trial.id}/logs?limit=5`);
  }
});

test('the mock’s datasets are as the OpenAPI document says', { timeout: PATIENCE }, () => answer('/datasets'));

test('the mock’s nodes are as the OpenAPI document says', { timeout: PATIENCE }, () => answer('/nodes'));

test('the mock’s plan is the document’s plan', { timeout: PATIENCE }, async () => {
  const response = await fetch(`${base}/jobs?dry_run=true`, {
    method: 'POST',
    headers: { Authorization: 'Bearer demo' },
    body: JSON.stringify({ name: 'n', arms: [{ name: 'a' }, { name: 'b', layer_drop: { theta_limit: 0.5 } }] }),
  });
  expect(faults(DOCUMENT.components.schemas.Plan, await response.json(), 'plan')).toEqual([]);
});
