//! The layout of a model's weights: published names, shapes and starting values, in groups that are trained together.
//!
//! Post-LN has the names of Hugging Face's `BertFor...`, Pre-LN those of its `MegatronBertFor...`, replaced-token
//! detection those of `ElectraFor...`. Models of images have no published counterpart: their blocks have BERT's names
//! under another prefix.

use recipe::{Electra, Mlm, Model, Norm, Sublayer};

/// The kind of an encoder, which decides the names of its weights and its embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Bert,
    Electra,
    /// The generator of ELECTRA, which shares the embeddings of the model.
    Generator,
    /// Images as patches.
    Patches,
    /// Images as intensities.
    Pixels,
}

impl Family {
    /// True if no token attends to a later one.
    pub(super) const fn is_causal(self) -> bool {
        matches!(self, Self::Pixels)
    }

    pub(super) const fn prefix(self) -> &'static str {
        match self {
            Self::Bert => "bert",
            Self::Electra => "electra",
            Self::Generator => "generator",
            Self::Patches => "vit",
            Self::Pixels => "pixels",
        }
    }

    pub(super) const fn embeddings(self) -> &'static str {
        match self {
            Self::Bert => "bert.embeddings",
            Self::Electra | Self::Generator => "electra.embeddings",
            Self::Patches => "vit.embeddings",
            Self::Pixels => "pixels.embeddings",
        }
    }

    /// The number of the encoder's first dropout site; its other sites follow.
    pub(super) const fn first_site(self) -> u32 {
        match self {
            Self::Bert | Self::Electra | Self::Patches | Self::Pixels => 0,
            Self::Generator => 1 << 16,
        }
    }

    /// The index in [`groups`] of the encoder's first sublayer.
    pub(super) const fn first_group(self, model: &Model) -> usize {
        match self {
            Self::Bert | Self::Electra | Self::Patches | Self::Pixels => 1,
            // The generator is as deep as the model, whose sublayers come first.
            Self::Generator => 1 + 2 * model.blocks as usize,
        }
    }

    pub(super) fn block(self, index: u32) -> String {
        format!("{}.encoder.layer.{index}", self.prefix())
    }
}

/// The families of text that can be fine-tuned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextFamily {
    Bert,
    Electra,
}

impl TextFamily {
    /// The family of a model that is pre-trained with `objective`.
    pub const fn of(objective: &Mlm) -> Self {
        if objective.electra.is_some() { Self::Electra } else { Self::Bert }
    }
}

impl From<TextFamily> for Family {
    fn from(family: TextFamily) -> Self {
        match family {
            TextFamily::Bert => Self::Bert,
            TextFamily::Electra => Self::Electra,
        }
    }
}

/// The number of the first dropout site in the heads.
pub(super) const HEAD_SITE: u32 = 1 << 17;

/// The part of a model on top of its encoder, which makes the predictions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Head {
    Text(TextHead),
    /// The class of an image, from its first token. `values` is the number of values in a patch.
    Patches {
        values: u32,
        classes: u32,
    },
    /// The level of each intensity.
    Pixels {
        levels: u32,
    },
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TextHead {
    Mlm {
        next_sentence: bool,
    },
    /// The detector of replaced tokens, and beside it the whole generator.
    Electra(Electra),
    /// The classifier that a family uses in fine-tuning; a score has one output.
    Classifier {
        outputs: usize,
        family: TextFamily,
    },
}

impl From<TextHead> for Head {
    fn from(head: TextHead) -> Self {
        Self::Text(head)
    }
}

impl Head {
    pub(super) fn family(self) -> Family {
        match self {
            Self::Text(head) => head.family().into(),
            Self::Patches { .. } => Family::Patches,
            Self::Pixels { .. } => Family::Pixels,
        }
    }
}

impl TextHead {
    /// The plain MLM head.
    pub const MLM: TextHead = TextHead::Mlm { next_sentence: false };

    /// The head that `objective` trains.
    pub fn of(objective: &Mlm) -> Self {
        match objective.electra {
            Some(electra) => Self::Electra(electra),
            None => Self::Mlm { next_sentence: objective.next_sentence },
        }
    }

    pub(super) const fn family(self) -> TextFamily {
        match self {
            Self::Mlm { .. } => TextFamily::Bert,
            Self::Electra(_) => TextFamily::Electra,
            Self::Classifier { family, .. } => family,
        }
    }
}

/// The source of a weight's starting values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// Truncated normal, from the `init` seed.
    Normal,
    /// Truncated normal, from the `head` seed.
    HeadNormal,
    Zeros,
    Ones,
}

