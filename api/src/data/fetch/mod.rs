//! `lamina data fetch` downloads the official GLUE archives and unpacks them in the official layout.
//!
//! The addresses are those of GLUE's own download script. Their digests are the ones that the Hugging Face `datasets`
//! library published with its `glue` data set (`glue.lock.json`); other content is refused. A mirror with other
//! archives needs a lock file of its own (`--lock`), which the first download from it writes.
//!
//! | module | content |
//! |---|---|
//! | [`download`] | downloads a file, resumes and retries, and checks the digest |
//! | [`unpack`] | unpacks a zip archive, which cannot write outside its folder |
//! | [`mrpc`] | makes the files of MRPC, which GLUE publishes in parts |

mod download;
mod mrpc;
mod unpack;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use recipe::Task;
use serde::{Deserialize, Serialize};

use crate::home::Home;
use crate::terminal::{announce, mention, say};
use download::{Downloader, Pin};

const DEFAULT_BASE: &str = "https://dl.fbaipublicfiles.com";

#[derive(Args)]
pub(crate) struct Arguments {
    /// Folder that gets glue/ (and .download/ during the download) [default: data/ in the home, where `lamina up` may
    /// read]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Home of a local `lamina up`
    #[arg(long, env = "LAMINA_HOME", value_name = "DIR")]
    home: Option<PathBuf>,
    /// Tasks to fetch [default: all nine]
    #[arg(long, value_name = "TASK,...", value_delimiter = ',', value_parser = task)]
    tasks: Vec<Task>,
    /// URL of a mirror with the same paths
    #[arg(long, value_name = "URL", default_value = DEFAULT_BASE)]
    base_url: String,
    /// Lock file with the digests to check instead of the official ones; files that it does not name are added to it
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
}

fn task(name: &str) -> Result<Task, String> {
    Task::named(name).ok_or_else(|| {
        let known = Task::ALL.map(Task::name);
        format!("the tasks are {}", known.join(", "))
    })
}

/// The paths of a task's files, relative to the base URL.
fn sources(task: Task) -> &'static [&'static str] {
    match task {
        Task::Cola => &["glue/data/CoLA.zip"],
        Task::Sst2 => &["glue/data/SST-2.zip"],
        Task::StsB => &["glue/data/STS-B.zip"],
        Task::Qqp => &["glue/data/QQP-clean.zip"],
        Task::Mnli => &["glue/data/MNLI.zip"],
        Task::Qnli => &["glue/data/QNLIv2.zip"],
        Task::Rte => &["glue/data/RTE.zip"],
        Task::Wnli => &["glue/data/WNLI.zip"],
        Task::Mrpc => &[
            "senteval/senteval_data/msr_paraphrase_train.txt",
            "senteval/senteval_data/msr_paraphrase_test.txt",
            "glue/data/mrpc_dev_ids.tsv",
        ],
    }
}

/// The digest of each file, by its path.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
struct Lock(BTreeMap<String, Pin>);

impl Lock {
    fn official() -> Result<Self> {
        serde_json::from_str(include_str!("glue.lock.json")).context("the built-in lock file is broken")
    }

    fn read(path: &Path) -> Result<Self> {
        match fs::read(path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).with_context(|| format!("{} is not a lock file", path.display()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    fn write(&self, path: &Path) -> Result<()> {
        let partial = path.with_extension("partial");
        fs::write(&partial, serde_json::to_string_pretty(self)? + "\n")?;
        fs::rename(&partial, path).with_context(|| format!("cannot write {}", path.display()))
    }
}

pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let out = match arguments.out {
        Some(out) => out,
        None => Home::new(arguments.home)?.data_folder(),
    };
    let (cache, glue) = (out.join(".download"), out.join("glue"));
    for folder in [&cache, &glue] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let mut lock = match &arguments.lock {
        Some(path) => Lock::read(path)?,
        None => Lock::official()?,
    };
    let tasks = match arguments.tasks.as_slice() {
        [] => Task::ALL.to_vec(),
        some => some.to_vec(),
    };
    let downloader = Downloader::new(&arguments.base_url)?;
    let mut failures = Vec::new();
    for task in tasks {
        // A task that cannot be fetched does not keep the others from being fetched.
        if let Err(error) = fetch(task, &downloader, &cache, &glue, &mut lock).await {
            mention(format_args!("{}: {error:#}", task.name()));
            failures.push(task.name());
        }
        if let Some(path) = &arguments.lock {
            lock.write(path)?;
        }
    }
    if !failures.is_empty() {
        bail!(
            "not fetched: {}. Incomplete downloads are kept; run the same command again to resume them",
            failures.join(", ")
        );
    }
    say(format_args!("\nRegister the tasks with: lamina data import {}", out.display()))
}

async fn fetch(task: Task, downloader: &Downloader, cache: &Path, glue: &Path, lock: &mut Lock) -> Result<()> {
    let folder = glue.join(task.row().folder);
    if folder.is_dir() {
        announce(format_args!("{:<6} exists already", task.name()));
        return Ok(());
    }
    let mut files = Vec::new();
    for source in sources(task) {
        let file = cache.join(source.rsplit('/').next().unwrap_or(source));
        let pin = downloader.fetch(source, &file, lock.0.get(*source)).await?;
        announce(format_args!("{:<6} {source}\n       sha256 {}", task.name(), pin.sha256));
        lock.0.insert((*source).to_owned(), pin);
        files.push(file);
    }
    let partial = glue.join(format!(".{}.partial", task.row().folder));
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    fs::create_dir(&partial)?;
    match files.as_slice() {
        [archive] => unpack::unpack(archive, task.row().folder, &partial)?,
        [train, test, dev_ids] => mrpc::assemble(train, test, dev_ids, &partial)?,
        _ => bail!("{} has {} sources", task.name(), files.len()),
    }
    for name in ["train.tsv", task.row().dev] {
        if !partial.join(name).is_file() {
            bail!("the archive does not contain {name}");
        }
    }
    fs::rename(&partial, &folder)?;
    for file in files {
        fs::remove_file(file)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn reading_a_written_lock_file_gives_the_same_digests() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("glue.lock.json");
        assert_eq!(Lock::read(&path).unwrap(), Lock::default());
        let lock = Lock(BTreeMap::from([("a/b.zip".into(), Pin { sha256: "00".repeat(32), bytes: 7 })]));
        lock.write(&path).unwrap();
        assert_eq!(Lock::read(&path).unwrap(), lock);
        fs::write(&path, "[]").unwrap();
        assert!(Lock::read(&path).unwrap_err().to_string().contains("is not a lock file"));
    }

    #[test]
    fn every_official_source_has_its_digest() {
        let lock = Lock::official().unwrap();
        let sources: Vec<&str> = Task::ALL.into_iter().flat_map(sources).copied().collect();
        assert_eq!(lock.0.len(), sources.len());
        for source in sources {
            assert!(lock.0[source].sha256.len() == 64 && lock.0[source].bytes > 0, "{source}");
        }
    }

    #[test]
    fn every_task_has_a_source_and_no_two_files_share_a_name() {
        assert!(Task::ALL.into_iter().all(|task| !sources(task).is_empty()));
        let names: Vec<_> = Task::ALL.into_iter().flat_map(sources).map(|source| source.rsplit('/').next()).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
    }
}
