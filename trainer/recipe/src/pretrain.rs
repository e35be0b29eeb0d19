//! A pre-train run, on text or on images.

use serde::{Deserialize, Serialize};

use crate::dataset::{Dataset, Vocabulary};
use crate::gate::{DrawKey, Gate};
use crate::growth::Growth;
use crate::images::ImageObjective;
use crate::json::is_default;
use crate::layer_drop::LayerDrop;
use crate::learning_rate::LearningRate;
use crate::model::Model;
use crate::objective::Mlm;
use crate::optimizer::{ClosedBlocks, Optimizer};
use crate::problem::Problems;
use crate::schedule::Moment;

/// The recipe of a pre-train run.
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
    /// The budget in optimiser updates. With a budget in seconds, an upper bound on the updates.
    pub steps: u64,
    /// The budget in seconds of training. Such a run is not reproducible: the number of its steps depends on the
    /// machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Sequences per update.
    pub batch: u32,
    /// Number of equal parts of a batch whose gradients are added up, to save memory.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub micro_batches: u32,
    /// Tokens per sequence, `[CLS]` and `[SEP]` included. For images, the number of tokens that an image becomes.
    pub length: u32,
    /// The text, or the files of images if `images` is present.
    pub corpus: Dataset,
    /// The vocabulary of text; absent for images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vocabulary: Option<Vocabulary>,
    /// If present, the model learns from images instead of text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<ImageObjective>,
    /// Share of the documents that is held out for validation; share of the images if they come without test files.
    #[serde(default = "default_held_out")]
    pub held_out: f64,
    /// Steps between validations. A run also validates at its end and, if its budget is in seconds, after each tenth of
    /// it.
    pub validate_every: u64,
    /// Upper bound on the held-out sequences of a validation.
    #[serde(default = "default_validation_sequences")]
    pub validation_sequences: u32,
    /// Ends the run as diverged when its smoothed training loss has risen this many nats above its lowest value.
    /// Absent: divergence is not checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub divergence: Option<f64>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub precision: Precision,
    /// Keeps only the input of each sublayer for the backward pass and computes the rest again there: less memory, more
    /// time, the same result.
    #[serde(default, skip_serializing_if = "is_default")]
    pub recompute: bool,
    /// Measures every block at each validation; see [`crate::report::BlockState`].
    #[serde(default, skip_serializing_if = "is_default")]
    pub probe: bool,
}

/// Number format of the matrix products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Precision {
    #[default]
    Float32,
    /// Matrix products and their inputs in bfloat16. Weights, moments, statistics, softmax, losses and the residual
    /// stream between the sublayers stay float32.
    Bfloat16,
}

/// The most steps that a recipe may ask for; more are a mistake.
pub const MOST_STEPS: u64 = 1_000_000_000;

/// The most sequences of a batch, more than any machine holds.
pub const MOST_SEQUENCES_OF_A_BATCH: u32 = 1 << 20;

/// `[CLS]`, `[SEP]` and a few words: shorter sequences of text are a mistake.
const SHORTEST_TEXT: u32 = 8;
/// A token to predict and one before it.
const SHORTEST_IMAGE: u32 = 2;

fn one() -> u32 {
    1
}
fn is_one(value: &u32) -> bool {
    *value == 1
}
fn default_held_out() -> f64 {
    Pretrain::DEFAULT_HELD_OUT
}
fn default_validation_sequences() -> u32 {
    Pretrain::DEFAULT_VALIDATION_SEQUENCES
}

impl Pretrain {
    /// The paper splits 300:1; small corpora need more than that to have a validation part at all.
    pub const DEFAULT_HELD_OUT: f64 = 0.02;
    pub const DEFAULT_VALIDATION_SEQUENCES: u32 = 256;
    /// More sequences make a loss no more certain.
    pub const MOST_VALIDATION_SEQUENCES: u32 = 1_000_000;

    pub fn check(&self, problems: &mut Problems) {
        problems.within("model", |p| self.model.check(p));
        if let Some(drop) = &self.layer_drop {
            problems.within("layer_drop", |p| drop.check(self.step_budget(), p));
        }
        if let Some(growth) = &self.growth {
            problems.within("growth", |p| growth.check(&self.model, p));
            problems.require(self.layer_drop.is_none(), "growth", || {
                "`growth` cannot be combined with `layer_drop`, which needs a fixed depth: leave one of them out".into()
            });
            problems.require(self.optimizer.closed_blocks == ClosedBlocks::Skip, "growth", || {
                "with `growth`, blocks that do not exist yet cannot be decayed: set `closed_blocks` of the optimizer \
                 to `skip`"
                    .into()
            });
            problems.require(self.objective.electra.is_none(), "growth", || {
                "`growth` cannot be combined with the `electra` objective: leave one of them out".into()
            });
        }
        problems.within("objective", |p| self.objective.check(&self.model, p));
        problems.within("model", |problems| {
            let has_generator = self.objective.electra.is_some();
            problems.require(self.model.embedding.is_none() || has_generator, "embedding", || {
                "`embedding` applies to the `electra` objective only: leave it out".into()
            });
        });
        problems.within("optimizer", |p| self.optimizer.check(p));
        problems.within("learning_rate", |p| self.learning_rate.check(p));
        self.check_budget(problems);
        self.check_data(problems);
        problems.require(self.held_out > 0.0 && self.held_out < 1.0, "held_out", || {
            format!("a held-out share of {}: choose one above 0 and below 1", self.held_out)
        });
        problems.require((1..=MOST_STEPS).contains(&self.validate_every), "validate_every", || {
            format!("a validation every {} steps: 1 to {MOST_STEPS} are allowed", self.validate_every)
        });
        let sequences = self.validation_sequences;
        problems.require((1..=Self::MOST_VALIDATION_SEQUENCES).contains(&sequences), "validation_sequences", || {
            format!("{sequences} sequences: 1 to {} are allowed", Self::MOST_VALIDATION_SEQUENCES)
        });
    }

