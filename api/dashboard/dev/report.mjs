// The report of a made-up job: the shape of scheduler/report, with simpler statistics.

import { answersOf } from './answer.mjs';
import { BLOCKS, DEVICE, likeness, normal, peakRate, ROUNDS, STEPS, TASKS, turnsOf } from './data.mjs';
import { deviation, estimate, expectedBest, mean, quantile, shareDifference, twoSided, wilson } from './statistics.mjs';

/** Loss of a guess that gives every word of the vocabulary the same probability. */
const GUESS = Math.log(30_522);

export function reportOf(job) {
  const { report, asked } = madeUp(job);
  if (job.noisy) blur(report, asked);
  const preregistration = preregistrationOf(job, asked.flatMap(({ questions }) => questions).length);
  return { ...report, ...answersOf(asked, report.baseline), preregistration };
}

/** What was fixed at submission, and what came out differently. */
function preregistrationOf({ preregistration, trials }, questions) {
  const count = (state, what) => {
    const found = trials.filter((t) => t.state === state).length;
    if (found === 0) return [];
    return [found === 1 ? `1 trial ${what.replace('were', 'was')}.` : `${found} trials ${what}.`];
  };
  const deviations = [...count('failed', 'failed'), ...count('cancelled', 'were cancelled')];
  return { digest: preregistration, questions, deviations };
}

/** Replaces numbers by some that a real report had: of two turns and two runs that differ by orders of magnitude. */
function blur({ speed, pretrain, glue }, asked) {
  for (const arm of speed.arms) {
    arm.seconds_per_step = 0.203;
    if (!arm.ratio_interval) continue;
    const ratio = { ratio_to_baseline: 5.24, ratio_interval: [0.0001, 603_653_588.96] };
    Object.assign(arm, ratio, { step_saving: 0.809, step_saving_interval: [-9999, 1] });
    if (arm.share_of_limit) Object.assign(arm, { share_of_limit: 8.1, share_of_limit_interval: [-109, 240] });
  }
  Object.assign(speed.control, { ratio: 0.61, interval: [0.02, 31.2], agrees: true });
  for (const arm of pretrain) if (arm.comparison) arm.comparison.interval = [-31.2, 30.4];
  for (const task of glue) {
    for (const arm of task.arms) arm.interval = [arm.mean - 0.51, arm.mean + 0.51];
    for (const one of [...task.comparisons, ...task.selected_comparisons]) {
      Object.assign(one, { interval: [-2.4, 2.6], p_paired_t: 0.9, p_holm: 1 });
    }
  }
  const wide = (values, width) => [mean(values) - width, mean(values) + width];
  for (const one of asked.flatMap(({ questions }) => questions)) {
    if (one.question === 'speed') one.obstacle = 'the interval of the speed-up spans a factor of two';
    one.values = wide(one.values, one.question === 'speed' ? 2 : one.question.endsWith('spread') ? 5 : 1.3);
  }
}

