//! Shape and norm placement of the encoder.

use serde::{Deserialize, Serialize};

use crate::json::default_true;
use crate::problem::Problems;

/// The place of LayerNorm in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Norm {
    /// After each residual sum (BERT as published).
    Post,
    /// Before each sublayer, and once more after the last block.
    Pre,
}

/// Depth and widths of an encoder. The named sizes are those of the published BERT models (Turc et al. 2019, Devlin et
/// al. 2019), and `narrow`, which has the depth of `base` at a width that trains on two CPU cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Size {
    pub blocks: u32,
    pub hidden: u32,
    pub heads: u32,
    pub intermediate: u32,
}

impl Size {
    pub const NAMED: [(&'static str, Size); 7] = [
        ("tiny", Size { blocks: 2, hidden: 128, heads: 2, intermediate: 512 }),
        ("mini", Size { blocks: 4, hidden: 256, heads: 4, intermediate: 1024 }),
        ("small", Size { blocks: 4, hidden: 512, heads: 8, intermediate: 2048 }),
        ("medium", Size { blocks: 8, hidden: 512, heads: 8, intermediate: 2048 }),
        ("base", Size { blocks: 12, hidden: 768, heads: 12, intermediate: 3072 }),
        ("large", Size { blocks: 24, hidden: 1024, heads: 16, intermediate: 4096 }),
        ("narrow", Size { blocks: 12, hidden: 128, heads: 2, intermediate: 512 }),
    ];

    /// The size of that name, if there is one.
    pub fn named(name: &str) -> Option<Size> {
        Self::NAMED.iter().find(|(known, _)| *known == name).map(|(_, size)| *size)
    }
}

/// One half of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sublayer {
    Attention,
    FeedForward,
}

/// Everything that fixes the encoder's function, given its weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    pub blocks: u32,
    pub hidden: u32,
    pub heads: u32,
    pub intermediate: u32,
    /// Rows of the learned position table: the longest sequence.
    #[serde(default = "default_positions")]
    pub positions: u32,
    pub norm: Norm,
    /// The sublayers in forward order, `s` for attention and `f` for feed-forward, as many of each as there are blocks.
    /// Absent: `sfsf...`. A sandwich (Press et al. 2020) of 4 blocks with k = 1 is `ssfsfsff`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<String>,
    /// Width of the embeddings, which are projected to `hidden` (ELECTRA). Absent: `hidden`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding: Option<u32>,
    /// True if LayerNorm follows the sum of the embeddings, as Post-LN requires.
    #[serde(default = "default_true")]
    pub embedding_norm: bool,
    /// Probability of dropout on the embeddings and on the output of each sublayer.
    #[serde(default = "default_dropout")]
    pub dropout: f64,
    /// Probability of dropout on the attention weights.
    #[serde(default = "default_dropout")]
    pub attention_dropout: f64,
}

/// Epsilon of every LayerNorm.
pub const LAYER_NORM_EPSILON: f64 = 1e-12;
/// Standard deviation of the truncated normal distribution of initial weight matrices.
pub const INIT_STANDARD_DEVIATION: f64 = 0.02;

fn default_positions() -> u32 {
    512
}
fn default_dropout() -> f64 {
    0.1
}

impl Model {
    /// A model of this size with every other setting at its default.
    pub fn of_size(size: Size, norm: Norm) -> Self {
        Self {
            blocks: size.blocks,
            hidden: size.hidden,
            heads: size.heads,
            intermediate: size.intermediate,
            positions: default_positions(),
            norm,
            order: None,
            embedding: None,
            embedding_norm: true,
            dropout: default_dropout(),
            attention_dropout: default_dropout(),
        }
    }