#[derive(Debug)]
pub(super) struct WeightLayout {
    /// Published names of its parts, which follow each other along the first dimension. Most weights have one part.
    pub(super) names: Vec<String>,
    pub(super) shape: Vec<i64>,
    pub(super) start: Start,
}

/// Weights that are open or closed together.
#[derive(Debug)]
pub(super) struct GroupLayout {
    /// Selects the draws of the starting values. It depends on what the group is and not on its position, so that two
    /// models that differ in one place agree in all others.
    pub(super) number: u64,
    pub(super) weights: Vec<WeightLayout>,
}

/// The weights outside the sublayers first, then those of each sublayer in forward order, then those of the generator's
/// sublayers if there is a generator. Within a group, matrices come before vectors, so that AdamW decays one contiguous
/// range. `vocabulary` is the number of rows in the word embedding; images have none.
pub(super) fn groups(model: &Model, vocabulary: u32, head: Head) -> Vec<GroupLayout> {
    let mut groups = vec![GroupLayout { number: 0, weights: outside(model, vocabulary.into(), head) }];
    groups.extend(sublayers(model, head.family(), 1));
    if let Head::Text(TextHead::Electra(electra)) = head {
        groups.extend(sublayers(&electra.generator(model), Family::Generator, 1 << 32));
    }
    for group in &mut groups {
        group.weights.sort_by_key(|weight| weight.shape.len() < 2);
    }
    groups
}

/// The block (from 0) and half of each sublayer, in forward order.
pub(super) fn places(model: &Model) -> impl Iterator<Item = (u32, Sublayer)> {
    let (mut attention, mut feed_forward) = (0..model.blocks, 0..model.blocks);
    model.sublayers().into_iter().filter_map(move |half| {
        let block = match half {
            Sublayer::Attention => attention.next(),
            Sublayer::FeedForward => feed_forward.next(),
        };
        block.map(|block| (block, half))
    })
}

fn sublayers(model: &Model, family: Family, first: u64) -> impl Iterator<Item = GroupLayout> {
    places(model).map(move |(block, half)| {
        let number = first + 2 * u64::from(block) + u64::from(half == Sublayer::FeedForward);
        GroupLayout { number, weights: sublayer(model, &family.block(block), half) }
    })
}

/// The weights outside the sublayers: embeddings, both ends of the encoder, head. Their order decides their starting
/// values.
fn outside(model: &Model, vocabulary: i64, head: Head) -> Vec<WeightLayout> {
    let mut list = embeddings(model, vocabulary, head);
    list.extend(encoder_ends(model, head.family()));
    match head {
        Head::Text(head) => list.extend(text_head(model, vocabulary, head)),
        Head::Patches { classes: outputs, .. } | Head::Pixels { levels: outputs } => {
            list.extend(linear(LABEL_HEAD, outputs.into(), model.hidden.into(), Start::Normal));
        }
    }
    list
}

fn embeddings(model: &Model, vocabulary: i64, head: Head) -> Vec<WeightLayout> {
    let (e, prefix) = (i64::from(model.embedding_width()), head.family().embeddings());
    let table = |name: &str, rows: i64| matrix(&format!("{prefix}.{name}.weight"), [rows, e], Start::Normal);
    let positions = table("position_embeddings", model.positions.into());
    let mut list = Vec::new();
    match head {
        Head::Text(_) => {
            list.extend([table("word_embeddings", vocabulary), positions, table("token_type_embeddings", 2)]);
        }
        Head::Patches { values, .. } => {
            list.push(matrix(&format!("{prefix}.{CLASS_TOKEN}"), [1, e], Start::Normal));
            list.extend(linear(&format!("{prefix}.{PROJECTION}"), e, i64::from(values), Start::Normal));
            list.push(positions);
        }
        // The row of the start token follows those of the levels.
        Head::Pixels { levels } => list.extend([table("word_embeddings", i64::from(levels) + 1), positions]),
    }
    if model.embedding_norm {
        list.extend(layer_norm(&format!("{prefix}.LayerNorm"), e));
    }
    list
}

/// The weights of an encoder before its first sublayer and after its last.
fn encoder_ends(model: &Model, family: Family) -> Vec<WeightLayout> {
    let (h, e) = (i64::from(model.hidden), i64::from(model.embedding_width()));
    let mut list = Vec::new();
    if h != e {
        list.extend(linear(&format!("{}.embeddings_project", family.prefix()), h, e, Start::Normal));
    }
    if model.norm == Norm::Pre {
        list.extend(layer_norm(&format!("{}.encoder.ln", family.prefix()), h));
    }
    list
}

