//! The submission of a job.

use std::fmt;

use recipe::{
    Growth, ImageObjective, KeptBlocks, LargestBatch, LayerDrop, LearningRate, Mlm, Norm, Optimizer, Precision,
    Pretrain, Probe, Size,
};
use report::Rules;
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
    /// Name of a registered corpus, or of registered images in a job with `images`. By default it is `wikitext-103`, which
    /// `lamina data fetch` downloads.
    #[serde(default = "default_corpus")]
    pub corpus: String,
    /// `bert-base-uncased` by default. A job with `images` has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vocabulary: Option<VocabularyChoice>,
    /// Makes the models learn from images instead of text: `{"kind": "classifier", "patch": 4}` or
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
    /// Probes every block of every checkpoint, published ones included; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<ProbeSpec>,
    /// The timing trial; `null` for none. It times the baseline twice, as if it were two arms.
    #[serde(default = "default_timing")]
    pub timing: Option<TimingSpec>,
    /// When a question counts as answered: the probability of a wrong verdict, and the differences that do not matter.
    #[serde(default)]
    pub rules: Rules,
}

/// A named size (`narrow`, `base` ...) or a shape.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum ModelChoice {
    Named(String),
    Shape(Size),
}

/// Name of a registered `vocab.txt`, or a vocabulary to be trained on the corpus.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum VocabularyChoice {
    Named(String),
    Train(TrainVocabulary),
}

/// One choice of the blocks to keep, or several, which show the score against the depth.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum KeepChoice {
    One(KeptBlocks),
    Several(Vec<KeptBlocks>),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainVocabulary {
    /// Number of tokens.
    pub train: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PretrainSpec {
    /// The budget in optimiser updates, by default 2000. With `seconds`, the largest number of updates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// The budget in seconds of training on the device that the trial runs on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// The budget in seconds of training on the device of the timing trial, instead of `steps`. When the timing trial has ended,
    /// each arm gets as many steps as it would make in this time there. All arms then have equal time on one machine, wherever
    /// they run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference_seconds: Option<f64>,
    /// Sequences per step.
    pub batch: u32,
    /// Number of equal parts of a batch, whose gradients are summed.
    pub micro_batches: u32,
    /// Tokens per sequence, by default 128. An image determines their number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<u32>,
    pub learning_rate: LearningRate,
    /// Pre-train trials per arm. Seed n means the same draws in every arm.
    pub seeds: u32,
    /// Steps between validations; a tenth of the budget by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validate_every: Option<u64>,
    /// Held-out sequences of a validation, by default 256, or 2048 for a classifier of images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation_sequences: Option<u32>,
    pub objective: Mlm,
    pub optimizer: Optimizer,
    /// Number format of the matrix products, in fine-tuning as well.
    pub precision: Precision,
    /// Keeps only the input of each sublayer for the backward pass and computes the other activations again. This takes less
    /// memory and more time, and gives the same result.
    pub recompute: bool,
    /// Probes every block at each validation: metric points `block_1_cosine`, `block_1_distance`, `block_1_gradient_norm` and so
    /// on.
    pub probe: bool,
    /// Share of the documents held out for validation, or of the images if they come without a test part.
    pub held_out: f64,
    /// A trial ends as diverged when its smoothed training loss is this many nats above its lowest value. Absent: divergence is
    /// not checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub divergence: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ArmSpec {
    pub name: String,
    /// Name of a registered checkpoint in Hugging Face's layout. The arm starts from it instead of pre-training: it is
    /// fine-tuned and probed. No other setting of the arm may then be given.
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
    /// Solves for the theta limit at which this arm has as many FLOPs as another one.
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    pub matched: Option<Match>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub growth: Option<Growth>,
    /// Overrides `pretrain.objective` for this arm. `optimizer`, `precision`, `recompute`, `micro_batches` and `learning_rate` do
    /// the same.
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
    /// Width of ELECTRA's embeddings; by default the width of the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<LearningRate>,
    /// LayerNorm after the sum of the embeddings; true by default.
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
    /// Peak learning rates to try.
    #[serde(default = "default_learning_rates")]
    pub learning_rates: Vec<f64>,
    #[serde(default = "default_glue_batch")]
    pub batch: u32,
    #[serde(default = "default_length")]
    pub length: u32,
    /// Share of the steps spent warming up.
    #[serde(default = "default_glue_warmup")]
    pub warmup: f64,
    /// Share of the training part that is set apart; the report selects each arm's learning rate on it. `null` for none.
    #[serde(default = "default_selection")]
    pub selection: Option<f64>,
    /// The blocks of a checkpoint that are kept: `all`, `every_other`, or `{"first": k}`. Each item of a list of these has
    /// fine-tune trials of its own.
    #[serde(default)]
    pub keep: KeepChoice,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TimingSpec {
    /// Turns of each arm. The interval of a speed-up is one over the rounds: it needs at least 6, and many rounds of short
    /// turns make it narrower than few rounds of long ones. All turns of all arms, and of the baseline's repetition, may have
    /// 100,000 steps together.
    pub rounds: u32,
    /// Timed steps in one turn.
    pub steps_per_turn: u32,
    /// Untimed steps at the start of each turn, in which memory is measured. One is enough if the report shows no difference
    /// between the first timed step of a turn and the others.
    pub warmup_steps: u32,
    /// Searches for the largest batch of each arm that fits into memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub largest_batch: Option<LargestBatch>,
}

/// The probe of a checkpoint: the loss with blocks removed, swapped and shuffled, and each block's output beside its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProbeSpec {
    /// Held-out sequences.
    pub sequences: u32,
    /// Number of random orders of the blocks.
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
    /// `None` for an unknown name.
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
        Self::One(KeptBlocks::default())
    }
}

