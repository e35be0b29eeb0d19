//! The loop. The only file that counts steps.

use std::num::NonZero;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use recipe::event::Point;
use recipe::seeds::libtorch_seed;
use recipe::{Event, Gate, Purpose, Seeds};
use sha2::{Digest, Sha256};
use tch::{Device, Tensor};

use crate::bert::Weights;
use crate::checkpoint::{self, Contents, Saved, State, Verified};
use crate::data::vocabulary::Vocabulary;
use crate::emit::Emitter;
use crate::failure::TrainerError;
use crate::optimizer::AdamW;
use crate::stopwatch::Stopwatch;

/// A run keeps about so many values of each curve.
const POINTS_PER_CURVE: u64 = 1000;

/// What a stage brings to the loop. Everything that varies with the step is a function of it.
pub trait Training {
    /// The budget: optimiser updates.
    fn total_steps(&self) -> u64;

    fn learning_rate(&self, step: u64) -> f64;

    /// Which blocks are open at `step`, first block first.
    fn gates(&self, step: u64) -> Vec<Gate>;

    /// theta(t), where blocks are dropped at all.
    fn theta(&self, step: u64) -> Option<f64>;

    /// Mean loss over the batch of `step`: a scalar with its graph.
    fn loss(&mut self, step: u64, gates: &[Gate]) -> Tensor;

    /// Whether an evaluation is due after so many steps; after the last one it always is.
    fn evaluates_after(&self, steps: u64) -> bool;

    /// Named numbers on held-out data, at full depth, without scale and dropout.
    fn evaluate(&mut self) -> Vec<(String, f64)>;

    /// Whether the last checkpoint is for others to go on from.
    fn leaves_checkpoint(&self) -> bool;

    fn weights(&self) -> &Weights;
    fn weights_mut(&mut self) -> &mut Weights;
    fn optimizer(&self) -> recipe::Optimizer;
    fn vocabulary(&self) -> &Vocabulary;
    /// `config.json` of a checkpoint.
    fn config(&self) -> serde_json::Value;
}

/// Where and for whom a run takes place.
pub struct Attempt<'a> {
    pub out: &'a Path,
    pub fingerprint: &'a str,
    pub seeds: Seeds,
    pub device: Device,
    /// The checkpoint to go on from.
    pub resumed: Option<&'a Verified>,
    pub checkpoint_every: Duration,
    /// Set from outside when the run should write a checkpoint and leave.
    pub stop: &'a AtomicBool,
}

/// How a run ended, when it did not fail.
#[derive(Debug)]
pub enum Ended {
    Finished(Finish),
    /// Asked to stop; a checkpoint of this step is on disk.
    Interrupted {
        step: u64,
    },
}

/// What a finished run has to show.
#[derive(Debug)]
pub struct Finish {
    pub state: State,
    /// The evaluation after the last step.
    pub evaluation: Vec<(String, f64)>,
    /// Hex sha256 of the last checkpoint's manifest; where the stage leaves none, of its weights and moments.
    pub last: String,
}

/// Trains from the start or from `attempt.resumed` to the end of the budget.
///
/// # Errors
/// A loss that is no finite number, a corrupt checkpoint, a failed write.
pub fn run(training: &mut impl Training, attempt: &Attempt<'_>, emitter: &mut Emitter) -> Result<Ended, TrainerError> {
    let mut optimizer = AdamW::new(training.optimizer(), training.weights());
    let mut state = start(training, &mut optimizer, attempt)?;
    let total = training.total_steps();
    let mut last_saved = Instant::now();
    let mut evaluation = None;
    let mut last = attempt.resumed.map(|verified| verified.digest.clone());
    let mut pace = Pace::default();

    while state.step < total {
        let clock = Stopwatch::start(attempt.device);
        let update = update(training, &mut optimizer, state.step, &attempt.seeds);
        let seconds = clock.seconds();
        if !update.loss.is_finite() {
            return Err(TrainerError::NonFiniteLoss { step: state.step, loss: update.loss });
        }
        state.chain = chained(&state.chain, state.step, update.loss);
        let rate = training.learning_rate(state.step);
        let theta = training.theta(state.step);
        state.step += 1;
        state.trained_seconds += seconds;
        pace.add(seconds);
        if is_point(state.step, total) {
            emitter.keep(points(&update, rate, theta, &mut pace, &state));
        }
        emitter.progress(state.step, total, state.trained_seconds)?;

        let finished = state.step == total;
        evaluation = None;
        if finished || training.evaluates_after(state.step) {
            evaluation = Some(evaluate(training, &state, emitter)?);
        }
        let stop = attempt.stop.load(Ordering::Relaxed) && !finished;
        let due = last_saved.elapsed() >= attempt.checkpoint_every && !finished;
        if stop || due || (finished && training.leaves_checkpoint()) {
            last = Some(save(training, &optimizer, &mut state, attempt, emitter)?.manifest);
            last_saved = Instant::now();
        }
        if stop {
            return Ok(Ended::Interrupted { step: state.step });
        }
    }
    emitter.progress_now(state.step, total, state.trained_seconds)?;
    let evaluation = match evaluation {
        Some(evaluation) => evaluation,
        // It was resumed from its last checkpoint.
        None => evaluate(training, &state, emitter)?,
    };
    let last = last.filter(|_| training.leaves_checkpoint());
    let last = last.unwrap_or_else(|| checkpoint::digest_of(training.weights(), &optimizer));
    Ok(Ended::Finished(Finish { state, evaluation, last }))
}

