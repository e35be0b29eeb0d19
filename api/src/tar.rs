//! Archives of regular files in the format of tar (POSIX.1-1988, `ustar`), which can be sent without knowing the files
//! before their turn.

use bytes::Bytes;
use chrono::{DateTime, Utc};

const BLOCK: usize = 512;
/// Largest size that fits the field as octal digits.
const LARGEST_OCTAL: u64 = 0o777_7777_7777;

/// The block before the content of a file.
pub(crate) type Header = [u8; BLOCK];
/// The end of an archive.
pub(crate) const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

#[derive(Debug, thiserror::Error)]
#[error("{0:?} is too long for an archive: a path there has at most 100 bytes")]
pub(crate) struct LongPath(String);

/// The header of a file that everybody may read and its owner may write.
///
/// # Errors
/// The path has more than 100 bytes.
pub(crate) fn header(path: &str, bytes: u64, modified: DateTime<Utc>) -> Result<Header, LongPath> {
    let mut header = [0; BLOCK];
    if path.len() > 100 {
        return Err(LongPath(path.to_owned()));
    }
    let seconds = u64::try_from(modified.timestamp()).unwrap_or(0);
    let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    put(0, path.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    if bytes <= LARGEST_OCTAL {
        put(124, format!("{bytes:011o}\0").as_bytes());
    } else {
        // GNU tar's form of a larger number, which every current program reads: a set bit, then binary.
        put(124, &[0x80, 0, 0, 0]);
        put(128, &bytes.to_be_bytes());
    }
    put(136, format!("{seconds:011o}\0").as_bytes());
    // The checksum counts its own field as spaces.
    put(148, b"        0");
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(header)
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
    fn a_size_that_octal_digits_cannot_hold_is_binary() {
        let of = |bytes| header("a", bytes, DateTime::UNIX_EPOCH).unwrap()[124..136].to_vec();
        assert_eq!(of(LARGEST_OCTAL), b"77777777777\0");
        assert_eq!(of(LARGEST_OCTAL + 1), [0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]);
        assert!(header(&"a".repeat(101), 0, DateTime::UNIX_EPOCH).is_err());
    }
}
