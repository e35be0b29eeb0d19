use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

const IMAGES: &str = "train-images-idx3-ubyte";
const LABELS: &str = "train-labels-idx1-ubyte";

/// Files by name.
type Files<'a> = Vec<(&'a str, &'a [u8])>;

/// An IDX file with these sizes.
fn idx(sizes: &[u32], elements: &[u8]) -> Vec<u8> {
    let sizes_bytes = sizes.iter().flat_map(|size| size.to_be_bytes());
    [0, 0, 8, sizes.len() as u8].into_iter().chain(sizes_bytes).chain(elements.iter().copied()).collect()
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Image `n` is all `n`, and of class `n % 3`.
fn digits(count: u8) -> [Vec<u8>; 2] {
    let values: Vec<u8> = (0..count).flat_map(|n| [n; 6]).collect();
    let labels: Vec<u8> = (0..count).map(|n| n % 3).collect();
    [idx(&[count.into(), 2, 3], &values), idx(&[count.into()], &labels)]
}

fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

fn read(folder: &TempDir) -> Result<Images, ImageError> {
    Images::read(folder.path(), 0.2)
}

fn all(set: &ImageSet) -> Vec<(u8, u8)> {
    (0..set.len())
        .map(|index| {
            let (values, class) = set.image(index);
            assert!(values.iter().all(|value| *value == values[0]));
            (values[0], class)
        })
        .collect()
}

#[test]
fn without_a_test_part_a_share_of_the_images_is_held_out_by_their_index_alone() {
    let [images, labels] = digits(200);
    let plain = read(&folder(&[(IMAGES, &images), (LABELS, &labels)])).unwrap();
    assert_eq!(plain.shape, ImageShape { height: 2, width: 3, channels: 1 });
    assert_eq!(plain.classes, 3);
    let (train, valid) = (all(&plain.train), all(&plain.valid));
    assert!(train.is_sorted() && !valid.is_sorted(), "the validation part is shuffled");
    assert!((20..60).contains(&valid.len()), "{}", valid.len());
    let mut whole = [train.clone(), valid.clone()].concat();
    whole.sort_unstable();
    assert_eq!(whole, (0..200).map(|n| (n, n % 3)).collect::<Vec<_>>());
    // Compressed files, other names, both, and the leftovers of an archiver give the same images.
    let [images_gz, labels_gz] = [&images, &labels].map(|bytes| gz(bytes));
    for files in [
        vec![("train-images-idx3-ubyte.gz", &images_gz), ("train-labels-idx1-ubyte.gz", &labels_gz)],
        vec![("train-images.idx3-ubyte", &images), ("train-labels.idx1-ubyte", &labels)],
        vec![(IMAGES, &images), ("train-images-idx3-ubyte.gz", &images_gz), ("train-labels-idx1-ubyte.gz", &labels_gz)],
        vec![(IMAGES, &images), (LABELS, &labels), ("._train-images-idx3-ubyte", &labels)],
    ] {
        let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (*name, &bytes[..])).collect();
        let other = read(&folder(&files)).unwrap();
        assert_eq!((all(&other.train), all(&other.valid)), (train.clone(), valid.clone()));
    }
}

#[test]
fn a_test_part_is_the_validation_part_and_no_training_image_is_held_out() {
    let ([images, labels], [test, test_labels]) = (digits(50), digits(9));
    let test_files = [("t10k-images-idx3-ubyte", &test[..]), ("t10k-labels-idx1-ubyte", &test_labels[..])];
    let found = read(&folder(&[&[(IMAGES, &images[..]), (LABELS, &labels[..])][..], &test_files].concat())).unwrap();
    assert_eq!((found.train.len(), found.valid.len()), (50, 9));
    let mut valid = all(&found.valid);
    valid.sort_unstable();
    assert_eq!(valid, (0..9).map(|n| (n, n % 3)).collect::<Vec<_>>());
}

/// Records of CIFAR: image `n` has red `n`, green `n + 1`, blue `n + 2`, and the last label `n`.
fn cifar(numbers: std::ops::Range<u8>, labels: usize) -> Vec<u8> {
    let record = |n: u8| {
        let label = std::iter::repeat_n(0, labels - 1).chain([n]);
        label.chain([n, n + 1, n + 2].into_iter().flat_map(|plane| [plane; 1024])).collect::<Vec<u8>>()
    };
    numbers.flat_map(record).collect()
}

