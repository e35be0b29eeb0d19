use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::mpsc;
use std::time::{Duration, UNIX_EPOCH};

use tokio_util::sync::CancellationToken;

use super::*;
use crate::work::{Stop, WorkError, Workers};

/// Reads a path, with the folder that it lies in as the only root.
fn scan(kind: DatasetKind, name: &str, path: &Path) -> Result<Scan, DatasetError> {
    let root = if path.is_dir() { path } else { path.parent().unwrap() };
    super::scan(&Roots::open([root.to_owned()]).unwrap(), kind, name, path, &Stop::never())
}

async fn verify(scan: &Scan) -> Result<(), DatasetError> {
    Roots::open([scan.folder.clone()]).unwrap().verify(scan).await
}

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    folder
}

fn refusal(kind: DatasetKind, path: &Path) -> String {
    scan(kind, "n", path).unwrap_err().to_string()
}

#[test]
fn the_digest_depends_on_contents_and_paths_but_not_on_name_or_folder() {
    let digest = |files: &[(&str, &str)]| {
        let folder = folder(files);
        scan(DatasetKind::Corpus, "n", folder.path()).unwrap().digest
    };
    let one = digest(&[("a.txt", "x\n"), ("b.txt", "y\n")]);
    // The trainer reads no files of further folders either.
    let others = [("README", "not text"), (".hidden.txt", "z"), ("deep/c.txt", "z"), ("d.xz", "z")];
    assert_eq!(one, digest(&[&[("b.txt", "y\n"), ("a.txt", "x\n")], &others[..]].concat()));
    assert_ne!(one, digest(&[("a.txt", "x\n"), ("b.txt", "z\n")]));
    assert_ne!(one, digest(&[("a.txt", "x\n"), ("c.txt", "y\n")]));
}

#[test]
fn the_text_of_the_manifest_does_not_change() {
    let folder = folder(&[("a.txt", "x\n")]);
    let sha = hex::encode(Sha256::digest(b"x\n"));
    let manifest = format!("lamina dataset 1\ncorpus\n{sha} 2 a.txt\n");
    let scanned = scan(DatasetKind::Corpus, "n", &folder.path().join("a.txt")).unwrap();
    assert_eq!(scanned.digest, hex::encode(Sha256::digest(manifest)));
}

#[test]
fn an_empty_corpus_is_refused() {
    assert!(refusal(DatasetKind::Corpus, folder(&[]).path()).contains("no text here"));
    assert!(refusal(DatasetKind::Corpus, folder(&[("a.txt", "")]).path()).contains("no text here"));
    assert!(refusal(DatasetKind::Corpus, folder(&[("a.txt", " \n\n")]).path()).contains("no text here"));
    assert!(refusal(DatasetKind::Corpus, folder(&[("a.xz", "x")]).path()).contains("no text here"));
}

#[test]
fn a_link_out_of_the_root_is_refused_and_one_inside_is_read() {
    let outside = folder(&[("secret.txt", "s\n")]);
    let root = folder(&[("data/a.txt", "x\n"), ("blobs/b", "y\n")]);
    let data = root.path().join("data");
    let scan = || {
        super::scan(&Roots::open([root.path().to_owned()]).unwrap(), DatasetKind::Corpus, "n", &data, &Stop::never())
    };
    // As in the cache of Hugging Face's hub, where names are links to blobs.
    symlink("../blobs/b", data.join("b.txt")).unwrap();
    assert_eq!(scan().unwrap().files.len(), 2);
    for target in [outside.path().join("secret.txt"), outside.path().join("nothing"), "/dev/zero".into()] {
        symlink(&target, data.join("c.txt")).unwrap();
        assert_one_sentence(scan());
        fs::remove_file(data.join("c.txt")).unwrap();
    }
    symlink("../../../../../../../../etc", root.path().join("etc")).unwrap();
    let etc = root.path().join("etc/passwd");
    assert_one_sentence(super::scan(
        &Roots::open([root.path().to_owned()]).unwrap(),
        DatasetKind::Corpus,
        "n",
        &etc,
        &Stop::never(),
    ));
}