    pub fn check(&self, problems: &mut Problems) {
        let between = |value: u32, low: u32, high: u32| (low..=high).contains(&value);
        problems.require(between(self.blocks, 1, 1024), "blocks", || {
            format!("{} blocks: 1 to 1024 are allowed", self.blocks)
        });
        problems.require(between(self.hidden, 1, 65_536), "hidden", || {
            format!("width {}: 1 to 65536 are allowed", self.hidden)
        });
        problems.require(between(self.intermediate, 1, 262_144), "intermediate", || {
            format!("feed-forward width {}: 1 to 262144 are allowed", self.intermediate)
        });
        problems.require(self.heads > 0 && self.hidden.is_multiple_of(self.heads), "heads", || {
            format!("{} heads: choose a number that divides the width of {}", self.heads, self.hidden)
        });
        problems.require(between(self.positions, 1, 65_536), "positions", || {
            format!("{} positions: 1 to 65536 are allowed", self.positions)
        });
        problems.require(self.norm == Norm::Pre || self.embedding_norm, "embedding_norm", || {
            "a Post-LN model needs LayerNorm after its embeddings: leave `embedding_norm` out or set it to true".into()
        });
        if let Some(order) = &self.order {
            let count = |letter| order.chars().filter(|&c| c == letter).count();
            let blocks = self.blocks as usize;
            problems.require(
                count('s') == blocks && count('f') == blocks && order.len() == 2 * blocks,
                "order",
                || {
                    format!(
                        "{order:?}: write s {blocks} times and f {blocks} times, one of each per block, in any order"
                    )
                },
            );
        }
        if let Some(embedding) = self.embedding {
            problems.require(between(embedding, 1, 65_536), "embedding", || {
                format!("width {embedding}: 1 to 65536 are allowed")
            });
        }
        for (field, value) in [("dropout", self.dropout), ("attention_dropout", self.attention_dropout)] {
            problems.require((0.0..1.0).contains(&value), field, || {
                format!("{value}: choose a probability of at least 0 and below 1")
            });
        }
    }

    /// The sublayers in forward order.
    pub fn sublayers(&self) -> Vec<Sublayer> {
        match &self.order {
            None => [Sublayer::Attention, Sublayer::FeedForward].repeat(self.blocks as usize),
            Some(order) => {
                order.chars().map(|c| if c == 's' { Sublayer::Attention } else { Sublayer::FeedForward }).collect()
            }
        }
    }

    /// Width of the embeddings.
    pub fn embedding_width(&self) -> u32 {
        self.embedding.unwrap_or(self.hidden)
    }

    /// The numbers that are trained, with an MLM head over `vocabulary` tokens whose matrix is that of the embeddings.
    pub fn parameters(&self, vocabulary: u64) -> u64 {
        let [hidden, embedding, intermediate] = [self.hidden, self.embedding_width(), self.intermediate].map(u64::from);
        let norm = 2 * hidden;
        let linear = |from: u64, to: u64| (from + 1) * to;
        let rows = vocabulary + u64::from(self.positions) + 2;
        let projection = if self.embedding.is_some() { linear(embedding, hidden) } else { 0 };
        let embeddings = rows * embedding + projection + if self.embedding_norm { 2 * embedding } else { 0 };
        let block = 4 * linear(hidden, hidden) + linear(hidden, intermediate) + linear(intermediate, hidden) + 2 * norm;
        let last_norm = if self.norm == Norm::Pre { norm } else { 0 };
        let head = linear(hidden, embedding) + 2 * embedding + vocabulary;
        embeddings + u64::from(self.blocks) * block + last_norm + head
    }

    /// Multiply-add FLOPs (2 per multiply-add) of one sublayer's forward pass over one sequence of `length` tokens: the
    /// four projections and the two attention products, or the feed-forward pair.
    pub fn sublayer_flops(&self, sublayer: Sublayer, length: u64) -> f64 {
        let (n, h, f) = (length as f64, f64::from(self.hidden), f64::from(self.intermediate));
        match sublayer {
            Sublayer::Attention => 8.0 * n * h * h + 4.0 * n * n * h,
            Sublayer::FeedForward => 4.0 * n * h * f,
        }
    }

    /// FLOPs of both halves of a block, as [`Model::sublayer_flops`] counts them.
    pub fn block_flops(&self, length: u64) -> f64 {
        self.sublayer_flops(Sublayer::Attention, length) + self.sublayer_flops(Sublayer::FeedForward, length)
    }

    /// FLOPs of the MLM head (transform and tied decoder) for one position.
    pub fn head_flops(&self, vocabulary: u64) -> f64 {
        let h = f64::from(self.hidden);
        2.0 * (h * h + h * vocabulary as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_named_size_is_valid_with_both_norms() {
        for (name, size) in Size::NAMED {
            for norm in [Norm::Post, Norm::Pre] {
                let mut problems = Problems::default();
                Model::of_size(size, norm).check(&mut problems);
                assert_eq!(problems.into_vec(), [], "{name} {norm:?}");
            }
        }
    }

    #[test]
    fn post_ln_without_its_embedding_norm_is_refused() {
        let (_, size) = Size::NAMED[0];
        let mut problems = Problems::default();
        Model { embedding_norm: false, ..Model::of_size(size, Norm::Post) }.check(&mut problems);
        assert_eq!(problems.into_vec()[0].pointer, "/embedding_norm");
    }
}