function madeUp({ summary: job, trials }) {
  const { arms, baseline } = job;
  const done = trials.filter((t) => t.state === 'succeeded' || t.failure);
  const timed = done.some((t) => t.stage === 'timing');
  const of = (stage, arm) => done.filter((t) => t.stage === stage && t.arm === arm);
  const speedUp = (arm, against) => {
    const [own, others] = [turnsOf(arm), turnsOf(against)];
    return own.map((turn, i) => Math.log(others[i] / turn));
  };
  const anyLoss = done.some((t) => t.stage === 'pretrain' && t.report);
  const pretrainRuns = (arm) =>
    of('pretrain', arm).flatMap((t) => {
      const value = t.report?.validation_loss ?? (anyLoss ? GUESS : null);
      return value === null ? [] : [{ seeds: [t.seeds.init, 0], value, failed: !t.report }];
    });
  const taskRuns = (task, arm) => of('finetune', arm).filter((t) => t.task === task);
  const rowsOf = (task, arm) => {
    const rates = [...new Set(taskRuns(task, arm).map((t) => t.learning_rate))].sort((a, b) => a - b);
    const runsAt = (rate) => taskRuns(task, arm).filter((t) => t.learning_rate === rate);
    const rows = rates.map((rate) => glueRow(task, arm, rate, runsAt(rate)));
    const best = select(rows.map((row) => row.scores));
    return rows.map((row, i) => ({ ...row, selected: i === best }));
  };
  const tasks = Object.keys(TASKS).flatMap((task) => {
    const rows = new Map(arms.map((arm) => [arm, rowsOf(task, arm)]));
    if ([...rows.values()].every((own) => own.length === 0)) return [];
    const tuned = arms.filter((arm) => rows.get(arm).length > 0);
    const fitted = new Map(tuned.map((arm) => [arm, crossFitted(task, rows.get(arm))]));
    return [{ task, rows, fitted }];
  });
  const pretrainOf = (arm) => {
    const ended = of('pretrain', arm);
    const losses = ended.flatMap((t) => t.report?.validation_loss ?? []);
    const diverged = ended.filter((t) => t.failure).length;
    const found = estimate(pretrainRuns(arm).map((run) => run.value));
    return {
      arm,
      learning_rate: ended.length > 0 ? peakRate(arm) : null,
      seeds: ended.map((t) => ({
        seed: t.seeds.init,
        steps: t.report?.steps ?? null,
        validation_loss: t.report?.validation_loss ?? null,
        hours: t.report ? t.trained_seconds / 3600 : null,
        reference_hours: t.report && timed ? (STEPS * mean(turnsOf(arm)) * 0.97) / 3600 : null,
        failure: t.failure?.kind ?? null,
      })),
      diverged,
      diverged_interval: wilson(diverged, ended.length),
      validation_loss: found,
      ...(diverged > 0 && losses.length > 0 ? { loss_without_failures: mean(losses) } : {}),
      guess_loss: anyLoss ? GUESS : null,
      comparison: arm === baseline ? null : compare(arm, pretrainRuns(arm), pretrainRuns(baseline), true),
    };
  };
  const effect = (factors, arm, against) => {
    const loss = compare(arm, pretrainRuns(arm), pretrainRuns(against), true);
    if (!loss || !timed) return [];
    const speed = estimate(speedUp(arm, against));
    return [
      {
        factors,
        arm,
        against,
        learning_rates: [1e-3, 1e-3],
        each_at_its_best: false,
        loss,
        speed_up: Math.exp(speed.mean),
        speed_up_interval: speed.interval.map(Math.exp),
      },
    ];
  };
  const effects = ['post-ln', 'pre-ln', 'pld'].every((arm) => arms.includes(arm))
    ? [
        ...effect(['norm'], 'pre-ln', 'post-ln'),
        ...effect(['norm', 'layer_drop'], 'pld', 'post-ln'),
        ...effect(['layer_drop'], 'pld', 'pre-ln'),
      ]
    : [];
  const probes = arms.flatMap((arm) => probeArm(arm, of('probe', arm).map((t) => t.report).filter(Boolean)) ?? []);
  const report = {
    job: job.id,
    name: job.name,
    baseline,
    complete: job.finished_at !== null,
    speed: timed
      ? {
          device: DEVICE,
          rounds: ROUNDS,
          control: controlOf(baseline),
          fit: { fixed: 0.02, per_block: 0.0135 },
          arms: arms.map((arm) => speedOf(arm, baseline, speedUp(arm, baseline))),
        }
      : null,
    pretrain: arms.map(pretrainOf),
    ...(effects.length > 0 ? { effects } : {}),
    ...(probes.length > 0 ? { probes } : {}),
    glue: tasks.map((task) => taskReport(task, arms, baseline)),
    glue_averages: averagesOf(tasks, arms),
    notes: !arms.includes('post-ln')
      ? []
      : job.finished_at
        ? ['CoLA, post-ln, rate 1e-4: one of 15 runs diverged; it counts with the score of the majority class.']
        : ['Trials are still to come: every number can change.', 'GLUE intervals rest on 3 pre-train seeds each.'],
  };
  const asked = arms
    .filter((arm) => arm !== baseline)
    .map((arm) => ({ arm, questions: questions({ arm, baseline, trials, timed, speedUp, pretrainRuns, tasks }) }));
  return { report, asked };
}