/// The sentence that every path gets that does not lead to a file or folder beneath a root.
#[track_caller]
fn assert_one_sentence(scanned: Result<Scan, DatasetError>) {
    let message = scanned.unwrap_err().to_string();
    let (_, sentence) = message.split_once(": ").unwrap();
    assert_eq!(
        sentence,
        "no file or folder that this server may read is here: a dataset is a regular file, or a folder of them, beneath \
         a data root (--data-root), and its links stay beneath that root"
    );
}

/// Whether a file exists outside the roots, what it is and who may read it is told to nobody.
#[test]
fn all_paths_that_are_refused_get_the_same_sentence() {
    let root = folder(&[("closed.txt", "s\n"), ("closed/vocab.txt", "s\n"), ("open.txt", "x\n")]);
    let elsewhere = folder(&[("secret.txt", "s\n")]);
    let path = |name: &str| root.path().join(name);
    for closed in ["closed.txt", "closed"] {
        fs::set_permissions(path(closed), fs::Permissions::from_mode(0o000)).unwrap();
    }
    let pipe = path("pipe.txt");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let _socket = std::os::unix::net::UnixListener::bind(path("socket.txt")).unwrap();
    for (link, target) in [("zero.txt", "/dev/zero"), ("ptmx.txt", "/dev/ptmx"), ("loop.txt", "loop.txt")] {
        symlink(target, path(link)).unwrap();
    }
    let mut refused = vec![
        path("missing.txt"),
        path("missing/further"),
        pipe,
        path("socket.txt"),
        path("zero.txt"),
        path("ptmx.txt"),
        path("loop.txt"),
        path("open.txt/further"),
        path("../open.txt"),
        path("x/../open.txt"),
        path("\0"),
        elsewhere.path().join("secret.txt"),
        elsewhere.path().join("missing.txt"),
        "/dev/zero".into(),
        "/dev/ptmx".into(),
        "/proc/self/environ".into(),
        "/root".into(),
        "/".into(),
        "relative".into(),
        "".into(),
    ];
    // Root may read everything.
    if File::open(path("closed.txt")).is_err() {
        refused.extend([path("closed.txt"), path("closed/vocab.txt")]);
    }
    let roots = Roots::open([root.path().to_owned()]).unwrap();
    for path in refused {
        for kind in DatasetKind::ALL {
            assert_one_sentence(super::scan(&roots, kind, "n", &path, &Stop::never()));
        }
    }
    super::scan(&roots, DatasetKind::Corpus, "n", &path("open.txt"), &Stop::never()).unwrap();
}

#[test]
fn a_server_without_roots_registers_nothing_and_says_how_to_give_one() {
    let data = folder(&[("a.txt", "x\n")]);
    let none = Roots::open([]).unwrap();
    let error = super::scan(&none, DatasetKind::Corpus, "n", data.path(), &Stop::never()).unwrap_err();
    assert!(error.to_string().contains("--data-root DIR"), "{error}");
    assert!(Roots::open([data.path().join("missing")]).unwrap_err().to_string().contains("missing"));
}

#[test]
fn a_root_may_be_given_by_a_link_and_several_roots_are_several_places() {
    let (one, two) = (folder(&[("a.txt", "x\n")]), folder(&[("b/c.txt", "x\n")]));
    let links = tempfile::tempdir().unwrap();
    symlink(one.path(), links.path().join("one")).unwrap();
    let roots = Roots::open([links.path().join("one"), two.path().to_owned()]).unwrap();
    let scan = |path: PathBuf| super::scan(&roots, DatasetKind::Corpus, "n", &path, &Stop::never()).unwrap();
    let folder = one.path().canonicalize().unwrap();
    assert_eq!(scan(links.path().join("one")).folder, folder);
    // A link outside that leads to a root.
    symlink(one.path(), links.path().join("other")).unwrap();
    assert_eq!(scan(links.path().join("other/a.txt")).folder, folder);
    assert_eq!(scan(one.path().join("a.txt")).folder.to_str(), folder.to_str(), "no slash at its end");
    assert_eq!(scan(two.path().join("b")).files.len(), 1);
}

