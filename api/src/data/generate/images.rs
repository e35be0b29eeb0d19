//! Small noisy images of four shapes, in the format of MNIST.

use super::grammar::Draw;

/// Height and width, in pixels.
const SIDE: usize = 16;
const SHAPES: usize = 4;

/// Name and content of each file: images and labels of a training part and a test part.
pub(super) fn files(seed: u64) -> Vec<(&'static str, Vec<u8>)> {
    let parts = [
        ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", 3000),
        ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte", 500),
    ];
    let written = (2..).zip(parts).flat_map(|(stream, (images, labels, count))| {
        let mut draw = Draw::new(seed, stream);
        let (mut values, mut classes) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let shape = draw.below(SHAPES);
            values.extend(image(&mut draw, shape));
            classes.push(shape as u8);
        }
        [(images, idx(&[count, SIDE as u32, SIDE as u32], &values)), (labels, idx(&[count], &classes))]
    });
    written.collect()
}

/// A bright shape of 5 to 11 pixels at a random place on a dark ground. Shape 0 is a horizontal bar, 1 a vertical bar,
/// 2 a cross, 3 a square.
fn image(draw: &mut Draw, shape: usize) -> [u8; SIDE * SIDE] {
    let size = 5 + 2 * draw.below(4);
    let (top, left) = (draw.below(SIDE - size + 1), draw.below(SIDE - size + 1));
    let ink = 140 + draw.below(90);
    let mut pixels = [0; SIDE * SIDE];
    for (place, pixel) in pixels.iter_mut().enumerate() {
        let (row, column) = ((place / SIDE).checked_sub(top), (place % SIDE).checked_sub(left));
        let is_drawn = row.zip(column).is_some_and(|(row, column)| {
            let inside = row < size && column < size;
            let edge = |at: usize| at == 0 || at == size - 1;
            inside
                && match shape {
                    0 => row == size / 2,
                    1 => column == size / 2,
                    2 => row == size / 2 || column == size / 2,
                    _ => edge(row) || edge(column),
                }
        });
        *pixel = (draw.below(26) + if is_drawn { ink } else { 0 }) as u8;
    }
    pixels
}

/// A file in the IDX format: two zero bytes, the type (8, unsigned bytes), the number of dimensions, their sizes, the
/// elements.
fn idx(sizes: &[u32], elements: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, 8, sizes.len() as u8];
    file.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
    file.extend(elements);
    file
}

#[cfg(test)]
mod tests {

    use scheduler::dataset::{DatasetFacts, DatasetKind, Roots, scan};
    use scheduler::work::Stop;

    use super::*;

    #[test]
    fn the_images_can_be_registered_and_the_four_shapes_differ() {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files(0) {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        let roots = Roots::open([folder.path().to_owned()]).unwrap();
        let never = Stop::never();
        let scanned = scan(&roots, DatasetKind::Images, "shapes", folder.path(), &never).unwrap();
        let shape = recipe::ImageShape { height: 16, width: 16, channels: 1 };
        assert_eq!(scanned.facts, DatasetFacts::Images { shape, classes: 4, train: 3000, test: 500 });
        let bright = |shape| {
            let pixels = image(&mut Draw::new(7, 0), shape);
            pixels.iter().filter(|pixel| **pixel > 100).count()
        };
        let size = bright(0);
        assert_eq!([bright(1), bright(2), bright(3)], [size, 2 * size - 1, 4 * size - 4]);
    }
}