/** What the job asks of an arm, with the values that answer it. */
function questions({ arm, baseline, trials, timed, speedUp, pretrainRuns, tasks }) {
  const pending = (stage, task) => {
    const counted = trials.filter(
      (t) => t.stage === stage && [arm, baseline].includes(t.arm) && (!task || t.task === task),
    );
    const open = counted.filter((t) => ['blocked', 'queued', 'running'].includes(t.state)).length;
    return open > 0 ? `${open} of ${counted.length} runs have not ended` : undefined;
  };
  const has = (stage) => trials.some((t) => t.stage === stage && t.arm === arm);
  const asked = [];
  if (trials.some((t) => t.stage === 'timing')) {
    const obstacle = timed ? undefined : 'no timing trial has succeeded';
    asked.push({ question: 'speed', values: timed ? speedUp(arm, baseline) : [], obstacle });
  }
  if (has('pretrain')) {
    const found = shared(pretrainRuns(arm), pretrainRuns(baseline));
    const obstacle = pending('pretrain');
    asked.push({ question: 'validation_loss', values: found.pairs.map(([own, other]) => own - other), obstacle });
    asked.push({ question: 'loss_spread', values: leftOut(found.pairs), obstacle });
  }
  if (has('finetune')) {
    const several = [...new Set(trials.filter((t) => t.stage === 'finetune').map((t) => t.task))];
    const one = new Set(trials.filter((t) => t.stage === 'finetune').map((t) => t.seeds.init)).size < 2;
    const few = one ? 'there is one pre-train seed: the runs of one checkpoint say nothing about those of another' : '';
    const found = tasks.flatMap(({ task, fitted }) => {
      const [own, other] = [fitted.get(arm), fitted.get(baseline)];
      return own && other ? [{ task, ...shared(own.runs, other.runs) }] : [];
    });
    for (const task of several) {
      const pairs = found.find((one) => one.task === task)?.pairs ?? [];
      const obstacle = few || pending('finetune', task);
      asked.push({ question: 'score', task, values: pairs.map(([own, other]) => own - other), obstacle });
    }
    const obstacle = few || pending('finetune');
    // The mean over the tasks, for each pair that all of them have.
    const over = (values) => {
      const lists = found.map(values);
      const pairs = lists.length === 0 ? 0 : Math.min(...lists.map((list) => list.length));
      return Array.from({ length: pairs }, (_, i) => mean(lists.map((list) => list[i])));
    };
    if (several.length > 1) {
      const values = over(({ pairs }) => pairs.map(([own, other]) => own - other));
      asked.push({ question: 'mean_score', values, obstacle });
    }
    asked.push({ question: 'score_spread', values: over(({ spreads }) => spreads), obstacle });
  }
  return asked;
}

function speedOf(arm, baseline, ratios) {
  const other = arm !== baseline;
  const found = estimate(ratios);
  const ratio = other ? Math.exp(found.mean) : 1;
  const interval = other ? found.interval.map(Math.exp) : null;
  const drops = likeness(arm) === 'pld' && other;
  const saving = (of) => 1 - 1 / of;
  const limit = 0.2357;
  const seconds_per_step = mean(turnsOf(baseline)) / ratio;
  return {
    arm,
    seconds_per_step,
    tokens_per_second: 4096 / seconds_per_step,
    ratio_to_baseline: ratio,
    ratio_interval: interval,
    step_saving: saving(ratio),
    step_saving_interval: interval?.map(saving) ?? null,
    encoder_share: drops ? 0.88 : null,
    closed_form_saving: drops ? 0.2678 : null,
    limit_saving: drops ? limit : null,
    share_of_limit: drops ? saving(ratio) / limit : null,
    share_of_limit_interval: drops ? interval.map((end) => saving(end) / limit) : null,
    first_step: { ratio: 1.003, interval: [0.998, 1.008] },
    by_open: [],
    memory: memoryOf(arm),
    largest_batch: { 'post-ln': 1472, 'pre-ln': 1440, pld: 1440 }[likeness(arm)],
  };
}

