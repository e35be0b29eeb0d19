//! The objectives of pre-training: each has an encoder, heads and a loss.
//!
//! | module | the model predicts | source |
//! |---|---|---|
//! | [`masked_words`] | the masked tokens of a text | Devlin et al. 2019 |
//! | [`sentence_pairs`] | masked tokens, and if one text follows another | Devlin et al. 2019 |
//! | [`replaced_tokens`] | which tokens a small generator has replaced | Clark et al. 2020 |
//! | [`images`] | the class of an image | Dosovitskiy et al. 2021 |
//! | [`images`] | each intensity of an image from those before it | Chen et al. 2020 |

pub mod images;
mod loss;
pub mod masked_words;
pub mod replaced_tokens;
pub mod sentence_pairs;

use recipe::{ImageObjective, Pretrain};
use tch::Device;

use self::images::{ImageClass, Intensities};
use self::masked_words::MaskedWords;
use self::replaced_tokens::ReplacedTokens;
use self::sentence_pairs::SentencePairs;
use crate::bert::Weights;

pub use self::loss::{LossContext, Objective, ReplacementKey, Uploader, VALIDATION_ACCURACY};

/// The objective of `recipe`. `padding` is the id of `[PAD]`; images have none.
pub fn objective(recipe: &Pretrain, weights: &Weights, padding: i64, device: Device) -> Box<dyn Objective> {
    let model = &recipe.model;
    let uploader = Uploader { length: i64::from(recipe.length), device };
    match (recipe.images, recipe.objective.electra) {
        (Some(ImageObjective::Classifier { .. }), _) => Box::new(ImageClass::new(weights, model, uploader)),
        (Some(ImageObjective::Pixels { .. }), _) => Box::new(Intensities::new(weights, model, uploader)),
        (None, Some(rule)) => Box::new(ReplacedTokens::new(rule, weights, model, padding, uploader)),
        (None, None) if recipe.objective.next_sentence => {
            Box::new(SentencePairs::new(weights, model, padding, uploader))
        }
        (None, None) => Box::new(MaskedWords::new(weights, model, padding, uploader)),
    }
}

#[cfg(test)]
mod tests;
