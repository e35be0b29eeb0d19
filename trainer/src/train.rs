//! The training loop. It is the only file that counts steps.

use std::num::NonZero;
use std::time::Instant;

use recipe::event::Point;
use recipe::{Event, Gate, GrownState, Growth, Moment, NewBlocks, gate};
use sha2::{Digest, Sha256};
use tch::Tensor;

use crate::attempt::{Attempt, Ended};
use crate::bert::Weights;
use crate::checkpoint::{self, Contents, Saved, TrainingState};
use crate::data::vocabulary::Vocabulary;
use crate::emit::Emitter;
use crate::evaluation::Evaluation;
use crate::failure::TrainerError;
use crate::optimizer::Optimizer;
use crate::recompute::Tape;
use crate::stopwatch::Stopwatch;

/// A run emits about this many points of each curve.
const POINTS_PER_CURVE: u64 = 1000;

/// A model that the loop trains. Everything that varies over a run is a function of the moment, so that a resumed run
/// repeats it.
pub trait Training {
    fn budget(&self) -> Budget;

    fn learning_rate(&self, moment: &Moment) -> f64;

    /// One gate per sublayer, in forward order.
    fn gates(&self, moment: &Moment, micro_batch: u32) -> Vec<Gate>;

    /// theta(t); None without layer drop.
    fn theta(&self, moment: &Moment) -> Option<f64>;

    /// Number of micro-batches in a step, whose gradients are added up.
    fn micro_batches(&self) -> u32 {
        1
    }

    /// Number of sequences in a micro-batch.
    fn batch(&self) -> u32;

    /// Number of blocks in the fully grown model.
    fn blocks(&self) -> u32;

    /// The growth of a model that starts shallow.
    fn growth(&self) -> Option<&Growth> {
        None
    }

    /// Nats above its lowest value at which the smoothed loss counts as diverged. None: divergence is not checked.
    fn divergence(&self) -> Option<f64> {
        None
    }

    /// The loss of a micro-batch, a scalar with its graph. Over the micro-batches of a step it sums to the mean over
    /// the batch. What the backward pass should recompute is recorded on `tape`.
    fn loss(&mut self, moment: &Moment, micro_batch: u32, gates: &[Gate], tape: &mut Tape) -> Tensor;

    /// True if an evaluation is due after `steps` steps. After the last step there is always one.
    fn evaluates_after(&self, steps: u64) -> bool;

    /// Evaluates the model on held-out data, without dropout. `gates` opens every block that exists so far, without
    /// scale.
    fn evaluate(&mut self, gates: &[Gate]) -> Evaluation;

    /// True if the last checkpoint is a result of the trial.
    fn leaves_checkpoint(&self) -> bool;

    fn weights(&self) -> &Weights;
    fn weights_mut(&mut self) -> &mut Weights;
    fn optimizer(&self) -> recipe::Optimizer;
    /// None for images.
    fn vocabulary(&self) -> Option<&Vocabulary>;
    /// The content of `config.json` in a checkpoint.
    fn config(&self) -> serde_json::Value;
}

/// The length of a run, in steps or in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    /// Number of optimiser updates; with a budget in seconds, the largest number.
    pub steps: u64,
    /// Seconds of training, if the budget is counted in seconds.
    pub seconds: Option<f64>,
}

impl Budget {
    /// The moment of the next step, after `step` updates that have taken `trained_seconds`.
    fn moment(&self, step: u64, trained_seconds: f64) -> Moment {
        let Some(seconds) = self.seconds else { return Moment::of_step(step, self.steps) };
        // Before the first step, the pace is unknown.
        let pace = if step == 0 { 0.0 } else { trained_seconds / step as f64 };
        Moment { step, share: trained_seconds / seconds, width: (pace / seconds).max(1e-9) }
    }

    fn is_used_up(&self, moment: &Moment) -> bool {
        moment.step >= self.steps || moment.share >= 1.0
    }

    /// Expected number of steps of the whole run. With a budget in seconds, it is extrapolated from the pace so far.
    fn expected_steps(&self, moment: &Moment) -> u64 {
        match self.seconds {
            Some(_) if moment.share > 0.0 => ((moment.step as f64 / moment.share).ceil() as u64).min(self.steps),
            Some(_) | None => self.steps,
        }
        .max(moment.step)
    }

    /// True if the step between these two moments completed a tenth of a budget in seconds.
    fn ends_tenth(&self, before: &Moment, after: &Moment) -> bool {
        self.seconds.is_some() && (before.share * 10.0).floor() < (after.share * 10.0).floor()
    }
}

/// A finished training.
#[derive(Debug)]
pub struct Trained {
    pub state: TrainingState,
    /// The evaluation after the last step.
    pub evaluation: Evaluation,
    /// Hex sha256 of the last checkpoint's manifest, or of the weights and moments if the stage leaves no checkpoint.
    pub last: String,
}

