//! The submission.

use std::fmt;

use recipe::{
    Growth, ImageObjective, Keep, LargestBatch, LayerDrop, LearningRate, Mlm, Norm, Optimizer, Precision, Pretrain,
    Probe, Size,
};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Error as _, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

/// A comparison of arms: the body of `POST /jobs`. Everything but `name` and `arms` has a default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    pub name: String,
    #[serde(default)]
    pub model: ModelChoice,
    /// Name of a registered corpus; of registered images, where there is `images`.
    #[serde(default = "default_corpus")]
    pub corpus: String,
    /// `bert-base-uncased` by default; images have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vocabulary: Option<VocabularyChoice>,
    /// What is learned from images, in place of text: `{"kind": "classifier", "patch": 4}` or
    /// `{"kind": "pixels", "levels": 16}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<ImageObjective>,
    #[serde(default)]
    pub pretrain: PretrainSpec,
    pub arms: Vec<ArmSpec>,
    /// The arm that the others are compared with; the first one by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<String>,
    /// Fine-tuning on GLUE; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub glue: Option<GlueSpec>,
    /// A look into every block of every checkpoint, published ones included; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<ProbeSpec>,
    /// The timing trial; `null` for none.
    #[serde(default = "default_timing")]
    pub timing: Option<TimingSpec>,
}

/// A named size (`narrow`, `base` ...) or a shape.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum ModelChoice {
    Named(String),
    Shape(Size),
}

/// Name of a registered `vocab.txt`, or one to be trained on the corpus.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum VocabularyChoice {
    Named(String),
    Train(TrainVocabulary),
}

