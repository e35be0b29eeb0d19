// The report of a made-up job: the shape of scheduler/report, with simpler statistics.

import {
  BLOCKS, DEVICE, likeness, normal, peakRate, PRETRAIN_SEEDS, STEPS, stepSeconds, TASKS, turnsOf,
} from './data.mjs';

const T95 = [0, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];

export function reportOf(job) {
  const report = madeUp(job);
  if (job.noisy) blur(report);
  return report;
}

/** Replaces intervals by some that a real report had: of two turns and two runs that differ by orders of magnitude. */
function blur({ speed, glue, pretrain }) {
  for (const arm of speed.arms) {
    Object.assign(arm.seconds_per_step, { mean: 0.203, interval: [-1.212, 1.618] });
    if (arm.ratio_interval) Object.assign(arm, { ratio_to_baseline: 5.24, ratio_interval: [0.0001, 603_653_588.96] });
    if (arm.share_of_limit) Object.assign(arm, { step_saving: 0.809, share_of_limit: 8.1 });
  }
  for (const arm of pretrain) if (arm.comparison) arm.comparison.interval = [-31.2, 30.4];
  for (const task of glue) {
    for (const arm of task.arms) arm.interval = [arm.mean - 0.51, arm.mean + 0.51];
    for (const one of [...task.comparisons, ...task.selected_comparisons]) {
      Object.assign(one, { interval: [-2.4, 2.6], p_paired_t: 0.9, p_holm: 1 });
    }
  }
}

