// The answers of a made-up report: the shape and the words of scheduler/report, with simpler statistics.

import { estimate, quantile, twoSided } from './statistics.mjs';

const RULES = { alpha: 0.05, margins: { speed: 0.02, loss: 0.02, score: 0.01, spread: 1.5 } };

const OUTCOMES = {
  speed: ['faster', 'slower'],
  validation_loss: ['worse', 'better'],
  score: ['better', 'worse'],
  mean_score: ['better', 'worse'],
  loss_spread: ['less_steady', 'steadier'],
  score_spread: ['less_steady', 'steadier'],
};
const MARGINS = { speed: 'speed', validation_loss: 'loss', score: 'score', mean_score: 'score' };
const isRatio = (question) => ['speed', 'loss_spread', 'score_spread'].includes(question);
/** Numbers of pre-train seeds behind more of which nobody would train. */
const MOST_SEEDS = 1000;

/**
 * The answers of a report to the questions in `asked`: for each arm a list of `{ question, task?, values, obstacle? }`,
 * with one value for each pair, as a logarithm for ratios.
 */
export function answersOf(asked, baseline) {
  const answers = asked.flatMap(({ arm, questions }) => {
    if (questions.length === 0) return [];
    const verdicts = questions.map(verdict);
    return [{ arm, sentence: sentenceOf(arm, baseline, verdicts), verdicts }];
  });
  const rank = ({ verdicts }) => {
    const isWorse = verdicts.some((one) => one.outcome === 'worse');
    const faster = verdicts.find((one) => one.outcome === 'faster');
    return (isWorse ? 0 : 1e6) + (faster?.estimate ?? 0);
  };
  const best = answers.toSorted((a, b) => rank(b) - rank(a))[0];
  return { sentence: best?.sentence ?? null, answers, rules: RULES };
}

function verdict({ question, task, values, obstacle }) {
  const found = estimate(values);
  const name = MARGINS[question] ?? 'spread';
  const margin = RULES.margins[name];
  const within = name === 'speed' ? Math.log1p(margin) : name === 'spread' ? Math.log(margin) : margin;
  const unit = (value) => (isRatio(question) ? Math.exp(value) : value);
  const ends = obstacle ? null : found?.interval;
  const [above, below] = OUTCOMES[question];
  const outcome = !ends
    ? 'cannot_tell'
    : -within < ends[0] && ends[1] < within
      ? 'same'
      : ends[0] > 0
        ? above
        : ends[1] < 0
          ? below
          : 'cannot_tell';
  const isOpen = outcome === 'cannot_tell';
  const more = isOpen && ends && question !== 'speed' ? moreSeeds(found, within) : null;
  return {
    question,
    ...(task ? { task } : {}),
    outcome,
    estimate: found ? unit(found.mean) : null,
    interval: found?.interval?.map(unit) ?? null,
    margin,
    n: found?.n ?? 0,
    p: ends ? twoSided(found.mean / (found.sd / Math.sqrt(found.n)), found.n - 1) : null,
    ...(more ? { more_seeds: more } : {}),
    ...(isOpen ? { reason: obstacle ?? reasonOf(found) } : {}),
  };
}

function reasonOf(found) {
  if (!found) return 'there is no pair of runs to compare';
  if (found.n === 1) return 'there is one pair of runs, from which no interval follows';
  return 'the interval holds both no difference and one beyond the margin';
}

/** How many more seeds make the interval narrow enough, if the spread is as found and if it is larger. */
function moreSeeds({ mean, sd, n }, margin) {
  const needed = Math.max(Math.abs(mean), margin - Math.abs(mean));
  const [few, many] = [1, 1.4].map((factor) => {
    let seeds = Math.max(n, 2);
    while ((quantile(seeds - 1) * sd * factor) / Math.sqrt(seeds) >= needed && seeds < MOST_SEEDS) seeds += 1;
    return seeds;
  });
  return many < MOST_SEEDS ? [Math.max(few - n, 1), Math.max(many - n, 1)] : null;
}