#[test]
fn a_folder_has_bounds() {
    let deep = folder(&[("1/2/3/4/5/6/7/8/9/a.txt", "x\n")]);
    assert!(refusal(DatasetKind::Corpus, deep.path()).contains("more than 8 folders inside each other"));
    let many = tempfile::tempdir().unwrap();
    for index in 0..=MOST_FILES {
        File::create(many.path().join(format!("{index}.txt"))).unwrap();
    }
    assert!(refusal(DatasetKind::Corpus, many.path()).contains("more than 10000 files and folders"));
}

#[test]
fn nothing_is_read_without_a_bound_and_the_error_names_file_and_bound() {
    let gz = |bytes: &[u8], times: usize| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        (0..times).for_each(|_| encoder.write_all(bytes).unwrap());
        encoder.finish().unwrap()
    };
    let zeros = vec![0; 1 << 20];
    let root = tempfile::tempdir().unwrap();
    let refused = |kind, name: &str, bytes: &[u8]| {
        fs::write(root.path().join(name), bytes).unwrap();
        refusal(kind, &root.path().join(name))
    };
    let bomb = refused(DatasetKind::Corpus, "bomb.txt.gz", &gz(&[b'x'; 1 << 20], 64));
    assert!(bomb.contains("bomb.txt.gz, line 1: the line is longer than 16777216 bytes"), "{bomb}");
    let long = refused(DatasetKind::Vocabulary, "long.txt", &[b'x'; 2000]);
    assert!(long.contains("long.txt, line 1: the line is longer than 1024 bytes"), "{long}");
    let large = refused(DatasetKind::Vocabulary, "large.txt", &b"x\n".repeat(9 << 20));
    assert!(large.contains("large.txt: the file is longer than 16777216 bytes"), "{large}");

    // A gigabyte of images in a megabyte is read, but not held: the header says how many there are.
    let images = tempfile::tempdir().unwrap();
    let header = |sizes: &[u32]| {
        let sizes = sizes.iter().flat_map(|size| size.to_be_bytes());
        [0, 0, 8, sizes.clone().count() as u8 / 4].into_iter().chain(sizes).collect::<Vec<u8>>()
    };
    let mut packed = gz(&header(&[1 << 10, 512, 512]), 1);
    packed.extend(gz(&zeros, 256));
    fs::write(images.path().join("train-images-idx3-ubyte.gz"), packed).unwrap();
    let labels = [header(&[1 << 10]), vec![0; 1 << 10]].concat();
    fs::write(images.path().join("train-labels-idx1-ubyte"), labels).unwrap();
    assert!(scan(DatasetKind::Images, "n", images.path()).is_ok());
    fs::write(images.path().join("train-images-idx3-ubyte.gz"), gz(&header(&[u32::MAX, 512, 512]), 1)).unwrap();
    let claimed = refusal(DatasetKind::Images, images.path());
    assert!(
        claimed.contains("train-images-idx3-ubyte.gz: its header claims") && claimed.contains("at most 4294967296")
    );
}

#[tokio::test]
async fn reading_ends_when_nobody_waits_for_it() {
    let data = folder(&[("a.txt", &"text\n".repeat(1 << 20))]);
    // Text, and then a terabyte of zeros that take no space: to hash it takes an hour.
    fs::File::options().write(true).open(data.path().join("a.txt")).unwrap().set_len(1 << 40).unwrap();
    let roots = Roots::open([data.path().to_owned()]).unwrap();
    let shutdown = CancellationToken::new();
    let workers = Workers::new("test", 1, 0, shutdown.clone());
    let (path, (begun, has_begun)) = (data.path().to_owned(), mpsc::channel());
    let (ended, has_ended) = mpsc::channel();
    let scan = move |stop: &Stop| {
        begun.send(()).unwrap();
        ended.send(super::scan(&roots, DatasetKind::Corpus, "n", &path, stop)).unwrap();
    };
    let scan = tokio::spawn(async move { workers.run(Duration::from_secs(600), scan).await });
    tokio::task::spawn_blocking(move || has_begun.recv().unwrap()).await.unwrap();
    shutdown.cancel();
    assert!(matches!(scan.await.unwrap(), Err(WorkError::Stopping)));
    let stopped = tokio::task::spawn_blocking(move || has_ended.recv_timeout(Duration::from_secs(60))).await.unwrap();
    assert!(matches!(stopped, Ok(Err(DatasetError::Stopped))), "{stopped:?}");
}

