// A mock of `lamina serve`: the built dashboard with the same headers, and made-up data that changes. No dependencies.
// The token "demo" sees everything, "empty" a server without data. Usage: node dev/mock.mjs [port]

import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';

import { curvesOf, datasetsAt, jobsAt, logOf, nodesAt, trialOf } from './data.mjs';
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
  if (!['jobs', 'trials', 'nodes', 'datasets'].includes(parts[0])) return file(url.pathname, response);
  const token = (request.headers.authorization ?? '').replace(/^Bearer /, '');
  if (token !== 'demo' && token !== 'empty')
    return problem(response, 401, 'unauthenticated', 'Unauthenticated', 'this token is not known');
  const jobs = token === 'demo' ? world() : [];
  const query = url.searchParams;
  const [kind, id, part] = parts;

  if (kind === 'datasets') return json(response, { items: token === 'demo' ? datasetsAt(Date.now()) : [], next: null });
  if (kind === 'nodes') return nodes(request, response, token === 'demo' ? nodesAt(Date.now(), jobs) : [], id, part);
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
    if (part === 'checkpoint') return checkpoint(response, trial);
    if (part === 'checkpoint.tar') return response.end('what the mock keeps of a checkpoint');
    if (part !== 'logs') return json(response, trialOf(trial));
    const after = Number(query.get('after') ?? 0);
    const lines = logOf(trial).filter((line) => line.id > after);
    const items = lines.slice(0, Number(query.get('limit') ?? 50));
    return json(response, { items, next: items.length < lines.length ? String(items.at(-1).id) : null });
  }
  const job = jobs.find((j) => j.summary.id === id);
  if (!job) return missing(response);
  if (part === undefined) return tagged(request, response, viewOf(job));
  if (part === 'cancel') {
    cancelled.add(id);
    return json(response, viewOf(world().find((j) => j.summary.id === id)));
  }
  if (part === 'report') return tagged(request, response, reportOf(job));
  if (part === 'curves') return json(response, curvesOf(job, query.get('name'), Number(query.get('points') ?? 400)));
  if (part === 'events') return events(request, response, () => world().find((j) => j.summary.id === id));
  const wanted = ['stage', 'arm', 'state'].filter((key) => query.get(key));
  return json(
    response,
    page(
      job.trials.filter((t) => wanted.every((key) => t[key] === query.get(key))),
      query,
    ),
  );
}

const viewOf = ({ summary, spec, preregistration }) => ({ ...summary, spec, preregistration });

/** The checkpoint that a pre-train trial leaves. */
function checkpoint(response, trial) {
  if (trial.stage !== 'pretrain' || trial.state !== 'succeeded') return missing(response);
  const file = (name, bytes, i) => ({ name, sha256: `${i}`.repeat(64), bytes });
  return json(response, {
    attempt: trial.id,
    created_at: trial.finished_at,
    manifest: 'd'.repeat(64),
    step: trial.step,
    trained_seconds: trial.trained_seconds,
    fingerprint: trial.fingerprint,
    files: [
      file('config.json', 812, 1),
      file('model.safetensors', 25_413_120, 2),
      file('optimizer.safetensors', 50_826_240, 3),
    ],
  });
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
      problems.length === 1
        ? `${problems[0].message} at ${problems[0].pointer}`
        : `this job has ${problems.length} problems`,
      problems,
    );
  if (!query.get('dry_run')) return json(response, viewOf(jobs[0]), 201);
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
    estimate: {
      slot_hours: 2.4,
      basis: { kind: 'timed', job: jobs[0].summary.id, device: 'AMD EPYC', flops_per_second: 9.7e11 },
      slots: 2,
      largest_slot_bytes: 2 ** 33,
      memory: arms.map((arm, i) => ({ arm: arm.name, peak_bytes: 5.2e8, measured: i === 0 })),
      warnings: [],
    },
    power: {
      seeds: 3,
      questions: 7,
      difference: 8.1,
      sameness: 11.2,
      sentence:
        '3 pre-train seeds and 7 questions: 8 of 10 studies would tell a difference of 8.1 standard deviations of the ' +
        'paired differences over seeds, and sameness within 11.',
    },
  });
}

/** The ids of the nodes that a visitor has drained or deleted. */
const [drained, deleted] = [new Set(), new Set()];

function nodes(request, response, all, id, action) {
  const present = all.filter((node) => !deleted.has(node.id));
  if (id === undefined) {
    const query = new URL(request.url, 'http://mock').searchParams;
    return json(response, page(present.map((node) => ({ ...node, draining: drained.has(node.id) })), query));
  }
  const node = present.find((one) => one.id === id);
  if (!node) return missing(response);
  if (action === 'drain') drained.add(id);
  else if (action === 'resume') drained.delete(id);
  else if (node.live) {
    const detail = `the node "${node.name}" is live: stop its agent first`;
    return problem(response, 409, 'node_in_use', 'Node in use', detail);
  } else deleted.add(id);
  response.writeHead(204).end();
}

/** Sends the job's progress each second, in pieces that end inside lines, as a network may do. */
function events(request, response, look) {
  response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' });
  let id = Number(request.headers['last-event-id'] ?? 0);
  let seen = '';
  const change = (trial, state, at) => {
    const data = JSON.stringify({ id: ++id, kind: 'trial', at, trial, data: { state } });
    return `id: ${id}\nevent: trial\ndata: ${data}\n\n`;
  };
  // As on a real server, a stream that starts at the first event says when the first trial started.
  const [first] = look()
    .trials.filter((trial) => trial.started_at)
    .sort((a, b) => a.started_at.localeCompare(b.started_at));
  if (id === 0 && first) response.write(change(first.id, 'running', first.started_at));
  const tell = () => {
    const { summary, trials: all } = look();
    const { status, progress, trials, estimated_end } = summary;
    const over = `${trials.succeeded} ${trials.failed} ${trials.cancelled}`;
    if (seen !== '' && over !== seen) response.write(change(all[0].id, 'succeeded', new Date().toISOString()));
    seen = over;
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

/** Sends a body, or only that the caller has it already. */
function tagged(request, response, body) {
  const text = JSON.stringify(body);
  const tag = `"${createHash('sha256').update(text).digest('hex').slice(0, 32)}"`;
  const known = request.headers['if-none-match'] === tag;
  response.writeHead(known ? 304 : 200, { 'Content-Type': 'application/json', ETag: tag }).end(known ? '' : text);
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