const HEADLINES = [['speed'], ['validation_loss'], ['mean_score', 'score'], ['score_spread', 'loss_spread']];

/** The verdicts in one sentence, as in scheduler/report/src/answer.rs. */
function sentenceOf(arm, baseline, verdicts) {
  const headlines = HEADLINES.flatMap((questions) => {
    const asked = questions.flatMap((question) => verdicts.filter((one) => one.question === question));
    return asked.slice(0, 1);
  });
  const told = headlines.filter((one) => one.outcome !== 'cannot_tell');
  const known = [];
  if (told[0]?.question === 'speed') known.push(`${arm} is ${speedPhrase(told.shift(), baseline)}`);
  const phrases = list(told.map((one) => phrase(one, baseline)));
  if (phrases) known.push(known.length > 0 ? `at ${phrases}` : `${arm} reaches ${phrases}`);
  const clauses = known.length > 0 ? [known.join(', ')] : [];
  const open = headlines.filter((one) => one.outcome === 'cannot_tell');
  for (let i = 0; i < open.length; ) {
    const alike = [open[i++]];
    const goesOn = () =>
      alike[0].question !== 'speed' && i < open.length && obstacleOf(open[i]) === obstacleOf(alike[0]);
    while (goesOn()) alike.push(open[i++]);
    clauses.push(unknown(alike, clauses.length > 0 ? 'it' : arm, baseline));
  }
  const text = `${clauses.join('; ')}.`;
  return text.startsWith('whether') ? `Whether${text.slice(7)}` : text;
}

function speedPhrase({ outcome, estimate, interval, margin }, baseline) {
  if (outcome === 'same') return `as fast per step as ${baseline} within ${100 * margin} %`;
  return `${estimate.toFixed(2)} times as fast per step as ${baseline}${ends(interval, 1, 2)}`;
}

function phrase(verdict, baseline) {
  const { question, outcome, estimate, interval, margin } = verdict;
  const isSame = outcome === 'same';
  const way = estimate > 0 ? 'higher' : 'lower';
  if (question === 'validation_loss') {
    const value = Math.abs(estimate).toFixed(3);
    if (isSame) return `the same validation loss within ${margin}`;
    return `a validation loss ${value} ${way} than that of ${baseline}${ends(interval, 1, 3)}`;
  }
  if (question.endsWith('spread')) {
    if (isSame) return `the same spread over seeds within a factor of ${margin}`;
    return `a spread over seeds ${estimate.toFixed(2)} times that of ${baseline}${ends(interval, 1, 2)}`;
  }
  const name = scoreName(verdict);
  if (isSame) return `the same ${name} within ${100 * margin} points`;
  return `a ${name} ${(100 * Math.abs(estimate)).toFixed(1)} points ${way}${ends(interval, 100, 1)}`;
}

const scoreName = ({ task }) => (task ? `score on ${task}` : 'mean GLUE score');

function unknown(verdicts, subject, baseline) {
  const changed = (verdict) =>
    verdict.question === 'validation_loss'
      ? 'the validation loss'
      : verdict.question.endsWith('spread')
        ? 'the spread over seeds'
        : `the ${scoreName(verdict)}`;
  const isSpeed = verdicts[0].question === 'speed';
  const does = isSpeed ? `is faster than ${baseline}` : `changes ${list(verdicts.map(changed))}`;
  return `whether ${subject} ${does} cannot be told${obstacleOf(verdicts[0])}`;
}

function obstacleOf({ more_seeds: more, n, reason }) {
  if (!more) return `: ${reason}`;
  return ` from ${n} seeds: ${more[0] === more[1] ? more[0] : `${more[0]} to ${more[1]}`} more would tell`;
}

function ends(interval, scale, digits) {
  return ` (95 % ${interval.map((end) => (scale * end).toFixed(digits)).join(' to ')})`;
}

function list(items) {
  return items.length < 2 ? (items[0] ?? '') : `${items.slice(0, -1).join(', ')} and ${items.at(-1)}`;
}
