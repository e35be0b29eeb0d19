//! What a trial does, and everything that defines its result.

use serde::{Deserialize, Serialize};

use crate::finetune::Finetune;
use crate::gate::{Ask, Gate};
use crate::growth::Growth;
use crate::images::Images;
use crate::layer_drop::{LayerDrop, is_default};
use crate::learning_rate::LearningRate;
use crate::model::Model;
use crate::objective::Mlm;
use crate::optimizer::{ClosedBlocks, Optimizer};
use crate::problem::{Problem, Problems};
use crate::schedule::Moment;
use crate::seeds::Seeds;

/// What `lamina-trainer run --recipe FILE` reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrialSpec {
    pub recipe: Recipe,
    #[serde(default)]
    pub seeds: Seeds,
}

/// Everything that defines a trial's result except its seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "a recipe is held once per trial, and most are of the large kind")]
pub enum Recipe {
    Timing(Timing),
    Pretrain(Pretrain),
    Finetune(Finetune),
    Probe(Probe),
}

/// The name of a stage, where its content does not matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Stage {
    Timing,
    Pretrain,
    Finetune,
    Probe,
}

impl Stage {
    pub const ALL: [Stage; 4] = [Stage::Timing, Stage::Pretrain, Stage::Finetune, Stage::Probe];

    pub const fn name(self) -> &'static str {
        match self {
            Stage::Timing => "timing",
            Stage::Pretrain => "pretrain",
            Stage::Finetune => "finetune",
            Stage::Probe => "probe",
        }
    }
}

/// A registered folder or file. The digest is its identity; the name is for people and is not part of the fingerprint
/// once the digest is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dataset {
    pub name: String,
    /// Hex sha256 over the dataset's manifest (see `scheduler::dataset`); absent when the trainer is run by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// Where WordPiece ids come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Vocabulary {
    /// A registered `vocab.txt`, one token a line.
    File { dataset: Dataset },
    /// Trained, deterministically, on the training part of the corpus.
    Trained { size: u32 },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pretrain {
    pub model: Model,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer_drop: Option<LayerDrop>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub growth: Option<Growth>,
    #[serde(default)]
    pub objective: Mlm,
    #[serde(default)]
    pub optimizer: Optimizer,
    pub learning_rate: LearningRate,
    /// The budget: optimiser updates. With a budget in seconds, the most that are made.
    pub steps: u64,
    /// The budget in seconds of training. A run with it is not reproducible: how far it comes depends on the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Sequences per update.
    pub batch: u32,
    /// Equal parts of a batch whose gradients are added up, to save memory.
    #[serde(default = "default_one", skip_serializing_if = "is_one")]
    pub micro_batches: u32,
    /// Tokens per sequence, `[CLS]` and `[SEP]` included; with images, as many as an image makes.
    pub length: u32,
    /// Text, or files of images where there is `images`.
    pub corpus: Dataset,
    /// Of text; absent with images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vocabulary: Option<Vocabulary>,
    /// Learns from images in place of text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<Images>,
    /// Share of the documents held out for validation; of the images, where these bring no test files of their own.
    #[serde(default = "default_held_out")]
    pub held_out: f64,
    /// Validation every so many steps, with a budget in seconds also each tenth of it, and always at the end.
    pub validate_every: u64,
    /// At most this many held-out sequences are scored.
    #[serde(default = "default_validation_sequences")]
    pub validation_sequences: u32,
    /// Ends a run as diverged when its smoothed training loss has risen by so many nats above its lowest; never where it
    /// is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub divergence: Option<f64>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub precision: Precision,
    /// Keeps only the input of each sublayer for the backward pass and makes the rest again there: less memory, more time,
    /// the same result.
    #[serde(default, skip_serializing_if = "is_default")]
    pub recompute: bool,
    /// Looks into every block at each validation; see [`crate::report::BlockState`].
    #[serde(default, skip_serializing_if = "is_default")]
    pub probe: bool,
}

/// More steps are a mistake.
pub const MOST_STEPS: u64 = 1_000_000_000;

fn default_one() -> u32 {
    1
}
fn is_one(value: &u32) -> bool {
    *value == 1
}

/// The paper splits 300:1; small corpora need more than that to have a validation part at all.
fn default_held_out() -> f64 {
    0.02
}
fn default_validation_sequences() -> u32 {
    256
}

/// In what numbers a model is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Precision {
    #[default]
    Float32,
    /// Matrix products and what goes into them in bfloat16. Weights, moments, statistics, softmax, losses and the stream
    /// between the sublayers stay float32.
    Bfloat16,
}

