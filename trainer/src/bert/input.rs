//! The input of an encoder.

use tch::{Kind, Tensor};

/// A batch of sequences.
#[derive(Debug)]
pub struct Input {
    /// Token ids `[B, S]`, int64; for images in patches, the values of the patches `[B, S - 1, D]`, float32.
    pub shown: Tensor,
    /// `[B, S]`, int64: the segment of each token. None if all tokens belong to the first segment.
    pub types: Option<Tensor>,
    /// `[B, S]`, true at tokens, false at padding. None if there is no padding.
    pub(super) mask: Option<Tensor>,
}

impl Input {
    /// Sequences without padding; `types` `[B, S]`, int64, if they have two segments.
    pub fn packed(ids: Tensor, types: Option<Tensor>) -> Self {
        Self { shown: ids, types, mask: None }
    }

    /// `patches` `[B, S - 1, D]`, float32: images without the class token.
    pub fn patches(patches: Tensor) -> Self {
        Self { shown: patches, types: None, mask: None }
    }

    /// `ids`, `types` and `mask` `[B, S]`, int64; `mask` is 1 at tokens and 0 at padding.
    pub fn padded(ids: Tensor, types: Tensor, mask: &Tensor) -> Self {
        Self { shown: ids, types: Some(types), mask: Some(mask.to_kind(Kind::Bool)) }
    }
}
