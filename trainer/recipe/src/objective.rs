//! What a model learns from text: masked words, whether two sentences belong together, which words were replaced.

use serde::{Deserialize, Serialize};

use crate::json::is_default;
use crate::model::Model;
use crate::problem::Problems;
use crate::schedule::Moment;

/// Masked language modelling: a share of the positions is selected for prediction. Of these, the share `mask` becomes
/// `[MASK]`, the share `random` becomes a random token, and the rest stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Mlm {
    /// Share of the positions that are selected.
    pub rate: f64,
    /// The rate at the end of the budget, reached linearly (Ankner et al. 2024). Absent: the rate is constant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_end: Option<f64>,
    pub mask: f64,
    pub random: f64,
    /// Adds next-sentence prediction (Devlin et al. 2019): a sequence is `[CLS] A [SEP] B [SEP]`. In half of the
    /// sequences B follows A in the text, in the others it comes from elsewhere.
    #[serde(skip_serializing_if = "is_default")]
    pub next_sentence: bool,
    /// Adds replaced-token detection (ELECTRA).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub electra: Option<Electra>,
}

/// Replaced-token detection (Clark et al. 2020): a small generator fills in the masked positions, and the model
/// predicts for every token whether it was replaced. Generator and model share their embeddings, and layer drop opens
/// and closes the same blocks of both.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Electra {
    /// The generator has the depth of the model; its width, heads and feed-forward width are those of the model divided
    /// by this number.
    pub divisor: u32,
    /// Factor on the detection loss, which is added to the MLM loss of the generator.
    pub weight: f64,
}

impl Default for Electra {
    fn default() -> Self {
        Self { divisor: 4, weight: 50.0 }
    }
}

impl Mlm {
    /// True if the validation losses of both can be compared. Validation always masks 15 % of the tokens, whatever the
    /// rate; but pairs of sentences are other text, and ELECTRA adds the loss of its detection.
    pub fn is_measured_like(&self, other: &Self) -> bool {
        self.next_sentence == other.next_sentence && self.electra == other.electra
    }
}

impl Electra {
    /// The generator that trains with `model`.
    pub fn generator(&self, model: &Model) -> Model {
        let part = |value: u32| (value / self.divisor).max(1);
        Model {
            hidden: part(model.hidden),
            heads: part(model.heads),
            intermediate: part(model.intermediate),
            embedding: Some(model.embedding_width()),
            ..model.clone()
        }
    }
}

impl Default for Mlm {
    fn default() -> Self {
        Self { rate: 0.15, rate_end: None, mask: 0.8, random: 0.1, next_sentence: false, electra: None }
    }
}

impl Mlm {
    /// The masking rate at `moment`.
    pub fn rate_at(&self, moment: &Moment) -> f64 {
        self.rate_end.map_or(self.rate, |end| self.rate + (end - self.rate) * moment.share)
    }

    /// Mean of [`Mlm::rate_at`] over a run.
    pub fn mean_rate(&self) -> f64 {
        self.rate_end.map_or(self.rate, |end| 0.5 * (self.rate + end))
    }

    pub fn check(&self, model: &Model, problems: &mut Problems) {
        for (field, rate) in [("rate", Some(self.rate)), ("rate_end", self.rate_end)] {
            if let Some(rate) = rate {
                problems.require(rate > 0.0 && rate < 1.0, field, || {
                    format!("a masking rate of {rate}: choose one above 0 and below 1")
                });
            }
        }
        if let Some(electra) = &self.electra {
            problems.within("electra", |problems| {
                problems.require(electra.weight > 0.0 && electra.weight.is_finite(), "weight", || {
                    format!("a weight of {}: choose a positive number", electra.weight)
                });
                let fits = electra.divisor > 0 && {
                    let generator = electra.generator(model);
                    generator.hidden.is_multiple_of(generator.heads)
                };
                problems.require(fits, "divisor", || {
                    format!(
                        "{}: choose a divisor for which the heads of the generator divide its width",
                        electra.divisor
                    )
                });
            });
            problems.require(!self.next_sentence, "next_sentence", || {
                "`next_sentence` cannot be combined with `electra`, which reads single texts: leave one of them out"
                    .into()
            });
        }
        for (field, value) in [("mask", self.mask), ("random", self.random)] {
            problems.require((0.0..=1.0).contains(&value), field, || format!("{value}: choose a share from 0 to 1"));
        }
        problems.require(self.mask + self.random <= 1.0 + 1e-12, "", || {
            format!(
                "`mask` of {} and `random` of {} are shares of the same positions: choose a sum of at most 1",
                self.mask, self.random
            )
        });
    }
}