function controlOf(baseline) {
  const again = turnsOf(`${baseline} (again)`, baseline);
  const found = estimate(turnsOf(baseline).map((turn, i) => Math.log(turn / again[i])));
  const interval = found.interval.map(Math.exp);
  return { ratio: Math.exp(found.mean), interval, agrees: interval[0] <= 1 && interval[1] >= 1 };
}

/** The rate with the best selection score, first of all among those at which no run diverged. */
function select(rates) {
  const rank = (scores) => {
    const known = scores.flatMap((s) => (s.selection === null ? [] : [s.selection]));
    return (scores.some((s) => s.score === null) ? 0 : 10) + (known.length > 0 ? mean(known) : -1);
  };
  const ranks = rates.map(rank);
  return ranks.indexOf(Math.max(...ranks));
}

const runsOf = (task, scores) =>
  scores.map((s) => ({ seeds: [s.pretrain_seed, s.seed], value: s.score ?? TASKS[task].majority, failed: s.failed }));

/** One half of the seeds selects the rate at which the other half is scored, and the other way round. */
function crossFitted(task, rows) {
  if (rows.length === 1) return { rates: [rows[0].learning_rate], tried: 1, runs: runsOf(task, rows[0].scores) };
  const half = (row, first) => row.scores.filter((s) => ((s.seed + s.pretrain_seed) % 2 === 0) === first);
  const found = [true, false].map((first) => {
    const row = rows[select(rows.map((one) => half(one, first)))];
    return { rate: row.learning_rate, runs: runsOf(task, half(row, !first)) };
  });
  const rates = [...new Set(found.map(({ rate }) => rate))].sort((a, b) => a - b);
  return { rates, tried: rows.length, runs: found.flatMap(({ runs }) => runs) };
}

/** The values of each checkpoint. */
const byCheckpoint = (runs) => {
  const seeds = [...new Set(runs.map((run) => run.seeds[0]))];
  return seeds.map((seed) => runs.filter((run) => run.seeds[0] === seed).map((run) => run.value));
};
/** With several pre-train seeds each gives one value, else each run does. */
const independent = (runs) => {
  const checkpoints = byCheckpoint(runs);
  return checkpoints.length === 1 ? checkpoints[0] : checkpoints.map(mean);
};

/** Pairs and spreads of the runs with seeds that both have. */
function shared(runs, others) {
  const key = (run) => run.seeds.join();
  const keys = new Set(others.map(key));
  const own = runs.filter((run) => keys.has(key(run))).sort((a, b) => (key(a) < key(b) ? -1 : 1));
  const ownKeys = new Set(own.map(key));
  const other = others.filter((run) => ownKeys.has(key(run))).sort((a, b) => (key(a) < key(b) ? -1 : 1));
  const values = independent(other);
  const [ownOnes, otherOnes] = [byCheckpoint(own), byCheckpoint(other)];
  const spreads = ownOnes.flatMap((one, i) => {
    const ratio = one.length > 1 ? Math.log(deviation(one) / deviation(otherOnes[i])) : NaN;
    return Number.isFinite(ratio) ? [ratio] : [];
  });
  const pairs = independent(own).map((value, i) => [value, values[i]]);
  return { own, other, pairs, spreads, checkpoints: ownOnes.length };
}

/** Logarithm of the ratio of spreads over pairs, as one value for each pair: pseudo-values of a jackknife around it. */
function leftOut(pairs) {
  if (pairs.length < 3) return [];
  const ratio = (some) => Math.log(deviation(some.map(([own]) => own)) / deviation(some.map(([, other]) => other)));
  const [all, without] = [ratio(pairs), pairs.map((_, i) => ratio(pairs.toSpliced(i, 1)))];
  const values = without.map((one) => all + (pairs.length - 1) * (mean(without) - one));
  return values.every(Number.isFinite) ? values : [];
}

