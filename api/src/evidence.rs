//! The evidence for a report, in one archive: what the job was, what its trials found, and the report itself. Whoever has
//! it computes the report again, without a server.

use std::io::{Cursor, Read, Write};

use anyhow::{Context, Result, bail, ensure};
use protocol::id::JobId;
use report::{Facts, Report};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipArchive, ZipWriter};

/// Name of the file that lists the others.
const MANIFEST: &str = "manifest.json";
const FACTS: &str = "facts.json";
const REPORT: &str = "report.json";
const JOB: &str = "job.json";
const CURVES: &str = "validation_loss.json";

/// Version of the layout of the archive.
const FORMAT: u32 = 1;

/// The files of the archive with their digests.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Manifest {
    format: u32,
    /// Version of the server that wrote it.
    lamina: String,
    job: JobId,
    /// What was fixed at the job's submission.
    preregistration: String,
    files: Vec<File>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct File {
    name: String,
    /// Hex sha256 of the content.
    sha256: String,
    bytes: u64,
}

/// The content of the archive, each as JSON.
pub(crate) struct Content {
    pub(crate) job: Vec<u8>,
    /// Curves of the validation loss of all trials.
    pub(crate) curves: Vec<u8>,
}

/// The archive of a job. It depends on the job alone: every file in it has the same time and mode.
pub(crate) fn write(facts: &Facts, content: Content) -> Result<Vec<u8>> {
    let files = [
        (JOB, content.job),
        (FACTS, serde_json::to_vec(facts)?),
        (CURVES, content.curves),
        (REPORT, serde_json::to_vec(&report::report(facts))?),
    ];
    let listed = files.iter().map(|(name, bytes)| File {
        name: (*name).to_owned(),
        sha256: sha256(bytes),
        bytes: bytes.len() as u64,
    });
    let manifest = Manifest {
        format: FORMAT,
        lamina: env!("CARGO_PKG_VERSION").into(),
        job: facts.job,
        preregistration: facts.preregistration.clone(),
        files: listed.collect(),
    };
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .last_modified_time(DateTime::default())
        .unix_permissions(0o644);
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let manifest = serde_json::to_vec_pretty(&manifest)?;
    for (name, bytes) in std::iter::once((MANIFEST, manifest)).chain(files) {
        zip.start_file(name, options)?;
        zip.write_all(&bytes)?;
    }
    Ok(zip.finish()?.into_inner())
}

/// The report of the archive, computed again from its facts.
///
/// # Errors
/// The archive was cut off or edited, or this version computes another report; the message names the file and what is
/// wrong with it.
pub(crate) fn recompute(archive: &[u8]) -> Result<Report> {
    let mut zip = ZipArchive::new(Cursor::new(archive))
        .context("it is no zip archive, or its end is missing: download it again")?;
    let Manifest { format, files, lamina, job, preregistration } =
        serde_json::from_slice(&file(&mut zip, MANIFEST)?).with_context(|| format!("{MANIFEST} cannot be read"))?;
    ensure!(format == FORMAT, "{MANIFEST} has format {format}; this version reads format {FORMAT}");
    let mut read = |name: &str| {
        let Some(listed) = files.iter().find(|listed| listed.name == name) else {
            bail!("{MANIFEST} does not list {name}: the archive was edited");
        };
        let bytes = file(&mut zip, name)?;
        let found = sha256(&bytes);
        ensure!(
            found == listed.sha256,
            "{name} has the sha256 {found}, and {MANIFEST} says {}: the archive was edited",
            listed.sha256
        );
        Ok(bytes)
    };
    // Every file counts, although the report follows from one of them.
    let [facts, stored] = [FACTS, REPORT].map(&mut read);
    [JOB, CURVES].map(read).into_iter().collect::<Result<Vec<_>>>()?;
    let facts: Facts = serde_json::from_slice(&facts?).with_context(|| format!("{FACTS} cannot be read"))?;
    ensure!(
        facts.job == job && facts.preregistration == preregistration,
        "{FACTS} belongs to another job than {MANIFEST}: the archive was edited"
    );
    let report = report::report(&facts);
    ensure!(
        serde_json::to_vec(&report)? == stored?,
        "the facts give another report than {REPORT}: lamina {lamina} wrote it, and this is {}",
        env!("CARGO_PKG_VERSION")
    );
    Ok(report)
}

fn file(zip: &mut ZipArchive<Cursor<&[u8]>>, name: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut file = zip.by_name(name).with_context(|| format!("{name} is missing"))?;
    file.read_to_end(&mut bytes).with_context(|| format!("{name} is damaged"))?;
    Ok(bytes)
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn facts() -> Facts {
        Facts {
            job: "01890000-0000-7000-8000-000000000001".parse().map(JobId).unwrap(),
            name: "n".into(),
            arms: vec!["pre-ln".into(), "pld".into()],
            baseline: "pre-ln".into(),
            published: BTreeSet::new(),
            preregistration: "0".repeat(64),
            rules: Default::default(),
            trials: Vec::new(),
        }
    }

    fn archive() -> Vec<u8> {
        write(&facts(), Content { job: b"{}".to_vec(), curves: b"[]".to_vec() }).unwrap()
    }

    /// The archive with the content of one file changed; the zip format itself stays sound.
    fn edited(name: &str, change: impl Fn(Vec<u8>) -> Vec<u8>) -> Vec<u8> {
        let archive = archive();
        let mut old = ZipArchive::new(Cursor::new(archive.as_slice())).unwrap();
        let mut new = ZipWriter::new(Cursor::new(Vec::new()));
        for index in 0..old.len() {
            let own = old.by_index(index).unwrap().name().unwrap().into_owned();
            let bytes = file(&mut old, &own).unwrap();
            new.start_file(own.as_str(), SimpleFileOptions::default()).unwrap();
            new.write_all(&if own == name { change(bytes) } else { bytes }).unwrap();
        }
        new.finish().unwrap().into_inner()
    }

    #[test]
    fn the_same_report_is_computed_again() {
        assert_eq!(recompute(&archive()).unwrap(), report::report(&facts()));
        assert_eq!(archive(), archive());
    }

    #[test]
    fn an_archive_that_was_cut_off_or_edited_is_refused_with_the_file_and_what_is_wrong() {
        let whole = archive();
        let refused = |archive: &[u8]| format!("{:#}", recompute(archive).unwrap_err());
        assert!(refused(&whole[..whole.len() / 2]).contains("download it again"));
        for name in [FACTS, REPORT, JOB, CURVES] {
            let text = refused(&edited(name, |bytes| [bytes, b" ".to_vec()].concat()));
            assert!(text.starts_with(&format!("{name} has the sha256")), "{text}");
        }
        let unlisted = edited(MANIFEST, |bytes| String::from_utf8(bytes).unwrap().replace(JOB, "other").into_bytes());
        assert!(refused(&unlisted).contains("does not list job.json"));
        let newer = edited(MANIFEST, |bytes| {
            String::from_utf8(bytes).unwrap().replace("\"format\": 1", "\"format\": 2").into_bytes()
        });
        assert!(refused(&newer).contains("has format 2"));
    }
}
