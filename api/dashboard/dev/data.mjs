// Made-up but plausible jobs for working on the dashboard without a server. Everything follows from the clock and a
// fixed seed: nothing is stored.

export const TASKS = {
  rte: { metrics: ['accuracy'], majority: 0.527, base: 0.572, sd: 0.016 },
  mrpc: { metrics: ['f1', 'accuracy'], majority: 0.748, base: 0.786, sd: 0.011 },
  cola: { metrics: ['matthews'], majority: 0, base: 0.118, sd: 0.035 },
};
const ARMS = ['post-ln', 'pre-ln', 'pld'];
/** The arms of examples/jobs/factorial.json. */
const TWELVE = ['post-ln', 'post-ln pld', 'pre-ln', 'pre-ln pld'].flatMap((arm) =>
  ['1e-4', '1e-3', '1e-2'].map((rate) => `${arm} ${rate}`),
);
/** The arms of examples/jobs/reviewers.json, of which one has a name as a script would write it. */
const MANY = [
  'pre-ln', 'float32', 'recompute', 'post-ln', 'pld', 'pld-released-index', 'pld-later-index', 'pld-unscaled',
  'pld-linear', 'pld-polynomial', 'pld-cosine', 'pld-step', 'pld-constant', 'pld-decreasing', 'stochastic-depth-pre',
  'stochastic-depth-post', 'stochastic-depth-pre-unscaled', 'stochastic-depth-post-unscaled', 'layerdrop',
  'attention-only', 'feed-forward-only', 'halves', 'per-micro-batch', 'per-sequence', 'fixed-number', 'top-by-rule',
  'growth', 'stacking', 'stacking-reset', 'sandwich', 'electra', 'electra-pld', 'next-sentence', 'falling-mask-rate',
  'lamb_peak=1.76e-3_warmup=0.02_decay=linear_weight-decay=0.01_beta2=0.999_clip=1.0_batch=32x128',
];
/** An arm like `pre-ln` at four times the learning rate, at which two of three seeds diverge. */
const FAST = 'pre-ln-fast';
/** Of the arms with made-up numbers of their own, the one that `arm` is like. */
export const likeness = (arm) =>
  /^post-ln(?! pld)/.test(arm) ? 'post-ln' : /pld|growth|drop|depth/.test(arm) ? 'pld' : 'pre-ln';
/** How far an arm is from the one that it is like, as a draw from a normal distribution; 0 for that one itself. */
const own = (arm) => (ARMS.includes(arm) || arm === FAST ? 0 : normal('own', arm));
export const peakRate = (arm) => (arm === FAST ? 4e-3 : 1e-3);
export const PRETRAIN_SEEDS = 3;
const FINETUNE_SEEDS = 5;
export const BLOCKS = 12;
const SHUFFLES = 3;
export const STEPS = 2000;
/** Rounds of a timing trial. */
export const ROUNDS = 32;
/** Seconds of a step. */
export const stepSeconds = (arm) =>
  ({ 'post-ln': 0.1843, 'pre-ln': 0.1821, pld: 0.1437 })[likeness(arm)] * (1 + 0.05 * own(arm));
export const DEVICE = { name: 'cuda:0', model: 'NVIDIA H100 80GB', threads: 8, libtorch: '2.11.0', trainer: '0.1.0' };
/** How much the share of failed fine-tune runs grows with a rate ten times the best one. */
const BRITTLE = { 'post-ln': 0.95, 'pre-ln': 0.45, pld: 0.2 };
const RATES = [2e-5, 5e-5, 1e-4, 2e-4, 5e-4];
/** Seconds that a job takes from start to end. */
const LENGTH = 900;

/** A pseudo-random number in [0, 1) that depends only on `name`. */
export function draw(...name) {
  let hash = 2166136261;
  for (const char of name.join('/')) hash = Math.imul(hash ^ char.charCodeAt(0), 16777619);
  hash = Math.imul(hash ^ (hash >>> 15), 2246822519);
  hash = Math.imul(hash ^ (hash >>> 13), 3266489917);
  return ((hash ^ (hash >>> 16)) >>> 0) / 2 ** 32;
}

