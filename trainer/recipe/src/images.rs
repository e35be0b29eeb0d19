//! Images in place of text: the same blocks, gates and schedules on a sequence of patches or of intensities.

use serde::{Deserialize, Serialize};

use crate::problem::Problems;

/// What is learned from images. Everything about the blocks is as with text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Images {
    /// The class of an image (ViT, Dosovitskiy et al. 2021): a sequence is a class token and the image's patches, each
    /// projected linearly; the class is read off the first token.
    Classifier {
        /// Side of a patch in pixels; divides height and width.
        patch: u32,
    },
    /// Every intensity from those before it, row by row, the channels of a pixel one after the other (van den Oord et al.
    /// 2016), by a causal encoder (Chen et al. 2020): a sequence is a start token and all intensities but the last.
    Pixels {
        /// Intensities are rounded down to so many equal steps of 0..=255.
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
    /// Values of one image.
    pub const fn values(self) -> u64 {
        self.height as u64 * self.width as u64 * self.channels as u64
    }
}

impl std::fmt::Display for ImageShape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} x {} x {}", self.height, self.width, self.channels)
    }
}

impl Images {
    /// What is wrong whatever the images are.
    pub fn check(&self, problems: &mut Problems) {
        match *self {
            Images::Classifier { patch } => {
                problems
                    .require((1..=1024).contains(&patch), "patch", || format!("{patch} pixels: 1 to 1024 are allowed"));
            }
            Images::Pixels { levels } => {
                problems.require((2..=256).contains(&levels), "levels", || {
                    format!("{levels}: 2 to 256 levels are allowed")
                });
            }
        }
    }

    /// What is wrong about images of this shape in sequences of `length`; pointers start at the recipe that holds both.
    pub fn check_shape(&self, shape: ImageShape, length: u32, problems: &mut Problems) {
        match self.tokens(shape) {
            None => problems.within("images", |problems| {
                problems.add("patch", format!("does not divide the height and width of images of {shape}"));
            }),
            Some(1) => problems.add("images", format!("images of {shape} are one token, which has none before it")),
            Some(tokens) => problems.require(tokens == u64::from(length), "length", || {
                format!("{length} tokens: images of {shape} make sequences of {tokens}")
            }),
        }
    }

    /// Numbers that the head tells apart, of images of so many classes.
    pub const fn outputs(&self, classes: u32) -> u32 {
        match *self {
            Images::Classifier { .. } => classes,
            Images::Pixels { levels } => levels,
        }
    }

    /// Length of the sequence that an image becomes; `None` where patches do not cover it.
    pub fn tokens(&self, shape: ImageShape) -> Option<u64> {
        match *self {
            Images::Classifier { patch } => {
                let ImageShape { height, width, .. } = shape;
                let covered = patch > 0 && height.is_multiple_of(patch) && width.is_multiple_of(patch);
                covered.then(|| 1 + u64::from(height / patch) * u64::from(width / patch))
            }
            Images::Pixels { .. } => Some(shape.values()),
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
        assert_eq!(Images::Classifier { patch: 7 }.tokens(digit), Some(17));
        assert_eq!(Images::Classifier { patch: 4 }.tokens(photo), Some(65));
        assert_eq!(Images::Classifier { patch: 5 }.tokens(digit), None);
        assert_eq!(Images::Pixels { levels: 16 }.tokens(photo), Some(3072));
    }

    #[test]
    fn a_length_that_is_not_that_of_the_images_is_refused_with_the_right_one() {
        let mut problems = Problems::default();
        let digit = ImageShape { height: 28, width: 28, channels: 1 };
        Images::Classifier { patch: 7 }.check_shape(digit, 17, &mut problems);
        Images::Classifier { patch: 7 }.check_shape(digit, 16, &mut problems);
        Images::Classifier { patch: 5 }.check_shape(digit, 16, &mut problems);
        let found = problems.into_vec();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].pointer, "/length");
        assert!(found[0].message.contains("sequences of 17"), "{found:?}");
        assert_eq!(found[1].pointer, "/images/patch");
    }
}
