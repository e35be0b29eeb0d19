//! A fine-tune run: from which checkpoint, which blocks of it, and which part of train selects.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::layer_drop::is_default;
use crate::learning_rate::LearningRate;
use crate::model::Model;
use crate::optimizer::Optimizer;
use crate::problem::Problems;
use crate::seeds::Seeds;
use crate::stage::{Dataset, Precision, Pretrain, check_batch};
use crate::task::Task;

/// A fine-tune run from a checkpoint, every block that is left of it open.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finetune {
    /// The checkpoint that it starts from; gives the model and the vocabulary.
    pub from: Source,
    /// Seeds of the pre-train trial, so that the fingerprint names exactly one checkpoint; 0 for a published one.
    #[serde(default)]
    pub from_seeds: Seeds,
    /// Which of the checkpoint's blocks are trained.
    #[serde(default, skip_serializing_if = "Keep::is_all")]
    pub keep: Keep,
    pub task: Task,
    pub glue: Dataset,
    /// Share of the training examples that is set apart and scored, so that a learning rate can be selected without a
    /// look at dev. Which ones depends on their number alone: all seeds, rates and arms share them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selection: Option<f64>,
    pub epochs: u32,
    pub batch: u32,
    /// Longest input in tokens; longer pairs lose tokens from their longer half.
    pub length: u32,
    pub learning_rate: LearningRate,
    #[serde(default)]
    pub optimizer: Optimizer,
    #[serde(default, skip_serializing_if = "is_default")]
    pub precision: Precision,
}

/// Where weights come from: written as the recipe that made them, or as `{"kind": "published", "model": ..., "checkpoint": ...}`.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// A checkpoint of this recipe.
    Pretrained(Box<Pretrain>),
    Published(Box<Published>),
}

/// A folder in Hugging Face's layout: `config.json`, `model.safetensors`, `vocab.txt`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// Has to say what `config.json` says, but for the two dropouts, which are the recipe's to choose: they change the
    /// training, not the function.
    pub model: Model,
    /// The registered folder. A digest, where there is one, has to be that of the files.
    pub checkpoint: Dataset,
}

/// Which blocks of a checkpoint are kept, as LayerDrop prunes them (Fan et al. 2019, section 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Keep {
    #[default]
    All,
    /// Blocks 1, 3, 5 ...
    EveryOther,
    /// Blocks 1 to this one.
    First(u32),
}

/// How many of `examples` are set apart for selection: the share, rounded, and at least one on either side.
pub fn set_apart(examples: u64, share: f64) -> u64 {
    ((examples as f64 * share).round() as u64).clamp(1.min(examples), examples.saturating_sub(1))
}

impl Finetune {
    /// The model that is trained: what is kept of the checkpoint's.
    pub fn model(&self) -> Model {
        let model = self.from.model();
        Model { blocks: self.keep.kept(model.blocks).count() as u32, ..model.clone() }
    }

    pub fn check(&self, problems: &mut Problems) {
        problems.within("from", |p| match &self.from {
            Source::Pretrained(recipe) => {
                recipe.check(p);
                p.require(recipe.images.is_none(), "images", || "a GLUE task reads text".into());
            }
            Source::Published(published) => p.within("model", |p| published.model.check(p)),
        });
        let blocks = self.from.model().blocks;
        if let Keep::First(kept) = self.keep {
            problems.require((1..=blocks).contains(&kept), "keep", || {
                format!("the first {kept} blocks: the checkpoint has {blocks}, and at least 1 has to stay")
            });
        }
        problems.require(self.keep.is_all() || self.from.model().order.is_none(), "keep", || {
            "with an order of sublayers of its own, a model has no blocks that could be left out".into()
        });
        if let Some(share) = self.selection {
            problems.require(share > 0.0 && share <= 0.5, "selection", || {
                format!("{share}: a share of train above 0 and up to 0.5")
            });
        }
        problems.within("learning_rate", |p| self.learning_rate.check(p));
        problems.within("optimizer", |p| self.optimizer.check(p));
        problems.require((1..=1000).contains(&self.epochs), "epochs", || {
            format!("{} epochs: 1 to 1000 are allowed", self.epochs)
        });
        check_batch(problems, self.batch, self.length, self.from.model());
    }
}

impl Source {
    /// The checkpoint's model, at its full depth.
    pub fn model(&self) -> &Model {
        match self {
            Source::Pretrained(recipe) => &recipe.model,
            Source::Published(published) => &published.model,
        }
    }
}

impl Keep {
    /// The kept ones of `blocks` blocks, by their numbers from 1, in order.
    pub fn kept(self, blocks: u32) -> impl Iterator<Item = u32> {
        let (last, stride) = match self {
            Keep::All => (blocks, 1),
            Keep::EveryOther => (blocks, 2),
            Keep::First(kept) => (kept.min(blocks), 1),
        };
        (1..=last).step_by(stride)
    }

    pub fn is_all(&self) -> bool {
        *self == Keep::All
    }
}

impl std::fmt::Display for Keep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Keep::All => f.write_str("all"),
            Keep::EveryOther => f.write_str("every other"),
            Keep::First(kept) => write!(f, "first {kept}"),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Tagged<P> {
    Published(P),
}