/// Trains from step 0 or from `attempt.resumed` to the end of the budget.
///
/// # Errors
/// A loss that is not finite or has diverged, a corrupt checkpoint, a failed write.
pub fn train(
    training: &mut impl Training,
    attempt: &Attempt<'_>,
    emitter: &mut Emitter,
) -> Result<Ended<Trained>, TrainerError> {
    let mut optimizer = Optimizer::new(training.optimizer(), training.weights());
    let mut state = start(training, &mut optimizer, attempt)?;
    let budget = training.budget();
    let mut last_saved = Instant::now();
    let mut evaluation = None;
    let mut last = attempt.resumed.as_ref().map(|verified| verified.digest.clone());
    let mut pace = Pace::default();

    let mut moment = budget.moment(state.step, state.trained_seconds);
    while !budget.is_used_up(&moment) {
        grow(training, &mut optimizer, &mut state, &moment);
        let clock = Stopwatch::start(attempt.device);
        let update = update(training, &mut optimizer, &moment);
        let seconds = clock.seconds();
        if !update.loss.is_finite() {
            return Err(TrainerError::NonFiniteLoss { step: state.step, loss: update.loss });
        }
        state.chain = chained(&state.chain, state.step, update.loss);
        if let Some(margin) = training.divergence() {
            state.check_divergence(update.loss, margin)?;
        }
        let rate = training.learning_rate(&moment);
        let theta = training.theta(&moment);
        state.step += 1;
        state.trained_seconds += seconds;
        pace.add(seconds);
        let before = std::mem::replace(&mut moment, budget.moment(state.step, state.trained_seconds));
        let (total, finished) = (budget.expected_steps(&moment), budget.is_used_up(&moment));
        if finished || is_point(state.step, total) {
            emitter.queue(points(&update, rate, theta, &mut pace, &state));
        }
        emitter.progress(state.step, total, state.trained_seconds)?;

        evaluation = None;
        if finished || training.evaluates_after(state.step) || budget.ends_tenth(&before, &moment) {
            evaluation = Some(evaluate(training, &state, emitter)?);
        }
        let stop = attempt.is_stopped() && !finished;
        let due = last_saved.elapsed() >= attempt.checkpoint_every && !finished;
        if stop || due || (finished && training.leaves_checkpoint()) {
            last = Some(save(training, &optimizer, &mut state, attempt, emitter)?.manifest);
            last_saved = Instant::now();
        }
        if stop {
            return Ok(Ended::Interrupted { step: state.step });
        }
    }
    emitter.progress_now(state.step, state.step, state.trained_seconds)?;
    let evaluation = match evaluation {
        Some(evaluation) => evaluation,
        // The run was resumed from the checkpoint after its last step.
        None => evaluate(training, &state, emitter)?,
    };
    let last = last.filter(|_| training.leaves_checkpoint());
    let last = last.unwrap_or_else(|| checkpoint::digest_of(training.weights(), &optimizer));
    Ok(Ended::Finished(Trained { state, evaluation, last }))
}

/// The result of one optimiser update.
#[derive(Debug)]
pub struct Update {
    /// Mean loss over the batch, before the update.
    pub loss: f64,
    /// Global norm of the gradient before clipping, a scalar on the device.
    pub gradient_norm: Tensor,
    /// Open blocks as [`recipe::gate::open_blocks`] counts them; the mean over micro-batches.
    pub open_blocks: f64,
}

/// One optimiser update: forward, backward, optimiser.
pub fn update(training: &mut impl Training, optimizer: &mut Optimizer, moment: &Moment) -> Update {
    let count = training.micro_batches();
    let (mut losses, mut open_blocks) = (Vec::new(), 0.0);
    for micro_batch in 0..count {
        let gates = training.gates(moment, micro_batch);
        let mut tape = Tape::default();
        let loss = training.loss(moment, micro_batch, &gates, &mut tape);
        let open = training.weights().open(&gates);
        tape.differentiate(training.weights(), &loss, &open);
        losses.push(loss.detach());
        open_blocks += gate::open_blocks(&gates, training.batch()) / f64::from(count);
    }
    let gradient_norm = optimizer.clip(training.weights());
    let rate = training.learning_rate(moment);
    optimizer.update(training.weights_mut(), rate);
    // Reading the loss waits for the GPU, so it comes after the whole step has been queued.
    let loss = losses.iter().map(|loss| loss.double_value(&[])).sum();
    Update { loss, gradient_norm, open_blocks }
}

