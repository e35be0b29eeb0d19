//! Reads a folder or file as a dataset: which files belong to it, and their properties.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use images::PublishedImages;
use recipe::Task;
use recipe::published::{self, CONFIG, MODEL, TOKENIZER, VOCABULARY};

use super::{DatasetError, DatasetFacts, DatasetKind, Scan, ScannedFile, digest, hash, modified};
use protocol::DatasetFile;

/// Reads a folder or file as a dataset of this kind. Blocking I/O: it reads every byte.
pub fn scan(kind: DatasetKind, name: &str, path: &Path) -> Result<Scan, DatasetError> {
    let root = fs::canonicalize(path).map_err(|source| DatasetError::Io { path: path.into(), source })?;
    let (folder, paths) = if root.is_dir() {
        let mut paths = Vec::new();
        walk(&root, &root, &mut paths)?;
        (root.clone(), paths)
    } else {
        if kind == DatasetKind::Images {
            return Err(unfit(&root, "a file, where images are a folder of several"));
        }
        let file = PathBuf::from(root.file_name().unwrap_or_default());
        (root.parent().unwrap_or(Path::new("/")).to_path_buf(), vec![text(&file)?.to_owned()])
    };
    let (mut paths, facts) = match kind {
        DatasetKind::Corpus => (corpus_files(paths), DatasetFacts::Corpus),
        DatasetKind::Vocabulary => vocabulary(&folder, paths)?,
        DatasetKind::Glue => glue(&folder, &paths)?,
        DatasetKind::Checkpoint => checkpoint(&folder, paths)?,
        DatasetKind::Images => images(&folder, &paths)?,
    };
    paths.sort();
    let files = paths.iter().map(|path| scan_file(&folder, path)).collect::<Result<Vec<_>, _>>()?;
    if files.iter().all(|scanned| scanned.file.bytes == 0) {
        let what = match kind {
            DatasetKind::Corpus => "no text here: a corpus is .txt files, plain or as .xz, .gz or .zst",
            DatasetKind::Glue => "no GLUE task here: a task is a folder such as RTE with train.tsv and dev.tsv",
            DatasetKind::Vocabulary | DatasetKind::Checkpoint | DatasetKind::Images => "its files are empty",
        };
        return Err(unfit(&root, what));
    }
    let digest = digest(kind, files.iter().map(|scanned| &scanned.file));
    Ok(Scan { name: name.into(), folder, digest, facts, files })
}

/// Paths of all files under `folder`, relative to `root`. Hidden files are left out.
fn walk(root: &Path, folder: &Path, found: &mut Vec<String>) -> Result<(), DatasetError> {
    let io = |path: &Path| {
        let path = path.to_path_buf();
        move |source| DatasetError::Io { path, source }
    };
    for entry in fs::read_dir(folder).map_err(io(folder))? {
        let entry = entry.map_err(io(folder))?;
        let path = entry.path();
        if text(Path::new(&entry.file_name()))?.starts_with('.') {
            continue;
        }
        let kind = entry.file_type().map_err(io(&path))?;
        if kind.is_dir() {
            walk(root, &path, found)?;
            continue;
        }
        if kind.is_symlink() {
            let target = fs::canonicalize(&path).map_err(io(&path))?;
            if !target.starts_with(root) || !target.is_file() {
                let what = format!("a link to {}, which is not a file inside the folder", target.display());
                return Err(unfit(&path, what));
            }
        } else if !kind.is_file() {
            return Err(unfit(&path, "neither a file nor a folder"));
        }
        found.push(text(path.strip_prefix(root).unwrap_or(&path))?.to_owned());
    }
    Ok(())
}

fn text(path: &Path) -> Result<&str, DatasetError> {
    let name = path.to_str().ok_or_else(|| unfit(path, "the name is not UTF-8"))?;
    if name.chars().any(char::is_control) { Err(unfit(path, "the name holds a control character")) } else { Ok(name) }
}

fn corpus_files(paths: Vec<String>) -> Vec<String> {
    let suffixes = [".txt", ".xz", ".gz", ".zst"];
    paths.into_iter().filter(|path| suffixes.iter().any(|suffix| path.ends_with(suffix))).collect()
}

fn vocabulary(folder: &Path, paths: Vec<String>) -> Result<(Vec<String>, DatasetFacts), DatasetError> {
    let files: Vec<String> =
        if paths.len() == 1 { paths } else { paths.into_iter().filter(|path| path == "vocab.txt").collect() };
    let [file] = files.as_slice() else {
        return Err(unfit(folder, "a vocabulary is one file of tokens, or a folder that holds vocab.txt"));
    };
    let tokens = vocabulary_tokens(&folder.join(file))?;
    Ok((files, DatasetFacts::Vocabulary { tokens }))
}