#[test]
fn a_name_that_is_not_utf8_is_refused() {
    use std::os::unix::ffi::OsStrExt;
    let folder = folder(&[("a.txt", "x\n")]);
    fs::write(folder.path().join(std::ffi::OsStr::from_bytes(b"\xff.txt")), "y\n").unwrap();
    assert!(refusal(DatasetKind::Corpus, folder.path()).contains("not UTF-8"));
}

#[test]
fn a_vocabulary_without_its_special_tokens_is_refused() {
    let good = folder(&[("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\n")]);
    let scanned = scan(DatasetKind::Vocabulary, "v", good.path()).unwrap();
    assert_eq!(scanned.facts, DatasetFacts::Vocabulary { tokens: 6 });
    let bad = folder(&[("vocab.txt", "[PAD]\n[CLS]\n[SEP]\nthe\n")]);
    assert!(refusal(DatasetKind::Vocabulary, bad.path()).contains("vocab.txt: the vocabulary has no [UNK], no [MASK]"));
}

#[test]
fn a_glue_dataset_has_the_files_of_its_complete_tasks() {
    let header = "index\tsentence1\tsentence2\tlabel\n";
    let train = format!("{header}0\ta\tb\tentailment\n1\ta\tb\tentailment\n");
    let test = "index\tsentence1\tsentence2\n0\ta\tb\n";
    let good = folder(&[("RTE/train.tsv", &train), ("RTE/dev.tsv", &train), ("RTE/test.tsv", test), ("x", "y")]);
    let scanned = scan(DatasetKind::Glue, "g", good.path()).unwrap();
    assert_eq!(
        scanned.files.iter().map(|f| f.file.path.as_str()).collect::<Vec<_>>(),
        ["RTE/dev.tsv", "RTE/test.tsv", "RTE/train.tsv"]
    );
    assert_eq!(scanned.facts, DatasetFacts::Glue { examples: [(Task::Rte, 2)].into() });
    assert!(refusal(DatasetKind::Glue, folder(&[("RTE/train.tsv", &train)]).path()).contains("rte lacks RTE/dev.tsv"));
    assert!(refusal(DatasetKind::Glue, folder(&[("other/train.tsv", "x")]).path()).contains("no GLUE task"));
}

/// Published files with a defect are refused before anything is trained, not after the pre-training.
#[test]
fn a_task_that_cannot_be_trained_on_is_refused_with_file_line_and_what_to_do() {
    let header = "index\tsentence1\tsentence2\tlabel\n";
    let good = format!("{header}0\ta\tb\tentailment\n1\ta\tb\tnot_entailment\n");
    let with = |train: &str, dev: &str| {
        refusal(DatasetKind::Glue, folder(&[("RTE/train.tsv", train), ("RTE/dev.tsv", dev)]).path())
    };
    let one = &good[..good.find("1\ta").unwrap()];
    for (train, why) in [
        (one, "train.tsv, line 2: it ends after 1 example, but training needs at least 2"),
        (header, "train.tsv: there are no examples in it"),
        ("", "train.tsv: there are no examples in it"),
        (&format!("\n{good}"), "train.tsv, line 1: no column \"sentence1\"; the header has \"\""),
        (&format!("{good}\n"), "train.tsv, line 4: 1 columns, but 4 are expected"),
        (&format!("{good}2\ta\tb\tyes\n"), "train.tsv, line 4: unknown label \"yes\""),
        (&"x".repeat(1 << 21), "train.tsv, line 1: the line is longer than 1048576 bytes"),
    ] {
        let message = with(train, &good);
        assert!(message.contains(why), "{message}");
        assert!(message.contains("the task rte cannot be") && message.contains("take the folder RTE out"), "{message}");
    }
    assert!(with(&good, header).contains("dev.tsv: there are no examples"));
    assert!(!with(&good, "").is_empty());
    let broken = folder(&[("RTE/dev.tsv", &good)]);
    fs::write(
        broken.path().join("RTE/train.tsv"),
        format!("{header}\u{ff}")
            .replace('\u{ff}', "")
            .into_bytes()
            .into_iter()
            .chain([0xff, b'\n'])
            .collect::<Vec<u8>>(),
    )
    .unwrap();
    assert!(refusal(DatasetKind::Glue, broken.path()).contains("line 2: not UTF-8"));
}