fn text_head(model: &Model, vocabulary: i64, head: TextHead) -> Vec<WeightLayout> {
    let (h, e) = (i64::from(model.hidden), i64::from(model.embedding_width()));
    let mut list = Vec::new();
    match head {
        TextHead::Mlm { next_sentence } => {
            list.extend(linear("cls.predictions.transform.dense", h, h, Start::Normal));
            list.extend(layer_norm("cls.predictions.transform.LayerNorm", h));
            list.push(vector("cls.predictions.bias", vocabulary, Start::Zeros));
            if next_sentence {
                list.extend(linear("bert.pooler.dense", h, h, Start::Normal));
                list.extend(linear("cls.seq_relationship", 2, h, Start::Normal));
            }
        }
        TextHead::Electra(electra) => {
            list.extend(linear("discriminator_predictions.dense", h, h, Start::Normal));
            list.extend(linear("discriminator_predictions.dense_prediction", 1, h, Start::Normal));
            let generator = electra.generator(model);
            list.extend(encoder_ends(&generator, Family::Generator));
            list.extend(linear("generator_predictions.dense", e, i64::from(generator.hidden), Start::Normal));
            list.extend(layer_norm("generator_predictions.LayerNorm", e));
            list.push(vector("generator_lm_head.bias", vocabulary, Start::Zeros));
        }
        TextHead::Classifier { outputs, family } => {
            let (dense, output) = classifier_names(family);
            list.extend(linear(dense, h, h, Start::HeadNormal));
            list.extend(linear(output, outputs as i64, h, Start::HeadNormal));
        }
    }
    list
}

/// Published names of the two matrices of a classifier.
pub(super) const fn classifier_names(family: TextFamily) -> (&'static str, &'static str) {
    match family {
        TextFamily::Bert => ("bert.pooler.dense", "classifier"),
        TextFamily::Electra => ("classifier.dense", "classifier.out_proj"),
    }
}

/// Names in the embeddings of patches, as in Hugging Face's `ViTModel`.
pub(super) const CLASS_TOKEN: &str = "cls_token";
pub(super) const PROJECTION: &str = "patch_embeddings.projection";
/// Name of the head that predicts the class of an image or the level of an intensity.
pub(super) const LABEL_HEAD: &str = "classifier";

fn sublayer(model: &Model, prefix: &str, half: Sublayer) -> Vec<WeightLayout> {
    let (h, i) = (i64::from(model.hidden), i64::from(model.intermediate));
    let mut list = Vec::new();
    match half {
        Sublayer::Attention => {
            let qkv = |kind: &str| {
                ["query", "key", "value"].map(|part| format!("{prefix}.attention.self.{part}.{kind}")).to_vec()
            };
            list.push(WeightLayout { names: qkv("weight"), shape: vec![3 * h, h], start: Start::Normal });
            list.push(WeightLayout { names: qkv("bias"), shape: vec![3 * h], start: Start::Zeros });
            list.extend(linear(&format!("{prefix}.attention.output.dense"), h, h, Start::Normal));
        }
        Sublayer::FeedForward => {
            list.extend(linear(&format!("{prefix}.intermediate.dense"), i, h, Start::Normal));
            list.extend(linear(&format!("{prefix}.output.dense"), h, i, Start::Normal));
        }
    }
    list.extend(layer_norm(&format!("{prefix}.{}", norm_name(model.norm, half)), h));
    list
}

/// Published name of the LayerNorm of a half of a block.
pub(super) const fn norm_name(norm: Norm, half: Sublayer) -> &'static str {
    match (norm, half) {
        (Norm::Post, Sublayer::Attention) => "attention.output.LayerNorm",
        (Norm::Post, Sublayer::FeedForward) => "output.LayerNorm",
        (Norm::Pre, Sublayer::Attention) => "attention.ln",
        (Norm::Pre, Sublayer::FeedForward) => "ln",
    }
}

fn linear(name: &str, outputs: i64, inputs: i64, start: Start) -> [WeightLayout; 2] {
    [
        matrix(&format!("{name}.weight"), [outputs, inputs], start),
        vector(&format!("{name}.bias"), outputs, Start::Zeros),
    ]
}

fn layer_norm(name: &str, width: i64) -> [WeightLayout; 2] {
    [vector(&format!("{name}.weight"), width, Start::Ones), vector(&format!("{name}.bias"), width, Start::Zeros)]
}

fn matrix(name: &str, shape: [i64; 2], start: Start) -> WeightLayout {
    WeightLayout { names: vec![name.into()], shape: shape.to_vec(), start }
}

fn vector(name: &str, width: i64, start: Start) -> WeightLayout {
    WeightLayout { names: vec![name.into()], shape: vec![width], start }
}
