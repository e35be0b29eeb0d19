//! The identity of a recipe.
//!
//! A fingerprint is the sha256 of a version line and the canonical JSON of the recipe: object keys sorted, no white
//! space, numbers as shortest round-trip decimals, absent settings left out. Two recipes with equal fingerprints and
//! equal seeds give equal results on one device class.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::dataset::{Dataset, Vocabulary};
use crate::finetune::Source;
use crate::pretrain::Pretrain;
use crate::stage::Recipe;

/// Has to change whenever the meaning of an equal recipe changes.
const VERSION: &str = "lamina recipe 1\n";

/// The identity of a recipe, as a hex sha256.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(String);

impl Fingerprint {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Recipe {
    /// The recipe's fingerprint. It depends on the digests of datasets; on the name only of one whose digest is not
    /// known.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut anonymous = self.clone();
        match &mut anonymous {
            Recipe::Timing(timing) => timing.arms.iter_mut().for_each(|arm| forget_names(&mut arm.recipe)),
            Recipe::Pretrain(pretrain) => forget_names(pretrain),
            Recipe::Finetune(finetune) => {
                match &mut finetune.from {
                    Source::Pretrained(recipe) => forget_names(recipe),
                    Source::Published(published) => forget_name(&mut published.checkpoint),
                }
                forget_name(&mut finetune.glue);
            }
            Recipe::Probe(probe) => {
                forget_names(&mut probe.from);
                probe.published.iter_mut().for_each(forget_name);
            }
        }
        // A recipe holds only maps with string keys and finite numbers, so serialisation cannot fail.
        let value = serde_json::to_value(&anonymous).unwrap_or(Value::Null);
        let mut text = String::from(VERSION);
        write_canonical(&value, &mut text);
        Fingerprint(hex::encode(Sha256::digest(text.as_bytes())))
    }
}

fn forget_names(recipe: &mut Pretrain) {
    forget_name(&mut recipe.corpus);
    if let Some(Vocabulary::File { dataset }) = &mut recipe.vocabulary {
        forget_name(dataset);
    }
}

fn forget_name(dataset: &mut Dataset) {
    if dataset.digest.is_some() {
        dataset.name.clear();
    }
}

/// Writes `value` with sorted keys, whatever map type `serde_json` was built with.
fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(fields) => {
            let mut keys: Vec<&String> = fields.keys().collect();
            keys.sort();
            out.push('{');
            for (i, key) in keys.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                let _ = write!(out, "{}:", Value::String(key.clone()));
                write_canonical(&fields[key.as_str()], out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        scalar => {
            let _ = write!(out, "{scalar}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::ImageObjective;
    use crate::learning_rate::{Decay, LearningRate};
    use crate::model::{Model, Norm, Size};
    use crate::objective::Mlm;
    use crate::optimizer::Optimizer;
    use crate::pretrain::Precision;

    fn recipe(digest: Option<&str>) -> Pretrain {
        let dataset = |name: &str| Dataset { name: name.into(), digest: digest.map(String::from) };
        Pretrain {
            model: Model::of_size(Size::named("narrow").unwrap(), Norm::Pre),
            layer_drop: None,
            growth: None,
            objective: Mlm::default(),
            optimizer: Optimizer::default(),
            learning_rate: LearningRate { peak: 1e-3, warmup: 0.02, decay: Decay::Linear },
            steps: 2000,
            seconds: None,
            batch: 32,
            micro_batches: 1,
            length: 128,
            corpus: dataset("wiki"),
            vocabulary: Some(Vocabulary::File { dataset: dataset("bert-base-uncased") }),
            images: None,
            held_out: 0.02,
            validate_every: 200,
            validation_sequences: 256,
            divergence: None,
            precision: Precision::Float32,
            recompute: false,
            probe: false,
        }
    }

    #[test]
    fn the_name_of_a_dataset_matters_only_without_a_digest() {
        let print = |r: &Pretrain| Recipe::Pretrain(r.clone()).fingerprint();
        let (known, unknown) = (recipe(Some("ab")), recipe(None));
        let renamed = |r: &Pretrain| {
            let mut r = r.clone();
            r.corpus.name = "other".into();
            r
        };
        assert_eq!(print(&known), print(&renamed(&known)));
        assert_ne!(print(&unknown), print(&renamed(&unknown)));
    }

    #[test]
    fn a_fingerprint_survives_a_round_trip_through_json_and_changes_with_the_last_bit() {
        let original = Recipe::Pretrain(recipe(Some("ab")));
        let again: Recipe = serde_json::from_str(&serde_json::to_string(&original).unwrap()).unwrap();
        assert_eq!(original.fingerprint(), again.fingerprint());
        let Recipe::Pretrain(mut changed) = original.clone() else { unreachable!() };
        changed.learning_rate.peak = 1.0000000000000002e-3;
        assert_ne!(original.fingerprint(), Recipe::Pretrain(changed).fingerprint());
    }

    #[test]
    fn a_recipe_of_text_has_no_images_in_its_json_and_one_of_images_no_vocabulary() {
        let text = serde_json::to_value(recipe(Some("ab"))).unwrap();
        assert_eq!(text.get("images"), None);
        assert_eq!(text["vocabulary"]["kind"], "file");
        let images = Some(ImageObjective::Classifier { patch: 4 });
        let seen = serde_json::to_value(Pretrain { vocabulary: None, images, ..recipe(Some("ab")) }).unwrap();
        assert_eq!(seen.get("vocabulary"), None);
        assert_eq!(seen["images"], serde_json::json!({"kind": "classifier", "patch": 4}));
    }

    #[test]
    fn the_canonical_form_never_changes() {
        let mut text = String::new();
        write_canonical(&serde_json::json!({"b": [1, 0.5, null], "a": {"z": "é\"", "y": true}}), &mut text);
        assert_eq!(text, r#"{"a":{"y":true,"z":"é\""},"b":[1,0.5,null]}"#);
    }
}