/// Adds the blocks that the growth rule asks for at `moment`.
fn grow(training: &mut impl Training, optimizer: &mut Optimizer, state: &mut TrainingState, moment: &Moment) {
    let blocks = training.blocks();
    let Some(growth) = training.growth().cloned() else { return };
    let (trained, due) = (state.blocks, growth.blocks_at(moment.share, blocks));
    if due <= trained {
        return;
    }
    if growth.new == NewBlocks::Copy {
        for block in trained..due {
            let source = Weights::groups_of_block(Growth::source(block, trained));
            for (from, to) in source.into_iter().zip(Weights::groups_of_block(block)) {
                training.weights_mut().copy_group(from, to);
                optimizer.copy_group(from, to);
            }
        }
    }
    if growth.optimizer == GrownState::Reset {
        optimizer.reset();
    }
    state.blocks = due;
}

fn start(
    training: &mut impl Training,
    optimizer: &mut Optimizer,
    attempt: &Attempt<'_>,
) -> Result<TrainingState, TrainerError> {
    if let Some(checkpoint) = &attempt.resumed {
        let state = checkpoint.state(&attempt.fingerprint, &attempt.seeds)?;
        checkpoint.restore(&state, training.weights(), optimizer)?;
        return Ok(state);
    }
    Ok(TrainingState {
        fingerprint: attempt.fingerprint.clone(),
        seeds: attempt.seeds,
        step: 0,
        blocks: training.growth().map_or(training.blocks(), |growth| growth.blocks_at(0.0, training.blocks())),
        smoothed_loss: None,
        lowest_loss: None,
        trained_seconds: 0.0,
        chain: hex::encode(Sha256::digest(&attempt.fingerprint)),
        updates: vec![0; optimizer.moments().len()],
    })
}

/// The next link of the digest chain, after `step` with this loss. Two runs with equal chains had equal losses at every
/// step.
fn chained(chain: &str, step: u64, loss: f64) -> String {
    let mut hash = Sha256::new();
    hash.update(chain);
    hash.update(step.to_le_bytes());
    hash.update(loss.to_bits().to_le_bytes());
    hex::encode(hash.finalize())
}

/// True if the curves get a point after `step`; long runs are thinned. It depends on the step alone, so that a resumed
/// run gives the same points.
fn is_point(step: u64, total: u64) -> bool {
    step == total || step.is_multiple_of(total.div_ceil(POINTS_PER_CURVE))
}

/// Mean step time since the last point.
#[derive(Debug, Default)]
struct Pace {
    seconds: f64,
    steps: Option<NonZero<u32>>,
}

impl Pace {
    fn add(&mut self, seconds: f64) {
        self.seconds += seconds;
        self.steps = NonZero::new(self.steps.map_or(1, |steps| steps.get() + 1));
    }

    fn take(&mut self) -> Option<f64> {
        let taken = std::mem::take(self);
        taken.steps.map(|steps| taken.seconds / f64::from(steps.get()))
    }
}

fn points(update: &Update, rate: f64, theta: Option<f64>, pace: &mut Pace, state: &TrainingState) -> Vec<Point> {
    let values = [
        ("train_loss", Some(update.loss)),
        ("learning_rate", Some(rate)),
        ("theta", theta),
        ("open_blocks", Some(update.open_blocks)),
        ("gradient_norm", Some(update.gradient_norm.double_value(&[]))),
        ("step_seconds", pace.take()),
    ];
    // JSON has no infinity. A gradient norm that is not finite leads to a non-finite loss at the next step.
    let finite = values.into_iter().filter_map(|(name, value)| Some((name, value.filter(|v| v.is_finite())?)));
    finite.map(|(name, value)| point(name, value, state)).collect()
}

fn evaluate(
    training: &mut impl Training,
    state: &TrainingState,
    emitter: &mut Emitter,
) -> Result<Evaluation, TrainerError> {
    let evaluation = training.evaluate(&Gate::full_depth(state.blocks, training.blocks()));
    if let Some((_, loss)) = evaluation.values.iter().find(|(_, value)| !value.is_finite()) {
        return Err(TrainerError::NonFiniteLoss { step: state.step, loss: *loss });
    }
    let points = evaluation.values.iter().map(|(name, value)| point(name, *value, state)).collect();
    emitter.emit(&Event::Evaluated { step: state.step, trained_seconds: state.trained_seconds, points })?;
    Ok(evaluation)
}

fn save(
    training: &impl Training,
    optimizer: &Optimizer,
    state: &mut TrainingState,
    attempt: &Attempt<'_>,
    emitter: &mut Emitter,
) -> Result<Saved, TrainerError> {
    // The points of a step are emitted before its checkpoint, because a run that resumes from it does not repeat the
    // step.
    let moment = training.budget().moment(state.step, state.trained_seconds);
    emitter.progress_now(state.step, training.budget().expected_steps(&moment), state.trained_seconds)?;
    state.updates = optimizer.moments().iter().map(|moments| moments.updates).collect();
    let contents = Contents {
        state,
        weights: training.weights(),
        optimizer,
        config: &training.config(),
        vocabulary: training.vocabulary(),
    };
    let saved = checkpoint::save(attempt.out, &contents)?;
    emitter.emit(&Event::Checkpointed {
        step: state.step,
        trained_seconds: state.trained_seconds,
        folder: saved.folder.clone(),
        manifest: saved.manifest.clone(),
    })?;
    Ok(saved)
}