/// One choice of blocks, or several, to see the score against the depth.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum KeepChoice {
    One(Keep),
    Several(Vec<Keep>),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainVocabulary {
    /// Tokens.
    pub train: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PretrainSpec {
    /// The budget in optimiser updates, 2000 where none is given; with `seconds`, the most that are made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// The budget in seconds of training, on whatever device a trial runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// In place of `steps`: a budget in seconds of the device of the timing trial. Once that has ended, each arm gets as many
    /// steps as its mean step there allows, so that all arms have equal time on one machine, wherever they run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference_seconds: Option<f64>,
    /// Sequences per step.
    pub batch: u32,
    /// Equal parts of a batch whose gradients are added up.
    pub micro_batches: u32,
    /// Tokens per sequence: 128 by default, of images always as many as one makes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<u32>,
    pub learning_rate: LearningRate,
    /// Pre-train trials per arm; seed n of one arm equals seed n of every other.
    pub seeds: u32,
    /// Steps between validations; a tenth of the budget by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validate_every: Option<u64>,
    /// Held-out sequences of a validation: 256 by default, of a classifier of images 2048.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation_sequences: Option<u32>,
    pub objective: Mlm,
    pub optimizer: Optimizer,
    /// In what numbers models are trained, fine-tuning included.
    pub precision: Precision,
    /// Keeps only the input of each sublayer for the backward pass and makes the rest again: less memory, more time, the
    /// same result.
    pub recompute: bool,
    /// Looks into every block at each validation: metric points `block_1_cosine`, `block_1_distance`,
    /// `block_1_gradient_norm` ...
    pub probe: bool,
    /// Share of the documents held out for validation; of the images, where these bring no test part.
    pub held_out: f64,
    /// Nats above its lowest at which the smoothed training loss ends a trial as diverged; never where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub divergence: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ArmSpec {
    pub name: String,
    /// Name of a registered checkpoint in Hugging Face's layout. In place of a pre-training, and so of every other setting:
    /// the arm's fine-tune trials start from it, and its probe looks into it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
    /// `pre` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub norm: Option<Norm>,
    /// Sublayers in forward order, `s` for attention and `f` for feed-forward; `sfsf...` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer_drop: Option<LayerDrop>,
    /// Another arm whose FLOPs this one is to have: its theta limit is solved for.
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    pub matched: Option<Match>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub growth: Option<Growth>,
    /// In place of the job's, as are optimiser, precision, recomputation, micro-batches and learning rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objective: Option<Mlm>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optimizer: Option<Optimizer>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recompute: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub micro_batches: Option<u32>,
    /// Width of ELECTRA's embeddings, where it is not the model's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<LearningRate>,
    /// LayerNorm after the embeddings' sum, by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding_norm: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Match {
    pub arm: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GlueSpec {
    /// Name of a registered GLUE folder.
    #[serde(default = "default_glue")]
    pub dataset: String,
    /// `cola`, `sst-2`, `mrpc`, `sts-b`, `qqp`, `mnli`, `qnli`, `rte`, `wnli`.
    pub tasks: Vec<String>,
    /// Fine-tune trials per checkpoint, task and learning rate.
    #[serde(default = "default_glue_seeds")]
    pub seeds: u32,
    #[serde(default = "default_epochs")]
    pub epochs: u32,
    /// Peaks.
    #[serde(default = "default_learning_rates")]
    pub learning_rates: Vec<f64>,
    #[serde(default = "default_glue_batch")]
    pub batch: u32,
    #[serde(default = "default_length")]
    pub length: u32,
    /// Share of the steps spent warming up.
    #[serde(default = "default_glue_warmup")]
    pub warmup: f64,
    /// Share of train that is set apart, on which the report selects each arm's learning rate; `null` for none.
    #[serde(default = "default_selection")]
    pub selection: Option<f64>,
    /// Which blocks of a checkpoint are kept: `all`, `every_other`, or `{"first": k}`; or a list of these, each of which
    /// makes its own fine-tune trials.
    #[serde(default)]
    pub keep: KeepChoice,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TimingSpec {
    /// Turns of each arm.
    pub rounds: u32,
    /// Timed steps in one turn.
    pub steps_per_turn: u32,
    /// Untimed steps at the start of each turn.
    pub warmup_steps: u32,
    /// Looks for the largest batch of each arm that fits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub largest_batch: Option<LargestBatch>,
}

/// What is asked of a checkpoint's blocks: remove, swap and shuffle them; compare what goes in with what comes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProbeSpec {
    /// Held-out sequences.
    pub sequences: u32,
    /// Random orders of the blocks.
    pub shuffles: u32,
}

impl Default for ProbeSpec {
    fn default() -> Self {
        Self { sequences: Probe::DEFAULT_SEQUENCES, shuffles: Probe::DEFAULT_SHUFFLES }
    }
}

impl Default for ModelChoice {
    fn default() -> Self {
        Self::Named("narrow".into())
    }
}

impl ModelChoice {
    /// None for a name that is not known.
    pub fn size(&self) -> Option<Size> {
        match self {
            Self::Named(name) => Size::named(name),
            Self::Shape(size) => Some(*size),
        }
    }
}

impl Default for VocabularyChoice {
    fn default() -> Self {
        Self::Named("bert-base-uncased".into())
    }
}

impl Default for KeepChoice {
    fn default() -> Self {
        Self::One(Keep::default())
    }
}

impl KeepChoice {
    /// In the order in which they are written.
    pub fn all(&self) -> &[Keep] {
        match self {
            Self::One(keep) => std::slice::from_ref(keep),
            Self::Several(all) => all,
        }
    }
}

impl ArmSpec {
    /// The names of the settings that a checkpoint leaves no room for, and that are given.
    pub fn of_a_pretraining(&self) -> Vec<&'static str> {
        let given = [
            ("norm", self.norm.is_some()),
            ("order", self.order.is_some()),
            ("layer_drop", self.layer_drop.is_some()),
            ("match", self.matched.is_some()),
            ("growth", self.growth.is_some()),
            ("objective", self.objective.is_some()),
            ("optimizer", self.optimizer.is_some()),
            ("precision", self.precision.is_some()),
            ("recompute", self.recompute.is_some()),
            ("micro_batches", self.micro_batches.is_some()),
            ("embedding", self.embedding.is_some()),
            ("learning_rate", self.learning_rate.is_some()),
            ("embedding_norm", self.embedding_norm.is_some()),
        ];
        given.into_iter().filter_map(|(name, is_given)| is_given.then_some(name)).collect()
    }

    pub const fn pretrains(&self) -> bool {
        self.checkpoint.is_none()
    }
}

impl Default for PretrainSpec {
    fn default() -> Self {
        Self {
            steps: None,
            seconds: None,
            reference_seconds: None,
            batch: 32,
            micro_batches: 1,
            length: None,
            learning_rate: LearningRate {
                peak: 1e-3,
                warmup: LearningRate::DEFAULT_WARMUP,
                decay: recipe::Decay::Linear,
            },
            seeds: 1,
            validate_every: None,
            validation_sequences: None,
            objective: Mlm::default(),
            optimizer: Optimizer::default(),
            precision: Precision::default(),
            recompute: false,
            probe: false,
            held_out: Pretrain::DEFAULT_HELD_OUT,
            divergence: None,
        }
    }
}

impl Default for TimingSpec {
    fn default() -> Self {
        Self { rounds: 8, steps_per_turn: 10, warmup_steps: 2, largest_batch: None }
    }
}

fn default_corpus() -> String {
    "wiki".into()
}
fn default_glue() -> String {
    "glue".into()
}
fn default_timing() -> Option<TimingSpec> {
    Some(TimingSpec::default())
}
pub(crate) fn default_length() -> u32 {
    128
}
fn default_glue_seeds() -> u32 {
    5
}
fn default_epochs() -> u32 {
    3
}
fn default_learning_rates() -> Vec<f64> {
    vec![1e-4]
}
fn default_glue_batch() -> u32 {
    16
}
fn default_glue_warmup() -> f64 {
    0.1
}
fn default_selection() -> Option<f64> {
    Some(0.1)
}

impl PretrainSpec {
    /// Optimiser updates, or the most that are made.
    pub fn steps(&self) -> u64 {
        self.steps.unwrap_or(if self.seconds.is_some() { recipe::MOST_STEPS } else { 2000 })
    }
}

impl JobSpec {
    /// With the defaults that depend on what else is given: the steps of a budget that is not in seconds, the vocabulary and
    /// the length of text, the sequences of a validation, and the norms of an arm that does not start from a checkpoint.
    pub fn filled_in(mut self) -> Self {
        if self.pretrain.seconds.is_none() && self.pretrain.reference_seconds.is_none() {
            self.pretrain.steps = Some(self.pretrain.steps());
        }
        self.pretrain.validation_sequences = Some(self.validation_sequences());
        if self.images.is_none() {
            self.vocabulary.get_or_insert_default();
            self.pretrain.length.get_or_insert_with(default_length);
        }
        for arm in self.arms.iter_mut().filter(|arm| arm.pretrains()) {
            arm.norm.get_or_insert(Norm::Pre);
            arm.embedding_norm.get_or_insert(true);
        }
        self
    }

    /// Held-out sequences of a validation. An accuracy needs more of them than a loss.
    pub fn validation_sequences(&self) -> u32 {
        self.pretrain.validation_sequences.unwrap_or(match self.images {
            Some(ImageObjective::Classifier { .. }) => 2048,
            _ => Pretrain::DEFAULT_VALIDATION_SEQUENCES,
        })
    }

    /// What words are made of; nothing where images are learned from.
    pub fn vocabulary(&self) -> Option<VocabularyChoice> {
        self.vocabulary.clone().or_else(|| self.images.is_none().then(VocabularyChoice::default))
    }

    /// The arms that pre-train.
    pub fn pretraining_arms(&self) -> impl Iterator<Item = &ArmSpec> {
        self.arms.iter().filter(|arm| arm.pretrains())
    }

    /// Name of the arm that the others are compared with; empty only in a job without arms, which is refused.
    pub fn baseline(&self) -> &str {
        match (&self.baseline, self.arms.first()) {
            (Some(name), _) => name,
            (None, Some(arm)) => &arm.name,
            (None, None) => "",
        }
    }
}

impl<'de> Deserialize<'de> for ModelChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        name_or(deserializer, "the name of a size or {blocks, hidden, heads, intermediate}", Self::Named, Self::Shape)
    }
}