impl Serialize for Source {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Source::Pretrained(recipe) => recipe.serialize(serializer),
            Source::Published(published) => Tagged::Published(published).serialize(serializer),
        }
    }
}

/// A `kind` tells the two apart: a pre-train recipe has none. What is wrong inside either is said in its own words, which
/// serde's `untagged` would lose.
impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let value = serde_json::Value::deserialize(deserializer)?;
        if value.get("kind").is_none() {
            return Pretrain::deserialize(value)
                .map(|recipe| Self::Pretrained(Box::new(recipe)))
                .map_err(D::Error::custom);
        }
        let Tagged::Published(published) = Tagged::deserialize(value).map_err(D::Error::custom)?;
        Ok(Self::Published(Box::new(published)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::stage::Recipe;

    fn recipe(from: Value) -> Value {
        json!({
            "stage": "finetune", "from": from, "from_seeds": {"init": 3}, "task": "rte", "glue": {"name": "glue"},
            "epochs": 3, "batch": 16, "length": 128, "learning_rate": {"peak": 1e-4}
        })
    }

    fn model() -> Value {
        json!({"blocks": 12, "hidden": 128, "heads": 2, "intermediate": 512, "norm": "post"})
    }

    fn pretrained() -> Value {
        json!({
            "model": model(), "learning_rate": {"peak": 1e-3}, "steps": 10, "batch": 2, "length": 128,
            "corpus": {"name": "wiki"}, "vocabulary": {"kind": "trained", "size": 200}, "validate_every": 5
        })
    }

    fn published() -> Value {
        json!({"kind": "published", "model": model(), "checkpoint": {"name": "bert", "digest": "ab"}})
    }

    fn read(value: Value) -> Result<Recipe, String> {
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    #[test]
    fn a_recipe_from_before_there_was_a_choice_keeps_its_json_and_so_its_fingerprint() {
        let old = read(recipe(pretrained())).unwrap();
        let written = serde_json::to_value(&old).unwrap();
        assert_eq!(written["from"]["steps"], 10);
        for absent in ["keep", "selection"] {
            assert_eq!(written.get(absent), None);
        }
        assert_eq!(written["from"].get("kind"), None);
        assert_eq!(read(written).unwrap(), old);
    }

    #[test]
    fn a_published_source_is_told_by_its_kind_and_counts_by_its_digest() {
        let with_name = |name: &str| {
            let mut from = published();
            from["checkpoint"]["name"] = json!(name);
            read(recipe(from)).unwrap()
        };
        let one = with_name("bert");
        assert_eq!(read(serde_json::to_value(&one).unwrap()).unwrap(), one);
        assert_eq!(one.validate(), []);
        assert_eq!(one.fingerprint(), with_name("other").fingerprint());
        let mut other = published();
        other["checkpoint"]["digest"] = json!("cd");
        assert_ne!(one.fingerprint(), read(recipe(other)).unwrap().fingerprint());
    }

    #[test]
    fn what_is_wrong_with_a_source_is_named() {
        let with = |mut from: Value, field: &str, value: Value| {
            from[field] = value;
            read(recipe(from)).unwrap_err()
        };
        assert!(with(pretrained(), "theta", json!(1)).contains("unknown field `theta`"));
        assert!(with(published(), "theta", json!(1)).contains("unknown field `theta`"));
        assert!(with(published(), "kind", json!("downloaded")).contains("unknown variant `downloaded`"));
    }

    #[test]
    fn what_is_kept_and_set_apart_is_checked() {
        let problems = |field: &str, value: Value| -> Vec<String> {
            let mut changed = recipe(published());
            changed[field] = value;
            read(changed).unwrap().validate().into_iter().map(|problem| problem.pointer).collect()
        };
        for (keep, fits) in [
            (json!("all"), true),
            (json!("every_other"), true),
            (json!({"first": 12}), true),
            (json!({"first": 13}), false),
            (json!({"first": 0}), false),
        ] {
            assert_eq!(problems("keep", keep.clone()).is_empty(), fits, "{keep}");
        }
        for (share, fits) in [(0.1, true), (0.5, true), (0.0, false), (-0.1, false), (0.6, false)] {
            assert_eq!(problems("selection", json!(share)).is_empty(), fits, "{share}");
        }
    }

    proptest! {
        #[test]
        fn what_is_kept_is_in_order_and_of_the_checkpoint(blocks in 1u32..100, first in 1u32..120) {
            for keep in [Keep::All, Keep::EveryOther, Keep::First(first)] {
                let kept: Vec<u32> = keep.kept(blocks).collect();
                prop_assert_eq!(kept[0], 1);
                prop_assert!(kept.is_sorted() && kept.iter().all(|block| (1..=blocks).contains(block)));
            }
            prop_assert_eq!(Keep::All.kept(blocks).count() as u32, blocks);
            prop_assert_eq!(Keep::EveryOther.kept(blocks).count() as u32, blocks.div_ceil(2));
            prop_assert_eq!(Keep::First(first).kept(blocks).count() as u32, first.min(blocks));
        }

        #[test]
        fn either_side_of_a_selection_has_an_example(examples in 2u64..1_000_000, share in 1e-9f64..=0.5) {
            let apart = set_apart(examples, share);
            prop_assert!((1..examples).contains(&apart));
            prop_assert!((apart as f64 - examples as f64 * share).abs() <= 1.0);
        }
    }
}
