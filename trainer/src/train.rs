//! The training loop. It is the only file that counts steps.

use std::time::Instant;

use recipe::event::Point;
use recipe::{Event, Gate, GrownState, Growth, Moment, NewBlocks, gate};
use sha2::{Digest, Sha256};
use tch::Tensor;

use crate::attempt::{Attempt, Ended};
use crate::bert::Weights;
use crate::checkpoint::{self, Contents, SavedCheckpoint, TrainingState};
use crate::data::vocabulary::Vocabulary;
use crate::emit::Emitter;
use crate::evaluation::Evaluation;
use crate::failure::TrainerError;
use crate::optimizer::Optimizer;
use crate::recompute::Tape;
use crate::stopwatch::Stopwatch;

/// A run with a budget in steps emits at most this many points of each curve. The distance between two points is
/// rounded up to whole steps, so a longer run may emit only half as many.
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
    fn micro_batch_size(&self) -> u32;

    /// Number of blocks in the fully grown model.
    fn blocks(&self) -> u32;

    /// The growth of a model that starts shallow.
    fn growth(&self) -> Option<&Growth> {
        None
    }

    /// The smoothed loss counts as diverged when it is more than this many nats above its lowest value so far. With
    /// None, divergence is not checked.
    fn divergence(&self) -> Option<f64> {
        None
    }

    /// Returns the loss of a micro-batch as a scalar with its graph. The losses of a step's micro-batches add up to the
    /// mean loss over the batch. The function records on `tape` the parts that the backward pass recomputes.
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
    /// The content of `config.json` in a checkpoint of the first `blocks` blocks, which are all unless the model grows.
    fn config(&self, blocks: u32) -> serde_json::Value;
}

/// The length of a run, in steps or in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    /// The number of optimiser updates. With a budget in seconds, the run ends after this many updates at the latest.
    pub steps: u64,
    /// Seconds of training, if the budget is counted in seconds.
    pub seconds: Option<f64>,
}

impl Budget {
    /// Returns the moment of the next step, after `step` updates that have taken `trained_seconds`. With a budget in
    /// seconds, the width of that step is not known yet, so it is the mean over the steps so far.
    fn moment(&self, step: u64, trained_seconds: f64) -> Moment {
        let Some(seconds) = self.seconds else { return Moment::of_step(step, self.steps) };
        let seconds_per_step = if step == 0 { 0.0 } else { trained_seconds / step as f64 };
        // The learning rate divides by the width, so it must be positive even before the first step.
        Moment { step, share: trained_seconds / seconds, width: (seconds_per_step / seconds).max(1e-9) }
    }

    fn is_used_up(&self, moment: &Moment) -> bool {
        moment.step >= self.steps || moment.share >= 1.0
    }