impl<'de> Deserialize<'de> for VocabularyChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        name_or(deserializer, "the name of a vocabulary or {train: tokens}", Self::Named, Self::Train)
    }
}

impl<'de> Deserialize<'de> for KeepChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrSeveral;
        impl<'de> Visitor<'de> for OneOrSeveral {
            type Value = KeepChoice;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("all, every_other, {first: k}, or a list of these")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<KeepChoice, E> {
                Keep::deserialize(text.into_deserializer()).map(KeepChoice::One)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<KeepChoice, A::Error> {
                Keep::deserialize(MapAccessDeserializer::new(map)).map(KeepChoice::One)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<KeepChoice, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(KeepChoice::Several)
            }
        }
        deserializer.deserialize_any(OneOrSeveral)
    }
}

/// A string or an object. Unlike serde's `untagged`, it says which field of the object is wrong.
fn name_or<'de, D: Deserializer<'de>, O: Deserialize<'de>, T>(
    deserializer: D,
    expecting: &'static str,
    named: fn(String) -> T,
    object: fn(O) -> T,
) -> Result<T, D::Error> {
    struct Either<O, T> {
        expecting: &'static str,
        named: fn(String) -> T,
        object: fn(O) -> T,
    }
    impl<'de, O: Deserialize<'de>, T> Visitor<'de> for Either<O, T> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.expecting)
        }
        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
            if text.is_empty() { Err(E::custom("the name is empty")) } else { Ok((self.named)(text.into())) }
        }
        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            O::deserialize(MapAccessDeserializer::new(map)).map(self.object).map_err(A::Error::custom)
        }
    }
    deserializer.deserialize_any(Either { expecting, named, object })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_name_and_arms_are_enough() {
        let spec: JobSpec = serde_json::from_value(json!({"name": "n", "arms": [{"name": "pre-ln"}]})).unwrap();
        assert_eq!(spec.model, ModelChoice::Named("narrow".into()));
        assert_eq!(spec.baseline(), "pre-ln");
        assert_eq!(spec.timing, Some(TimingSpec::default()));
        assert_eq!(spec.glue, None);
        let again: JobSpec = serde_json::from_value(serde_json::to_value(&spec).unwrap()).unwrap();
        assert_eq!(again, spec);
    }

    #[test]
    fn no_timing_is_said_by_null_and_kept() {
        let spec: JobSpec =
            serde_json::from_value(json!({"name": "n", "arms": [{"name": "a"}], "timing": null})).unwrap();
        assert_eq!(spec.timing, None);
        let again: JobSpec = serde_json::from_value(serde_json::to_value(&spec).unwrap()).unwrap();
        assert_eq!(again.timing, None);
    }

    #[test]
    fn an_unknown_field_is_named_also_inside_a_choice() {
        let read = |model| serde_json::from_value::<JobSpec>(json!({"name": "n", "arms": [], "model": model}));
        let error = read(json!({"blocks": 2, "width": 3})).unwrap_err().to_string();
        assert!(error.contains("`width`"), "{error}");
        assert!(read(json!(7)).unwrap_err().to_string().contains("name of a size"));
        assert_eq!(
            read(json!({"blocks": 2, "hidden": 8, "heads": 2, "intermediate": 16})).unwrap().model,
            ModelChoice::Shape(Size { blocks: 2, hidden: 8, heads: 2, intermediate: 16 })
        );
    }

    #[test]
    fn one_choice_of_blocks_is_kept_as_one_and_a_list_as_a_list() {
        for keep in [json!("all"), json!("every_other"), json!({"first": 3}), json!(["all", {"first": 3}])] {
            let glue: GlueSpec = serde_json::from_value(json!({"tasks": ["rte"], "keep": keep})).unwrap();
            assert_eq!(serde_json::to_value(&glue).unwrap()["keep"], keep);
        }
        let read =
            |keep| serde_json::from_value::<GlueSpec>(json!({"tasks": [], "keep": keep})).unwrap_err().to_string();
        assert!(read(json!("most")).contains("`most`"));
        assert!(read(json!({"last": 3})).contains("`last`"));
        assert!(read(json!(["all", 7])).contains("7"), "{}", read(json!(["all", 7])));
        assert!(read(json!(7)).contains("every_other"));
    }

    #[test]
    fn the_norms_are_filled_in_where_there_is_no_checkpoint() {
        let arms =
            json!([{"name": "pre-ln"}, {"name": "post-ln", "norm": "post"}, {"name": "bert", "checkpoint": "b"}]);
        let spec: JobSpec = serde_json::from_value(json!({"name": "n", "arms": arms})).unwrap();
        let norms = |spec: JobSpec| spec.arms.iter().map(|arm| (arm.norm, arm.embedding_norm)).collect::<Vec<_>>();
        let expected = [(Some(Norm::Pre), Some(true)), (Some(Norm::Post), Some(true)), (None, None)];
        assert_eq!(norms(spec.filled_in()), expected);
    }
}
