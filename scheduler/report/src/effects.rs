//! Effects of layer drop and of the norm, each alone: comparisons of arms whose pre-training recipes are otherwise
//! equal.
//!
//! The usual headline, Pre-LN with layer drop against Post-LN without it, is the two effects together.

use recipe::{LearningRate, Norm, Pretrain};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::comparison::{ALPHA, Comparison, Shared};
use crate::facts::Facts;
use crate::pretrain::{PretrainArm, Seeds};
use crate::speed::Timed;

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
    /// at which a seed diverged is never the best. Two arms are compared at their best only if as many rates were tried
    /// of both: the longer search wins by luck.
    pub each_at_its_best: bool,
    /// Difference in validation loss, over shared seeds.
    pub loss: Option<Comparison>,
    /// Step time of `against` divided by that of `arm`, so that above 1 `arm` is faster. Absent unless both were timed.
    pub speed_up: Option<f64>,
    /// 95 % interval of `speed_up`, `[low, high]`, by signed ranks over the rounds.
    #[schema(min_items = 2, max_items = 2)]
    pub speed_up_interval: Option<[f64; 2]>,
}

/// A pre-trained arm that can be compared with others.
#[derive(Clone, Copy)]
struct Candidate<'a> {
    row: &'a PretrainArm,
    recipe: &'a Pretrain,
    /// Number of learning rates that were tried of arms like this one.
    tried: usize,
}

/// All effects: arms in the order of the job, pairs at one learning rate before pairs at their best rates. Empty if
/// each effect is a comparison with the baseline at one learning rate, because other tables of the report have these.
pub(crate) fn effects(facts: &Facts, rows: &[PretrainArm], timed: Option<&Timed<'_>>) -> Vec<Effect> {
    let recipes: Vec<(&PretrainArm, &Pretrain)> =
        rows.iter().filter_map(|row| Some((row, facts.pretrain_recipe(&row.arm)?))).collect();
    let tried = |recipe: &Pretrain| recipes.iter().filter(|(_, other)| is_sibling(recipe, other)).count();
    let arms: Vec<Candidate<'_>> =
        recipes.iter().map(|&(row, recipe)| Candidate { row, recipe, tried: tried(recipe) }).collect();
    let best: Vec<Candidate<'_>> = arms.iter().copied().filter(|arm| arm.has_best_rate(&arms)).collect();
    let among = |arms: &[Candidate<'_>], each_at_its_best| {
        let pairs = arms.iter().flat_map(|arm| arms.iter().map(move |against| (*arm, *against)));
        pairs.filter_map(|(arm, against)| effect(facts, timed, arm, against, each_at_its_best)).collect::<Vec<Effect>>()
    };
    let found = [among(&arms, false), among(&best, true)].concat();
    let is_shown_elsewhere = |effect: &Effect| effect.against == facts.baseline && !effect.each_at_its_best;
    if found.iter().all(is_shown_elsewhere) { Vec::new() } else { found }
}

fn effect(
    facts: &Facts,
    timed: Option<&Timed<'_>>,
    arm: Candidate<'_>,
    against: Candidate<'_>,
    each_at_its_best: bool,
) -> Option<Effect> {
    let factors = factors_between(arm.recipe, against.recipe).filter(|factors| !factors.is_empty())?;
    let learning_rates = [arm, against].map(|arm| arm.recipe.learning_rate.peak);
    // Two arms with one rate that is the best of both are listed once, among the pairs at one rate.
    let has_one_rate = learning_rates[0] == learning_rates[1];
    if has_one_rate == each_at_its_best || (each_at_its_best && arm.tried != against.tried) {
        return None;
    }
    let losses = |arm: Candidate<'_>| Seeds::of(facts, &arm.row.arm, None).losses();
    let loss = Shared::of_pretraining(&losses(arm), &losses(against)).compare(&arm.row.arm, None);
    let speed_up = timed.and_then(|timed| timed.speed_up(&arm.row.arm, &against.row.arm));
    let is_known = loss.is_some() || speed_up.is_some();
    is_known.then(|| Effect {
        factors,
        arm: arm.row.arm.clone(),
        against: against.row.arm.clone(),
        learning_rates,
        each_at_its_best,
        loss,
        speed_up: speed_up.as_ref().map(|ratio| ratio.centre.exp()),
        speed_up_interval: speed_up.and_then(|ratio| ratio.interval(ALPHA)).map(|ends| ends.map(f64::exp)),
    })
}

/// True if the recipes differ in the peak of the learning rate at most.
fn is_sibling(recipe: &Pretrain, other: &Pretrain) -> bool {
    factors_between(recipe, other).is_some_and(|factors| factors.is_empty())
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
        let siblings = arms.iter().filter(|other| is_sibling(self.recipe, other.recipe));
        let losses = siblings.filter_map(Candidate::loss);
        self.loss().is_some_and(|own| losses.into_iter().all(|loss| own <= loss))
    }
}