    fn check_budget(&self, problems: &mut Problems) {
        problems.require((1..=MOST_STEPS).contains(&self.steps), "steps", || {
            format!("{} steps: 1 to {MOST_STEPS} are allowed", self.steps)
        });
        if let Some(seconds) = self.seconds {
            problems.require(seconds > 0.0 && seconds.is_finite(), "seconds", || {
                format!("{seconds} seconds: choose a positive number")
            });
        }
        problems.require(
            self.micro_batches > 0 && self.batch.is_multiple_of(self.micro_batches),
            "micro_batches",
            || {
                let Self { micro_batches, batch, .. } = self;
                format!("{micro_batches} micro-batches: choose a number that divides the batch of {batch}")
            },
        );
        if let Some(margin) = self.divergence {
            problems.require(margin > 0.0 && margin.is_finite(), "divergence", || {
                format!("a margin of {margin} nats: choose a positive number, or leave it out to switch the check off")
            });
        }
        check_batch(problems, self.batch);
    }

    /// Checks the settings that belong to text only or to images only.
    fn check_data(&self, problems: &mut Problems) {
        match &self.images {
            None => {
                check_length(problems, SHORTEST_TEXT, self.length, &self.model);
                problems.require(self.vocabulary.is_some(), "vocabulary", || {
                    "a vocabulary is required for text: name a file, or train one".into()
                });
                if let Some(Vocabulary::Trained { size }) = self.vocabulary {
                    problems.require((100..=1_000_000).contains(&size), "vocabulary", || {
                        format!("{size} tokens: a trained vocabulary has 100 to 1000000")
                    });
                }
            }
            Some(images) => {
                problems.within("images", |p| images.check(p));
                check_length(problems, SHORTEST_IMAGE, self.length, &self.model);
                problems.require(self.vocabulary.is_none(), "vocabulary", || {
                    "`vocabulary` applies to text only: leave it out for images".into()
                });
                problems.require(self.objective == Mlm::default(), "objective", || {
                    "`objective` applies to text only: leave it out, `images` says what is learned".into()
                });
            }
        }
    }

    /// The budget in steps; `None` if it is in seconds.
    pub fn step_budget(&self) -> Option<u64> {
        self.seconds.is_none().then_some(self.steps)
    }

    /// The gates of all sublayers, in forward order, for a micro-batch of the step at `moment`.
    pub fn gates(&self, moment: &Moment, micro_batch: u32, seed: u64) -> Vec<Gate> {
        let Some(drop) = &self.layer_drop else { return self.full_depth(moment) };
        let batch = self.batch / self.micro_batches;
        let key = DrawKey { seed, step: moment.step, micro_batch, batch };
        drop.gates(&self.model.sublayers(), drop.theta(moment, self.step_budget()), &key)
    }

    /// Gates that open every block which exists at `moment`: a model that grows does not have all of them from the
    /// start.
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

    /// Mean number of open blocks over a run, in closed form. A block of which one sublayer is open counts as half.
    pub fn mean_open_blocks(&self) -> f64 {
        let blocks = self.model.blocks;
        let grown = self.growth.as_ref().map_or(0.0, |growth| growth.encoder_saving(blocks));
        let dropped = self.layer_drop.map(|drop| drop.mean_open_blocks(&self.model, self.step_budget()));
        dropped.unwrap_or_else(|| f64::from(blocks) * (1.0 - grown))
    }
}

/// Notes a batch of no sequences, or of more than any machine holds.
pub(crate) fn check_batch(problems: &mut Problems, batch: u32) {
    problems.require((1..=MOST_SEQUENCES_OF_A_BATCH).contains(&batch), "batch", || {
        format!("{batch} sequences: 1 to {MOST_SEQUENCES_OF_A_BATCH} are allowed")
    });
}

/// Notes a length of text that the model cannot read.
pub(crate) fn check_text_length(problems: &mut Problems, length: u32, model: &Model) {
    check_length(problems, SHORTEST_TEXT, length, model);
}

fn check_length(problems: &mut Problems, least: u32, length: u32, model: &Model) {
    problems.require((least..=model.positions).contains(&length), "length", || {
        format!("{length} tokens: {least} to the model's {} positions are allowed", model.positions)
    });
}
