//! `lamina data import`: registers data under names that jobs can use.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use console::{Alignment, measure_text_width, pad_str};
use recipe::Task;
use reqwest::Method;
use scheduler::dataset::{DatasetKind, DatasetView};
use serde_json::json;

use crate::cli::client::{CallError, Client, Connection};
use crate::cli::text;
use crate::terminal::{announce, mention};

/// The columns of the longest name that this program gives, which is `bert-base-uncased`.
const USUAL_WIDTH: usize = 17;

#[derive(Args)]
pub(crate) struct Arguments {
    /// A folder with any of corpus/, vocab/, glue/, checkpoints/ and images/, or a single data set (then with --kind)
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// Kind of the data set, if PATH is a single one
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// Name of the single data set [default: the name of the file or folder]
    #[arg(long, requires = "kind")]
    name: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Text with one paragraph per line and a blank line between documents; plain, .xz, .gz or .zst
    Corpus,
    /// A vocab.txt with one WordPiece token per line
    Vocabulary,
    /// A folder of GLUE tasks in the official layout
    Glue,
    /// A folder with a model of the BERT family in Hugging Face's layout
    Checkpoint,
    /// A folder with the files of MNIST (IDX) or CIFAR
    Images,
}

impl From<Kind> for DatasetKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Corpus => Self::Corpus,
            Kind::Vocabulary => Self::Vocabulary,
            Kind::Glue => Self::Glue,
            Kind::Checkpoint => Self::Checkpoint,
            Kind::Images => Self::Images,
        }
    }
}

/// A data set to register.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    name: String,
    kind: Kind,
    path: PathBuf,
}

pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    // The server would resolve a relative path in its own folder.
    let path = fs::canonicalize(&arguments.path).with_context(|| format!("no data at {}", arguments.path.display()))?;
    let entries = match arguments.kind {
        Some(kind) => {
            let name = arguments.name.map_or_else(|| name_of(&path, kind), Ok)?;
            vec![Entry { name, kind, path }]
        }
        None => survey(&path)?,
    };
    let client = Client::new(&arguments.connection)?;
    // The lines of several imports stand below each other as those of one do.
    let width = entries.iter().map(|entry| measure_text_width(&entry.name)).max().unwrap_or(0).max(USUAL_WIDTH);
    let (count, mut refused) = (entries.len(), Vec::new());
    for Entry { name, kind, path } in entries {
        let kind = DatasetKind::from(kind);
        let body = json!({"name": name, "kind": kind, "path": path});
        let request = client.request(Method::POST, "/datasets").json(&body);
        match client.read::<DatasetView>(request).await {
            Ok(read) => {
                let dataset = read.body;
                let (size, digest) = (text::bytes(dataset.bytes), dataset.digest.chars().take(12).collect::<String>());
                let name = pad_str(&dataset.name, width, Alignment::Left, None);
                announce(format_args!("{name}  {:<10}  {size:>7}  sha256 {digest}", kind.name()));
            }
            // One refused data set of a folder does not keep the others from being registered.
            Err(CallError::Refused(error)) if count > 1 && error.status == 422 => {
                let padded = pad_str(&name, width, Alignment::Left, None);
                mention(format_args!("{padded}  {:<10}  {error}", kind.name()));
                refused.push(name);
            }
            Err(error) => return Err(error.into()),
        }
    }
    ensure!(refused.is_empty(), "{} of {count} data sets are not registered: {}", refused.len(), refused.join(", "));
    Ok(())
}

