//! `lamina data fetch` downloads what a first job needs: a vocabulary, an open corpus, and the official GLUE archives.
//!
//! [`sources`] is the one table of what can be fetched, with address, licence, size and digest; other content is refused.
//! A mirror with other archives needs a lock file of its own (`--lock`), which the first download from it writes.
//!
//! | module | content |
//! |---|---|
//! | [`sources`] | the table |
//! | [`download`] | downloads a file, resumes and retries, and checks the digest |
//! | [`partial`] | an incomplete download, with the version of the file that it belongs to |
//! | [`space`] | looks for room on the disk |
//! | [`unpack`] | reads and unpacks a zip archive, which cannot write outside its folder |
//! | [`wikitext`] | turns WikiText into a corpus |
//! | [`mrpc`] | makes the files of MRPC, which GLUE publishes in parts |

mod download;
mod mrpc;
mod partial;
mod sources;
mod space;
#[cfg(test)]
mod tests;
mod unpack;
mod wikitext;

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use clap::builder::PossibleValuesParser;
use recipe::Task;
use serde::{Deserialize, Serialize};

use super::generate;
use crate::cli::text;
use crate::home::Home;
use crate::terminal::{announce, mention, say};
use download::{DownloadError, Downloader, Pin};
use sources::{Content, Remote, SOURCES, Source};

#[derive(Args)]
pub(crate) struct Arguments {
    /// Data sets to fetch [default: what a first job needs, which is all but wikitext-2]
    #[arg(value_name = "DATASET", value_parser = PossibleValuesParser::new(sources::datasets()))]
    datasets: Vec<String>,
    /// Show what can be fetched, with licence, size, addresses and sha256, and where it goes; fetch nothing
    #[arg(long)]
    list: bool,
    /// Folder that gets vocab/, corpus/ and glue/ (and .download/ during the download) [default: data/ in the home, where
    /// `lamina up` may read]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Home of a local `lamina up`
    #[arg(long, env = "LAMINA_HOME", value_name = "DIR")]
    home: Option<PathBuf>,
    /// Tasks of GLUE to fetch [default: all nine]
    #[arg(long, value_name = "TASK,...", value_delimiter = ',', value_parser = task)]
    tasks: Vec<Task>,
    /// URL of a mirror that has the files under the paths that --list shows [default: the public addresses]
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
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

pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let selected = select(&arguments)?;
    if arguments.list {
        say(list(&selected))?;
        return Ok(());
    }
    let out = match arguments.out {
        Some(out) => out,
        None => Home::new(arguments.home)?.data_folder(),
    };
    let mark = out.join(generate::MARK);
    ensure!(!mark.exists(), "{} says that the data there is generated; name another folder with --out", mark.display());
    let cache = out.join(".download");
    fs::create_dir_all(&cache)
        .with_context(|| format!("cannot make {}; name another folder with --out", cache.display()))?;
    let running = File::create(cache.join("lock")).with_context(|| format!("cannot write to {}", cache.display()))?;
    // A file system without locks does not keep anybody from fetching.
    let is_taken = matches!(running.try_lock(), Err(TryLockError::WouldBlock));
    ensure!(!is_taken, "another `lamina data fetch` writes to {}; wait for it", out.display());
    let lock = match &arguments.lock {
        Some(path) => Lock::read(path)?,
        None => Lock::official(),
    };
    let downloader = Downloader::new(arguments.base_url.as_deref())?;
    let mut fetcher = Fetcher { downloader, lock, out: &out, cache };
    let (mut failures, mut is_offline) = (Vec::new(), false);
    for source in selected {
        // Data that cannot be fetched does not keep the rest from being fetched.
        if let Err(error) = fetcher.fetch(source).await {
            is_offline |= matches!(error.downcast_ref(), Some(DownloadError::Unreachable(_)));
            mention(format_args!("{}: {error:#}", source.label()));
            failures.push(source.label());
        }
        if let Some(path) = &arguments.lock {
            fetcher.lock.write(path)?;
        }
    }
    if !failures.is_empty() {
        let advice = match is_offline {
            true => format!(
                ".\nWithout network: run the command on a machine that has it and copy its folder to {}, name a mirror \
                 with --base-url, or make a small substitute with `lamina data generate`",
                out.display()
            ),
            false => String::new(),
        };
        bail!(
            "not fetched: {}. Incomplete downloads are kept; run the same command again to resume them{advice}",
            failures.join(", ")
        );
    }
    say(format_args!("\nRegister the data with: lamina data import {}", out.display()))
}

