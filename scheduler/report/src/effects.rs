//! What layer drop does alone, and what the norm does: arms that differ in nothing else, at one learning rate and each at its
//! best. The headline of Pre-LN with layer drop against Post-LN without is both together.

use recipe::{LearningRate, Norm, Pretrain};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::comparison::{Comparison, compare};
use crate::facts::Facts;
use crate::pretrain::PretrainArm;
use crate::speed::Speed;

/// In what two arms may differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Factor {
    /// Pre-LN against Post-LN.
    Norm,
    /// Layer drop against none.
    LayerDrop,
}

/// An arm against one from which it differs in `factors` alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Effect {
    pub factors: Vec<Factor>,
    pub arm: String,
    pub against: String,
    /// Peaks of the two.
    pub learning_rates: [f64; 2],
    /// Whether each of them has, of the arms that differ from it in the learning rate alone and of which no seed diverged, the
    /// lowest mean validation loss. Two at one rate that are both the best of theirs stand here once.
    pub each_at_its_best: bool,
    /// Of the validation loss, over shared seeds.
    pub loss: Option<Comparison>,
    /// Time of a step of `against` over that of `arm`, where both were timed.
    pub speed_up: Option<f64>,
}

/// The effects in the order of the job's arms, those at equal rates first; none where all are in the tables already, being
/// against the baseline at its rate.
pub(crate) fn effects(facts: &Facts, rows: &[PretrainArm], speed: Option<&Speed>) -> Vec<Effect> {
    let arms: Vec<(&PretrainArm, &Pretrain)> =
        rows.iter().filter_map(|row| Some((row, facts.pretraining(&row.arm)?))).collect();
    let best: Vec<(&PretrainArm, &Pretrain)> = arms.iter().copied().filter(|arm| is_best_rate(arm, &arms)).collect();
    let step = |row: &PretrainArm| {
        let timed = speed?.arms.iter().find(|timed| timed.arm == row.arm)?;
        timed.ratio_to_baseline
    };
    let pairs = |among: &[(&PretrainArm, &Pretrain)], each_at_its_best: bool| -> Vec<Effect> {
        let all = among.iter().flat_map(|arm| among.iter().map(move |against| (arm, against)));
        let found = all.filter_map(|((row, recipe), (base, against))| {
            let learning_rates = [recipe, against].map(|recipe| recipe.learning_rate.peak);
            let are_comparable = (learning_rates[0] == learning_rates[1]) != each_at_its_best;
            let factors = differing(recipe, against).filter(|factors| are_comparable && !factors.is_empty())?;
            let (arm, against) = (row.arm.clone(), base.arm.clone());
            let loss = compare(&arm, &row.losses(), &base.losses());
            let speed_up = step(row).zip(step(base)).map(|(own, base)| own / base);
            Some(Effect { factors, arm, against, learning_rates, each_at_its_best, loss, speed_up })
        });
        found.filter(|effect| effect.loss.is_some() || effect.speed_up.is_some()).collect()
    };
    let found = [pairs(&arms, false), pairs(&best, true)].concat();
    let is_told = |effect: &Effect| effect.against == facts.baseline && !effect.each_at_its_best;
    if found.iter().all(is_told) { Vec::new() } else { found }
}

/// The factors in which `recipe` has what `against` has not, if they differ in nothing else but the learning rate's peak. That
/// a budget in seconds allows them different numbers of steps is no difference.
fn differing(recipe: &Pretrain, against: &Pretrain) -> Option<Vec<Factor>> {
    let mut other = Pretrain { steps: recipe.steps, validate_every: recipe.validate_every, ..against.clone() };
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

fn is_best_rate((row, recipe): &(&PretrainArm, &Pretrain), arms: &[(&PretrainArm, &Pretrain)]) -> bool {
    // What is left of an arm that diverged is its luckier seeds.
    let loss = |row: &PretrainArm| row.validation_loss.as_ref().filter(|_| row.diverged == 0).map(|loss| loss.mean);
    let Some(own) = loss(row) else { return false };
    let siblings = arms.iter().filter(|(_, other)| differing(recipe, other).is_some_and(|factors| factors.is_empty()));
    siblings.filter_map(|(row, _)| loss(row)).all(|loss| own <= loss)
}
