//! Unpacks a zip archive without writing outside the target folder.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Component, Path};

use anyhow::{Context, Result, bail, ensure};
use zip::ZipArchive;

use super::space;

/// Largest total size of the unpacked files, in bytes. GLUE's largest archive has less than a gigabyte.
const LARGEST: u64 = 4 << 30;

/// Unpacks the folder `root` of `archive` to `into`.
///
/// # Errors
/// If an entry's path leaves the archive's folder, if an entry is a link, or if the files have more than 4 GiB. The
/// files that were unpacked before the error must not be used.
pub(super) fn unpack(archive: &Path, root: &str, into: &Path) -> Result<()> {
    let name = archive.display();
    let mut zip = open(archive)?;
    // The sizes that an archive states may be wrong. They are good enough to tell of a full disk before it is full.
    let stated = zip.decompressed_size().unwrap_or(0).min(u128::from(LARGEST));
    space::ensure(into, stated as u64, "unpacking it")?;
    let (mut left, mut files) = (LARGEST, 0);
    for index in 0..zip.len() {
        let entry = zip.by_index(index).with_context(|| format!("{name}: entry {index} cannot be read"))?;
        let entry_name = String::from_utf8_lossy(entry.name_raw()).into_owned();
        let path =
            entry.enclosed_name().filter(|path| path.components().all(|part| matches!(part, Component::Normal(_))));
        // `enclosed_name` accepts absolute paths and backslashes, which no archive of GLUE has.
        let Some(path) = path.filter(|_| !entry_name.starts_with('/') && !entry_name.contains('\\')) else {
            bail!("{name}: entry {entry_name:?} leads out of the archive; it was refused");
        };
        ensure!(!entry.is_symlink(), "{name}: entry {entry_name:?} is a link; it was refused");
        // Entries outside the folder, such as `__MACOSX`, come from the machine that made the archive.
        let Ok(inner) = path.strip_prefix(root) else { continue };
        if entry.is_dir() || inner.as_os_str().is_empty() {
            continue;
        }
        let target = into.join(inner);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        // The bytes are counted because the sizes that an archive states may be wrong.
        let mut bounded = entry.take(left + 1);
        let written = io::copy(&mut bounded, &mut File::create_new(&target)?)
            .with_context(|| format!("{name}: entry {entry_name:?} is broken"))?;
        ensure!(written <= left, "{name} unpacks to more than {} GiB; it was refused", LARGEST >> 30);
        left -= written;
        files += 1;
    }
    ensure!(files > 0, "{name} contains no folder {root}");
    Ok(())
}

/// Gives the file `member` of `archive` to `read`, without unpacking it.
///
/// # Errors
/// If the archive lacks the file, if the file has more than 4 GiB, and the errors of `read`.
pub(super) fn read<T>(
    archive: &Path,
    member: &str,
    read: impl FnOnce(u64, &mut dyn io::BufRead) -> Result<T>,
) -> Result<T> {
    let name = archive.display();
    let mut zip = open(archive)?;
    // The name is only looked up: no path of the archive becomes one of this machine.
    let entry = zip.by_name(member).with_context(|| format!("{name} contains no file {member}"))?;
    let size = entry.size();
    let mut reader = BufReader::new(entry.take(LARGEST + 1));
    let result = read(size.min(LARGEST), &mut reader).with_context(|| format!("{name}: {member}"));
    ensure!(reader.get_ref().limit() > 0, "{name} unpacks to more than {} GiB; it was refused", LARGEST >> 30);
    result
}

fn open(archive: &Path) -> Result<ZipArchive<File>> {
    let name = archive.display();
    let file = File::open(archive).with_context(|| format!("cannot read {name}"))?;
    ZipArchive::new(file).with_context(|| format!("{name} is not a zip archive"))
}

#[cfg(test)]
pub(super) fn zipped(entries: &[(&str, &str)]) -> Vec<u8> {
    use std::io::Write;

    let mut zip = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
    for (name, content) in entries {
        zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(content.as_bytes()).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(folder: &Path, entries: &[(&str, &str)]) -> std::path::PathBuf {
        let path = folder.join("a.zip");
        fs::write(&path, zipped(entries)).unwrap();
        path
    }

    #[test]
    fn the_files_of_the_folder_are_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        let path =
            archive(folder.path(), &[("RTE/train.tsv", "one"), ("RTE/original/a.txt", "two"), ("__MACOSX/x", "")]);
        let out = folder.path().join("out");
        fs::create_dir(&out).unwrap();
        unpack(&path, "RTE", &out).unwrap();
        assert_eq!(fs::read_to_string(out.join("train.tsv")).unwrap(), "one");
        assert_eq!(fs::read_to_string(out.join("original/a.txt")).unwrap(), "two");
        assert_eq!(fs::read_dir(&out).unwrap().count(), 2);
    }

    #[test]
    fn an_entry_that_leads_out_of_the_archive_is_refused() {
        for name in ["../evil", "RTE/../../evil", "/evil", "RTE\\..\\..\\evil"] {
            let folder = tempfile::tempdir().unwrap();
            let path = archive(folder.path(), &[(name, "evil")]);
            let out = folder.path().join("inner/out");
            fs::create_dir_all(&out).unwrap();
            let error = unpack(&path, "RTE", &out).unwrap_err().to_string();
            assert!(error.contains("leads out"), "{name}: {error}");
            assert_eq!(fs::read_dir(&out).unwrap().count(), 0);
            assert!(!folder.path().join("evil").exists() && !folder.path().join("inner/evil").exists());
        }
    }

    #[test]
    fn the_error_about_a_wrong_archive_says_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let text = folder.path().join("text.zip");
        fs::write(&text, "<html>not found</html>").unwrap();
        assert!(unpack(&text, "RTE", folder.path()).unwrap_err().to_string().contains("is not a zip archive"));
        let other = archive(folder.path(), &[("CoLA/train.tsv", "")]);
        assert!(unpack(&other, "RTE", folder.path()).unwrap_err().to_string().contains("contains no folder RTE"));
    }

    #[test]
    fn a_file_is_read_by_its_name_and_nothing_else_is_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        let path = archive(folder.path(), &[("../evil", "evil"), ("wiki/train.raw", "text")]);
        let content = |member: &str| {
            read(&path, member, |size, file| {
                let mut text = String::new();
                file.read_to_string(&mut text)?;
                Ok((size, text))
            })
        };
        assert_eq!(content("wiki/train.raw").unwrap(), (4, "text".to_owned()));
        assert!(content("wiki/test.raw").unwrap_err().to_string().contains("contains no file wiki/test.raw"));
        assert!(!folder.path().parent().unwrap().join("evil").exists());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
