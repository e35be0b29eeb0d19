//! A fine-tune run: its checkpoint, the blocks that are kept, and the part of train that selects a learning rate.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::dataset::Dataset;
use crate::json::is_default;
use crate::learning_rate::LearningRate;
use crate::model::Model;
use crate::optimizer::Optimizer;
use crate::pretrain::{Precision, Pretrain, check_batch, check_text_length};
use crate::problem::Problems;
use crate::seeds::Seeds;
use crate::task::Task;

/// The recipe of a fine-tune run. Every block that is kept of the checkpoint is open.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finetune {
    /// The source of the checkpoint, which gives the model and the vocabulary.
    pub from: Source,
    /// Seeds of the pre-train trial, so that the fingerprint names exactly one checkpoint; 0 for a published one.
    #[serde(default)]
    pub from_seeds: Seeds,
    /// The blocks of the checkpoint that are kept and trained.
    #[serde(default, skip_serializing_if = "KeptBlocks::is_all")]
    pub keep: KeptBlocks,
    pub task: Task,
    pub glue: Dataset,
    /// Share of the training examples that is set apart and scored, so that a learning rate can be selected without a
    /// look at dev. The choice depends on the number of examples alone, so all seeds, rates and arms share it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selection: Option<f64>,
    pub epochs: u32,
    pub batch: u32,
    /// Upper bound on the tokens of an input. A longer pair loses tokens from the longer of its texts.
    pub length: u32,
    pub learning_rate: LearningRate,
    #[serde(default)]
    pub optimizer: Optimizer,
    #[serde(default, skip_serializing_if = "is_default")]
    pub precision: Precision,
}

/// The source of a checkpoint. In JSON it is the recipe that made the checkpoint, or `{"kind": "published", "model":
/// ..., "checkpoint": ...}`.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// A checkpoint that this recipe makes.
    Pretrained(Box<Pretrain>),
    /// A registered checkpoint.
    Published(Box<Published>),
}

/// A folder in Hugging Face's layout: `config.json`, `model.safetensors`, `vocab.txt`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// Has to equal what `config.json` says, except for the two dropouts: these change the training but not the
    /// function of the model, so the recipe may choose them. A recipe file may leave it out: the trainer then takes it
    /// from there.
    pub model: Model,
    /// The registered folder. Its digest, if present, has to be that of the files.
    pub checkpoint: Dataset,
}

/// The blocks of a checkpoint that are kept, as LayerDrop prunes them (Fan et al. 2019, section 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum KeptBlocks {
    #[default]
    All,
    /// Blocks 1, 3, 5 and so on.
    EveryOther,
    /// Blocks 1 to this number.
    First(u32),
}

/// Number of `examples` that are set apart for selection: their share, rounded, such that both sides have at least one.
/// Fewer than two examples have no two sides, and none is set apart.
pub fn selection_size(examples: u64, share: f64) -> u64 {
    match examples.checked_sub(1) {
        None | Some(0) => 0,
        Some(most) => ((examples as f64 * share).round() as u64).clamp(1, most),
    }
}

impl Finetune {
    /// Three epochs are usual.
    pub const MOST_EPOCHS: u32 = 1000;

    /// The model that is trained: that of the checkpoint, with the blocks that are kept.
    pub fn model(&self) -> Model {
        let model = self.from.model();
        Model { blocks: self.keep.kept(model.blocks).count() as u32, ..model.clone() }
    }

    pub fn check(&self, problems: &mut Problems) {
        problems.within("from", |p| match &self.from {
            Source::Pretrained(recipe) => {
                recipe.check(p);
                p.require(recipe.images.is_none(), "images", || {
                    "a GLUE task reads text: start from a checkpoint that was trained on text".into()
                });
            }
            Source::Published(published) => p.within("model", |p| published.model.check(p)),
        });
        let blocks = self.from.model().blocks;
        if let KeptBlocks::First(kept) = self.keep {
            problems.require((1..=blocks).contains(&kept), "keep", || {
                format!("the first {kept} blocks: choose 1 to {blocks}, which is the number of the checkpoint's blocks")
            });
        }
        problems.require(self.keep.is_all() || self.from.model().order.is_none(), "keep", || {
            "a model with an `order` of its own has no blocks to leave out: keep all".into()
        });
        if let Some(share) = self.selection {
            problems.require(share > 0.0 && share <= 0.5, "selection", || {
                format!("{share}: choose a share of train above 0 and at most 0.5")
            });
        }
        problems.within("learning_rate", |p| self.learning_rate.check(p));
        problems.within("optimizer", |p| self.optimizer.check(p));
        problems.require((1..=Self::MOST_EPOCHS).contains(&self.epochs), "epochs", || {
            format!("{} epochs: 1 to {} are allowed", self.epochs, Self::MOST_EPOCHS)
        });
        check_batch(problems, self.batch);
        check_text_length(problems, self.length, self.from.model());
    }
}