/// The sources that the command line names.
fn select(arguments: &Arguments) -> Result<Vec<&'static Source>> {
    let Arguments { datasets, tasks, list, .. } = arguments;
    let is_named = |source: &Source| match datasets.is_empty() {
        true => source.by_default || *list,
        false => datasets.iter().any(|name| name == source.dataset),
    };
    let is_wanted = |source: &Source| match source.content {
        Content::Task(task) => tasks.is_empty() || tasks.contains(&task),
        _ => true,
    };
    let selected: Vec<_> = SOURCES.iter().filter(|source| is_named(source) && is_wanted(source)).collect();
    let has_task = selected.iter().any(|source| matches!(source.content, Content::Task(_)));
    ensure!(tasks.is_empty() || has_task, "--tasks selects tasks of glue, which is not among the data sets to fetch");
    Ok(selected)
}

/// The table for people.
fn list(sources: &[&Source]) -> String {
    let mut lines = Vec::new();
    for source in sources {
        let by_default = if source.by_default { "" } else { " (only if named)" };
        let size = text::bytes(source.bytes());
        lines.push(format!("{}{by_default}: {}", source.label(), source.about));
        lines.push(format!("    {size}; licence: {}; goes to {}", source.licence, source.target()));
        for file in source.files {
            lines.push(format!("    {}, {} bytes\n        sha256 {}", file.path, file.bytes, file.sha256));
            lines.extend(file.urls.iter().map(|url| format!("        {url}")));
        }
    }
    let total = sources.iter().filter(|source| source.by_default).map(|source| source.bytes()).sum();
    lines.push(format!("\nWithout names, {} are downloaded.", text::bytes(total)));
    lines.join("\n")
}

/// The digest of each file, by its path.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
struct Lock(BTreeMap<String, Pin>);

impl Lock {
    fn official() -> Self {
        let files = SOURCES.iter().flat_map(|source| source.files);
        let pin = |file: &Remote| Pin { sha256: file.sha256.to_owned(), bytes: file.bytes };
        Self(files.map(|file| (file.path.to_owned(), pin(file))).collect())
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

struct Fetcher<'a> {
    downloader: Downloader,
    lock: Lock,
    /// The data folder.
    out: &'a Path,
    cache: PathBuf,
}

impl Fetcher<'_> {
    async fn fetch(&mut self, source: &Source) -> Result<()> {
        let (label, target) = (source.label(), self.out.join(source.target()));
        // A target gets its name when it is complete, so one that exists is complete.
        if target.exists() {
            announce(format_args!("{label:<17} exists already"));
            return Ok(());
        }
        let mut files = Vec::new();
        for remote in source.files {
            let file = self.cache.join(remote.name());
            let pin = self.downloader.fetch(remote, &file, self.lock.0.get(remote.path)).await?;
            announce(format_args!("{label:<17} {}, sha256 {}", remote.path, pin.sha256));
            self.lock.0.insert(remote.path.to_owned(), pin);
            files.push(file);
        }
        let folder = target.parent().unwrap_or(self.out);
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let partial = folder.join(format!(".{name}.partial"));
        match (source.content, files.as_slice()) {
            (Content::Vocabulary, [file]) => {
                fs::copy(file, &partial).with_context(|| format!("cannot write {}", partial.display()))?;
                File::open(&partial)?.sync_all()?;
            }
            (Content::WikiText { member }, [archive]) => {
                let summary = unpack::read(archive, member, |size, raw| {
                    space::ensure(folder, size, "the corpus")?;
                    let mut corpus = BufWriter::new(File::create(&partial)?);
                    let summary = wikitext::convert(Path::new(member), raw, &mut corpus)?;
                    corpus.into_inner()?.sync_all()?;
                    Ok(summary)
                })?;
                let wikitext::Summary { articles, paragraphs } = summary;
                let target = source.target();
                announce(format_args!("{label:<17} {articles} articles, {paragraphs} paragraphs in {target}"));
            }
            (Content::Task(task), files) => make_task(task, files, &partial)?,
            (_, files) => bail!("{label} has {} files", files.len()),
        }
        fs::rename(&partial, &target).with_context(|| format!("cannot write {}", target.display()))?;
        for file in files {
            fs::remove_file(file)?;
        }
        Ok(())
    }
}

/// Makes the folder of a task from its archive, or from the three files of MRPC.
fn make_task(task: Task, files: &[PathBuf], folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir(folder)?;
    match files {
        [archive] => unpack::unpack(archive, task.row().folder, folder)?,
        [train, test, dev_ids] => mrpc::assemble(train, test, dev_ids, folder)?,
        _ => bail!("{} has {} sources", task.name(), files.len()),
    }
    for name in ["train.tsv", task.row().dev] {
        ensure!(folder.join(name).is_file(), "the archive does not contain {name}");
    }
    Ok(())
}
