//! Effects of layer drop and of the norm, each alone: comparisons of arms whose pre-training recipes are otherwise
//! equal.
//!
//! The usual headline, Pre-LN with layer drop against Post-LN without it, is the two effects together.

use recipe::{LearningRate, Norm, Pretrain};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::comparison::{Comparison, compare};
use crate::facts::Facts;
use crate::pretrain::PretrainArm;
use crate::speed::Speed;

/// A setting that an effect is the effect of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Factor {
    /// Pre-LN in place of Post-LN.
    Norm,
    /// Layer drop in place of none.
    LayerDrop,
}

/// An arm against another one whose pre-training recipe differs in `factors` and at most in the learning rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Effect {
    /// The settings that `arm` has and `against` has not.
    pub factors: Vec<Factor>,
    pub arm: String,
    /// Name of the arm that `arm` is compared with.
    pub against: String,
    /// Peak learning rates of `arm` and of `against`.
    #[schema(min_items = 2, max_items = 2)]
    pub learning_rates: [f64; 2],
    /// False if the two arms have one learning rate. True if each has the best rate among the arms that differ from it
    /// in the learning rate alone, and the two rates differ. The best rate has the lowest mean validation loss; a rate
    /// at which a seed diverged is never the best.
    pub each_at_its_best: bool,
    /// Difference in validation loss, over shared seeds.
    pub loss: Option<Comparison>,
    /// Step time of `against` divided by that of `arm`, so that above 1 `arm` is faster. Absent unless both were timed.
    pub speed_up: Option<f64>,
}

/// A pre-trained arm that can be compared with others.
#[derive(Clone, Copy)]
struct Candidate<'a> {
    row: &'a PretrainArm,
    recipe: &'a Pretrain,
    /// Step time of the baseline divided by that of this arm.
    speed_up: Option<f64>,
}

/// All effects: arms in the order of the job, pairs at one learning rate before pairs at their best rates. Empty if
/// each effect is a comparison with the baseline at one learning rate, because other tables of the report have these.
pub(crate) fn effects(facts: &Facts, rows: &[PretrainArm], speed: Option<&Speed>) -> Vec<Effect> {
    let candidate = |row| candidate(row, facts, speed);
    let arms: Vec<Candidate<'_>> = rows.iter().filter_map(candidate).collect();
    let best: Vec<Candidate<'_>> = arms.iter().copied().filter(|arm| arm.has_best_rate(&arms)).collect();
    let found = [effects_among(&arms, false), effects_among(&best, true)].concat();
    let is_shown_elsewhere = |effect: &Effect| effect.against == facts.baseline && !effect.each_at_its_best;
    if found.iter().all(is_shown_elsewhere) { Vec::new() } else { found }
}

fn candidate<'a>(row: &'a PretrainArm, facts: &'a Facts, speed: Option<&Speed>) -> Option<Candidate<'a>> {
    let recipe = facts.pretrain_recipe(&row.arm)?;
    let speed_up = speed.and_then(|speed| speed.arm(&row.arm)?.ratio_to_baseline);
    Some(Candidate { row, recipe, speed_up })
}

fn effects_among(arms: &[Candidate<'_>], each_at_its_best: bool) -> Vec<Effect> {
    let pairs = arms.iter().flat_map(|arm| arms.iter().map(move |against| (arm, against)));
    pairs.filter_map(|(arm, against)| effect(arm, against, each_at_its_best)).collect()
}

fn effect(arm: &Candidate<'_>, against: &Candidate<'_>, each_at_its_best: bool) -> Option<Effect> {
    let factors = factors_between(arm.recipe, against.recipe).filter(|factors| !factors.is_empty())?;
    let learning_rates = [arm, against].map(|arm| arm.recipe.learning_rate.peak);
    // Two arms with one rate that is the best of both are listed once, among the pairs at one rate.
    let has_one_rate = learning_rates[0] == learning_rates[1];
    if has_one_rate == each_at_its_best {
        return None;
    }
    let loss = compare(&arm.row.arm, &arm.row.losses(), &against.row.losses());
    let speed_up = arm.speed_up.zip(against.speed_up).map(|(own, other)| own / other);
    let is_known = loss.is_some() || speed_up.is_some();
    is_known.then(|| Effect {
        factors,
        arm: arm.row.arm.clone(),
        against: against.row.arm.clone(),
        learning_rates,
        each_at_its_best,
        loss,
        speed_up,
    })
}

/// The factors that `recipe` has and `other` has not. `None` if the recipes differ in anything else but the peak of the
/// learning rate. Numbers of steps may differ, because a budget in seconds gives each arm its own.
fn factors_between(recipe: &Pretrain, other: &Pretrain) -> Option<Vec<Factor>> {
    let mut other = Pretrain { steps: recipe.steps, validate_every: recipe.validate_every, ..other.clone() };
    other.learning_rate = LearningRate { peak: recipe.learning_rate.peak, ..other.learning_rate };
    let mut factors = Vec::new();
    if (recipe.model.norm, other.model.norm) == (Norm::Pre, Norm::Post) {
        factors.push(Factor::Norm);
        other.model.norm = Norm::Pre;
    }
    if other.layer_drop.is_none() && recipe.layer_drop.is_some() {
        factors.push(Factor::LayerDrop);
        other.layer_drop = recipe.layer_drop;
    }
    (*recipe == other).then_some(factors)
}

impl Candidate<'_> {
    /// Mean validation loss. Absent if a seed diverged: the mean would be that of the luckier seeds only.
    fn loss(&self) -> Option<f64> {
        self.row.validation_loss.as_ref().filter(|_| self.row.diverged == 0).map(|loss| loss.mean)
    }

    /// True if no arm of `arms` that differs in the learning rate alone has a lower mean validation loss.
    fn has_best_rate(&self, arms: &[Candidate<'_>]) -> bool {
        let is_sibling = |other: &&Candidate<'_>| {
            factors_between(self.recipe, other.recipe).is_some_and(|factors| factors.is_empty())
        };
        let losses = arms.iter().filter(is_sibling).filter_map(Candidate::loss);
        self.loss().is_some_and(|own| losses.into_iter().all(|loss| own <= loss))
    }
}