#[test]
fn images_of_cifar_have_their_channels_side_by_side_and_their_fine_classes() {
    let ten = [
        ("data_batch_1.bin", cifar(0..4, 1)),
        ("data_batch_2.bin", cifar(4..9, 1)),
        ("test_batch.bin", cifar(3..5, 1)),
    ];
    let hundred = [("train.bin", cifar(0..90, 2)), ("test.bin", cifar(3..5, 2))];
    for (files, classes, count) in [(&ten[..], 10, 9), (&hundred[..], 100, 90)] {
        let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (*name, &bytes[..])).collect();
        let found = read(&folder(&files)).unwrap();
        assert_eq!((found.classes, found.train.len(), found.valid.len()), (classes, count, 2));
        assert_eq!(found.shape, ImageShape { height: 32, width: 32, channels: 3 });
        for n in 0..count {
            let (values, class) = found.train.image(n);
            assert_eq!((values.len(), usize::from(class)), (3072, n));
            assert!(values.as_chunks::<3>().0.iter().all(|pixel| *pixel == [0, 1, 2].map(|channel| n as u8 + channel)));
        }
    }
}

#[test]
fn a_folder_with_the_name_of_an_image_file_is_ignored() {
    let [images, labels] = digits(20);
    let [images_gz, labels_gz] = [&images, &labels].map(|bytes| gz(bytes));
    let folder = folder(&[("train-images-idx3-ubyte.gz", &images_gz), ("train-labels-idx1-ubyte.gz", &labels_gz)]);
    for name in [IMAGES, LABELS, "data_batch_1.bin"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
    }
    assert_eq!(PublishedImages::read(folder.path()).unwrap().train.len(), 20);
}

#[test]
fn two_sets_of_idx_files_in_one_part_are_refused() {
    let [images, labels] = digits(20);
    let other = [("train-images.idx3-ubyte", &images[..]), ("train-labels.idx1-ubyte", &labels[..])];
    let error = read(&folder(&[&[(IMAGES, &images[..]), (LABELS, &labels[..])][..], &other].concat())).unwrap_err();
    assert!(matches!(error, ImageError::Sets { .. }), "{error}");
}