export function normal(...name) {
  return Math.sqrt(-2 * Math.log(1 - draw(...name, 'a'))) * Math.cos(2 * Math.PI * draw(...name, 'b'));
}

const uuids = new Map();

function uuid(...name) {
  const key = name.join('/');
  const known = uuids.get(key);
  if (known) return known;
  const hex = Array.from({ length: 32 }, (_, i) => Math.floor(draw(...name, i) * 16).toString(16)).join('');
  const made = `0199c0de-${hex.slice(0, 4)}-7${hex.slice(4, 7)}-8${hex.slice(7, 10)}-${hex.slice(10, 22)}`;
  uuids.set(key, made);
  return made;
}

export const at = (milliseconds) => new Date(milliseconds).toISOString();
const seeds = (n, head = n) => ({ init: n, data: head, dropout: head, gate: n, head });

function loss(arm, seed, step) {
  const share = step / STEPS;
  const floor = { 'post-ln': 4.02, 'pre-ln': 3.86, pld: 3.885 }[likeness(arm)] + 0.06 * own(arm);
  const slow = { 'post-ln': 5.2, 'pre-ln': 7.2, pld: 6.9 }[likeness(arm)];
  return (
    floor +
    0.02 * normal('floor', arm, seed) +
    (10.3 - floor) * (0.62 * Math.exp(-slow * 5 * share) + 0.38 * Math.exp(-slow * share * 0.55) * (1 - 0.55 * share))
  );
}

function theta(arm, step) {
  return likeness(arm) === 'pld' ? 0.5 * Math.exp((-100 / STEPS) * step) + 0.5 : 1;
}

function metric(name, arm, seed, step) {
  const keep = (block) => 1 - (block / 12) * (1 - theta(arm, step));
  const open = () =>
    Array.from({ length: 12 }, (_, i) => draw('gate', seed, step, i) < keep(i + 1)).filter(Boolean).length;
  const [, block, quantity] = /^block_(\d+)_(.+)$/.exec(name) ?? [];
  if (block) return blockPoint(quantity, arm, seed, Number(block), step);
  return {
    validation_loss: () => loss(arm, seed, step),
    train_loss: () => loss(arm, seed, step) + 0.09 * normal('noise', arm, seed, step),
    theta: () => theta(arm, step),
    open_blocks: () => (likeness(arm) === 'pld' ? open() : 12),
    learning_rate: () => peakRate(arm) * Math.min(step / 40, (STEPS - step) / (STEPS - 40)),
    gradient_norm: () => 1.1 + 0.2 * normal('grad', arm, seed, step),
  }[name]?.();
}

/** A value of a block at `step`: it starts as a block that does nothing, and ends as the final probe finds it. */
function blockPoint(quantity, arm, seed, block, step) {
  const last = probe(arm, seed).blocks[block - 1]?.[quantity];
  const start = { cosine: 1, distance: 0, gradient_norm: 0.02 }[quantity];
  return last === undefined ? undefined : start + (last - start) * (1 - Math.exp((-6 * step) / STEPS));
}

function points(name, trial, most) {
  if (trial.stage === 'finetune' && name === 'train_loss') return finetuning(trial);
  if (trial.stage !== 'pretrain' || !trial.started_at) return [];
  const evaluated = name === 'validation_loss' || name.startsWith('block_');
  const every = evaluated ? STEPS / 20 : Math.ceil(STEPS / most);
  const found = [];
  for (let step = evaluated ? 0 : 1; step <= trial.step; step += every) {
    const value = metric(name, trial.arm, trial.seeds.init, step);
    if (value !== undefined) found.push({ step, trained_seconds: step * stepSeconds(trial.arm), value });
  }
  return found;
}

/** Why a queued trial does not run: most wait for a slot, a few for their next attempt. */
function waiting(trial, now) {
  if (trial.stage === 'timing') return { for: 'idle_node' };
  if (draw('retry', trial.id) > 0.05) return { for: 'slot' };
  return { for: 'retry', attempt: 1, outcome: 'failed', failure: 'device_fault', at: at(now + 40_000) };
}