/// What one optimiser update did.
#[derive(Debug)]
pub struct Update {
    /// Mean loss over the batch, before the update.
    pub loss: f64,
    /// Global norm of the gradient before clipping, a scalar on the device.
    pub gradient_norm: Tensor,
    pub open_blocks: u32,
}

/// One optimiser update: forward, backward, AdamW. Its dropout depends on (seed, step) alone.
pub fn update(training: &mut impl Training, optimizer: &mut AdamW, step: u64, seeds: &Seeds) -> Update {
    tch::manual_seed(libtorch_seed(seeds.dropout, Purpose::Dropout, step));
    let gates = training.gates(step);
    let loss = training.loss(step, &gates);
    let open = Weights::open(&gates);
    let gradient_norm = optimizer.differentiate(training.weights(), &loss, &open);
    let rate = training.learning_rate(step);
    optimizer.update(training.weights_mut(), &open, rate);
    let open_blocks = gates.iter().filter(|gate| gate.open).count() as u32;
    Update { loss: loss.double_value(&[]), gradient_norm, open_blocks }
}

fn start(training: &mut impl Training, optimizer: &mut AdamW, attempt: &Attempt<'_>) -> Result<State, TrainerError> {
    if let Some(checkpoint) = attempt.resumed {
        let state = checkpoint.state(attempt.fingerprint, &attempt.seeds)?;
        checkpoint.restore(&state, training.weights(), optimizer)?;
        return Ok(state);
    }
    Ok(State {
        fingerprint: attempt.fingerprint.to_owned(),
        seeds: attempt.seeds,
        step: 0,
        trained_seconds: 0.0,
        chain: hex::encode(Sha256::digest(attempt.fingerprint)),
        updates: vec![0; optimizer.moments().len()],
    })
}

/// The digest chain after `step` with this loss: equal chains, equal runs.
fn chained(chain: &str, step: u64, loss: f64) -> String {
    let mut hash = Sha256::new();
    hash.update(chain);
    hash.update(step.to_le_bytes());
    hash.update(loss.to_bits().to_le_bytes());
    hex::encode(hash.finalize())
}

/// Thins a long run's curves. Depends on the step alone, so that a resumed run gives the same points.
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

fn points(update: &Update, rate: f64, theta: Option<f64>, pace: &mut Pace, state: &State) -> Vec<Point> {
    let values = [
        ("train_loss", Some(update.loss)),
        ("learning_rate", Some(rate)),
        ("theta", theta),
        ("open_blocks", Some(f64::from(update.open_blocks))),
        ("gradient_norm", Some(update.gradient_norm.double_value(&[]))),
        ("step_seconds", pace.take()),
    ];
    // JSON has no infinity; a gradient norm that is none shows up as a non-finite loss at the next step.
    let finite = values.into_iter().filter_map(|(name, value)| Some((name, value.filter(|v| v.is_finite())?)));
    finite.map(|(name, value)| point(name, value, state)).collect()
}

fn evaluate(
    training: &mut impl Training,
    state: &State,
    emitter: &mut Emitter,
) -> Result<Vec<(String, f64)>, TrainerError> {
    let evaluation = training.evaluate();
    if let Some((_, loss)) = evaluation.iter().find(|(_, value)| !value.is_finite()) {
        return Err(TrainerError::NonFiniteLoss { step: state.step, loss: *loss });
    }
    let points = evaluation.iter().map(|(name, value)| point(name, *value, state)).collect();
    emitter.emit(&Event::Evaluated { step: state.step, trained_seconds: state.trained_seconds, points })?;
    Ok(evaluation)
}

fn save(
    training: &impl Training,
    optimizer: &AdamW,
    state: &mut State,
    attempt: &Attempt<'_>,
    emitter: &mut Emitter,
) -> Result<Saved, TrainerError> {
    // A point is out before the checkpoint that makes a resumed run skip its step.
    emitter.progress_now(state.step, training.total_steps(), state.trained_seconds)?;
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

fn point(name: &str, value: f64, state: &State) -> Point {
    Point { name: name.to_owned(), step: state.step, value, trained_seconds: state.trained_seconds }
}