#[test]
fn broken_files_are_refused_by_name_with_what_is_wrong() {
    let [images, labels] = digits(20);
    let [_, fewer] = digits(19);
    let images_gz = gz(&images);
    let longer = [&images[..], &[0]].concat();
    let none = idx(&[0, 2, 3], &[]);
    let huge = idx(&[u32::MAX, u32::MAX, u32::MAX], &[1, 2, 3]);
    let large = idx(&[5000, 1000, 1000], &[1, 2, 3]);
    let cut = idx(&[4000, 1000, 1000], &[1, 2, 3]);
    let other_shape = idx(&[1, 3, 3], &[0; 9]);
    let one = idx(&[1], &[0]);
    let odd_label = idx(&[1], &[7]);
    let odd_image = idx(&[1, 2, 3], &[0; 6]);
    let ten = cifar(0..3, 1);
    let late = cifar(9..11, 1);
    // The files of a folder, the file that the error names, and a part of the message.
    let cases: Vec<(Files<'_>, &str, &str)> = vec![
        (vec![], "", "no file of training images"),
        (
            vec![("t10k-images-idx3-ubyte", &images), ("t10k-labels-idx1-ubyte", &labels)],
            "",
            "no file of training images",
        ),
        (
            vec![(IMAGES, &images)],
            IMAGES,
            "train-labels-idx1-ubyte, the file with the labels of these images, is missing",
        ),
        (vec![(IMAGES, &images), (LABELS, &fewer)], IMAGES, "20 images, but"),
        (vec![(IMAGES, &images), (LABELS, &[])], LABELS, "has 0 bytes"),
        (vec![(IMAGES, &images), (LABELS, &labels[..7])], LABELS, "has 7 bytes, fewer than the 8 of its header"),
        (
            vec![(IMAGES, &images[..images.len() - 1]), (LABELS, &labels)],
            IMAGES,
            "119 bytes of data, but its header claims 120",
        ),
        (vec![(IMAGES, &longer), (LABELS, &labels)], IMAGES, "more than the 120 bytes"),
        (vec![(IMAGES, &labels), (LABELS, &labels)], IMAGES, "begins with 00000801, not 00000803"),
        (vec![(IMAGES, &none), (LABELS, &labels)], IMAGES, "the file has no images"),
        (vec![(IMAGES, &huge), (LABELS, &labels)], IMAGES, "4294967296 are allowed"),
        (vec![(IMAGES, &large), (LABELS, &labels)], IMAGES, "claims 5000000000 bytes"),
        (vec![(IMAGES, &cut), (LABELS, &labels)], IMAGES, "3 bytes of data"),
        (
            vec![("train-images-idx3-ubyte.gz", &images_gz[..images_gz.len() - 9]), (LABELS, &labels)],
            "train-images-idx3-ubyte.gz",
            "the compressed file is damaged",
        ),
        (vec![("train-images-idx3-ubyte.gz", &images), (LABELS, &labels)], "train-images-idx3-ubyte.gz", "damaged"),
        (
            vec![
                (IMAGES, &images),
                (LABELS, &labels),
                ("t10k-images-idx3-ubyte", &other_shape),
                ("t10k-labels-idx1-ubyte", &one),
            ],
            IMAGES,
            "the images are of 2 x 3 x 1, but those of the files before are of 3 x 3 x 1",
        ),
        (
            vec![
                (IMAGES, &images),
                (LABELS, &labels),
                ("t10k-images-idx3-ubyte", &odd_image),
                ("t10k-labels-idx1-ubyte", &odd_label),
            ],
            "t10k-images-idx3-ubyte",
            "class 7, but the classes are 0 to 2",
        ),
        (
            vec![("data_batch_1.bin", &ten[..ten.len() - 1])],
            "data_batch_1.bin",
            "9218 bytes are not a whole number of records of 3073",
        ),
        (vec![("data_batch_1.bin", &[])], "data_batch_1.bin", "the file has no images"),
        (vec![("train.bin", &ten)], "train.bin", "9219 bytes are not a whole number of records of 3074"),
        (vec![("data_batch_1.bin", &late)], "data_batch_1.bin", "class 10, but the classes are 0 to 9"),
        (vec![("data_batch_1.bin", &ten), (IMAGES, &images), (LABELS, &labels)], "", "have different formats"),
        (vec![(IMAGES, &odd_image), (LABELS, &one)], "", "none of the 1 images is in the validation part"),
    ];
    for (files, name, why) in cases {
        let folder = folder(&files);
        let error = read(&folder).unwrap_err();
        let message = error.to_string();
        let path = if name.is_empty() { folder.path().to_owned() } else { folder.path().join(name) };
        assert!(message.starts_with(&format!("{}: ", path.display())), "{message}");
        assert!(message.contains(why), "{message}: {why}");
    }
    assert!(Images::read(Path::new("/nowhere"), 0.1).unwrap_err().to_string().starts_with("/nowhere: "));
}

proptest! {
    /// A file with bytes removed or changed is read as complete images, or refused by an error that names a file.
    #[test]
    fn damaged_files_are_refused_or_still_whole(
        name in prop::sample::select(vec![IMAGES, LABELS, "data_batch_1.bin", "train.bin"]),
        compressed: bool,
        cut in 0usize..400,
        changes in prop::collection::vec((0usize..400, any::<u8>()), 0..4),
    ) {
        let [images, labels] = digits(20);
        let mut bytes = match name {
            IMAGES => images.clone(),
            LABELS => labels.clone(),
            "train.bin" => cifar(0..2, 2),
            _ => cifar(0..2, 1),
        };
        let pack = |bytes: &[u8]| if compressed { gz(bytes) } else { bytes.to_vec() };
        let is_idx = name == IMAGES || name == LABELS;
        if is_idx {
            bytes = pack(&bytes);
        }
        let length = bytes.len();
        bytes.truncate(length - cut % (length + 1));
        for (at, byte) in changes {
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
        }
        let ending = if compressed && is_idx { ".gz" } else { "" };
        let mut files = vec![(format!("{name}{ending}"), bytes)];
        if name == IMAGES {
            files.push((LABELS.into(), labels));
        } else if name == LABELS {
            files.push((IMAGES.into(), images));
        }
        let folder = TempDir::new().unwrap();
        for (name, bytes) in &files {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        match PublishedImages::read(folder.path()) {
            Ok(read) => {
                let size = read.shape.values() as usize;
                prop_assert!(!read.train.is_empty() && read.test.is_empty());
                for index in 0..read.train.len() {
                    let (values, class) = read.train.image(index);
                    prop_assert!(values.len() == size && u32::from(class) < read.classes);
                }
            }
            Err(error) => prop_assert!(error.to_string().starts_with(folder.path().to_str().unwrap()), "{error}"),
        }
    }
}