/**
 * One job at `now`. `age` is in seconds; a job needs 900 of them. `rates` are those of fine-tuning. With `reference`,
 * the budget is in seconds of the timing device, so that pre-training waits for the timing trial. With `diverges`, all
 * pre-train runs do. `runs` are the numbers of pre-train and of fine-tune runs, `tasks` the tasks of GLUE. The job has
 * the stages in `stages`. Of a `noisy` job no measurement says anything.
 */
function job(number, name, arms, age, ending, now, options = {}) {
  const { rates = [1e-4], reference = false, diverges = false, noisy = false } = options;
  const { tasks = Object.keys(TASKS) } = options;
  const { runs: [pretrainSeeds, finetuneSeeds] = [PRETRAIN_SEEDS, FINETUNE_SEEDS] } = options;
  const { stages = ['timing', 'pretrain', 'probe', 'finetune'] } = options;
  const baseline = arms.find((arm) => arm.startsWith('pre-ln')) ?? arms[0];
  const id = uuid('job', number);
  const created = now - age * 1000;
  const time = ending === 'queued' ? 0 : Math.min(age, LENGTH);
  const trials = [];
  const add = (stage, starts, takes, rest, total) => {
    const name = [number, stage, rest.arm, rest.task, JSON.stringify(rest.seeds), ...(rest.rate ? [rest.rate] : [])];
    const share = ending === 'queued' || rest.waits?.failure ? 0 : Math.max(0, Math.min(1, (time - starts) / takes));
    const failure =
      rest.fails && share >= rest.fails
        ? {
            kind: 'non_finite_loss',
            message:
              `loss is NaN at step ${Math.floor(total * rest.fails)} ` +
              `(learning rate ${rest.rate ?? peakRate(rest.arm)})`,
          }
        : null;
    const lost = rest.waits?.failure ? 'failed' : null;
    const state = lost
      ? 'cancelled'
      : failure
      ? 'failed'
      : share === 1
        ? 'succeeded'
        : ending === 'cancelled'
          ? 'cancelled'
          : share > 0
            ? 'running'
            : rest.waits
              ? 'blocked'
              : 'queued';
    const step = Math.floor(total * (failure ? rest.fails : share));
    const started = share > 0 ? at(created + starts * 1000) : null;
    const trial = {
      id: uuid(...name),
      job: id,
      stage,
      arm: rest.arm ?? null,
      task: rest.task ?? null,
      learning_rate: rest.rate ?? null,
      keep: rest.task ? 'all' : null,
      seeds: rest.seeds,
      state,
      waits_for: rest.waits?.id ?? null,
      waiting: null,
      step,
      total_steps: total,
      trained_seconds: step * (rest.arm ? stepSeconds(rest.arm) : 0.17) * (rest.task ? 0.6 : 1),
      estimated_end: state === 'running' ? at(created + (starts + takes) * 1000) : null,
      fingerprint: uuid('print', number, stage, rest.arm, rest.task).replaceAll('-', '').repeat(2),
      attempt_count: started ? 1 : 0,
      created_at: at(created),
      started_at: started,
      finished_at: failure || state === 'succeeded' ? at(created + (starts + takes) * 1000) : null,
      failure,
      report: null,
      node: state === 'running' ? 'gpu-01' : null,
      slot: state === 'running' ? trials.length % 2 : null,
    };
    if (state === 'succeeded') trial.report = report(trial, rest);
    if (state === 'queued') trial.waiting = waiting(trial, now);
    if (trial.waiting?.for === 'retry') trial.attempt_count = 1;
    if (state === 'blocked' || lost) trial.waiting = { for: 'trial', stage: rest.waits.stage, state: rest.waits.state };
    trials.push(trial);
    return trial;
  };
  // Trials of all stages are made, because later ones refer to earlier ones; those of other stages are dropped below.
  const timing = add('timing', 5, 60, { seeds: seeds(0), arms, baseline }, (arms.length + 1) * ROUNDS * 3);
  // However many arms there are, the last one starts before the first fine-tuning.
  const between = Math.min(12, 36 / arms.length);
  const sources = arms.flatMap((arm, a) =>
    Array.from({ length: pretrainSeeds }, (_, seed) => {
      const waits = reference ? timing : undefined;
      const fails = diverges ? 0.2 + 0.1 * seed : arm === FAST && seed > 0 ? 0.3 * seed : 0;
      return add('pretrain', 60 + seed * 160 + a * between, 190, { arm, seeds: seeds(seed), waits, fails }, STEPS);
    }),
  );
  for (const source of sources) {
    const probed = 262 + source.seeds.init * 160 + arms.indexOf(source.arm) * between;
    const parts = 2 * BLOCKS + SHUFFLES;
    add('probe', probed, 8, { arm: source.arm, seeds: source.seeds, waits: source }, parts);
    for (const [task, rate] of tasks.flatMap((task) => rates.map((rate) => [task, rate]))) {
      for (let seed = 0; seed < finetuneSeeds; seed++) {
        const run = [source.seeds.init, seed];
        const one = source.arm === 'post-ln' && task === 'cola' && source.seeds.init === 1 && seed === 2;
        const high = rate > 2e-4 && draw('diverge', task, source.arm, rate, ...run) < BRITTLE[likeness(source.arm)] / 3;
        const fails = (rate === 1e-4 && one) || high ? 0.4 : 0;
        add(
          'finetune',
          270 + source.seeds.init * 170 + seed * 45,
          60,
          { arm: source.arm, task, rate, seeds: seeds(...run), waits: source, fails },
          468,
        );
      }
    }
  }
  const kept = trials.filter((trial) => stages.includes(trial.stage));
  const counts = Object.fromEntries(
    ['blocked', 'queued', 'running', 'succeeded', 'failed', 'cancelled', 'paused'].map((state) => [
      state,
      kept.filter((t) => t.state === state).length,
    ]),
  );
  const open = counts.blocked + counts.queued + counts.running;
  const status =
    ending === 'cancelled'
      ? 'cancelled'
      : open === 0
        ? counts.succeeded <= counts.failed
          ? 'failed'
          : counts.failed > 0
            ? 'partial'
            : 'succeeded'
        : counts.running + counts.succeeded > 0
          ? 'running'
          : 'queued';
  const progress =
    open === 0
      ? 1
      : kept.reduce(
          (sum, t) =>
            sum +
            (t.state === 'succeeded' || t.failure ? 1 : t.step / t.total_steps) * (t.stage === 'pretrain' ? 12 : 1),
          0,
        ) / kept.reduce((sum, t) => sum + (t.stage === 'pretrain' ? 12 : 1), 0);
  return {
    noisy,
    preregistration: uuid('preregistration', number).replaceAll('-', '').repeat(2),
    trials: kept,
    summary: {
      id,
      name,
      status,
      created_at: at(created),
      started_at: kept.map((trial) => trial.started_at).filter(Boolean).sort()[0] ?? null,
      finished_at: open === 0 || ending === 'cancelled' ? at(created + Math.min(age, LENGTH) * 1000) : null,
      arms,
      baseline,
      trials: counts,
      progress,
      estimated_end: status === 'running' ? at(created + LENGTH * 1000) : null,
    },
    spec: {
      name,
      model: 'narrow',
      corpus: 'wiki',
      vocabulary: 'bert-base-uncased',
      pretrain: {
        ...(reference ? { reference_seconds: 360 } : { steps: STEPS }),
        batch: 32,
        length: 128,
        learning_rate: { peak: 1e-3, warmup: 0.02, decay: 'linear' },
        seeds: pretrainSeeds,
        probe: stages.includes('probe'),
      },
      arms: arms.map((arm) =>
        likeness(arm) === 'pld'
          ? {
              name: arm,
              norm: 'pre',
              layer_drop: { schedule: 'exponential', theta_limit: 0.5, depth_index: 'one', scale: true },
            }
          : {
              name: arm,
              norm: likeness(arm) === 'post-ln' ? 'post' : 'pre',
              ...(arm === FAST ? { learning_rate: { peak: peakRate(arm), warmup: 0.02, decay: 'linear' } } : {}),
            },
      ),
      baseline,
      ...(stages.includes('finetune')
        ? { glue: { dataset: 'glue', tasks, seeds: finetuneSeeds, epochs: 3, learning_rates: rates } }
        : {}),
      ...(stages.includes('probe') ? { probe: { sequences: 512, shuffles: SHUFFLES } } : {}),
      timing: { rounds: ROUNDS, steps_per_turn: 2, warmup_steps: 1, largest_batch: {} },
    },
  };
}