    /// Expected number of steps of the whole run. With a budget in seconds, it is extrapolated from the steps so far.
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
pub struct TrainedRun {
    pub state: TrainingState,
    /// The evaluation after the last step.
    pub evaluation: Evaluation,
    /// Hex sha256 of the last checkpoint's manifest. If the stage leaves no checkpoint, it is that of the weights and
    /// the optimiser's averages.
    pub final_digest: String,
}

/// Trains from step 0 or from `attempt.resumed` to the end of the budget.
///
/// # Errors
/// Fails if a loss or a value of an evaluation is not finite, if the loss has diverged, if the checkpoint is corrupt,
/// or if a write fails.
pub fn train(
    training: &mut impl Training,
    attempt: &Attempt<'_>,
    emitter: &mut Emitter,
) -> Result<Ended<TrainedRun>, TrainerError> {
    let mut optimizer = Optimizer::new(training.optimizer(), training.weights());
    let mut state = start(training, &mut optimizer, attempt)?;
    let budget = training.budget();
    let mut last_saved = Instant::now();
    let mut evaluation = None;
    let mut last_checkpoint = attempt.resumed.as_ref().map(|verified| verified.digest.clone());
    let mut step_times = StepTimes::default();

    let mut moment = budget.moment(state.step, state.trained_seconds);
    while !budget.is_used_up(&moment) {
        grow(training, &mut optimizer, &mut state, &moment);
        let clock = Stopwatch::start(attempt.device);
        let update = update(training, &mut optimizer, &moment);
        let seconds = clock.seconds();
        if !update.loss.is_finite() {
            return Err(TrainerError::non_finite_loss(state.step, update.loss));
        }
        state.chain = chained(&state.chain, state.step, update.loss);
        if let Some(margin) = training.divergence() {
            state.check_divergence(update.loss, margin)?;
        }
        let rate = training.learning_rate(&moment);
        let theta = training.theta(&moment);
        state.step += 1;
        state.trained_seconds += seconds;
        step_times.add(seconds);
        let before = std::mem::replace(&mut moment, budget.moment(state.step, state.trained_seconds));
        let (total, finished) = (budget.expected_steps(&moment), budget.is_used_up(&moment));
        if finished || is_point(state.step, total) {
            emitter.queue(points(&update, rate, theta, step_times.take_mean(), &state));
        }
        emitter.progress(state.step, total, state.trained_seconds)?;

        evaluation = None;
        if finished || training.evaluates_after(state.step) || budget.ends_tenth(&before, &moment) {
            evaluation = Some(evaluate(training, &state, emitter)?);
        }
        let stop = attempt.is_stopped() && !finished;
        let due = last_saved.elapsed() >= attempt.checkpoint_every && !finished;
        if stop || due || (finished && training.leaves_checkpoint()) {
            last_checkpoint = Some(save(training, &optimizer, &mut state, attempt, emitter)?.manifest);
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
    // A stage that leaves no checkpoint may have saved one to be resumed from. The digest of that one is not the
    // result.
    let final_digest = last_checkpoint
        .filter(|_| training.leaves_checkpoint())
        .unwrap_or_else(|| checkpoint::digest_of(training.weights(), &optimizer));
    Ok(Ended::Finished(TrainedRun { state, evaluation, final_digest }))
}

/// The result of one optimiser update.
#[derive(Debug)]
pub struct Update {
    /// Mean loss over the batch, before the update.
    pub loss: f64,
    /// Global norm of the gradient before clipping, a scalar on the device.
    pub gradient_norm: Tensor,
    /// Number of open blocks as [`recipe::gate::open_blocks`] counts them. It is the mean over the micro-batches.
    pub open_blocks: f64,
}

/// Makes one optimiser update: the forward and backward passes of all micro-batches, and the optimiser's step.
pub fn update(training: &mut impl Training, optimizer: &mut Optimizer, moment: &Moment) -> Update {
    let micro_batches = training.micro_batches();
    let (mut losses, mut open_blocks) = (Vec::new(), 0.0);
    for micro_batch in 0..micro_batches {
        let gates = training.gates(moment, micro_batch);
        let mut tape = Tape::default();
        let loss = training.loss(moment, micro_batch, &gates, &mut tape);
        let open = training.weights().open(&gates);
        tape.differentiate(training.weights(), &loss, &open);
        losses.push(loss.detach());
        open_blocks += gate::open_blocks(&gates, training.micro_batch_size()) / f64::from(micro_batches);
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

/// Returns the state of a run before its next step. A run that continues from a checkpoint takes the state, the weights
/// and the optimiser's averages from it; any other run starts at step 0 with what `training` and `optimizer` hold.
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
        updates: vec![0; optimizer.group_states().len()],
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

/// True if the curves get a point after `step`, since a long run does not get one at every step. With a budget in steps
/// this depends on the step alone, so a resumed run gives the same points. With a budget in seconds it also depends on
/// the time that the steps took, because `total` is extrapolated from it.
fn is_point(step: u64, total: u64) -> bool {
    step == total || step.is_multiple_of(total.div_ceil(POINTS_PER_CURVE))
}

/// The number of steps since the last point, and the time that they took together.
#[derive(Debug, Default)]
struct StepTimes {
    steps: u32,
    seconds: f64,
}

impl StepTimes {
    fn add(&mut self, seconds: f64) {
        self.steps += 1;
        self.seconds += seconds;
    }

    /// Returns the mean time of a step since the last point, None without a step, and starts again from zero.
    fn take_mean(&mut self) -> Option<f64> {
        let taken = std::mem::take(self);
        (taken.steps > 0).then(|| taken.seconds / f64::from(taken.steps))
    }
}

/// Returns the points of the curves after a step.
fn points(
    update: &Update,
    rate: f64,
    theta: Option<f64>,
    step_seconds: Option<f64>,
    state: &TrainingState,
) -> Vec<Point> {
    let values = [
        ("train_loss", Some(update.loss)),
        ("learning_rate", Some(rate)),
        ("theta", theta),
        ("open_blocks", Some(update.open_blocks)),
        ("gradient_norm", Some(update.gradient_norm.double_value(&[]))),
        ("step_seconds", step_seconds),
    ];
    // JSON has no infinity, so a value that is not finite gives no point. After such a gradient norm, the loss of the
    // next step is not finite, which ends the run.
    let finite = values.into_iter().filter_map(|(name, value)| Some((name, value.filter(|v| v.is_finite())?)));
    finite.map(|(name, value)| point(name, value, state)).collect()
}

/// Evaluates the model, and emits the result if it and the weights are finite.
fn evaluate(
    training: &mut impl Training,
    state: &TrainingState,
    emitter: &mut Emitter,
) -> Result<Evaluation, TrainerError> {
    // The loss of the last step is from before its update, and a class can be chosen from logits that are NaN, so neither
    // shows that the update spoiled the weights.
    let mut largest = training.weights().groups().iter().map(|group| group.buffer().abs().max().double_value(&[]));
    if let Some(value) = largest.find(|value| !value.is_finite()) {
        return Err(TrainerError::NotFinite { name: "largest weight".into(), step: state.step, value });
    }
    let evaluation = training.evaluate(&Gate::full_depth(state.blocks, training.blocks()));
    check_finite(&evaluation, state.step)?;
    let points = evaluation.values.iter().map(|(name, value)| point(name, *value, state)).collect();
    emitter.emit(&Event::Evaluated { step: state.step, trained_seconds: state.trained_seconds, points })?;
    Ok(evaluation)
}

/// Returns an error that names the first value of `evaluation` that is not finite, if there is one.
fn check_finite(evaluation: &Evaluation, step: u64) -> Result<(), TrainerError> {
    match evaluation.values.iter().find(|(_, value)| !value.is_finite()) {
        Some((name, value)) => Err(TrainerError::NotFinite { name: name.clone(), step, value: *value }),
        None => Ok(()),
    }
}

fn save(
    training: &impl Training,
    optimizer: &Optimizer,
    state: &mut TrainingState,
    attempt: &Attempt<'_>,
    emitter: &mut Emitter,
) -> Result<SavedCheckpoint, TrainerError> {
    // The points of a step are emitted before its checkpoint, because a run that resumes from it does not repeat the
    // step.
    let moment = training.budget().moment(state.step, state.trained_seconds);
    emitter.progress_now(state.step, training.budget().expected_steps(&moment), state.trained_seconds)?;
    state.updates = optimizer.group_states().iter().map(|group| group.updates).collect();
    let contents = Contents {
        state,
        weights: training.weights(),
        optimizer,
        config: &training.config(state.blocks),
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

    /// Copies of a group's values and of the optimiser's two averages, and its number of updates.
    type GroupCopy = ([Tensor; 3], u64);

    fn group_copies(training: &impl Training, optimizer: &Optimizer) -> Vec<GroupCopy> {
        let groups = training.weights().groups().iter().zip(optimizer.group_states());
        let copy = |buffers: [&Tensor; 3], updates: u64| (buffers.map(Tensor::copy), updates);
        groups.map(|(group, state)| copy([group.buffer(), &state.first, &state.second], state.updates)).collect()
    }

    #[test]
    fn the_error_names_the_value_of_an_evaluation_that_is_not_finite() {
        let evaluation = |accuracy: f64| Evaluation {
            headline: 1.5,
            values: vec![("validation_loss".into(), 1.5), ("validation_accuracy".into(), accuracy)],
        };
        check_finite(&evaluation(0.5), 7).unwrap();
        let failure = recipe::Failure::from(check_finite(&evaluation(f64::NAN), 7).unwrap_err());
        assert_eq!(failure.kind, recipe::FailureKind::NonFiniteLoss);
        assert!(failure.message.starts_with("the validation_accuracy of step 7 is NaN: "), "{}", failure.message);
    }

    #[test]
    fn added_blocks_start_as_the_recipe_says_and_the_others_stay_unchanged() {
        for (new, kept) in [("copy", "keep"), ("copy", "reset"), ("fresh", "keep"), ("fresh", "reset")] {
            let stages = json!([{"blocks": 2, "until": 0.5}]);
            let growth = json!({"stages": stages, "new": new, "optimizer": kept});
            let model =
                json!({"blocks": 5, "hidden": 12, "heads": 3, "intermediate": 20, "positions": 32, "norm": "pre"});
            // With bfloat16, every group also has a copy of its values in bfloat16. Growing must update this copy as
            // well.
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
            let first = group_copies(&training, &optimizer);
            for step in 0..3 {
                let moment = Moment::of_step(step, 6);
                grow(&mut training, &mut optimizer, &mut state, &moment);
                assert_eq!(state.blocks, 2, "{new}, {kept}, step {step}");
                update(&mut training, &mut optimizer, &moment);
            }
            let before = group_copies(&training, &optimizer);
            let zeros = before.iter().map(|([values, ..], _)| values.zeros_like()).collect::<Vec<_>>();
            grow(&mut training, &mut optimizer, &mut state, &Moment::of_step(3, 6));
            assert_eq!(state.blocks, 5);
            let after = group_copies(&training, &optimizer);
            // Group 0 lies outside the blocks, and each block has two groups, one per sublayer. The new blocks 3, 4 and
            // 5 copy blocks 1, 2 and 1.
            let sources = [0, 1, 2, 3, 4, 1, 2, 3, 4, 1, 2];
            for (group, source) in sources.into_iter().enumerate() {
                let what = format!("{new}, {kept}, group {group}");
                let is_new = group > 4;
                let ([values, ..], _) = if is_new && new == "fresh" { &first[group] } else { &before[source] };
                assert_eq!(&after[group].0[0], values, "{what}");
                let has_averages = kept == "keep" && (!is_new || new == "copy");
                let updates = if has_averages { 3 } else { 0 };
                assert_eq!(after[group].1, updates, "{what}");
                for buffer in [1, 2] {
                    let expected = if has_averages { &before[source].0[buffer] } else { &zeros[group] };
                    assert_eq!(&after[group].0[buffer], expected, "{what}, buffer {buffer}");
                }
                assert!(before[source].0[1].abs().max().double_value(&[]) > 0.0, "{what}: there were averages to keep");
                let (_, bfloat16_copy, _) = training.weights_mut().groups_mut()[group].buffers();
                assert_eq!(*bfloat16_copy.unwrap(), after[group].0[0].to_kind(Kind::BFloat16), "{what}");
            }
            // From now on, every group is updated, the copies too.
            update(&mut training, &mut optimizer, &Moment::of_step(3, 6));
            let last = group_copies(&training, &optimizer);
            assert!(last.iter().zip(&after).all(|(last, after)| last.0[0] != after.0[0] && last.1 == after.1 + 1));
        }
    }
}