function madeUp({ summary: job, trials }) {
  const { arms, baseline } = job;
  const done = trials.filter((t) => t.state === 'succeeded' || t.failure);
  const timed = done.some((t) => t.stage === 'timing');
  const speedOf = (arm) => {
    const turns = turnsOf(arm);
    const others = turnsOf(baseline);
    const ratios = summary(turns.map((turn, i) => others[i] / turn));
    const seconds_per_step = summary(turns);
    const other = arm !== baseline;
    const drops = likeness(arm) === 'pld';
    const step_saving = other ? 1 - 1 / ratios.mean : null;
    return {
      arm,
      seconds_per_step,
      ratio_to_baseline: other ? ratios.mean : null,
      ratio_interval: other ? ratios.interval : null,
      step_saving,
      encoder_share: drops ? 0.88 : null,
      closed_form_saving: drops ? 0.2678 : null,
      limit_saving: drops ? 0.2357 : null,
      share_of_limit: drops ? step_saving / 0.2357 : null,
      tokens_per_second: 4096 / seconds_per_step.mean,
      by_open: [],
      memory: memoryOf(arm),
      largest_batch: { 'post-ln': 1472, 'pre-ln': 1440, pld: 1440 }[likeness(arm)],
    };
  };
  const lossOf = (arm) => done.filter((t) => t.stage === 'pretrain' && t.arm === arm && t.report);
  const probesOf = (arm) => done.filter((t) => t.stage === 'probe' && t.arm === arm && t.report).map((t) => t.report);
  const runsOf = (task, arm) => done.filter((t) => t.stage === 'finetune' && t.task === task && t.arm === arm);
  const runsAt = (task, arm, rate) => runsOf(task, arm).filter((t) => t.learning_rate === rate);
  const pairs = (mine, theirs, value) =>
    mine.flatMap((t) => {
      const other = theirs.find((o) => o.seeds.init === t.seeds.init && o.seeds.head === t.seeds.head);
      return other?.report && t.report ? [value(t) - value(other)] : [];
    });
  const effect = (factors, arm, against) => {
    const loss = comparison(
      arm,
      null,
      pairs(lossOf(arm), lossOf(against), (t) => t.report.validation_loss),
    );
    if (!loss || !timed) return [];
    const speed_up = stepSeconds(against) / stepSeconds(arm);
    return [{ factors, arm, against, learning_rates: [1e-3, 1e-3], each_at_its_best: false, loss, speed_up }];
  };
  const effects = ['post-ln', 'pre-ln', 'pld'].every((arm) => arms.includes(arm))
    ? [
        ...effect(['norm'], 'pre-ln', 'post-ln'),
        ...effect(['norm', 'layer_drop'], 'pld', 'post-ln'),
        ...effect(['layer_drop'], 'pld', 'pre-ln'),
      ]
    : [];
  const probes = arms.flatMap((arm) => probeArm(arm, probesOf(arm)) ?? []);
  /** One row for each rate that has a run; the rate with the best selection score is selected. */
  const rowsOf = (task, arm) => {
    const rates = [...new Set(runsOf(task, arm).map((t) => t.learning_rate))].sort((a, b) => a - b);
    const rows = rates.map((rate) => glueArm(task, arm, rate, runsAt(task, arm, rate)));
    const best = Math.max(...rows.map((row) => row.selection ?? -1));
    return rows.map((row) => ({ ...row, selected: rows.length === 1 || row.selection === best }));
  };
  const averages = arms.flatMap((arm) => {
    const selected = Object.keys(TASKS).map((task) => [task, rowsOf(task, arm).find((row) => row.selected)]);
    const [tasks, means] = [[], []];
    for (const [task, row] of selected) {
      if (row?.mean == null) continue;
      tasks.push(task);
      means.push(row.mean);
    }
    return tasks.length > 0 ? [{ arm, keep: 'all', blocks: BLOCKS, tasks, mean: summary(means).mean }] : [];
  });
  return {
    job: job.id,
    name: job.name,
    baseline,
    complete: job.finished_at !== null,
    speed: timed
      ? {
          device: DEVICE,
          fit: { fixed: 0.02, per_block: 0.0135 },
          arms: arms.map(speedOf),
        }
      : null,
    pretrain: arms.map((arm) => {
      const runs = lossOf(arm);
      const ended = done.filter((t) => t.stage === 'pretrain' && t.arm === arm);
      const diverged = ended.filter((t) => t.failure).length;
      return {
        arm,
        learning_rate: ended.length > 0 ? peakRate(arm) : null,
        seeds: ended.map((t) => ({
          seed: t.seeds.init,
          steps: t.report?.steps ?? null,
          validation_loss: t.report?.validation_loss ?? null,
          hours: t.report ? t.trained_seconds / 3600 : null,
          reference_hours: t.report && timed ? (STEPS * stepSeconds(arm) * 0.97) / 3600 : null,
          failure: t.failure?.kind ?? null,
        })),
        diverged,
        diverged_interval: wilson(diverged, ended.length),
        validation_loss: summary(runs.map((t) => t.report.validation_loss)),
        comparison:
          arm === baseline
            ? null
            : comparison(
                arm,
                null,
                pairs(runs, lossOf(baseline), (t) => t.report.validation_loss),
              ),
      };
    }),
    ...(effects.length > 0 ? { effects } : {}),
    ...(probes.length > 0 ? { probes } : {}),
    glue: Object.keys(TASKS).flatMap((task) => {
      const rows = arms.flatMap((arm) => rowsOf(task, arm));
      if (rows.length === 0) return [];
      const compared = (one, other) =>
        comparison(
          one.arm,
          one.learning_rate,
          pairs(
            runsAt(task, one.arm, one.learning_rate),
            runsAt(task, baseline, other.learning_rate),
            (t) => t.report.score,
          ),
          other.learning_rate,
        ) ?? [];
      const against = (isOther) =>
        rows
          .filter((row) => row.arm !== baseline)
          .flatMap((row) => rows.filter((other) => other.arm === baseline && isOther(row, other)).map((o) => [row, o]))
          .flatMap(([row, other]) => compared(row, other));
      return [
        {
          task,
          metrics: TASKS[task].metrics,
          majority_score: TASKS[task].majority,
          arms: rows,
          comparisons: against((row, other) => row.learning_rate === other.learning_rate),
          selected_comparisons: against((row, other) => row.selected && other.selected),
        },
      ];
    }),
    glue_averages: averages,
    notes: !arms.includes('post-ln')
      ? []
      : job.finished_at
      ? ['CoLA, post-ln, rate 1e-4: one of 15 runs diverged; it is counted as failed and has no score.']
      : ['Trials are still to come: every number can change.', 'GLUE intervals rest on 3 pre-train seeds each.'],
  };
}

