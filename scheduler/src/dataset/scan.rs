//! Reads a folder or file as a dataset: which files belong to it, and their properties.
//!
//! Whatever the trainer would refuse is refused here, by the readers that the trainer has. Every bound on what is read
//! is a constant here or in the crates `texts` and `images`, and an error names the file and the bound.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use images::{PublishedImages, Survey};
use recipe::Task;
use recipe::published::{self, CONFIG, MODEL, MOST_CONFIG_BYTES, TOKENIZER, VOCABULARY};
use texts::corpus::{self, Beginning};
use texts::glue::{self, Counts, LEAST_TRAIN, Record};
use texts::lines::whole;
use texts::vocabulary::VocabularyText;
use texts::{TextError, corpus::is_text};

use super::root::{Identity, Opened, Place, Roots};
use super::{DatasetError, DatasetFacts, DatasetKind, Scan, ScannedFile, Watched, digest, hash};
use crate::work::Stop;
use protocol::DatasetFile;

/// Most files and folders below a registered folder, whether they belong to the dataset or not. Each file of a dataset
/// is a row of the database, and a request of every agent.
pub const MOST_FILES: usize = 10_000;
/// Most folders inside each other below a registered folder. The layouts that are read have one.
pub const MOST_DEPTH: usize = 8;

/// Reads a folder or file as a dataset of this kind. Blocking I/O: it reads every byte. It ends soon after `stop` is
/// set.
///
/// # Errors
/// The path does not lead to a file or folder beneath one of `roots`; its content is not a dataset of this kind, or is
/// larger than what is read; a file changed while it was read; `stop` is set.
pub fn scan(roots: &Roots, kind: DatasetKind, name: &str, path: &Path, stop: &Stop) -> Result<Scan, DatasetError> {
    let scanned = scan_place(&roots.place(path)?, kind, name, stop);
    // Work that was stopped fails with whatever it was doing.
    if stop.is_set() { Err(DatasetError::Stopped) } else { scanned }
}

fn scan_place(place: &Place, kind: DatasetKind, name: &str, stop: &Stop) -> Result<Scan, DatasetError> {
    let opened = place.open()?;
    let (folder, paths) = match (opened, place.split()) {
        (Opened::Folder(_), _) => {
            let mut paths = Vec::new();
            walk(place, "", 0, &mut paths, stop)?;
            (place.clone(), paths)
        }
        (Opened::File(..), _) if kind == DatasetKind::Images => {
            return Err(unfit(&place.path(), "a file, where images are a folder of several"));
        }
        (Opened::File(..), Some((folder, file))) => (folder, vec![plain_name(&place.path(), file)?.to_owned()]),
        (Opened::File(..), None) => return Err(DatasetError::Unreachable(place.path())),
    };
    let source = Source { folder, stop, opened: RefCell::default() };
    let (mut paths, facts) = match kind {
        DatasetKind::Corpus => source.corpus(paths)?,
        DatasetKind::Vocabulary => source.vocabulary(paths)?,
        DatasetKind::Glue => source.glue(&paths)?,
        DatasetKind::Checkpoint => source.checkpoint(&paths)?,
        DatasetKind::Images => source.images(&paths)?,
    };
    paths.sort();
    let files = paths.iter().map(|path| source.file(path)).collect::<Result<Vec<_>, _>>()?;
    if files.iter().all(|scanned| scanned.file.bytes == 0) {
        let what = match kind {
            DatasetKind::Corpus => NO_TEXT,
            DatasetKind::Glue => "no GLUE task here: a task is a folder such as RTE with train.tsv and dev.tsv",
            DatasetKind::Vocabulary | DatasetKind::Checkpoint | DatasetKind::Images => "its files are empty",
        };
        return Err(unfit(&place.path(), what));
    }
    let digest = digest(kind, files.iter().map(|scanned| &scanned.file));
    Ok(Scan { name: name.into(), folder: source.folder.path(), digest, facts, files })
}

const NO_TEXT: &str = "no text here: a corpus is .txt, .txt.xz, .txt.gz and .txt.zst files, not in further folders";