/// The files of the complete tasks. A task is complete if it has its train file and its first dev file; its second dev file
/// and its test files are taken if they are there. Official archives lack some files, so an incomplete task is left out, and
/// a job that names it is refused. A folder without any complete task is refused.
fn glue(folder: &Path, paths: &[String]) -> Result<(Vec<String>, DatasetFacts), DatasetError> {
    let (mut files, mut lacking) = (Vec::new(), Vec::new());
    for task in Task::ALL {
        let row = task.row();
        let wanted = ["train.tsv", row.dev].map(|file| format!("{}/{file}", row.folder));
        match wanted.iter().filter(|path| !paths.contains(path)).map(String::as_str).collect::<Vec<_>>()[..] {
            [] => {
                files.extend(wanted);
                let mismatched = row.mismatched.map(|file| format!("{}/{file}", row.folder));
                let optional = mismatched.into_iter().chain(row.tests.iter().map(|set| set.path.to_owned()));
                files.extend(optional.filter(|path| paths.contains(path)));
            }
            [missing] => lacking.push(format!("{} lacks {missing}", task.name())),
            _ => {}
        }
    }
    if files.is_empty() && !lacking.is_empty() {
        return Err(unfit(folder, format!("no task is complete: {}", lacking.join(", "))));
    }
    let examples = glue_examples(folder, &files)?;
    Ok((files, DatasetFacts::Glue { examples }))
}

/// The files that a fine-tune reads, and the model that they describe, which must be one that can be trained here. Other files
/// of a published folder are left out. The weights are not read.
fn checkpoint(folder: &Path, paths: Vec<String>) -> Result<(Vec<String>, DatasetFacts), DatasetError> {
    let named = |name: &str| paths.iter().any(|path| path == name);
    for wanted in [CONFIG, MODEL, VOCABULARY] {
        if !named(wanted) {
            let what = format!("it lacks {wanted}: a checkpoint is a folder with {CONFIG}, {MODEL} and {VOCABULARY}");
            return Err(unfit(folder, what));
        }
    }
    let read = |file: &str| {
        let path = folder.join(file);
        fs::read(&path).map_err(|source| DatasetError::Io { path, source })
    };
    let tokenizer = named(TOKENIZER).then(|| read(TOKENIZER)).transpose()?;
    let tokens = vocabulary_tokens(&folder.join(VOCABULARY))?;
    let config = published::check(&read(CONFIG)?, tokenizer.as_deref(), tokens)
        .map_err(|published::UnfitCheckpoint { file, reason }| unfit(&folder.join(file), reason))?;
    let files =
        [CONFIG, MODEL, VOCABULARY, TOKENIZER].into_iter().filter(|name| named(name)).map(str::to_owned).collect();
    Ok((files, DatasetFacts::Checkpoint { model: config.model, tokens }))
}

/// The files of images. Every one is read and checked.
fn images(folder: &Path, paths: &[String]) -> Result<(Vec<String>, DatasetFacts), DatasetError> {
    let PublishedImages { shape, classes, train, test, files } = PublishedImages::read(folder)?;
    let is_read = |path: &&String| files.iter().any(|file| *file == folder.join(path));
    let facts = DatasetFacts::Images { shape, classes, train: train.len() as u64, test: test.len() as u64 };
    Ok((paths.iter().filter(is_read).cloned().collect(), facts))
}

fn scan_file(folder: &Path, relative: &str) -> Result<ScannedFile, DatasetError> {
    let path = folder.join(relative);
    let metadata = fs::metadata(&path).map_err(|source| DatasetError::Io { path: path.clone(), source })?;
    let file = DatasetFile { path: relative.into(), sha256: hash(&path)?, bytes: metadata.len() };
    Ok(ScannedFile { file, modified_ns: modified(&metadata) })
}

/// Number of tokens of a `vocab.txt`, which must hold the five special tokens of BERT.
fn vocabulary_tokens(path: &Path) -> Result<u64, DatasetError> {
    let mut missing = vec!["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
    let mut tokens = 0;
    for line in lines(path)? {
        let line = line?;
        missing.retain(|token| *token != line);
        tokens += 1;
    }
    if missing.is_empty() {
        return Ok(tokens);
    }
    Err(unfit(path, format!("the vocabulary lacks {}", missing.join(", "))))
}

fn glue_examples(folder: &Path, paths: &[String]) -> Result<BTreeMap<Task, u64>, DatasetError> {
    let mut examples = BTreeMap::new();
    for task in Task::ALL {
        let row = task.row();
        let train = format!("{}/train.tsv", row.folder);
        if paths.contains(&train) {
            let mut count = 0u64;
            for line in lines(&folder.join(&train))? {
                line?;
                count += 1;
            }
            examples.insert(task, count.saturating_sub(u64::from(row.header)));
        }
    }
    Ok(examples)
}

/// The lines of a UTF-8 text without their ends. An error names the line.
fn lines(path: &Path) -> Result<impl Iterator<Item = Result<String, DatasetError>>, DatasetError> {
    let path = path.to_path_buf();
    let file = File::open(&path).map_err(|source| DatasetError::Io { path: path.clone(), source })?;
    Ok(BufReader::new(file).split(b'\n').enumerate().map(move |(index, line)| {
        let line = line.map_err(|source| DatasetError::Io { path: path.clone(), source })?;
        let line = String::from_utf8(line).map_err(|_| unfit(&path, format!("line {} is not UTF-8", index + 1)))?;
        Ok(line.trim_end_matches('\r').to_owned())
    }))
}

fn unfit(path: &Path, what: impl Into<String>) -> DatasetError {
    DatasetError::Unfit { path: path.into(), what: what.into() }
}