impl KeepChoice {
    /// The choices in the order in which they are written.
    pub fn all(&self) -> &[KeptBlocks] {
        match self {
            Self::One(keep) => std::slice::from_ref(keep),
            Self::Several(all) => all,
        }
    }
}

impl ArmSpec {
    /// The names of the settings that were given and apply to pre-training only.
    pub fn pretraining_settings(&self) -> Vec<&'static str> {
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
        Self { rounds: 32, steps_per_turn: 2, warmup_steps: 1, largest_batch: None }
    }
}

fn default_corpus() -> String {
    "wikitext-103".into()
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
    /// The number of optimiser updates, or the largest number with a budget in seconds.
    pub fn steps(&self) -> u64 {
        self.steps.unwrap_or(if self.seconds.is_some() { recipe::MOST_STEPS } else { 2000 })
    }
}

impl JobSpec {
    /// Fills in the defaults that depend on other settings: the steps of a budget that is not in seconds, the vocabulary and
    /// the length of text, the sequences of a validation, and the norms of an arm that pre-trains.
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

    /// Number of questions over which the verdicts of this job are corrected: those for which it plans several pre-train
    /// seeds, or enough rounds of the timing trial.
    pub fn questions(&self) -> usize {
        let is_pretrained = |arm: &ArmSpec| arm.pretrains();
        let baseline = self.arms.iter().find(|arm| arm.name == self.baseline());
        let others: Vec<&ArmSpec> = self.arms.iter().filter(|arm| arm.name != self.baseline()).collect();
        let compared =
            if baseline.is_some_and(is_pretrained) { others.iter().filter(|arm| arm.pretrains()).count() } else { 0 };
        let seeds = self.pretrain.seeds;
        let is_timed = self.timing.as_ref().is_some_and(|timing| timing.rounds >= report::LEAST_ROUNDS);
        let is_classifier = matches!(self.images, Some(ImageObjective::Classifier { .. }));
        let of_pretraining = [is_timed, seeds > 1, seeds > 1 && is_classifier, seeds > 2];
        let tasks = self.glue.as_ref().map_or(0, |glue| glue.tasks.len());
        let has_spread = self.glue.as_ref().is_some_and(|glue| glue.seeds > 1);
        // The scores of each task, their mean, and the spread.
        let of_glue = if seeds > 1 && tasks > 0 { tasks + usize::from(tasks > 1) + usize::from(has_spread) } else { 0 };
        compared * (of_pretraining.into_iter().filter(|asked| *asked).count() + of_glue)
    }

    /// The vocabulary; `None` in a job with images.
    pub fn vocabulary(&self) -> Option<VocabularyChoice> {
        self.vocabulary.clone().or_else(|| self.images.is_none().then(VocabularyChoice::default))
    }

    /// The arms that pre-train.
    pub fn pretraining_arms(&self) -> impl Iterator<Item = &ArmSpec> {
        self.arms.iter().filter(|arm| arm.pretrains())
    }

    /// Name of the arm with which the others are compared. It is empty only in a job without arms, which is refused.
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
                KeptBlocks::deserialize(text.into_deserializer()).map(KeepChoice::One)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<KeepChoice, A::Error> {
                KeptBlocks::deserialize(MapAccessDeserializer::new(map)).map(KeepChoice::One)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<KeepChoice, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(KeepChoice::Several)
            }
        }
        deserializer.deserialize_any(OneOrSeveral)
    }
}

/// Reads a string or an object. Unlike serde's `untagged`, it reports which field of the object is wrong.
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
    fn questions_are_counted_for_each_arm_that_can_be_told_from_the_baseline() {
        let questions = |seeds: u32, rounds: u32, tasks: &[&str]| {
            let spec: JobSpec = serde_json::from_value(json!({
                "name": "n", "arms": [{"name": "a"}, {"name": "b"}, {"name": "c"}, {"name": "d", "checkpoint": "bert"}],
                "pretrain": {"seeds": seeds}, "timing": {"rounds": rounds}, "glue": {"tasks": tasks},
            }))
            .unwrap();
            spec.questions()
        };
        // Speed; then loss and its spread, two scores, their mean and their spread.
        assert_eq!(questions(1, 32, &["rte", "mrpc"]), 2);
        assert_eq!(questions(3, 32, &["rte", "mrpc"]), 2 * 7);
        assert_eq!(questions(2, 5, &["rte"]), 2 * 3);
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
