//! Archives of regular files in the format of tar, which can be sent without knowing the files before their turn.

use std::io;

use bytes::Bytes;
use chrono::{DateTime, Utc};

const BLOCK: usize = 512;

/// The block before the content of a file.
pub(crate) type Header = [u8; BLOCK];
/// The end of an archive.
pub(crate) const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// The header of a file that everybody may read and its owner may write.
///
/// # Errors
/// The path is longer than an archive can say, or leads out of it.
pub(crate) fn header(path: &str, bytes: u64, modified: DateTime<Utc>) -> io::Result<Header> {
    let mut header = tar::Header::new_gnu();
    header.set_path(path)?;
    header.set_mode(0o644);
    header.set_size(bytes);
    header.set_mtime(u64::try_from(modified.timestamp()).unwrap_or(0));
    header.set_cksum();
    Ok(*header.as_bytes())
}

/// Zeros that fill the last block of a file.
pub(crate) fn padding(bytes: u64) -> Bytes {
    Bytes::from_static(&END[..(bytes.next_multiple_of(BLOCK as u64) - bytes) as usize])
}

/// Number of bytes that a file takes up in an archive.
pub(crate) const fn member_length(bytes: u64) -> u64 {
    BLOCK as u64 + bytes.next_multiple_of(BLOCK as u64)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn the_tar_of_this_machine_unpacks_what_was_packed() {
        let folder = tempfile::tempdir().unwrap();
        let modified = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let files = [("a/empty", vec![]), ("a/block", vec![7; BLOCK]), ("a/more", vec![9; BLOCK + 1])];
        let mut archive = Vec::new();
        for (path, content) in &files {
            let before = archive.len();
            archive.extend(header(path, content.len() as u64, modified).unwrap());
            archive.extend(content);
            archive.extend(padding(content.len() as u64));
            assert_eq!((archive.len() - before) as u64, member_length(content.len() as u64));
        }
        archive.extend(END);
        let mut tar = Command::new("tar").arg("-xvC").arg(folder.path()).stdin(Stdio::piped()).spawn().unwrap();
        tar.stdin.take().unwrap().write_all(&archive).unwrap();
        assert!(tar.wait().unwrap().success());
        for (path, content) in &files {
            let path = folder.path().join(path);
            assert_eq!(std::fs::read(&path).unwrap(), *content);
            assert_eq!(std::fs::metadata(path).unwrap().modified().unwrap(), modified.into());
        }
    }

    #[test]
    fn a_size_of_many_gigabytes_and_a_long_path_have_an_answer() {
        let large = header("a", 1 << 40, DateTime::UNIX_EPOCH).unwrap();
        assert_eq!(tar::Header::from_byte_slice(&large).size().unwrap(), 1 << 40);
        assert!(header(&"a".repeat(101), 0, DateTime::UNIX_EPOCH).is_err());
        assert!(header("../a", 0, DateTime::UNIX_EPOCH).is_err());
    }
}
