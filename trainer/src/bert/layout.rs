//! Which weights a model has: published names, shapes and starting values, in groups that are trained together.
//!
//! Post-LN has the names of Hugging Face's `BertFor...`, Pre-LN those of its `MegatronBertFor...`, replaced-token detection
//! those of `ElectraFor...`. Images have no published twin: the blocks' names are BERT's under another prefix.

use recipe::{Electra, Images, Model, Norm, Pretrain, Sublayer};

/// Whose names the encoder's weights have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Bert,
    Electra,
    /// ELECTRA's generator. Its embeddings are the model's.
    Generator,
    /// Images in patches.
    Patches,
    /// Images, intensity by intensity.
    Pixels,
}

impl Family {
    /// The family of the encoder that `recipe` trains.
    pub const fn of(recipe: &Pretrain) -> Self {
        match recipe.images {
            Some(Images::Classifier { .. }) => Self::Patches,
            Some(Images::Pixels { .. }) => Self::Pixels,
            None if recipe.objective.electra.is_some() => Self::Electra,
            None => Self::Bert,
        }
    }

    /// Whether a token sees none that comes later.
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

    /// The number of an encoder's first dropout site; its others follow.
    pub(super) const fn first_site(self) -> u32 {
        match self {
            Self::Bert | Self::Electra | Self::Patches | Self::Pixels => 0,
            Self::Generator => 1 << 16,
        }
    }

    /// The number, in [`groups`], of the first sublayer of the encoder beside or of `model`.
    pub(super) const fn first_group(self, model: &Model) -> usize {
        match self {
            Self::Bert | Self::Electra | Self::Patches | Self::Pixels => 1,
            // As deep as the model, whose sublayers come first.
            Self::Generator => 1 + 2 * model.blocks as usize,
        }
    }

    pub(super) fn block(self, index: u32) -> String {
        format!("{}.encoder.layer.{index}", self.prefix())
    }
}

/// The number of the first dropout site of what stands on the encoder.
pub(super) const HEAD_SITE: u32 = 1 << 17;

/// What stands on the encoder.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Head {
    Mlm {
        next_sentence: bool,
    },
    /// The detector of replaced tokens, and beside it the whole generator.
    Electra(Electra),
    /// For so many classes, or 1 for a score, in the way of the encoder's family.
    Classifier {
        outputs: usize,
        family: Family,
    },
    /// The class of an image, from its first token; patches have so many values.
    Patches {
        values: u32,
        classes: u32,
    },
    /// The level of each intensity.
    Pixels {
        levels: u32,
    },
}

impl Head {
    /// The plain MLM head.
    pub const MLM: Head = Head::Mlm { next_sentence: false };

    /// The head of the objective of `recipe`, which is of text.
    pub fn of(recipe: &Pretrain) -> Self {
        match recipe.objective.electra {
            Some(electra) => Self::Electra(electra),
            None => Self::Mlm { next_sentence: recipe.objective.next_sentence },
        }
    }

    pub(super) const fn family(self) -> Family {
        match self {
            Self::Mlm { .. } => Family::Bert,
            Self::Electra(_) => Family::Electra,
            Self::Classifier { family, .. } => family,
            Self::Patches { .. } => Family::Patches,
            Self::Pixels { .. } => Family::Pixels,
        }
    }
}

/// From what a weight starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// Truncated normal, from the `init` seed.
    Normal,
    /// Truncated normal, from the `head` seed.
    HeadNormal,
    Zeros,
    Ones,
}

/// A weight to be.
#[derive(Debug)]
pub(super) struct Planned {
    /// Published names of its parts, which lie one after the other along the first dimension. Most have one part.
    pub(super) parts: Vec<String>,
    pub(super) shape: Vec<i64>,
    pub(super) start: Start,
}

/// A group to be: weights that are open or closed together.
#[derive(Debug)]
pub(super) struct PlannedGroup {
    /// Which draws its starting values come from. Goes with what the group is and not with where it stands, so that models
    /// that differ in one place agree in all others.
    pub(super) number: u64,
    pub(super) weights: Vec<Planned>,
}

