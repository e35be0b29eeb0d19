use super::*;

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
    let one = digest(&[("a.txt", "x\n"), ("deep/b.txt", "y\n")]);
    assert_eq!(one, digest(&[("deep/b.txt", "y\n"), ("a.txt", "x\n"), ("README", "not text"), (".hidden.txt", "z")]));
    assert_ne!(one, digest(&[("a.txt", "x\n"), ("deep/b.txt", "z\n")]));
    assert_ne!(one, digest(&[("a.txt", "x\n"), ("deep/c.txt", "y\n")]));
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
    assert!(refusal(DatasetKind::Corpus, Path::new("/nowhere")).contains("/nowhere"));
}

#[cfg(unix)]
#[test]
fn a_link_out_of_the_folder_is_refused_and_one_inside_is_read() {
    let outside = folder(&[("secret.txt", "s\n")]);
    let inside = folder(&[("a.txt", "x\n")]);
    std::os::unix::fs::symlink(inside.path().join("a.txt"), inside.path().join("b.txt")).unwrap();
    assert_eq!(scan(DatasetKind::Corpus, "n", inside.path()).unwrap().files.len(), 2);
    std::os::unix::fs::symlink(outside.path().join("secret.txt"), inside.path().join("c.txt")).unwrap();
    assert!(refusal(DatasetKind::Corpus, inside.path()).contains("not a file inside"));
}

#[cfg(unix)]
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
    assert!(refusal(DatasetKind::Vocabulary, bad.path()).contains("lacks [UNK], [MASK]"));
}

#[test]
fn a_glue_dataset_has_the_files_of_its_complete_tasks() {
    let header = "index\tsentence1\tsentence2\tlabel\n";
    let train = format!("{header}0\ta\tb\tentailment\n1\ta\tb\tentailment\n");
    let good = folder(&[("RTE/train.tsv", &train), ("RTE/dev.tsv", &train), ("RTE/test.tsv", header), ("x", "y")]);
    let scanned = scan(DatasetKind::Glue, "g", good.path()).unwrap();
    assert_eq!(
        scanned.files.iter().map(|f| f.file.path.as_str()).collect::<Vec<_>>(),
        ["RTE/dev.tsv", "RTE/test.tsv", "RTE/train.tsv"]
    );
    assert_eq!(scanned.facts, DatasetFacts::Glue { examples: [(Task::Rte, 2)].into() });
    assert!(refusal(DatasetKind::Glue, folder(&[("RTE/train.tsv", &train)]).path()).contains("rte lacks RTE/dev.tsv"));
    assert!(refusal(DatasetKind::Glue, folder(&[("other/train.tsv", "x")]).path()).contains("no GLUE task"));
    let broken = folder(&[("RTE/dev.tsv", header)]);
    fs::write(broken.path().join("RTE/train.tsv"), b"a\n\xff\n").unwrap();
    assert!(refusal(DatasetKind::Glue, broken.path()).contains("line 2 is not UTF-8"));
}

#[test]
fn a_complete_task_brings_its_second_dev_file_and_its_test_files() {
    let files = |paths: &[&str]| {
        let folder = folder(&paths.iter().map(|path| (*path, "x\n")).collect::<Vec<_>>());
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

#[test]
fn a_changed_file_is_noticed_and_a_touched_one_is_accepted() {
    let folder = folder(&[("a.txt", "old\n")]);
    let path = folder.path().join("a.txt");
    let scanned = scan(DatasetKind::Corpus, "n", folder.path()).unwrap();
    scanned.verify().unwrap();
    // Same content, another time.
    let touched = |seconds| {
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(UNIX_EPOCH + std::time::Duration::from_secs(seconds))
            .unwrap();
    };
    touched(1);
    scanned.verify().unwrap();
    fs::write(&path, "new\n").unwrap();
    touched(2);
    assert!(scanned.verify().unwrap_err().to_string().contains("content differs"));
    fs::write(&path, "longer\n").unwrap();
    assert!(scanned.verify().unwrap_err().to_string().contains("7 bytes, not 4"));
    fs::remove_file(&path).unwrap();
    assert!(matches!(scanned.verify(), Err(DatasetError::Changed { .. })));
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