#[test]
fn a_complete_task_brings_its_second_dev_file_and_its_test_files() {
    let files = |paths: &[&str]| {
        let labelled =
            "sentence1\tsentence2\tgold_label\tlabel\na\tb\tneutral\tentailment\na\tb\tneutral\tentailment\n";
        let test = "index\tsentence1\tsentence2\n0\ta\tb\n";
        let text = |path: &str| if path.contains("test") || path.contains("diagnostic") { test } else { labelled };
        let folder = folder(&paths.iter().map(|path| (*path, text(path))).collect::<Vec<_>>());
        let scanned = scan(DatasetKind::Glue, "g", folder.path()).unwrap();
        scanned.files.into_iter().map(|scanned| scanned.file.path).collect::<Vec<_>>()
    };
    let all = [
        "MNLI/dev_matched.tsv",
        "MNLI/dev_mismatched.tsv",
        "MNLI/test_matched.tsv",
        "MNLI/test_mismatched.tsv",
        "MNLI/train.tsv",
        "diagnostic/diagnostic.tsv",
    ];
    assert_eq!(files(&all), all);
    let least = ["MNLI/dev_matched.tsv", "MNLI/train.tsv"];
    assert_eq!(files(&least), least);
    let rte = ["RTE/dev.tsv", "RTE/train.tsv"];
    assert_eq!(files(&[&all[..4], &all[5..], &rte].concat()), rte, "without its training part MNLI is not here");
}