function report(trial, { arms, baseline }) {
  const digest = uuid('digest', trial.id).replaceAll('-', '').repeat(2);
  if (trial.stage === 'timing') return { stage: 'timing', arms: timings(arms, baseline) };
  if (trial.stage === 'pretrain') {
    return {
      stage: 'pretrain',
      steps: STEPS,
      trained_seconds: STEPS * stepSeconds(trial.arm),
      tokens: STEPS * 4096,
      validation_loss: loss(trial.arm, trial.seeds.init, STEPS),
      guess_loss: Math.log(30_522),
      digest,
      checkpoint: digest,
    };
  }
  if (trial.stage === 'probe') return probe(trial.arm, trial.seeds.init);
  const { base, sd, majority, metrics } = TASKS[trial.task];
  const liked = { 'post-ln': -0.012, 'pre-ln': 0, pld: 0.006 }[likeness(trial.arm)] + 0.006 * own(trial.arm);
  const shift = liked * (trial.task === 'cola' ? 3 : 1);
  const run = [trial.task, trial.arm, trial.seeds.init, trial.seeds.head];
  // Away from its best rate a model learns less; above it, more runs fail.
  const off = Math.log10(trial.learning_rate / 1e-4);
  const slow = 2.2 * sd * off ** 2;
  const noise = trial.learning_rate === 1e-4 ? [] : [trial.learning_rate];
  // Scores are multiples of 1/277, as on a dev set of 277 examples: equal scores must stay visible in a strip plot.
  const raw = base + shift - slow + sd * normal('score', ...run, ...noise);
  const collapses = (trial.task === 'mrpc' ? 0 : 0.07) + Math.max(0, off) * BRITTLE[likeness(trial.arm)];
  const collapsed = draw('collapse', trial.id) < collapses;
  const score = collapsed ? majority : Math.round(Math.max(majority - 0.01, raw) * 277) / 277;
  return {
    stage: 'finetune',
    steps: 468,
    trained_seconds: 60 + 4 * normal('seconds', trial.id),
    metrics: Object.fromEntries(metrics.map((m) => [m, score])),
    score,
    selection_score: score + 0.3 * sd * normal('selection', trial.id),
    majority_score: majority,
    digest,
  };
}