impl Source {
    /// The model of the checkpoint, at its full depth.
    pub fn model(&self) -> &Model {
        match self {
            Source::Pretrained(recipe) => &recipe.model,
            Source::Published(published) => &published.model,
        }
    }
}

impl KeptBlocks {
    /// The numbers (from 1) of the blocks that are kept of `blocks` blocks, in order.
    pub fn kept(self, blocks: u32) -> impl Iterator<Item = u32> {
        let (last, stride) = match self {
            KeptBlocks::All => (blocks, 1),
            KeptBlocks::EveryOther => (blocks, 2),
            KeptBlocks::First(kept) => (kept.min(blocks), 1),
        };
        (1..=last).step_by(stride)
    }

    pub fn is_all(&self) -> bool {
        *self == KeptBlocks::All
    }
}

impl std::fmt::Display for KeptBlocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            KeptBlocks::All => f.write_str("all"),
            KeptBlocks::EveryOther => f.write_str("every other"),
            KeptBlocks::First(kept) => write!(f, "first {kept}"),
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

/// Only a published source has a `kind`, which tells the two apart. An error names the field inside either; serde's
/// `untagged` would lose it.
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
    fn settings_at_their_defaults_are_left_out_so_that_older_recipes_keep_their_fingerprints() {
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
    fn a_published_source_is_recognised_by_its_kind_and_identified_by_its_digest() {
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
    fn an_error_in_a_source_names_the_field() {
        let with = |mut from: Value, field: &str, value: Value| {
            from[field] = value;
            read(recipe(from)).unwrap_err()
        };
        assert!(with(pretrained(), "theta", json!(1)).contains("unknown field `theta`"));
        assert!(with(published(), "theta", json!(1)).contains("unknown field `theta`"));
        assert!(with(published(), "kind", json!("downloaded")).contains("unknown variant `downloaded`"));
    }

    #[test]
    fn kept_blocks_and_the_selection_share_are_checked() {
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
        fn kept_blocks_are_blocks_of_the_checkpoint_in_order(blocks in 1u32..100, first in 1u32..120) {
            for keep in [KeptBlocks::All, KeptBlocks::EveryOther, KeptBlocks::First(first)] {
                let kept: Vec<u32> = keep.kept(blocks).collect();
                prop_assert_eq!(kept[0], 1);
                prop_assert!(kept.is_sorted() && kept.iter().all(|block| (1..=blocks).contains(block)));
            }
            prop_assert_eq!(KeptBlocks::All.kept(blocks).count() as u32, blocks);
            prop_assert_eq!(KeptBlocks::EveryOther.kept(blocks).count() as u32, blocks.div_ceil(2));
            prop_assert_eq!(KeptBlocks::First(first).kept(blocks).count() as u32, first.min(blocks));
        }

        #[test]
        fn any_number_of_examples_and_any_share_has_a_selection(examples: u64, share: f64) {
            prop_assert!(selection_size(examples, share) <= examples.saturating_sub(1));
            prop_assert_eq!((selection_size(0, share), selection_size(1, share)), (0, 0));
        }

        #[test]
        fn both_sides_of_a_selection_have_an_example(examples in 2u64..1_000_000, share in 1e-9f64..=0.5) {
            let apart = selection_size(examples, share);
            prop_assert!((1..examples).contains(&apart));
            prop_assert!((apart as f64 - examples as f64 * share).abs() <= 1.0);
        }
    }
}
