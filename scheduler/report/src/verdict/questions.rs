//! The questions that a job asks about an arm, each with what was measured and what stands in the way of a verdict.

use std::collections::BTreeSet;

use recipe::{Recipe, Task};

use super::{Asked, Question};
use crate::comparison::{ALPHA, Shared, Units};
use crate::facts::{Facts, TrialFacts, TrialStatus};
use crate::glue::{GlueReport, average_pair};
use crate::pretrain::Seeds;
use crate::speed::{LEAST_ROUNDS, Speed, Timed};
use crate::statistics::Estimate;

/// An arm and the baseline, with the trials that run one of them.
pub(super) struct Pair<'a> {
    pub(super) facts: &'a Facts,
    pub(super) arm: &'a str,
    pub(super) own: &'a [&'a TrialFacts],
    pub(super) base: &'a [&'a TrialFacts],
}

impl Pair<'_> {
    /// All questions that the job asks about the arm.
    pub(super) fn questions(
        &self,
        timed: Option<&Timed<'_>>,
        speed: Option<&Speed>,
        glue: &[GlueReport],
    ) -> Vec<Asked> {
        let Self { facts, arm, .. } = *self;
        let mut asked = Vec::new();
        let mut ask = |question, task, estimate, obstacle, is_counted| {
            asked.push(Asked { question, task, estimate, obstacle, is_counted });
        };
        let is_pretrained = !facts.published.contains(arm) && !facts.published.contains(&facts.baseline);
        let rounds = facts.trials.iter().find_map(|trial| match &*trial.recipe {
            Recipe::Timing(timing) => Some(timing.rounds),
            _ => None,
        });
        if let Some(rounds) = rounds.filter(|_| is_pretrained) {
            let estimate = timed.and_then(|timed| timed.speed_up(arm, &facts.baseline));
            let obstacle = speed_obstacle(facts, speed, estimate.as_ref());
            ask(Question::Speed, None, estimate, obstacle, rounds >= LEAST_ROUNDS);
        }
        if is_pretrained && let Some(questions) = self.pretrain_questions() {
            let obstacle = &questions.obstacle;
            ask(Question::ValidationLoss, None, questions.loss, obstacle.clone(), questions.seeds > 1);
            if let Some(accuracy) = questions.accuracy {
                ask(Question::ValidationAccuracy, None, Some(accuracy), obstacle.clone(), questions.seeds > 1);
            }
            ask(Question::LossSpread, None, questions.spread, obstacle.clone(), questions.seeds > 2);
        }
        let tasks: Vec<Task> = Task::ALL.into_iter().filter(|task| self.has_runs(*task)).collect();
        let checkpoints = self.seeds(|trial| match &*trial.recipe {
            Recipe::Finetune(recipe) => Some(recipe.from_seeds.init),
            _ => None,
        });
        let one = || (checkpoints < 2).then(one_checkpoint);
        for task in &tasks {
            let report = glue.iter().find(|report| report.task == *task);
            let shared = report.and_then(|report| report.selected_pair(arm, &facts.baseline));
            let estimate = shared.as_ref().and_then(|shared| Estimate::of_differences(&shared.pairs()));
            let few = shared.is_some_and(|shared| shared.units() == Units::RunsOfOneCheckpoint).then(one_checkpoint);
            let obstacle = one().or_else(|| self.pending_runs(Some(*task))).or(few);
            ask(Question::Score, Some(*task), estimate, obstacle, checkpoints > 1);
        }
        if !tasks.is_empty() {
            let average = average_pair(glue, arm, &facts.baseline);
            let obstacle = one().or_else(|| self.pending_runs(None));
            if tasks.len() > 1 {
                let estimate = average.as_ref().and_then(|average| Estimate::of_differences(&average.pairs));
                ask(Question::MeanScore, None, estimate, obstacle.clone(), checkpoints > 1);
            }
            let estimate = average.as_ref().and_then(|average| Estimate::of_mean(&average.spreads));
            ask(Question::ScoreSpread, None, estimate, obstacle, checkpoints > 1 && self.has_several_runs());
        }
        asked
    }

    /// `None` if one of the two is not pre-trained in this job.
    fn pretrain_questions(&self) -> Option<PretrainQuestions> {
        let Self { facts, arm, own, base } = *self;
        let recipe = |trials: &[&TrialFacts]| {
            trials.iter().find_map(|trial| match &*trial.recipe {
                Recipe::Pretrain(recipe) => Some((recipe.objective, recipe.images)),
                _ => None,
            })
        };
        let ((own_objective, own_images), (objective, images)) = (recipe(own)?, recipe(base)?);
        let is_comparable = own_objective.is_measured_like(&objective) && own_images == images;
        let (runs, baseline) = (Seeds::of(facts, arm, None), Seeds::of(facts, &facts.baseline, None));
        let losses = Shared::of_pretraining(&runs.losses(), &baseline.losses());
        let accuracies = Shared::of_pretraining(&runs.accuracies(), &baseline.accuracies());
        let is_pretrain = |trial: &TrialFacts| matches!(&*trial.recipe, Recipe::Pretrain(_));
        Some(PretrainQuestions {
            loss: Estimate::of_differences(&losses.pairs()),
            accuracy: Estimate::of_differences(&accuracies.pairs()),
            spread: losses.spread(),
            obstacle: match is_comparable {
                true => self.pending(is_pretrain),
                false => Some("the objectives of the two measure different things".into()),
            },
            seeds: self.seeds(|trial| is_pretrain(trial).then_some(trial.seeds.init)),
        })
    }

    /// Number of pre-train seeds that the job plans for the runs of both arms; `seed` gives that of a run that counts.
    fn seeds(&self, seed: impl Fn(&TrialFacts) -> Option<u64>) -> usize {
        let planned =
            |trials: &[&TrialFacts]| -> BTreeSet<u64> { trials.iter().filter_map(|trial| seed(trial)).collect() };
        planned(self.own).intersection(&planned(self.base)).count()
    }

    /// True if the job fine-tunes both arms on `task`.
    fn has_runs(&self, task: Task) -> bool {
        let has = |trials: &[&TrialFacts]| trials.iter().any(|trial| is_run_on(trial, Some(task)));
        has(self.own) && has(self.base)
    }

    /// True if the job plans several fine-tune seeds, without which a checkpoint has no spread.
    fn has_several_runs(&self) -> bool {
        let runs = self.own.iter().filter(|trial| is_run_on(trial, None));
        runs.map(|trial| trial.seeds.head).collect::<BTreeSet<u64>>().len() > 1
    }

    /// Fine-tune runs on `task`, or on all tasks, that have not ended.
    fn pending_runs(&self, task: Option<Task>) -> Option<String> {
        self.pending(|trial| is_run_on(trial, task))
    }

    /// Runs that have not ended. A verdict from the first ones would be wrong more often than its level says, because
    /// one would look until it pleases.
    fn pending(&self, is_counted: impl Fn(&TrialFacts) -> bool) -> Option<String> {
        let counted: Vec<&&TrialFacts> = self.own.iter().chain(self.base).filter(|trial| is_counted(trial)).collect();
        let open = counted.iter().filter(|trial| trial.status == TrialStatus::Unfinished).count();
        (open > 0).then(|| format!("{open} of {} runs have not ended", counted.len()))
    }
}