function compare(arm, runs, others, isPretrain = false, setting = {}) {
  const { own, other, pairs, spreads, checkpoints } = shared(runs, others);
  const found = estimate(pairs.map(([one, two]) => one - two));
  if (!found) return null;
  const p = found.interval ? twoSided(found.mean / (found.sd / Math.sqrt(found.n)), found.n - 1) : null;
  const isOne = !isPretrain && checkpoints === 1;
  const failed = (all) => [all.filter((run) => run.failed).length, all.length];
  return {
    arm,
    learning_rate: null,
    baseline_learning_rate: null,
    keep: isPretrain ? null : 'all',
    blocks: isPretrain ? null : BLOCKS,
    ...setting,
    units: isOne ? 'runs_of_one_checkpoint' : 'checkpoints',
    n_pairs: found.n,
    mean_difference: found.mean,
    interval: found.interval,
    effect_size: found.interval && found.n > 2 ? (found.mean / found.sd) * (1 - 3 / (4 * found.n - 5)) : null,
    p_paired_t: p,
    p_holm: isPretrain || p === null ? null : Math.min(1, p * 3),
    p_wilcoxon: p === null || found.n < 6 ? null : 0.25,
    spread: spreadOf(isPretrain ? leftOut(pairs) : spreads, isPretrain, isOne, own.length),
    failed: { ...shareDifference(failed(own), failed(other)), p_mcnemar: isPretrain || isOne ? 1 : null },
  };
}

function spreadOf(values, isPretrain, isOne, n) {
  const found = estimate(values);
  if (!found) return null;
  const half = quantile(n - 1) / Math.sqrt(n - 1);
  return {
    scope: isPretrain ? 'between_seeds' : isOne ? 'one_checkpoint' : 'within_checkpoints',
    n: isOne ? n : found.n,
    ratio: Math.exp(found.mean),
    interval: (isOne ? [found.mean - half, found.mean + half] : found.interval)?.map(Math.exp) ?? null,
    p: isOne ? 0.41 : found.interval ? twoSided(found.mean / (found.sd / Math.sqrt(found.n)), found.n - 1) : null,
  };
}

function taskReport({ task, rows, fitted }, arms, baseline) {
  const others = arms.filter((arm) => arm !== baseline && rows.get(arm).length > 0);
  const equal = others.flatMap((arm) =>
    rows.get(arm).flatMap((row) => {
      const other = rows.get(baseline).find((one) => one.learning_rate === row.learning_rate);
      const setting = { learning_rate: row.learning_rate, baseline_learning_rate: row.learning_rate };
      return other ? (compare(arm, runsOf(task, row.scores), runsOf(task, other.scores), false, setting) ?? []) : [];
    }),
  );
  const selectedRate = (arm) => rows.get(arm).find((row) => row.selected).learning_rate;
  const selected = others.flatMap((arm) => {
    const [own, other] = [fitted.get(arm), fitted.get(baseline)];
    if (!other) return [];
    const setting = { learning_rate: selectedRate(arm), baseline_learning_rate: selectedRate(baseline) };
    return compare(arm, own.runs, other.runs, false, setting) ?? [];
  });
  return {
    task,
    metrics: TASKS[task].metrics,
    majority_score: TASKS[task].majority,
    arms: [...rows.values()].flat(),
    comparisons: equal,
    selected: [...fitted].map(([arm, { rates, tried, runs }]) => {
      const found = estimate(independent(runs));
      const base = { arm, keep: 'all', blocks: BLOCKS, learning_rates: rates, tried, n: runs.length };
      return { ...base, mean: found.mean, interval: found.interval };
    }),
    selected_comparisons: selected,
  };
}

/** The mean over the tasks on which every arm that is fine-tuned has a score. */
function averagesOf(tasks, arms) {
  const tuned = arms.filter((arm) => tasks.some(({ fitted }) => fitted.has(arm)));
  const common = tasks.filter(({ fitted }) => tuned.every((arm) => fitted.has(arm)));
  if (common.length === 0) return [];
  return tuned.map((arm) => {
    const of = common.map(({ fitted }) => byCheckpoint(fitted.get(arm).runs).map(mean));
    const least = Math.min(...of.map((values) => values.length));
    const found = estimate(Array.from({ length: least }, (_, i) => mean(of.map((values) => values[i]))));
    const interval = least > 1 ? found.interval : null;
    return { arm, keep: 'all', blocks: BLOCKS, tasks: common.map(({ task }) => task), mean: found.mean, interval };
  });
}