#[test]
fn a_checkpoint_must_be_a_model_of_the_bert_family_with_a_fitting_vocabulary() {
    let config = r#"{"model_type": "bert", "vocab_size": 6, "hidden_size": 8, "num_hidden_layers": 3,
        "num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 64}"#;
    let vocabulary = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\n";
    let files = [
        ("config.json", config),
        ("model.safetensors", "weights"),
        ("vocab.txt", vocabulary),
        ("pytorch_model.bin", "x"),
    ];
    let scanned = scan(DatasetKind::Checkpoint, "c", folder(&files).path()).unwrap();
    let paths: Vec<&str> = scanned.files.iter().map(|scanned| scanned.file.path.as_str()).collect();
    assert_eq!(paths, ["config.json", "model.safetensors", "vocab.txt"]);
    let model = scanned.model().unwrap();
    assert_eq!((model.blocks, model.positions, model.norm), (3, 64, recipe::Norm::Post));
    assert_eq!(scanned.kind(), DatasetKind::Checkpoint);

    let with = |path: &'static str, text: &'static str| {
        let mut files = files.to_vec();
        files.retain(|(name, _)| *name != path);
        files.push((path, text));
        refusal(DatasetKind::Checkpoint, folder(&files).path())
    };
    assert!(with("config.json", "{").contains("config.json: "));
    assert!(with("config.json", r#"{"model_type": "gpt2"}"#).contains("config.json: "));
    assert!(with("tokenizer_config.json", r#"{"do_lower_case": false}"#).contains("do_lower_case is false"));
    assert!(
        with("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\n")
            .contains("it has 7 tokens, more than the 6 that the model embeds")
    );
    assert!(refusal(DatasetKind::Checkpoint, folder(&files[..2]).path()).contains("it lacks vocab.txt"));
}

#[tokio::test]
async fn a_changed_file_is_noticed_and_a_touched_one_is_accepted() {
    let folder = folder(&[("a.txt", "old\n")]);
    let path = folder.path().join("a.txt");
    let scanned = scan(DatasetKind::Corpus, "n", folder.path()).unwrap();
    verify(&scanned).await.unwrap();
    // Same content, another time.
    let touched = |seconds| {
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
    };
    touched(1);
    verify(&scanned).await.unwrap();
    fs::write(&path, "new\n").unwrap();
    // A program can set the time of the last write, but not that of the last change.
    touched(1);
    assert!(verify(&scanned).await.unwrap_err().to_string().contains("content differs"));
    fs::write(&path, "longer\n").unwrap();
    assert!(verify(&scanned).await.unwrap_err().to_string().contains("7 bytes, not 4"));
    fs::remove_file(&path).unwrap();
    assert!(matches!(verify(&scanned).await, Err(DatasetError::Changed { .. })));
}

/// Whatever happens to the path, it is the file that was opened and looked at that is read.
#[tokio::test]
async fn a_file_that_is_exchanged_for_a_link_is_not_followed_out_of_the_root() {
    let outside = folder(&[("secret.txt", "old\n")]);
    let root = folder(&[("data/a.txt", "old\n")]);
    let roots = Roots::open([root.path().to_owned()]).unwrap();
    let data = root.path().join("data");
    let scanned = super::scan(&roots, DatasetKind::Corpus, "n", &data, &Stop::never()).unwrap();
    let open = || roots.open_registered(scanned.folder.clone(), scanned.files[0].clone());

    let mut verified = open().await.unwrap();
    fs::remove_file(data.join("a.txt")).unwrap();
    symlink(outside.path().join("secret.txt"), data.join("a.txt")).unwrap();
    let mut text = String::new();
    verified.file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "old\n");
    // The content outside is the same, but it is outside.
    assert!(matches!(open().await, Err(DatasetError::Changed { .. })));

    // A folder of the path becomes a link.
    fs::remove_dir_all(&data).unwrap();
    fs::rename(outside.path().join("secret.txt"), outside.path().join("a.txt")).unwrap();
    symlink(outside.path(), &data).unwrap();
    assert!(matches!(open().await, Err(DatasetError::Changed { .. })));

    // A pipe does not block.
    fs::remove_file(&data).unwrap();
    fs::create_dir(&data).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(data.join("a.txt")).status().unwrap().success());
    assert!(matches!(open().await, Err(DatasetError::Changed { .. })));

    let none = Roots::open([]).unwrap().verify(&scanned).await;
    assert!(matches!(none, Err(DatasetError::Changed { .. })), "the root is no longer one: {none:?}");
}

#[test]
fn images_are_read_and_checked_whole_before_they_are_registered() {
    let idx = |sizes: &[u32], elements: &[u8]| {
        let mut file = vec![0, 0, 8, sizes.len() as u8];
        file.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
        file.extend(elements);
        file
    };
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    write("train-images-idx3-ubyte", &idx(&[3, 2, 4], &[9; 24]));
    write("train-labels-idx1-ubyte", &idx(&[3], &[0, 2, 1]));
    write("t10k-images-idx3-ubyte", &idx(&[1, 2, 4], &[9; 8]));
    write("t10k-labels-idx1-ubyte", &idx(&[1], &[2]));
    write("README", b"not an image");
    let scanned = scan(DatasetKind::Images, "digits", folder.path()).unwrap();
    let shape = ImageShape { height: 2, width: 4, channels: 1 };
    assert_eq!(scanned.facts, DatasetFacts::Images { shape, classes: 3, train: 3, test: 1 });
    let paths: Vec<&str> = scanned.files.iter().map(|scanned| scanned.file.path.as_str()).collect();
    let expected =
        ["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte", "train-images-idx3-ubyte", "train-labels-idx1-ubyte"];
    assert_eq!(paths, expected);

    write("t10k-images-idx3-ubyte", &idx(&[1, 2, 4], &[9; 7]));
    let why = refusal(DatasetKind::Images, folder.path());
    assert!(why.contains("t10k-images-idx3-ubyte: the file has 7 bytes of data, but its header claims 8"), "{why}");
    let file = folder.path().join("train-images-idx3-ubyte");
    assert!(refusal(DatasetKind::Images, &file).contains("a folder of several"));
    assert!(refusal(DatasetKind::Images, tempfile::tempdir().unwrap().path()).contains("no file of training images"));
}