/** Mean seconds per step of the turns of an arm in a timing trial. */
export function turnsOf(arm, like = arm) {
  return Array.from({ length: ROUNDS }, (_, i) => stepSeconds(like) * (1 + 0.012 * normal('turn', arm, i)));
}

/** The timings of all arms and of the baseline once more. They have their turns in a fresh random order each round. */
function timings(arms, baseline) {
  const again = `${baseline} (again)`;
  const names = [...arms, again];
  const orders = Array.from({ length: ROUNDS }, (_, round) => {
    const drawn = new Map(names.map((name) => [name, draw('order', name, round)]));
    return names.toSorted((a, b) => drawn.get(a) - drawn.get(b));
  });
  const open = (name, ...step) => (likeness(name) === 'pld' ? 5 + Math.floor(8 * draw('open', name, ...step)) : BLOCKS);
  const turn = (name) => (seconds, round) => ({
    place: orders[round].indexOf(name),
    warmup_seconds: [1.04 * seconds],
    seconds: [1.005 * seconds, 0.995 * seconds],
    open_blocks: [open(name, round, 0), open(name, round, 1)],
  });
  const turns = (name) => turnsOf(name, name === again ? baseline : name).map(turn(name));
  return names.map((name) => ({ name, blocks: BLOCKS, turns: turns(name), tokens_per_step: 4096 }));
}