/// Looks into a checkpoint: what each block does, and what the model is without it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// The recipe of the checkpoint; of a published one its model, and what it is asked: text, length, masking.
    pub from: Box<Pretrain>,
    /// The published checkpoint that is looked into, in place of what `from` makes. Its vocabulary is that of `from`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Dataset>,
    /// Seeds of the pre-train trial, so that the fingerprint names exactly one checkpoint.
    #[serde(default)]
    pub from_seeds: Seeds,
    /// At most this many held-out sequences are looked at.
    #[serde(default = "default_probe_sequences")]
    pub sequences: u32,
    /// Random orders of the blocks that are tried.
    #[serde(default = "default_shuffles")]
    pub shuffles: u32,
}

fn default_probe_sequences() -> u32 {
    64
}
fn default_shuffles() -> u32 {
    8
}

/// Runs its arms interleaved on one device (A B B A ...) and times their steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timing {
    pub arms: Vec<TimingArm>,
    /// How often each arm gets a turn.
    pub rounds: u32,
    /// Timed steps in one turn.
    pub steps_per_turn: u32,
    /// Untimed steps at the start of each turn; memory is measured in them.
    pub warmup_steps: u32,
    /// Looks for the largest batch of each arm that fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub largest_batch: Option<LargestBatch>,
}

/// How the largest batch is looked for: by bisection, each candidate tried with a step on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct LargestBatch {
    /// What the trainer may take; by default what the device has free.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_bytes: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimingArm {
    pub name: String,
    pub recipe: Pretrain,
}

impl TrialSpec {
    /// Every reason why this trial cannot run, at its pointer into the spec; empty means valid.
    pub fn validate(&self) -> Vec<Problem> {
        let mut problems = Problems::at("/recipe");
        self.recipe.check(&mut problems);
        problems.into_vec()
    }
}

impl Recipe {
    pub const fn stage(&self) -> Stage {
        match self {
            Recipe::Timing(_) => Stage::Timing,
            Recipe::Pretrain(_) => Stage::Pretrain,
            Recipe::Finetune(_) => Stage::Finetune,
            Recipe::Probe(_) => Stage::Probe,
        }
    }

    /// Every reason why this recipe cannot run; empty means valid.
    pub fn validate(&self) -> Vec<Problem> {
        let mut problems = Problems::default();
        self.check(&mut problems);
        problems.into_vec()
    }

    fn check(&self, problems: &mut Problems) {
        match self {
            Recipe::Timing(timing) => timing.check(problems),
            Recipe::Pretrain(pretrain) => pretrain.check(problems),
            Recipe::Finetune(finetune) => finetune.check(problems),
            Recipe::Probe(probe) => probe.check(problems),
        }
    }
}

impl Probe {
    fn check(&self, problems: &mut Problems) {
        problems.within("from", |p| self.from.check(p));
        let Mlm { next_sentence, electra, .. } = self.from.objective;
        let masked = self.from.images.is_none() && !next_sentence && electra.is_none();
        problems.require(self.published.is_none() || masked, "published", || {
            "a published model of the BERT family is asked for masked tokens alone".into()
        });
        let of_file = matches!(self.from.vocabulary, Some(Vocabulary::File { .. }));
        problems.require(self.published.is_none() || of_file, "published", || {
            "it was trained with a vocabulary of its own: none is trained for it".into()
        });
        problems.require(self.sequences > 0, "sequences", || "at least 1".into());
        problems.require(self.shuffles <= 1000, "shuffles", || format!("{}: at most 1000", self.shuffles));
    }
}

impl Timing {
    fn check(&self, problems: &mut Problems) {
        problems.require(!self.arms.is_empty(), "arms", || "nothing to time".into());
        problems.require(self.rounds > 0, "rounds", || "at least one round".into());
        problems.require(self.steps_per_turn > 0, "steps_per_turn", || "at least one step".into());
        problems.within("largest_batch", |problems| {
            let limit = self.largest_batch.and_then(|search| search.limit_bytes);
            problems.require(limit != Some(0), "limit_bytes", || "a positive number".into());
        });
        problems.within("arms", |problems| {
            for (index, arm) in self.arms.iter().enumerate() {
                problems.within(&index.to_string(), |problems| problems.within("recipe", |p| arm.recipe.check(p)));
            }
        });
    }
}

