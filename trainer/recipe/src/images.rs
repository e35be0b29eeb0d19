//! Learning from images instead of text, with the same blocks, gates and schedules on a sequence of patches or of
//! intensities.

use serde::{Deserialize, Serialize};

use crate::problem::Problems;

/// What a model learns from images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum ImageObjective {
    /// The class of an image (ViT, Dosovitskiy et al. 2021). A sequence is a class token and the image's patches, each
    /// projected linearly; the output at the class token predicts the class.
    Classifier {
        /// Side of a patch in pixels; it divides height and width.
        patch: u32,
    },
    /// Every intensity, predicted by a causal encoder (Chen et al. 2020) from the intensities before it: row by row,
    /// the channels of a pixel one after the other (van den Oord et al. 2016). A sequence is a start token and all
    /// intensities but the last.
    Pixels {
        /// Number of equal steps to which the intensities 0..=255 are rounded down.
        levels: u32,
    },
}

/// Height and width in pixels, and values per pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ImageShape {
    pub height: u32,
    pub width: u32,
    pub channels: u32,
}

impl ImageShape {
    /// Number of values in one image.
    pub const fn values(self) -> u64 {
        self.height as u64 * self.width as u64 * self.channels as u64
    }
}

impl std::fmt::Display for ImageShape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} x {} x {}", self.height, self.width, self.channels)
    }
}

impl ImageObjective {
    /// Notes what is wrong for images of any shape.
    pub fn check(&self, problems: &mut Problems) {
        match *self {
            ImageObjective::Classifier { patch } => {
                problems
                    .require((1..=1024).contains(&patch), "patch", || format!("{patch} pixels: 1 to 1024 are allowed"));
            }
            ImageObjective::Pixels { levels } => {
                problems.require((2..=256).contains(&levels), "levels", || {
                    format!("{levels}: 2 to 256 levels are allowed")
                });
            }
        }
    }

    /// Notes what is wrong for images of this shape in sequences of `length` tokens. The current object is the recipe
    /// that holds both.
    pub fn check_shape(&self, shape: ImageShape, length: u32, problems: &mut Problems) {
        match self.tokens(shape) {
            None => problems.within("images", |problems| {
                problems.add("patch", format!("the patch does not divide the height and width of images of {shape}"));
            }),
            Some(1) => problems.add(
                "images",
                format!("images of {shape} are one token, and there is nothing to predict it from: use larger images"),
            ),
            Some(tokens) => problems.require(tokens == u64::from(length), "length", || {
                format!("{length} tokens: images of {shape} make sequences of {tokens}, choose that length")
            }),
        }
    }

    /// Number of outputs of the head, for images of `classes` classes.
    pub const fn outputs(&self, classes: u32) -> u32 {
        match *self {
            ImageObjective::Classifier { .. } => classes,
            ImageObjective::Pixels { levels } => levels,
        }
    }

    /// Length of the sequence that an image becomes; `None` if whole patches do not cover it.
    pub fn tokens(&self, shape: ImageShape) -> Option<u64> {
        match *self {
            ImageObjective::Classifier { patch } => {
                let ImageShape { height, width, .. } = shape;
                let covered = patch > 0 && height.is_multiple_of(patch) && width.is_multiple_of(patch);
                covered.then(|| 1 + u64::from(height / patch) * u64::from(width / patch))
            }
            ImageObjective::Pixels { .. } => Some(shape.values()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_is_as_long_as_the_image_has_patches_or_intensities() {
        let digit = ImageShape { height: 28, width: 28, channels: 1 };
        let photo = ImageShape { height: 32, width: 32, channels: 3 };
        assert_eq!(ImageObjective::Classifier { patch: 7 }.tokens(digit), Some(17));
        assert_eq!(ImageObjective::Classifier { patch: 4 }.tokens(photo), Some(65));
        assert_eq!(ImageObjective::Classifier { patch: 5 }.tokens(digit), None);
        assert_eq!(ImageObjective::Pixels { levels: 16 }.tokens(photo), Some(3072));
    }

    #[test]
    fn a_length_other_than_that_of_the_images_is_refused_and_the_right_one_is_named() {
        let mut problems = Problems::default();
        let digit = ImageShape { height: 28, width: 28, channels: 1 };
        ImageObjective::Classifier { patch: 7 }.check_shape(digit, 17, &mut problems);
        ImageObjective::Classifier { patch: 7 }.check_shape(digit, 16, &mut problems);
        ImageObjective::Classifier { patch: 5 }.check_shape(digit, 16, &mut problems);
        let found = problems.into_vec();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].pointer, "/length");
        assert!(found[0].message.contains("sequences of 17"), "{found:?}");
        assert_eq!(found[1].pointer, "/images/patch");
    }
}