/** 95 % Wilson interval of the share `k / n`; null without values. */
function wilson(k, n) {
  if (n === 0) return null;
  const z = 1.96;
  const centre = (k + z ** 2 / 2) / (n + z ** 2);
  const half = (z / (n + z ** 2)) * Math.sqrt((k * (n - k)) / n + z ** 2 / 4);
  return [Math.max(0, centre - half), Math.min(1, centre + half)];
}

/** Expected largest of `k` draws: each of the sorted values times the chance that it is the largest. */
function expectedBest(values, k) {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted.reduce((sum, v, i) => sum + v * (((i + 1) / sorted.length) ** k - (i / sorted.length) ** k), 0);
}

function glueArm(task, arm, learning_rate, runs) {
  const scores = runs.map((t) => ({
    seed: t.seeds.head,
    pretrain_seed: t.seeds.init,
    score: t.report?.score ?? null,
    selection: t.report?.selection_score ?? null,
    failed: !t.report || t.report.score <= TASKS[task].majority,
    hours: t.report ? t.report.trained_seconds / 3600 : null,
  }));
  const values = scores.flatMap((s) => (s.score === null ? [] : [s.score]));
  const found = summary(values);
  const failed = scores.filter((s) => s.failed).length;
  return {
    arm,
    keep: 'all',
    blocks: BLOCKS,
    learning_rate,
    selection: summary(scores.flatMap((s) => (s.selection === null ? [] : [s.selection])))?.mean ?? null,
    selected: false,
    n: scores.length,
    mean: found?.mean ?? null,
    sd: found?.sd ?? null,
    interval: found?.interval ?? null,
    independent: PRETRAIN_SEEDS,
    median: [...values].sort()[values.length >> 1] ?? null,
    min: values.length > 0 ? Math.min(...values) : null,
    max: values.length > 0 ? Math.max(...values) : null,
    failed,
    failed_interval: wilson(failed, scores.length),
    diverged: scores.filter((s) => s.score === null).length,
    hours: summary(scores.flatMap((s) => s.hours ?? []))?.mean ?? null,
    best_of: [2, 5, 10, 20, 50]
      .filter((k) => k <= values.length)
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

function comparison(arm, learning_rate, pairs, baseline_learning_rate = learning_rate) {
  const found = summary(pairs);
  if (!found) return null;
  const p = found.sd ? twoSided(found.mean / (found.sd / Math.sqrt(found.n)), found.n - 1) : null;
  return {
    arm,
    learning_rate,
    baseline_learning_rate,
    keep: learning_rate === null ? null : 'all',
    blocks: learning_rate === null ? null : 12,
    n_pairs: found.n,
    mean_difference: found.mean,
    interval: found.interval,
    p_paired_t: p,
    p_holm: learning_rate === null || p === null ? null : Math.min(1, p * 3),
    p_wilcoxon: p === null ? null : 0.25,
    p_brown_forsythe: p === null ? null : 0.41,
  };
}

/** The p-value of a two-sided t test (Abramowitz & Stegun, 26.7.3 and 26.7.4). */
function twoSided(t, freedom) {
  const angle = Math.atan(Math.abs(t) / Math.sqrt(freedom));
  const [sine, cosine] = [Math.sin(angle), Math.cos(angle)];
  const odd = freedom % 2 === 1;
  let term = odd ? cosine : 1;
  let sum = freedom === 1 ? 0 : term;
  for (let k = odd ? 3 : 2; k < freedom; k += 2) {
    term *= ((k - 1) / k) * cosine ** 2;
    sum += term;
  }
  return 1 - (odd ? (2 / Math.PI) * (angle + sine * sum) : sine * sum);
}

function summary(values) {
  if (values.length === 0) return null;
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  const sd =
    values.length < 2 ? null : Math.sqrt(values.reduce((a, v) => a + (v - mean) ** 2, 0) / (values.length - 1));
  const half = sd === null ? null : ((T95[values.length - 1] ?? 1.984) * sd) / Math.sqrt(values.length);
  return { n: values.length, mean, sd, interval: half === null ? null : [mean - half, mean + half] };
}