impl Pretrain {
    pub fn check(&self, problems: &mut Problems) {
        problems.within("model", |p| self.model.check(p));
        if let Some(drop) = &self.layer_drop {
            problems.within("layer_drop", |p| drop.check(self.step_budget(), p));
        }
        if let Some(growth) = &self.growth {
            problems.within("growth", |p| growth.check(&self.model, p));
            problems.require(self.layer_drop.is_none(), "growth", || {
                "layer drop draws over one depth: a model that grows has several".into()
            });
            problems.require(self.optimizer.closed_blocks == ClosedBlocks::Skip, "growth", || {
                "blocks that are not there yet cannot be decayed".into()
            });
            problems.require(self.objective.electra.is_none(), "growth", || "a generator does not grow".into());
        }
        problems.within("objective", |p| self.objective.check(&self.model, p));
        let narrowed = self.model.embedding.is_some() && self.objective.electra.is_none();
        problems.within("model", |problems| {
            problems.require(!narrowed, "embedding", || "only ELECTRA's embeddings have a width of their own".into());
        });
        problems.within("optimizer", |p| self.optimizer.check(p));
        problems.within("learning_rate", |p| self.learning_rate.check(p));
        problems.require((1..=MOST_STEPS).contains(&self.steps), "steps", || {
            format!("{} steps: 1 to {MOST_STEPS} are allowed", self.steps)
        });
        if let Some(seconds) = self.seconds {
            problems
                .require(seconds > 0.0 && seconds.is_finite(), "seconds", || format!("{seconds}: a positive number"));
        }
        problems.require(
            self.micro_batches > 0 && self.batch.is_multiple_of(self.micro_batches),
            "micro_batches",
            || format!("{}: a number that divides the batch of {}", self.micro_batches, self.batch),
        );
        if let Some(margin) = self.divergence {
            problems
                .require(margin > 0.0 && margin.is_finite(), "divergence", || format!("{margin}: a positive number"));
        }
        check_batch_size(problems, self.batch);
        self.check_data(problems);
        problems.require(self.held_out > 0.0 && self.held_out < 1.0, "held_out", || {
            format!("{}: a share of the documents between 0 and 1", self.held_out)
        });
        problems.require(self.validate_every > 0, "validate_every", || "at least 1 step apart".into());
        problems.require(self.validation_sequences > 0, "validation_sequences", || "at least 1".into());
    }

    /// What goes with text, and what with images.
    fn check_data(&self, problems: &mut Problems) {
        let Some(images) = &self.images else {
            check_length(problems, 8, self.length, &self.model);
            problems.require(self.vocabulary.is_some(), "vocabulary", || "text needs one".into());
            if let Some(Vocabulary::Trained { size }) = self.vocabulary {
                problems.require((100..=1_000_000).contains(&size), "vocabulary", || {
                    format!("{size} tokens: a trained vocabulary has 100 to 1000000")
                });
            }
            return;
        };
        problems.within("images", |p| images.check(p));
        check_length(problems, 2, self.length, &self.model);
        problems.require(self.vocabulary.is_none(), "vocabulary", || "images have no words".into());
        problems.require(self.objective == Mlm::default(), "objective", || {
            "is of text: of images, `images` says what is learned".into()
        });
    }
}

impl Pretrain {
    /// The budget, where it is counted in steps.
    pub fn step_budget(&self) -> Option<u64> {
        self.seconds.is_none().then_some(self.steps)
    }

    /// Which sublayers are open for a micro-batch of the step at `moment`, in forward order.
    pub fn gates(&self, moment: &Moment, micro_batch: u32, seed: u64) -> Vec<Gate> {
        let Some(drop) = &self.layer_drop else { return self.full_depth(moment) };
        let batch = self.batch / self.micro_batches;
        let ask = Ask { seed, step: moment.step, micro_batch, batch };
        drop.gates(&self.model.sublayers(), drop.theta(moment, self.step_budget()), &ask)
    }

    /// Every sublayer open that is there at `moment`: a model that grows has not all of them from the start.
    pub fn full_depth(&self, moment: &Moment) -> Vec<Gate> {
        let blocks = self.model.blocks;
        let grown = self.growth.as_ref().map_or(blocks, |growth| growth.blocks_at(moment.share, blocks));
        Gate::full_depth(grown, blocks)
    }

    /// Closed-form share of encoder FLOPs that layer drop or growth saves over a run.
    pub fn encoder_saving(&self) -> f64 {
        let dropped = self.layer_drop.map(|drop| drop.encoder_saving(&self.model, self.length, self.step_budget()));
        dropped.or(self.growth.as_ref().map(|growth| growth.encoder_saving(self.model.blocks))).unwrap_or(0.0)
    }
}

pub(crate) fn check_batch(problems: &mut Problems, batch: u32, length: u32, model: &Model) {
    check_batch_size(problems, batch);
    check_length(problems, 8, length, model);
}

fn check_batch_size(problems: &mut Problems, batch: u32) {
    problems
        .require((1..=1_048_576).contains(&batch), "batch", || format!("{batch} sequences: 1 to 1048576 are allowed"));
}

fn check_length(problems: &mut Problems, least: u32, length: u32, model: &Model) {
    problems.require((least..=model.positions).contains(&length), "length", || {
        format!("{length} tokens: {least} to the model's {} positions are allowed", model.positions)
    });
}
