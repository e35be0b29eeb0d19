// A mock of `lamina serve`: the built dashboard with the same headers, and made-up data that changes. No dependencies.
// The token "demo" sees everything, "empty" a server without data. Usage: node dev/mock.mjs [port]

import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';

import { curvesOf, jobsAt, logOf, nodesAt, trialOf } from './data.mjs';
import { reportOf } from './report.mjs';

const DIST = fileURLToPath(new URL('../dist', import.meta.url));
const TYPES = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
};
/** The policy that the server sends (api/src/dashboard.rs). */
const POLICY = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/** Starts the mock on `port` of the loopback address (0: any free port) and resolves with its server. */
export function serve(port = 0) {
  const started = Date.now();
  const cancelled = new Set();
  const world = () => {
    const jobs = jobsAt(Date.now(), started);
    for (const job of jobs.filter((j) => cancelled.has(j.summary.id))) {
      Object.assign(job.summary, { status: 'cancelled', estimated_end: null, finished_at: new Date().toISOString() });
    }
    return jobs;
  };
  const server = createServer((request, response) => {
    answer(request, response, world, cancelled).catch((error) => {
      console.error(error);
      response.destroy();
    });
  });
  return new Promise((resolve) => server.listen(port, '127.0.0.1', () => resolve(server)));
}

async function answer(request, response, world, cancelled) {
  const url = new URL(request.url, 'http://mock');
  const parts = url.pathname.split('/').filter(Boolean);
  if (!['jobs', 'trials', 'nodes'].includes(parts[0])) return file(url.pathname, response);
  const token = (request.headers.authorization ?? '').replace(/^Bearer /, '');
  if (token !== 'demo' && token !== 'empty')
    return problem(response, 401, 'unauthenticated', 'Unauthenticated', 'this token is not known');
  const jobs = token === 'demo' ? world() : [];
  const query = url.searchParams;
  const [kind, id, part] = parts;

  if (kind === 'nodes') return json(response, page(token === 'demo' ? nodesAt(Date.now(), jobs) : [], query));
  if (kind === 'jobs' && id === undefined) {
    return request.method === 'POST'
      ? submit(request, response, query, jobs)
      : json(
          response,
          page(
            jobs.map((j) => j.summary),
            query,
          ),
        );
  }
  if (kind === 'trials') {
    const trial = jobs.flatMap((j) => j.trials).find((t) => t.id === id);
    if (!trial) return missing(response);
    if (part !== 'logs') return json(response, trialOf(trial));
    const after = Number(query.get('after') ?? 0);
    const lines = logOf(trial).filter((line) => line.id > after);
    const items = lines.slice(0, Number(query.get('limit') ?? 50));
    return json(response, { items, next: items.length < lines.length ? String(items.at(-1).id) : null });
  }
  const job = jobs.find((j) => j.summary.id === id);
  if (!job) return missing(response);
  if (part === undefined) return json(response, { ...job.summary, spec: job.spec });
  if (part === 'cancel') {
    cancelled.add(id);
    return json(response, { ...world().find((j) => j.summary.id === id).summary, spec: job.spec });
  }
  if (part === 'report') return json(response, reportOf(job));
  if (part === 'curves') return json(response, curvesOf(job, query.get('name'), Number(query.get('points') ?? 400)));
  if (part === 'events') return events(request, response, () => world().find((j) => j.summary.id === id).summary);
  const wanted = ['stage', 'arm', 'state'].filter((key) => query.get(key));
  return json(
    response,
    page(
      job.trials.filter((t) => wanted.every((key) => t[key] === query.get(key))),
      query,
    ),
  );
}

function page(items, query) {
  const start = Number(query.get('cursor') ?? 0);
  const end = start + Number(query.get('limit') ?? 50);
  return { items: items.slice(start, end), next: end < items.length ? String(end) : null };
}

async function submit(request, response, query, jobs) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  let body;
  try {
    body = JSON.parse(Buffer.concat(chunks).toString());
  } catch (error) {
    return problem(response, 400, 'malformed_json', 'Malformed JSON', `the body is not valid JSON: ${error.message}`);
  }
  const problems = (body.arms ?? []).flatMap((arm, i) => {
    const limit = arm.layer_drop?.theta_limit;
    return limit === undefined || (limit > 0 && limit <= 1)
      ? []
      : [
          {
            pointer: `/arms/${i}/layer_drop/theta_limit`,
            message: `a theta limit of ${limit}: choose one above 0 and at most 1`,
          },
        ];
  });
  if (!body.arms) problems.push({ pointer: '/arms', message: 'missing field `arms`' });
  if (problems.length > 0)
    return problem(
      response,
      422,
      'invalid_job',
      'Invalid job',
      `this job has ${problems.length} problems`,
      problems,
    );
  if (!query.get('dry_run')) return json(response, { ...jobs[0].summary, spec: jobs[0].spec }, 201);
  const arms = body.arms.map((arm) => ({
    name: arm.name,
    pretrain_flops: 2.91e15 * (arm.layer_drop ? 0.74 : 1),
    encoder_saving: arm.layer_drop ? 0.268 : 0,
    flop_saving: arm.layer_drop ? 0.257 : 0,
    theta_limit: arm.layer_drop?.theta_limit ?? null,
  }));
  return json(response, {
    trials: { timing: 1, pretrain: arms.length, finetune: arms.length * 15, probe: 0 },
    steps: 18_720,
    flops: 8.4e15,
    arms,
  });
}

/** Sends the job's progress each second, in pieces that end inside lines, as a network may do. */
function events(request, response, look) {
  response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' });
  let id = Number(request.headers['last-event-id'] ?? 0);
  const tell = () => {
    const { status, progress, trials, estimated_end } = look();
    const data = JSON.stringify({ status, progress, trials, estimated_end });
    const text = `id: ${++id}\nevent: evaluated\ndata: {}\n\nevent: progress\ndata: ${data}\n\n`;
    const cut = 1 + ((id * 7) % (text.length - 2));
    response.write(text.slice(0, cut));
    setImmediate(() => response.write(text.slice(cut)));
    if (!['queued', 'running'].includes(status)) setImmediate(() => response.end());
  };
  tell();
  const timer = setInterval(tell, 1000);
  response.on('close', () => clearInterval(timer));
}

async function file(path, response) {
  const wanted = join(DIST, normalize(path === '/' ? '/index.html' : path));
  const found = wanted.startsWith(DIST) && (await stat(wanted).catch(() => null))?.isFile();
  if (!found) return missing(response);
  response.writeHead(200, {
    'Content-Type': TYPES[extname(wanted)] ?? 'application/octet-stream',
    'Content-Security-Policy': POLICY,
    'X-Content-Type-Options': 'nosniff',
    'X-Frame-Options': 'DENY',
    'Referrer-Policy': 'no-referrer',
  });
  createReadStream(wanted).pipe(response);
}

function json(response, body, status = 200, type = 'application/json') {
  response.writeHead(status, { 'Content-Type': type }).end(JSON.stringify(body));
}

function problem(response, status, code, title, detail, problems) {
  json(
    response,
    { type: `urn:lamina:problem:${code}`, title, status, detail, code, problems },
    status,
    'application/problem+json',
  );
}

function missing(response) {
  problem(response, 404, 'not_found', 'Not found', 'no such resource');
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const server = await serve(Number(process.argv[2] ?? 8643));
  console.log(`http://127.0.0.1:${server.address().port}/ with the token "demo" or "empty"`);
}