fn point(name: &str, value: f64, state: &TrainingState) -> Point {
    Point { name: name.to_owned(), step: state.step, value, trained_seconds: state.trained_seconds }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    use recipe::Seeds;
    use serde_json::json;
    use tch::{Device, Kind};

    use super::*;
    use crate::pretraining::tests::small;

    /// A group's values, moments and number of updates.
    type GroupState = ([Tensor; 3], u64);

    fn group_states(training: &impl Training, optimizer: &Optimizer) -> Vec<GroupState> {
        let groups = training.weights().groups().iter().zip(optimizer.moments());
        let of = |buffers: [&Tensor; 3], updates: u64| (buffers.map(Tensor::copy), updates);
        groups.map(|(group, m)| of([group.buffer(), &m.first, &m.second], m.updates)).collect()
    }

    #[test]
    fn added_blocks_start_as_the_recipe_says_and_the_others_stay_unchanged() {
        for (new, kept) in [("copy", "keep"), ("copy", "reset"), ("fresh", "keep"), ("fresh", "reset")] {
            let stages = json!([{"blocks": 2, "until": 0.5}]);
            let growth = json!({"stages": stages, "new": new, "optimizer": kept});
            let model =
                json!({"blocks": 5, "hidden": 12, "heads": 3, "intermediate": 20, "positions": 32, "norm": "pre"});
            // With bfloat16, the copies of the values have to follow.
            let recipe = json!({"model": model, "growth": growth, "steps": 6, "precision": "bfloat16"});
            let mut training = small(recipe);
            let mut optimizer = Optimizer::new(training.optimizer(), training.weights());
            let attempt = Attempt {
                out: Path::new("nowhere"),
                fingerprint: String::new(),
                seeds: Seeds::default(),
                device: Device::Cpu,
                threads: 1,
                resumed: None,
                checkpoint_every: Duration::MAX,
                stop: &AtomicBool::new(false),
            };
            let mut state = start(&mut training, &mut optimizer, &attempt).unwrap();
            let first = group_states(&training, &optimizer);
            for step in 0..3 {
                let moment = Moment::of_step(step, 6);
                grow(&mut training, &mut optimizer, &mut state, &moment);
                assert_eq!(state.blocks, 2, "{new}, {kept}, step {step}");
                update(&mut training, &mut optimizer, &moment);
            }
            let before = group_states(&training, &optimizer);
            let zeros = before.iter().map(|([values, ..], _)| values.zeros_like()).collect::<Vec<_>>();
            grow(&mut training, &mut optimizer, &mut state, &Moment::of_step(3, 6));
            assert_eq!(state.blocks, 5);
            let after = group_states(&training, &optimizer);
            // The group outside the blocks and the halves of blocks 1 and 2; blocks 3, 4 and 5 are copies of 1, 2 and
            // 1.
            let sources = [0, 1, 2, 3, 4, 1, 2, 3, 4, 1, 2];
            for (group, source) in sources.into_iter().enumerate() {
                let what = format!("{new}, {kept}, group {group}");
                let is_new = group > 4;
                let ([values, ..], _) = if is_new && new == "fresh" { &first[group] } else { &before[source] };
                assert_eq!(&after[group].0[0], values, "{what}");
                let has_moments = kept == "keep" && (!is_new || new == "copy");
                let updates = if has_moments { 3 } else { 0 };
                assert_eq!(after[group].1, updates, "{what}");
                for moment in [1, 2] {
                    let expected = if has_moments { &before[source].0[moment] } else { &zeros[group] };
                    assert_eq!(&after[group].0[moment], expected, "{what}, moment {moment}");
                }
                assert!(before[source].0[1].abs().max().double_value(&[]) > 0.0, "{what}: there were moments to keep");
                let (_, half, _) = training.weights_mut().groups_mut()[group].buffers();
                assert_eq!(*half.unwrap(), after[group].0[0].to_kind(Kind::BFloat16), "{what}");
            }
            // From now on, every group is updated, the copies too.
            update(&mut training, &mut optimizer, &Moment::of_step(3, 6));
            let last = group_states(&training, &optimizer);
            assert!(last.iter().zip(&after).all(|(last, after)| last.0[0] != after.0[0] && last.1 == after.1 + 1));
        }
    }
}
