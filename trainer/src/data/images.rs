//! Images as sequences, with what is to be predicted of them.

use images::ImageSet;
use recipe::ImageShape;

use super::batch::PretrainBatch;

/// The images of `set`, which have this shape, at `rows`, as `rule` has them learned.
pub fn batch(
    set: &ImageSet,
    shape: ImageShape,
    rows: impl IntoIterator<Item = usize>,
    rule: recipe::Images,
) -> PretrainBatch {
    let mut batch = PretrainBatch::default();
    for (place, row) in (0..).zip(rows) {
        let (values, class) = set.image(row);
        match rule {
            recipe::Images::Classifier { patch } => {
                push_patches(&mut batch.patches, values, shape, patch as usize);
                let length = rule.tokens(shape).unwrap_or_default() as i64;
                batch.positions.push(place * length);
                batch.labels.push(i64::from(class));
            }
            recipe::Images::Pixels { levels } => {
                let level = |&value: &u8| i64::from(u32::from(value) * levels / 256);
                // Shown are the start token, whose id follows the levels, and all levels but the last.
                batch.ids.push(i64::from(levels));
                batch.ids.extend(values[..values.len() - 1].iter().map(level));
                batch.labels.extend(values.iter().map(level));
            }
        }
    }
    batch
}

/// Appends the patches of an image `[height, width, channels]`, row by row, each as `[channels, patch, patch]`, the order of
/// a convolution's weights. Intensities become numbers from -1 to 1.
fn push_patches(patches: &mut Vec<f32>, values: &[u8], shape: ImageShape, patch: usize) {
    let [height, width, channels] = [shape.height, shape.width, shape.channels].map(|size| size as usize);
    for top in (0..height).step_by(patch) {
        for left in (0..width).step_by(patch) {
            for channel in 0..channels {
                for y in top..top + patch {
                    let at = |x: usize| values[(y * width + x) * channels + channel];
                    patches.extend((left..left + patch).map(|x| f32::from(at(x)) / 127.5 - 1.0));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_has_its_channels_one_after_the_other() {
        // Two by four pixels of two channels: channel 0 counts from 0, channel 1 from 100.
        let values: Vec<u8> = (0..8).flat_map(|pixel| [pixel, 100 + pixel]).collect();
        let mut patches = Vec::new();
        push_patches(&mut patches, &values, ImageShape { height: 2, width: 4, channels: 2 }, 2);
        let intensities: Vec<i32> = patches.iter().map(|value| ((value + 1.0) * 127.5).round() as i32).collect();
        assert_eq!(intensities, [0, 1, 4, 5, 100, 101, 104, 105, 2, 3, 6, 7, 102, 103, 106, 107]);
    }

    #[test]
    fn intensities_are_shown_one_place_late() {
        let shape = ImageShape { height: 2, width: 2, channels: 1 };
        let set = ImageSet::new(vec![0, 63, 64, 255], vec![1]);
        let batch = super::batch(&set, shape, [0], recipe::Images::Pixels { levels: 4 });
        assert_eq!((batch.ids, batch.labels), (vec![4, 0, 0, 1], vec![0, 0, 1, 3]));
        let batch = super::batch(&set, shape, [0, 0], recipe::Images::Classifier { patch: 1 });
        assert_eq!((batch.positions, batch.labels), (vec![0, 5], vec![1, 1]));
        assert_eq!(batch.patches.len(), 8);
    }
}