/** The report of a probe. The first block matters most; with layer drop, deeper blocks and their order matter less. */
function probe(arm, seed) {
  const validation_loss = loss(arm, seed, STEPS);
  const noisy = (value, ...name) => value * (1 + 0.04 * normal('probe', arm, seed, ...name));
  const need = { 'post-ln': 0.11, 'pre-ln': 0.075, pld: 0.042 }[likeness(arm)] * (1 + 0.1 * own(arm));
  const [post, drops] = [likeness(arm) === 'post-ln', likeness(arm) === 'pld'];
  const blocks = Array.from({ length: BLOCKS }, (_, i) => {
    const [depth, last] = [i / (BLOCKS - 1), i === BLOCKS - 1];
    const removed = need * (1 + 5.5 * Math.exp(-1.6 * i) + (last ? 1.1 : 0)) * (drops ? 1.3 - 0.8 * depth : 1);
    const turn = 0.055 + (post ? 0.035 : 0) - (drops ? 0.015 : 0) - 0.035 * Math.sin(3 * depth);
    return {
      block: i + 1,
      cosine: 1 - noisy(turn + 0.11 * Math.exp(-1.5 * i), i, 'c'),
      distance: noisy(post ? 9.5 - 1.8 * depth : 3.2 + 5.4 * depth ** 1.3 - (drops ? 1.3 * depth : 0), i, 'd'),
      gradient_norm: noisy(post ? 0.06 + 0.17 * depth ** 2 : 0.21 - 0.12 * depth ** 0.7, i, 'g'),
      removed_loss: validation_loss + noisy(removed, i, 'r'),
      ...(last ? {} : { swapped_loss: validation_loss + noisy(0.42 * removed, i, 's') }),
    };
  });
  const shuffled = { 'post-ln': 3.4, 'pre-ln': 2.3, pld: 0.94 }[likeness(arm)];
  const shuffled_losses = Array.from({ length: SHUFFLES }, (_, i) => validation_loss + noisy(shuffled, 'shuffled', i));
  return { stage: 'probe', step: STEPS, sequences: 512, validation_loss, blocks, shuffled_losses };
}

function finetuning(trial) {
  return Array.from({ length: Math.floor(trial.step / 30) }, (_, i) => ({
    step: (i + 1) * 30,
    trained_seconds: (i + 1) * 3,
    value: 0.7 - 0.004 * i + 0.05 * normal('finetune', trial.id, i),
  }));
}

export function curvesOf({ trials }, name, most) {
  const series = trials
    .filter((t) => t.stage === 'pretrain')
    .map((t) => ({ trial: t.id, arm: t.arm, seeds: t.seeds, points: points(name, t, most) }));
  return { name, series: series.filter((s) => s.points.length > 0) };
}

export function trialOf(trial) {
  const names = ['validation_loss', 'train_loss', 'theta', 'open_blocks', 'learning_rate', 'gradient_norm'];
  for (let block = 1; block <= BLOCKS; block++)
    names.push(...['cosine', 'distance', 'gradient_norm'].map((quantity) => `block_${block}_${quantity}`));
  const attempt = {
    id: uuid('attempt', trial.id),
    number: 1,
    node: 'gpu-01',
    slot: 0,
    placed_at: trial.started_at,
    started_at: trial.started_at,
    ended_at: trial.finished_at,
    outcome: trial.failure ? 'failed' : trial.state === 'succeeded' ? 'succeeded' : null,
    failure: trial.failure,
    device: trial.step > 0 ? DEVICE : null,
    resumed_from: null,
    phase: null,
    step: trial.step,
    trained_seconds: trial.trained_seconds,
  };
  return {
    ...trial,
    points: names.flatMap((name) => points(name, trial, 500).map((p) => ({ name, ...p }))),
    attempts: trial.started_at ? [attempt] : [],
  };
}

export function logOf(trial) {
  if (!trial.started_at) return [];
  const start = Date.parse(trial.started_at);
  const texts = [
    `fingerprint ${trial.fingerprint.slice(0, 16)} trainer 0.1.0 libtorch 2.11.0 device cuda:0 (NVIDIA H100 80GB)`,
    'corpus wiki: 1,204 shards from the cache',
    ...Array.from({ length: Math.floor(trial.step / 10) }, (_, i) => {
      const step = (i + 1) * 10;
      const loss = metric('train_loss', trial.arm ?? 'pre-ln', trial.seeds.init, step) ?? 0;
      return `step ${step} loss ${loss.toFixed(4)}`;
    }),
    ...(trial.failure ? [`error: ${trial.failure.message}`] : []),
  ];
  return texts.map((text, i) => ({ id: i + 1, attempt: uuid('attempt', trial.id), text, at: at(start + i * 950) }));
}