/// True for a fine-tune run on `task`, or on any task.
fn is_run_on(trial: &TrialFacts, task: Option<Task>) -> bool {
    matches!(&*trial.recipe, Recipe::Finetune(recipe) if task.is_none_or(|task| recipe.task == task))
}

/// What pre-training says of an arm.
struct PretrainQuestions {
    loss: Option<Estimate>,
    accuracy: Option<Estimate>,
    spread: Option<Estimate>,
    obstacle: Option<String>,
    /// Number of seeds that the job plans for both arms.
    seeds: usize,
}

fn one_checkpoint() -> String {
    "there is one pre-train seed: the runs of one checkpoint say nothing about those of another".into()
}

fn speed_obstacle(facts: &Facts, speed: Option<&Speed>, estimate: Option<&Estimate>) -> Option<String> {
    let Some(speed) = speed else { return Some("no timing trial has succeeded".into()) };
    let Some(estimate) = estimate else { return Some("the timing trial has no steps of one of the two arms".into()) };
    let Some([low, high]) = estimate.interval(ALPHA) else {
        return Some(match speed.rounds {
            rounds @ 0..LEAST_ROUNDS => {
                format!("an interval needs {LEAST_ROUNDS} rounds of the timing trial, which has {rounds}")
            }
            _ => "all rounds of the timing trial agree exactly, from which no interval follows".into(),
        });
    };
    if high - low > std::f64::consts::LN_2 {
        return Some("the interval of the speed-up spans a factor of two".into());
    }
    let margin = Question::Speed.margin_of_estimate(facts);
    let [low, high] = speed.control.as_ref()?.interval?.map(f64::ln);
    (low > margin || high < -margin).then(|| {
        "the timing trial finds a difference beyond the margin between the baseline and itself, so something else on \
         the machine decided"
            .into()
    })
}
