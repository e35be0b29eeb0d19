//! What is learned from text: masked words, whether a pair belongs together, which words were replaced.

use serde::{Deserialize, Serialize};

use crate::layer_drop::is_default;
use crate::model::Model;
use crate::problem::Problems;
use crate::schedule::Moment;

/// Masked language modelling: a share of positions is selected; of these `mask` become `[MASK]`, `random` become a
/// random token, the rest stay.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Mlm {
    pub rate: f64,
    /// Where the rate goes to, linearly over the budget; it stays where it is when this is absent (Ankner et al. 2024).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_end: Option<f64>,
    pub mask: f64,
    pub random: f64,
    /// Next-sentence prediction beside it (Devlin et al. 2019): a sequence is `[CLS] A [SEP] B [SEP]`, and B follows A in
    /// the text or is taken from elsewhere, half of the time each.
    #[serde(skip_serializing_if = "is_default")]
    pub next_sentence: bool,
    /// Replaced-token detection on top of it (ELECTRA).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub electra: Option<Electra>,
}

/// Replaced-token detection (Clark et al. 2020): a small generator fills masked positions in, and the model says of every
/// token whether it was replaced. Generator and model share their embeddings; layer drop opens and closes the same blocks
/// of both.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Electra {
    /// The generator has the model's depth, and its width, heads and feed-forward width divided by this.
    pub divisor: u32,
    /// Factor on the detection loss, which is added to the generator's MLM loss.
    pub weight: f64,
}

impl Default for Electra {
    fn default() -> Self {
        Self { divisor: 4, weight: 50.0 }
    }
}

impl Mlm {
    /// Whether the validation losses of both are one measure: masked tokens are always a share of 15 %, but pairs of sentences
    /// are other text, and ELECTRA adds the detector's loss to its generator's.
    pub fn is_measured_like(&self, other: &Self) -> bool {
        self.next_sentence == other.next_sentence && self.electra == other.electra
    }
}

impl Electra {
    /// The generator beside `model`.
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
    /// Share of the positions that are selected at `moment`.
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
                problems.require(rate > 0.0 && rate < 1.0, field, || format!("{rate}: between 0 and 1"));
            }
        }
        if let Some(electra) = &self.electra {
            problems.within("electra", |problems| {
                problems.require(electra.weight > 0.0 && electra.weight.is_finite(), "weight", || {
                    format!("{}: a positive number", electra.weight)
                });
                let fits = electra.divisor > 0 && {
                    let generator = electra.generator(model);
                    generator.hidden.is_multiple_of(generator.heads)
                };
                problems.require(fits, "divisor", || {
                    format!("{}: the generator's heads do not divide its width", electra.divisor)
                });
            });
            problems.require(!self.next_sentence, "next_sentence", || "ELECTRA reads single texts".into());
        }
        for (field, value) in [("mask", self.mask), ("random", self.random)] {
            problems.require((0.0..=1.0).contains(&value), field, || format!("{value}: from 0 to 1"));
        }
        problems.require(self.mask + self.random <= 1.0 + 1e-12, "", || {
            format!("mask {} and random {} together pass 1", self.mask, self.random)
        });
    }
}