/// Finds the paths of all files below `place`, relative to the folder at which the walk began; `inside` is the path of
/// `place` there. Hidden files are left out.
fn walk(place: &Place, inside: &str, depth: usize, found: &mut Vec<String>, stop: &Stop) -> Result<(), DatasetError> {
    let Opened::Folder(folder) = place.open()? else { return Err(DatasetError::Unreachable(place.path())) };
    if depth > MOST_DEPTH {
        return Err(unfit(&place.path(), format!("more than {MOST_DEPTH} folders inside each other")));
    }
    let io = |source| DatasetError::Io { path: place.path(), source };
    for (count, entry) in folder.entries().map_err(io)?.enumerate() {
        let entry = entry.map_err(io)?;
        if stop.is_set() {
            return Err(DatasetError::Stopped);
        }
        if found.len() >= MOST_FILES || count >= MOST_FILES {
            return Err(unfit(&place.path(), format!("more than {MOST_FILES} files and folders")));
        }
        let name = entry.file_name();
        let here = place.path().join(&name);
        let name = plain_name(&here, name.to_str().ok_or_else(|| unfit(&here, "the name is not UTF-8"))?)?;
        if name.starts_with('.') {
            continue;
        }
        let path = if inside.is_empty() { name.to_owned() } else { format!("{inside}/{name}") };
        // Whether a link or anything else is a file is seen when it is opened.
        if entry.file_type().map_err(io)?.is_dir() {
            walk(&place.join(name), &path, depth + 1, found, stop)?;
        } else {
            found.push(path);
        }
    }
    Ok(())
}

/// The name, unless it would break the lines of a manifest.
fn plain_name<'a>(path: &Path, name: &'a str) -> Result<&'a str, DatasetError> {
    let is_plain = !name.chars().any(char::is_control);
    if is_plain { Ok(name) } else { Err(unfit(path, "the name holds a control character")) }
}

/// A folder that is being read.
struct Source<'a> {
    folder: Place<'a>,
    stop: &'a Stop,
    /// The identity of each file when it was first opened, so that what was checked is what is hashed.
    opened: RefCell<BTreeMap<String, Identity>>,
}

type Found = Result<(Vec<String>, DatasetFacts), DatasetError>;