/// The data sets of a data folder: every file of corpus/, every vocabulary of vocab/, glue/, and every folder of
/// checkpoints/ and images/.
fn survey(folder: &Path) -> Result<Vec<Entry>> {
    ensure!(folder.is_dir(), "{} is a file; give --kind corpus or --kind vocabulary with it", folder.display());
    let mut entries = Vec::new();
    for (subfolder, kind) in [("corpus", Kind::Corpus), ("vocab", Kind::Vocabulary)] {
        for path in files(&folder.join(subfolder))? {
            // A file such as README.md beside the data is not registered.
            if is_data(&path, kind) {
                entries.push(Entry { name: name_of(&path, kind)?, kind, path });
            }
        }
    }
    let glue = folder.join("glue");
    if Task::ALL.iter().any(|task| glue.join(task.row().folder).is_dir()) {
        entries.push(Entry { name: "glue".into(), kind: Kind::Glue, path: glue });
    }
    for (subfolder, kind) in [("checkpoints", Kind::Checkpoint), ("images", Kind::Images)] {
        for path in folders(&folder.join(subfolder))? {
            entries.push(Entry { name: name_of(&path, kind)?, kind, path });
        }
    }
    if folder.join(super::generate::MARK).is_file() {
        // The prefix keeps scores on generated tasks from passing for scores on the real ones.
        for entry in entries.iter_mut().filter(|entry| !entry.name.starts_with(super::generate::PREFIX)) {
            entry.name.insert_str(0, super::generate::PREFIX);
        }
    }
    if entries.is_empty() {
        bail!(
            "{} holds no corpus/*.txt*, vocab/*.txt, glue/, checkpoints/ or images/; name a single data set with --kind",
            folder.display()
        );
    }
    Ok(entries)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    inside(folder, Path::is_file)
}

/// The folders inside `folder`, without hidden ones, which other programs leave behind (`.ipynb_checkpoints`).
fn folders(folder: &Path) -> Result<Vec<PathBuf>> {
    let is_hidden = |path: &Path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    let mut folders = inside(folder, Path::is_dir)?;
    folders.retain(|path| !is_hidden(path));
    Ok(folders)
}

fn inside(folder: &Path, wanted: fn(&Path) -> bool) -> Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.retain(|path| wanted(path));
    paths.sort();
    Ok(paths)
}

const CORPUS_ENDINGS: [&str; 4] = [".txt", ".txt.xz", ".txt.gz", ".txt.zst"];

fn is_data(path: &Path, kind: Kind) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match kind {
        Kind::Corpus => CORPUS_ENDINGS.iter().any(|ending| name.ends_with(ending)),
        Kind::Vocabulary => name.ends_with(".txt"),
        Kind::Glue | Kind::Checkpoint | Kind::Images => false,
    }
}

/// The name of the file without its ending: `wiki-00` for `wiki-00.txt.xz`, `bert-base-uncased` for
/// `bert-base-uncased-vocab.txt`.
fn name_of(path: &Path, kind: Kind) -> Result<String> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        bail!("the name of {} is not UTF-8 text; give a name with --name", path.display());
    };
    let name = CORPUS_ENDINGS.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name);
    let name = if kind == Kind::Vocabulary { name.strip_suffix("-vocab").unwrap_or(name) } else { name };
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_folder_becomes_data_sets_named_after_its_files() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["corpus", "vocab", "glue/RTE", "checkpoints/bert-base", "images/mnist", "images/.trash"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        for file in ["corpus/wiki-00.txt.xz", "corpus/README.md", "vocab/bert-base-uncased-vocab.txt"] {
            fs::write(root.path().join(file), "").unwrap();
        }
        let found = survey(root.path()).unwrap();
        let named: Vec<_> = found.iter().map(|entry| (entry.name.as_str(), entry.kind)).collect();
        let expected = [
            ("wiki-00", Kind::Corpus),
            ("bert-base-uncased", Kind::Vocabulary),
            ("glue", Kind::Glue),
            ("bert-base", Kind::Checkpoint),
            ("mnist", Kind::Images),
        ];
        assert_eq!(named, expected);
    }

    #[test]
    fn generated_data_is_registered_under_names_that_say_so() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("glue/CoLA")).unwrap();
        fs::write(root.path().join(super::super::generate::MARK), "").unwrap();
        assert_eq!(survey(root.path()).unwrap()[0].name, "generated-glue");
    }

    #[test]
    fn the_error_about_an_empty_folder_names_the_option_that_helps() {
        let root = tempfile::tempdir().unwrap();
        assert!(survey(root.path()).unwrap_err().to_string().contains("--kind"));
    }
}