/** Jobs that do not change any more. */
function endedJobs(started) {
  const few = { runs: [2, 2], tasks: ['rte', 'cola'] };
  return [
    job(2, 'norm placement and layer drop', ARMS, 5400, '', started, { rates: RATES }),
    job(3, 'pre-ln against pld, stopped early', ['pre-ln', 'pld'], 500, 'cancelled', started),
    job(60, 'a faster pre-training rate', ['pre-ln', FAST, 'pld'], 7200, '', started),
    job(61, 'one arm alone', ['pre-ln'], 9000, '', started),
    job(62, 'norm x layer drop x learning rate', TWELVE, 10_800, '', started, { runs: [3, 3], tasks: ['rte', 'cola'] }),
    job(63, 'every system that the reviewers asked for', MANY, 12_600, '', started, few),
    job(64, 'a rate at which all runs diverge', ['pre-ln', 'pld'], 14_400, '', started, { diverges: true }),
    job(65, 'timing alone', ARMS, 16_200, '', started, { stages: ['timing'] }),
    job(66, 'on a machine that does other work', ['pre-ln', 'pld'], 18_000, '', started, { noisy: true }),
    ...Array.from({ length: 40 }, (_, i) =>
      job(4 + i, `nightly ${40 - i}`, ['pre-ln', 'pld'], 86_400 * (i + 1), '', started, { runs: [1, 5] }),
    ),
  ];
}

/** The ended jobs by the time at which a server started: they are made once. */
const ended = new Map();

export function jobsAt(now, started) {
  if (!ended.has(started)) ended.set(started, endedJobs(started));
  return [
    job(0, 'pld on wiki', ARMS, 480 + (now - started) / 1000, '', now),
    job(1, 'pld on wiki, waiting', ['pre-ln', 'pld'], 40, 'queued', now, { reference: true }),
    ...ended.get(started),
  ];
}

/** The data that the mock's server has registered. */
export function datasetsAt(now) {
  const data = (name, kind, facts, bytes, files) => ({
    name,
    kind,
    path: `/srv/data/${name}`,
    digest: uuid('data', name).replaceAll('-', '').repeat(2),
    files,
    bytes,
    facts: { kind, ...facts },
    registered_at: at(now - 30 * 86_400e3),
  });
  return [
    data('generated-text', 'corpus', {}, 2_000_000, 1),
    data('wiki', 'corpus', {}, 12_400_000_000, 1204),
    data('bert-base-uncased', 'vocabulary', { tokens: 30_522 }, 231_508, 1),
    data('glue', 'glue', { examples: { cola: 8551, mrpc: 3668, rte: 2490, 'sst-2': 67_349 } }, 88_000_000, 31),
  ];
}

export function nodesAt(now, jobs) {
  const running = jobs.flatMap((j) => j.trials).filter((t) => t.state === 'running');
  const slot = (index, model, device, memory) => {
    const trial = running[index];
    return {
      index,
      device,
      model,
      threads: 8,
      memory_bytes: memory,
      attempt: trial ? { id: uuid('attempt', trial.id), trial: trial.id, job: trial.job } : null,
    };
  };
  return [
    {
      id: uuid('node', 1),
      name: 'gpu-01',
      instance: uuid('instance', 1),
      live: true,
      draining: false,
      last_seen: at(now - 1200),
      labels: { pool: 'training', rack: 'b2' },
      slots: [
        slot(0, 'NVIDIA H100 80GB', 'cuda:0', 85_520_809_984),
        slot(1, 'NVIDIA H100 80GB', 'cuda:1', 85_520_809_984),
      ],
    },
    {
      id: uuid('node', 2),
      name: 'old-workstation',
      instance: uuid('instance', 2),
      live: false,
      draining: false,
      last_seen: at(now - 3 * 3600e3),
      labels: {},
      slots: [{ ...slot(99, 'AMD EPYC 7B13', 'cpu', 33_285_996_544), index: 0 }],
    },
  ];
}