function glueRow(task, arm, learning_rate, runs) {
  const scores = runs.map((t) => ({
    seed: t.seeds.head,
    pretrain_seed: t.seeds.init,
    score: t.report?.score ?? null,
    selection: t.report?.selection_score ?? null,
    failed: !t.report || t.report.score <= TASKS[task].majority,
    hours: t.report ? t.report.trained_seconds / 3600 : null,
  }));
  const all = runsOf(task, scores);
  const values = all.map((run) => run.value);
  const good = all.filter((run) => !run.failed).map((run) => run.value);
  const found = estimate(independent(all));
  const failed = scores.filter((s) => s.failed).length;
  const checkpoints = byCheckpoint(all);
  const sd = values.length > 1 ? deviation(values) : null;
  const isNested = checkpoints.length > 1 && sd > 0;
  const between = isNested ? Math.min(1, deviation(checkpoints.map(mean)) ** 2 / sd ** 2 / 2) : null;
  const design = 1 + (all.length / checkpoints.length - 1) * between;
  const known = (list) => (list.length > 0 ? mean(list) : null);
  return {
    arm,
    keep: 'all',
    blocks: BLOCKS,
    learning_rate,
    selection: known(scores.flatMap((s) => (s.selection === null ? [] : [s.selection]))),
    selected: false,
    n: scores.length,
    mean: found?.mean ?? null,
    interval: found?.interval ?? null,
    independent: found?.n ?? 0,
    ...(failed > 0 && good.length > 0 ? { mean_without_failures: mean(good) } : {}),
    sd,
    ...(between === null
      ? {}
      : { between_checkpoints: between, effective_n: all.length / design }),
    median: values.toSorted((a, b) => a - b)[values.length >> 1] ?? null,
    min: Math.min(...values),
    max: Math.max(...values),
    failed,
    failed_interval: wilson(failed, scores.length),
    diverged: scores.filter((s) => s.score === null).length,
    hours: known(scores.flatMap((s) => s.hours ?? [])),
    best_of: [2, 5, 10, 20, 50]
      .filter((k) => k < values.length)
      .map((k) => ({ runs: k, expected: expectedBest(values, k) })),
    scores,
  };
}

/** Memory of a model of 33 million weights, with AdamW. */
function memoryOf(arm) {
  const MIB = 2 ** 20;
  const state_bytes = 507 * MIB;
  const open = likeness(arm) === 'pld' ? Array.from({ length: 8 }, (_, i) => 5 + i) : [BLOCKS];
  const each = likeness(arm) === 'post-ln' ? 93.6 : 96.1;
  const by_open = open.map((blocks) => ({
    open_sublayers: 2 * blocks,
    steps: likeness(arm) === 'pld' ? 2 : 16,
    // The largest tensors are the logits, however many blocks are open.
    peak_bytes: Math.round((507 + 640 + each * blocks + (blocks === BLOCKS ? 0 : 9 * normal('peak', blocks))) * MIB),
  }));
  const share = likeness(arm) === 'pld' ? 0.47 : 0.58;
  for (const row of by_open) row.mean_bytes = Math.round(state_bytes + share * (row.peak_bytes - state_bytes));
  const peak_bytes = Math.max(...by_open.map((row) => row.peak_bytes));
  return { state_bytes, peak_bytes, mean_bytes: Math.round(state_bytes + share * (peak_bytes - state_bytes)), by_open };
}

/** The means over the probes of an arm, as in scheduler/report/src/probe.rs. */
function probeArm(arm, found) {
  if (found.length === 0) return null;
  const over = (value) => found.reduce((sum, report) => sum + value(report), 0) / found.length;
  const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
  return {
    arm,
    n: found.length,
    validation_loss: over((report) => report.validation_loss),
    shuffled_adds: over((report) => mean(report.shuffled_losses) - report.validation_loss),
    blocks: found[0].blocks.map(({ block, swapped_loss }, i) => ({
      block,
      removed_adds: over((report) => report.blocks[i].removed_loss - report.validation_loss),
      swapped_adds:
        swapped_loss === undefined ? null : over((report) => report.blocks[i].swapped_loss - report.validation_loss),
      cosine: over((report) => report.blocks[i].cosine),
      distance: over((report) => report.blocks[i].distance),
      gradient_norm: over((report) => report.blocks[i].gradient_norm),
    })),
  };
}
