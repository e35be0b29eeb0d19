//! The batches of pre-training, one kind for each way to learn from text or images. Plain numbers, row by row.

/// Texts in which some tokens are masked.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MaskedBatch {
    /// Token ids as the model sees them, `[batch * length]`.
    pub ids: Vec<i64>,
    /// Flat indexes of the masked tokens, ascending, `[M]`.
    pub positions: Vec<i64>,
    /// The original id at each of the positions, `[M]`.
    pub labels: Vec<i64>,
}

/// Masked pairs of texts, `[CLS] A [SEP] B [SEP]`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PairBatch {
    pub masked: MaskedBatch,
    /// 0 in the first segment, 1 in the second, `[batch * length]`.
    pub types: Vec<i64>,
    /// 0 if B follows A in the text, 1 if it is taken from another sequence, `[batch]`.
    pub apart: Vec<i64>,
}

/// Images as patches.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PatchBatch {
    /// Intensities from -1 to 1 of all patches, `[batch * (length - 1) * D]` for patches of D values. The class token,
    /// which comes first in each sequence, has none.
    pub values: Vec<f32>,
    /// Class of each image, `[batch]`.
    pub classes: Vec<i64>,
}

/// Images as sequences of intensities.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PixelBatch {
    /// The start token, then all levels of the image except the last, `[batch * length]`.
    pub ids: Vec<i64>,
    /// The level to predict at each token, `[batch * length]`.
    pub levels: Vec<i64>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum PretrainBatch {
    Masked(MaskedBatch),
    Pairs(PairBatch),
    Patches(PatchBatch),
    Pixels(PixelBatch),
}

impl PretrainBatch {
    /// Number of predictions that the loss is a mean over: masked tokens, images or intensities.
    pub fn label_count(&self) -> usize {
        match self {
            Self::Masked(batch) | Self::Pairs(PairBatch { masked: batch, .. }) => batch.labels.len(),
            Self::Patches(batch) => batch.classes.len(),
            Self::Pixels(batch) => batch.levels.len(),
        }
    }

    /// Number of sequences, each of `length` tokens.
    pub fn sequences(&self, length: usize) -> usize {
        match self {
            Self::Masked(batch) | Self::Pairs(PairBatch { masked: batch, .. }) => batch.ids.len() / length,
            Self::Patches(batch) => batch.classes.len(),
            Self::Pixels(batch) => batch.ids.len() / length,
        }
    }

    /// # Panics
    /// If the batch is not one of masked texts. An objective gets the batches of its own recipe.
    pub fn masked(&self) -> &MaskedBatch {
        match self {
            Self::Masked(batch) => batch,
            other => panic!("a batch of masked texts was expected, not {other:?}"),
        }
    }

    /// # Panics
    /// If the batch is not one of pairs.
    pub fn pairs(&self) -> &PairBatch {
        match self {
            Self::Pairs(batch) => batch,
            other => panic!("a batch of pairs was expected, not {other:?}"),
        }
    }

    /// # Panics
    /// If the batch is not one of patches.
    pub fn patches(&self) -> &PatchBatch {
        match self {
            Self::Patches(batch) => batch,
            other => panic!("a batch of patches was expected, not {other:?}"),
        }
    }

    /// # Panics
    /// If the batch is not one of intensities.
    pub fn pixels(&self) -> &PixelBatch {
        match self {
            Self::Pixels(batch) => batch,
            other => panic!("a batch of intensities was expected, not {other:?}"),
        }
    }
}
