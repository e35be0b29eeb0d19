//! The four things that a trial can do, and the recipe of each.

use serde::{Deserialize, Serialize};

use crate::finetune::Finetune;
use crate::named_enum;
use crate::pretrain::Pretrain;
use crate::probe::Probe;
use crate::problem::{Problem, Problems};
use crate::seeds::Seeds;
use crate::timing::Timing;

/// The file that `lamina-trainer run --recipe FILE` reads.
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

named_enum! {
    /// The kind of a recipe, without its content.
    #[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
    #[cfg_attr(feature = "sql", derive(sqlx::Type), sqlx(type_name = "stage", rename_all = "snake_case"))]
    pub enum Stage {
        Timing = "timing",
        Pretrain = "pretrain",
        Finetune = "finetune",
        Probe = "probe",
    }
}

impl Stage {
    /// The stage as an adjective in a sentence, such as "a pre-train trial".
    pub const fn words(self) -> &'static str {
        match self {
            Stage::Timing => "timing",
            Stage::Pretrain => "pre-train",
            Stage::Finetune => "fine-tune",
            Stage::Probe => "probe",
        }
    }
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

    /// Notes every reason why this recipe cannot run.
    pub fn check(&self, problems: &mut Problems) {
        match self {
            Recipe::Timing(timing) => timing.check(problems),
            Recipe::Pretrain(pretrain) => pretrain.check(problems),
            Recipe::Finetune(finetune) => finetune.check(problems),
            Recipe::Probe(probe) => probe.check(problems),
        }
    }
}
