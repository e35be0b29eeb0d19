//! Images as sequences with labels.

use images::ImageSet;
use recipe::ImageShape;

use super::pretrain_batch::{PatchBatch, PixelBatch, PretrainBatch};

/// A batch of the images of `set` at `rows`, in the form that `rule` learns from. All images have this `shape`.
pub fn batch(
    set: &ImageSet,
    shape: ImageShape,
    rows: impl IntoIterator<Item = usize>,
    rule: recipe::ImageObjective,
) -> PretrainBatch {
    match rule {
        recipe::ImageObjective::Classifier { patch } => {
            let mut batch = PatchBatch::default();
            for row in rows {
                let (values, class) = set.image(row);
                push_patches(&mut batch.values, values, shape, patch as usize);
                batch.classes.push(i64::from(class));
            }
            PretrainBatch::Patches(batch)
        }
        recipe::ImageObjective::Pixels { levels } => {
            let mut batch = PixelBatch::default();
            let level = |&value: &u8| i64::from(u32::from(value) * levels / 256);
            for row in rows {
                let (values, _) = set.image(row);
                // The id of the start token follows the levels.
                batch.ids.push(i64::from(levels));
                batch.ids.extend(values[..values.len() - 1].iter().map(level));
                batch.levels.extend(values.iter().map(level));
            }
            PretrainBatch::Pixels(batch)
        }
    }
}

/// Appends the patches of an image `[height, width, channels]`, row by row. Each is `[channels, patch, patch]`, the
/// order of a convolution's weights. Intensities become numbers from -1 to 1.
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
    fn a_patch_lists_its_channels_one_after_the_other() {
        // Two by four pixels of two channels: channel 0 counts from 0, channel 1 from 100.
        let values: Vec<u8> = (0..8).flat_map(|pixel| [pixel, 100 + pixel]).collect();
        let mut patches = Vec::new();
        push_patches(&mut patches, &values, ImageShape { height: 2, width: 4, channels: 2 }, 2);
        let intensities: Vec<i32> = patches.iter().map(|value| ((value + 1.0) * 127.5).round() as i32).collect();
        assert_eq!(intensities, [0, 1, 4, 5, 100, 101, 104, 105, 2, 3, 6, 7, 102, 103, 106, 107]);
    }

    #[test]
    fn intensities_are_shifted_by_one_token() {
        let shape = ImageShape { height: 2, width: 2, channels: 1 };
        let set = ImageSet::new(vec![0, 63, 64, 255], vec![1]);
        let pixels = batch(&set, shape, [0], recipe::ImageObjective::Pixels { levels: 4 });
        assert_eq!(pixels, PretrainBatch::Pixels(PixelBatch { ids: vec![4, 0, 0, 1], levels: vec![0, 0, 1, 3] }));
        let patches = batch(&set, shape, [0, 0], recipe::ImageObjective::Classifier { patch: 1 });
        assert_eq!((&patches.patches().classes[..], patches.patches().values.len()), (&[1, 1][..], 8));
    }
}
