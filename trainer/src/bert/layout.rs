//! Which weights a model has: published names, shapes and starting values, in groups that are trained together.
//!
//! Post-LN has the names of Hugging Face's `BertFor...`, Pre-LN those of its `MegatronBertFor...`.

use recipe::{Model, Norm};

use super::block::norm_names;

/// What stands on the encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    Mlm,
    /// Pooler and classifier with so many outputs.
    Classifier(usize),
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

/// The weights outside the blocks first, then those of each block, first block first: a group is open or closed as a
/// whole. Within a group, matrices come before vectors, so that what AdamW decays is one piece.
pub(super) fn groups(model: &Model, vocabulary: u32, head: Head) -> Vec<Vec<Planned>> {
    let mut groups = vec![outside(model, i64::from(vocabulary), head)];
    groups.extend((0..model.blocks).map(|index| block(model, index)));
    for group in &mut groups {
        group.sort_by_key(|planned| planned.shape.len() < 2);
    }
    groups
}

fn outside(model: &Model, vocabulary: i64, head: Head) -> Vec<Planned> {
    let h = i64::from(model.hidden);
    let mut list = vec![
        matrix("bert.embeddings.word_embeddings.weight", [vocabulary, h], Start::Normal),
        matrix("bert.embeddings.position_embeddings.weight", [i64::from(model.positions), h], Start::Normal),
        matrix("bert.embeddings.token_type_embeddings.weight", [2, h], Start::Normal),
    ];
    if model.embedding_norm {
        list.extend(layer_norm("bert.embeddings.LayerNorm", h));
    }
    if model.norm == Norm::Pre {
        list.extend(layer_norm("bert.encoder.ln", h));
    }
    match head {
        Head::Mlm => {
            list.extend(linear("cls.predictions.transform.dense", h, h, Start::Normal));
            list.extend(layer_norm("cls.predictions.transform.LayerNorm", h));
            list.push(vector("cls.predictions.bias", vocabulary, Start::Zeros));
        }
        Head::Classifier(outputs) => {
            list.extend(linear("bert.pooler.dense", h, h, Start::HeadNormal));
            list.extend(linear("classifier", outputs as i64, h, Start::HeadNormal));
        }
    }
    list
}

fn block(model: &Model, index: u32) -> Vec<Planned> {
    let (h, i) = (i64::from(model.hidden), i64::from(model.intermediate));
    let prefix = format!("bert.encoder.layer.{index}");
    let (attention_norm, feed_forward_norm) = norm_names(model.norm);
    let qkv =
        |what: &str| ["query", "key", "value"].map(|part| format!("{prefix}.attention.self.{part}.{what}")).to_vec();
    let mut list = vec![
        Planned { parts: qkv("weight"), shape: vec![3 * h, h], start: Start::Normal },
        Planned { parts: qkv("bias"), shape: vec![3 * h], start: Start::Zeros },
    ];
    list.extend(linear(&format!("{prefix}.attention.output.dense"), h, h, Start::Normal));
    list.extend(layer_norm(&format!("{prefix}.{attention_norm}"), h));
    list.extend(linear(&format!("{prefix}.intermediate.dense"), i, h, Start::Normal));
    list.extend(linear(&format!("{prefix}.output.dense"), h, i, Start::Normal));
    list.extend(layer_norm(&format!("{prefix}.{feed_forward_norm}"), h));
    list
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