impl Source<'_> {
    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// Opens a file of the folder.
    fn open(&self, path: &str) -> Result<(PathBuf, Watched), DatasetError> {
        let (file, metadata) = self.folder.join(path).open_file()?;
        let identity = Identity::of(&metadata);
        if *self.opened.borrow_mut().entry(path.to_owned()).or_insert(identity) != identity {
            return Err(changed_meanwhile(&self.path(path)));
        }
        Ok((self.path(path), Watched { file, stop: self.stop.clone() }))
    }

    /// Hashes a file of the dataset.
    fn file(&self, path: &str) -> Result<ScannedFile, DatasetError> {
        let (full, mut watched) = self.open(path)?;
        let sha256 = hash(&full, &mut watched)?;
        let metadata = watched.file.metadata().map_err(|source| DatasetError::Io { path: full.clone(), source })?;
        let identity = Identity::of(&metadata);
        if self.opened.borrow().get(path) != Some(&identity) {
            return Err(changed_meanwhile(&full));
        }
        let file = DatasetFile { path: path.into(), sha256, bytes: identity.bytes };
        Ok(ScannedFile { file, identity })
    }

    /// The files of text, as the trainer chooses them. The beginning of each is read.
    fn corpus(&self, paths: Vec<String>) -> Found {
        let files: Vec<String> = paths.into_iter().filter(|path| is_text(path) && !path.contains('/')).collect();
        let mut beginnings = Vec::new();
        for file in &files {
            let (path, file) = self.open(file)?;
            beginnings.push(corpus::check(path, file)?);
        }
        if beginnings.iter().all(|beginning| *beginning == Beginning::Blank) {
            return Err(unfit(&self.folder.path(), NO_TEXT));
        }
        Ok((files, DatasetFacts::Corpus))
    }

    fn vocabulary(&self, paths: Vec<String>) -> Found {
        let files: Vec<String> =
            if paths.len() == 1 { paths } else { paths.into_iter().filter(|path| path == VOCABULARY).collect() };
        let [file] = files.as_slice() else {
            let what = format!("a vocabulary is one file of tokens, or a folder that holds {VOCABULARY}");
            return Err(unfit(&self.folder.path(), what));
        };
        let tokens = self.tokens(file)?;
        Ok((files, DatasetFacts::Vocabulary { tokens }))
    }

    /// Number of tokens of a `vocab.txt`.
    fn tokens(&self, file: &str) -> Result<u64, DatasetError> {
        let (path, file) = self.open(file)?;
        Ok(VocabularyText::read(&path, file)?.tokens.into())
    }

    /// The files of the complete tasks. A task is complete if it has its train file and its first dev file; its second
    /// dev file and its test files are taken if they are there. Official archives lack some files, so an incomplete task
    /// is left out, and a job that names it is refused. A folder without any complete task is refused.
    fn glue(&self, paths: &[String]) -> Found {
        let (mut files, mut lacking, mut examples) = (Vec::new(), Vec::new(), BTreeMap::new());
        for task in Task::ALL {
            let row = task.row();
            let [train, dev] = ["train.tsv", row.dev].map(|file| format!("{}/{file}", row.folder));
            match [&train, &dev].into_iter().filter(|path| !paths.contains(path)).collect::<Vec<_>>()[..] {
                [] => {
                    let mismatched = row.mismatched.map(|file| format!("{}/{file}", row.folder));
                    let mismatched = mismatched.filter(|path| paths.contains(path));
                    let counts = self.labelled(task, &train)?;
                    if counts.examples < LEAST_TRAIN {
                        let (path, found, line) = (self.path(&train), counts.examples, counts.last_line);
                        let source = TextError::FewExamples { path, line, found, least: LEAST_TRAIN };
                        return Err(DatasetError::Task { task, source });
                    }
                    for file in [&dev].into_iter().chain(&mismatched) {
                        self.labelled(task, file)?;
                    }
                    examples.insert(task, counts.examples);
                    files.extend([train, dev].into_iter().chain(mismatched));
                    for set in row.tests {
                        if paths.iter().any(|path| path == set.path) {
                            let (path, file) = self.open(set.path)?;
                            glue::read_test(&path, file, row, set, unused)
                                .map_err(|source| DatasetError::Task { task, source })?;
                            files.push(set.path.to_owned());
                        }
                    }
                }
                [missing] => lacking.push(format!("{} lacks {missing}", task.name())),
                _ => {}
            }
        }
        if files.is_empty() && !lacking.is_empty() {
            return Err(unfit(&self.folder.path(), format!("no task is complete: {}", lacking.join(", "))));
        }
        Ok((files, DatasetFacts::Glue { examples }))
    }

    fn labelled(&self, task: Task, file: &str) -> Result<Counts, DatasetError> {
        let (path, file) = self.open(file)?;
        glue::read_labelled(&path, file, task.row(), unused).map_err(|source| DatasetError::Task { task, source })
    }

    /// The files that a fine-tune reads, and the model that they describe, which must be one that can be trained here.
    /// Other files of a published folder are left out. The weights are not read.
    fn checkpoint(&self, paths: &[String]) -> Found {
        let named = |name: &str| paths.iter().any(|path| path == name);
        for wanted in [CONFIG, MODEL, VOCABULARY] {
            if !named(wanted) {
                let what =
                    format!("it lacks {wanted}: a checkpoint is a folder with {CONFIG}, {MODEL} and {VOCABULARY}");
                return Err(unfit(&self.folder.path(), what));
            }
        }
        let read = |file: &str| {
            let (path, file) = self.open(file)?;
            Ok::<_, DatasetError>(whole(&path, file, MOST_CONFIG_BYTES)?)
        };
        let tokenizer = named(TOKENIZER).then(|| read(TOKENIZER)).transpose()?;
        let tokens = self.tokens(VOCABULARY)?;
        let config = published::check(&read(CONFIG)?, tokenizer.as_deref(), tokens)
            .map_err(|published::UnfitCheckpoint { file, reason }| unfit(&self.path(file), reason))?;
        let files =
            [CONFIG, MODEL, VOCABULARY, TOKENIZER].into_iter().filter(|name| named(name)).map(str::to_owned).collect();
        Ok((files, DatasetFacts::Checkpoint { model: config.model, tokens }))
    }

    /// The files of images. Every one is read and checked.
    fn images(&self, paths: &[String]) -> Found {
        let names: Vec<String> = paths.iter().filter(|path| !path.contains('/')).cloned().collect();
        let folder = self.folder.path();
        let refused = RefCell::new(None);
        let open = |name: &str| match self.open(name) {
            Ok((_, file)) => Ok(Box::new(file) as Box<dyn std::io::Read>),
            Err(error) => {
                refused.replace(Some(error));
                Err(std::io::ErrorKind::Other.into())
            }
        };
        let survey = PublishedImages::survey(&folder, &names, &open);
        if let Some(error) = refused.into_inner() {
            return Err(error);
        }
        let Survey { shape, classes, train, test, files } = survey?;
        let is_read = |name: &&String| files.iter().any(|file| *file == folder.join(name));
        let facts = DatasetFacts::Images { shape, classes, train, test };
        Ok((names.iter().filter(is_read).cloned().collect(), facts))
    }
}

/// Registration counts examples and has no use for their texts.
fn unused(_: Record) -> Result<(), TextError> {
    Ok(())
}

fn unfit(path: &Path, what: impl Into<String>) -> DatasetError {
    DatasetError::Unfit { path: path.into(), what: what.into() }
}

fn changed_meanwhile(path: &Path) -> DatasetError {
    unfit(path, "it was changed while it was read: register it again when nothing writes to it")
}
