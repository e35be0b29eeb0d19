//! What a trial does, and everything that defines its result.

use serde::{Deserialize, Serialize};

use crate::finetune::Finetune;
use crate::layer_drop::LayerDrop;
use crate::learning_rate::LearningRate;
use crate::model::Model;
use crate::optimizer::Optimizer;
use crate::problem::{Problem, Problems};
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
pub enum Recipe {
    Timing(Timing),
    Pretrain(Pretrain),
    Finetune(Finetune),
}

/// The name of a stage, where its content does not matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Stage {
    Timing,
    Pretrain,
    Finetune,
}

impl Stage {
    pub const ALL: [Stage; 3] = [Stage::Timing, Stage::Pretrain, Stage::Finetune];

    pub const fn name(self) -> &'static str {
        match self {
            Stage::Timing => "timing",
            Stage::Pretrain => "pretrain",
            Stage::Finetune => "finetune",
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

/// Masked language modelling: a share of positions is selected; of these `mask` become `[MASK]`, `random` become a
/// random token, the rest stay.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Mlm {
    pub rate: f64,
    pub mask: f64,
    pub random: f64,
}

impl Default for Mlm {
    fn default() -> Self {
        Self { rate: 0.15, mask: 0.8, random: 0.1 }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pretrain {
    pub model: Model,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer_drop: Option<LayerDrop>,
    #[serde(default)]
    pub objective: Mlm,
    #[serde(default)]
    pub optimizer: Optimizer,
    pub learning_rate: LearningRate,
    /// The budget: optimiser updates.
    pub steps: u64,
    /// Sequences per update.
    pub batch: u32,
    /// Tokens per sequence, `[CLS]` and `[SEP]` included.
    pub length: u32,
    pub corpus: Dataset,
    pub vocabulary: Vocabulary,
    /// Share of the documents held out for validation.
    #[serde(default = "default_held_out")]
    pub held_out: f64,
    /// Validation every so many steps, and always at the end.
    pub validate_every: u64,
    /// At most this many held-out sequences are scored.
    #[serde(default = "default_validation_sequences")]
    pub validation_sequences: u32,
}

/// The paper splits 300:1; small corpora need more than that to have a validation part at all.
fn default_held_out() -> f64 {
    0.02
}
fn default_validation_sequences() -> u32 {
    256
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
    /// Untimed steps at the start of each turn.
    pub warmup_steps: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimingArm {
    pub name: String,
    pub recipe: Pretrain,
}

impl Recipe {
    pub const fn stage(&self) -> Stage {
        match self {
            Recipe::Timing(_) => Stage::Timing,
            Recipe::Pretrain(_) => Stage::Pretrain,
            Recipe::Finetune(_) => Stage::Finetune,
        }
    }

    /// Every reason why this recipe cannot run; empty means valid.
    pub fn validate(&self) -> Vec<Problem> {
        let mut problems = Problems::default();
        match self {
            Recipe::Timing(timing) => timing.check(&mut problems),
            Recipe::Pretrain(pretrain) => pretrain.check(&mut problems),
            Recipe::Finetune(finetune) => finetune.check(&mut problems),
        }
        problems.into_vec()
    }
}

impl Timing {
    fn check(&self, problems: &mut Problems) {
        problems.require(!self.arms.is_empty(), "arms", || "nothing to time".into());
        problems.require(self.rounds > 0, "rounds", || "at least one round".into());
        problems.require(self.steps_per_turn > 0, "steps_per_turn", || "at least one step".into());
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
            problems.within("layer_drop", |p| drop.check(p));
        }
        problems.within("objective", |p| self.objective.check(p));
        problems.within("optimizer", |p| self.optimizer.check(p));
        problems.within("learning_rate", |p| self.learning_rate.check(p));
        problems.require((1..=1_000_000_000).contains(&self.steps), "steps", || {
            format!("{} steps: 1 to 1000000000 are allowed", self.steps)
        });
        check_batch(problems, self.batch, self.length, &self.model);
        problems.require(self.held_out > 0.0 && self.held_out < 1.0, "held_out", || {
            format!("{}: a share of the documents between 0 and 1", self.held_out)
        });
        problems.require(self.validate_every > 0, "validate_every", || "at least 1 step apart".into());
        problems.require(self.validation_sequences > 0, "validation_sequences", || "at least 1".into());
        if let Vocabulary::Trained { size } = self.vocabulary {
            problems.require((100..=1_000_000).contains(&size), "vocabulary", || {
                format!("{size} tokens: a trained vocabulary has 100 to 1000000")
            });
        }
    }
}

impl Mlm {
    pub fn check(&self, problems: &mut Problems) {
        problems.require(self.rate > 0.0 && self.rate < 1.0, "rate", || format!("{}: between 0 and 1", self.rate));
        for (field, value) in [("mask", self.mask), ("random", self.random)] {
            problems.require((0.0..=1.0).contains(&value), field, || format!("{value}: from 0 to 1"));
        }
        problems.require(self.mask + self.random <= 1.0 + 1e-12, "", || {
            format!("mask {} and random {} together pass 1", self.mask, self.random)
        });
    }
}

pub(crate) fn check_batch(problems: &mut Problems, batch: u32, length: u32, model: &Model) {
    problems
        .require((1..=1_048_576).contains(&batch), "batch", || format!("{batch} sequences: 1 to 1048576 are allowed"));
    problems.require((8..=model.positions).contains(&length), "length", || {
        format!("{length} tokens: 8 to the model's {} positions are allowed", model.positions)
    });
}