/// The weights outside the sublayers first, then those of each sublayer in forward order; after them, where there is a
/// generator, those of its sublayers. Within a group, matrices come before vectors, so that what AdamW decays is one
/// piece.
pub(super) fn groups(model: &Model, vocabulary: u32, head: Head) -> Vec<PlannedGroup> {
    let mut groups = vec![PlannedGroup { number: 0, weights: outside(model, i64::from(vocabulary), head) }];
    groups.extend(sublayers(model, head.family(), 1));
    if let Head::Electra(electra) = head {
        groups.extend(sublayers(&electra.generator(model), Family::Generator, 1 << 32));
    }
    for group in &mut groups {
        group.weights.sort_by_key(|planned| planned.shape.len() < 2);
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

fn sublayers(model: &Model, family: Family, first: u64) -> impl Iterator<Item = PlannedGroup> {
    places(model).map(move |(block, half)| {
        let number = first + 2 * u64::from(block) + u64::from(half == Sublayer::FeedForward);
        PlannedGroup { number, weights: sublayer(model, &family.block(block), half) }
    })
}

fn outside(model: &Model, vocabulary: i64, head: Head) -> Vec<Planned> {
    let (h, e) = (i64::from(model.hidden), i64::from(model.embedding_width()));
    let family = head.family();
    let embeddings = family.embeddings();
    let table = |what: &str, rows: i64| matrix(&format!("{embeddings}.{what}.weight"), [rows, e], Start::Normal);
    let mut list = Vec::new();
    match head {
        Head::Patches { values, .. } => {
            list.push(matrix(&format!("{embeddings}.{CLASS_TOKEN}"), [1, e], Start::Normal));
            list.extend(linear(&format!("{embeddings}.{PROJECTION}"), e, i64::from(values), Start::Normal));
            list.push(table("position_embeddings", model.positions.into()));
        }
        // The start token comes after the levels.
        Head::Pixels { levels } => {
            list.push(table("word_embeddings", i64::from(levels) + 1));
            list.push(table("position_embeddings", model.positions.into()));
        }
        Head::Mlm { .. } | Head::Electra(_) | Head::Classifier { .. } => {
            list.push(table("word_embeddings", vocabulary));
            list.push(table("position_embeddings", model.positions.into()));
            list.push(table("token_type_embeddings", 2));
        }
    }
    if model.embedding_norm {
        list.extend(layer_norm(&format!("{embeddings}.LayerNorm"), e));
    }
    list.extend(around(model, family));
    match head {
        Head::Mlm { next_sentence } => {
            list.extend(linear("cls.predictions.transform.dense", h, h, Start::Normal));
            list.extend(layer_norm("cls.predictions.transform.LayerNorm", h));
            list.push(vector("cls.predictions.bias", vocabulary, Start::Zeros));
            if next_sentence {
                list.extend(linear("bert.pooler.dense", h, h, Start::Normal));
                list.extend(linear("cls.seq_relationship", 2, h, Start::Normal));
            }
        }
        Head::Electra(electra) => {
            list.extend(linear("discriminator_predictions.dense", h, h, Start::Normal));
            list.extend(linear("discriminator_predictions.dense_prediction", 1, h, Start::Normal));
            let generator = electra.generator(model);
            list.extend(around(&generator, Family::Generator));
            list.extend(linear("generator_predictions.dense", e, i64::from(generator.hidden), Start::Normal));
            list.extend(layer_norm("generator_predictions.LayerNorm", e));
            list.push(vector("generator_lm_head.bias", vocabulary, Start::Zeros));
        }
        Head::Classifier { outputs, family } => {
            let (dense, output) = classifier_names(family);
            list.extend(linear(dense, h, h, Start::HeadNormal));
            list.extend(linear(output, outputs as i64, h, Start::HeadNormal));
        }
        Head::Patches { classes, .. } => list.extend(linear(LABEL_HEAD, classes.into(), h, Start::Normal)),
        Head::Pixels { levels } => list.extend(linear(LABEL_HEAD, levels.into(), h, Start::Normal)),
    }
    list
}

/// Published names of the two matrices of a classifier of text.
pub(super) fn classifier_names(family: Family) -> (&'static str, &'static str) {
    match family {
        Family::Bert => ("bert.pooler.dense", "classifier"),
        Family::Electra | Family::Generator => ("classifier.dense", "classifier.out_proj"),
        Family::Patches | Family::Pixels => unreachable!("GLUE is text"),
    }
}

/// Names in the embeddings of patches, as in Hugging Face's `ViTModel`.
pub(super) const CLASS_TOKEN: &str = "cls_token";
pub(super) const PROJECTION: &str = "patch_embeddings.projection";
/// What says the class of an image, or the level of an intensity.
pub(super) const LABEL_HEAD: &str = "classifier";

/// What an encoder has before its first sublayer and after its last.
fn around(model: &Model, family: Family) -> Vec<Planned> {
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

fn sublayer(model: &Model, prefix: &str, half: Sublayer) -> Vec<Planned> {
    let (h, i) = (i64::from(model.hidden), i64::from(model.intermediate));
    let mut list = Vec::new();
    match half {
        Sublayer::Attention => {
            let qkv = |what: &str| {
                ["query", "key", "value"].map(|part| format!("{prefix}.attention.self.{part}.{what}")).to_vec()
            };
            list.push(Planned { parts: qkv("weight"), shape: vec![3 * h, h], start: Start::Normal });
            list.push(Planned { parts: qkv("bias"), shape: vec![3 * h], start: Start::Zeros });
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

/// Published name of the LayerNorm that belongs to a half of a block.
pub(super) const fn norm_name(norm: Norm, half: Sublayer) -> &'static str {
    match (norm, half) {
        (Norm::Post, Sublayer::Attention) => "attention.output.LayerNorm",
        (Norm::Post, Sublayer::FeedForward) => "output.LayerNorm",
        (Norm::Pre, Sublayer::Attention) => "attention.ln",
        (Norm::Pre, Sublayer::FeedForward) => "ln",
    }
}

fn linear(name: &str, outputs: i64, inputs: i64, start: Start) -> [Planned; 2] {
    [
        matrix(&format!("{name}.weight"), [outputs, inputs], start),
        vector(&format!("{name}.bias"), outputs, Start::Zeros),
    ]
}

fn layer_norm(name: &str, width: i64) -> [Planned; 2] {
    [vector(&format!("{name}.weight"), width, Start::Ones), vector(&format!("{name}.bias"), width, Start::Zeros)]
}

fn matrix(name: &str, shape: [i64; 2], start: Start) -> Planned {
    Planned { parts: vec![name.into()], shape: shape.to_vec(), start }
}

fn vector(name: &str, width: i64, start: Start) -> Planned {
    Planned { parts: vec![name.into()], shape: vec![width], start }
}
