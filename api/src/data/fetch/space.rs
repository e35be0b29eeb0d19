//! Looks for room on the disk before it is needed.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::cli::text;

/// # Errors
/// If the file system of `folder` says that it has fewer than `needed` bytes free.
pub(super) fn ensure(folder: &Path, needed: u64, what: &str) -> Result<()> {
    // A file system that does not tell is not asked again: a write beyond its end fails with an error of its own.
    let Ok(found) = rustix::fs::statvfs(folder) else { return Ok(()) };
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    ensure!(
        needed <= free,
        "{what} takes {} more in {}, which has {} free: make room there, or name another folder with --out",
        text::bytes(needed),
        folder.display(),
        text::bytes(free)
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_about_a_full_disk_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        ensure(folder.path(), 1, "a.zip").unwrap();
        let error = ensure(folder.path(), u64::MAX, "a.zip").unwrap_err().to_string();
        assert!(error.starts_with("a.zip takes") && error.contains("--out"), "{error}");
    }
}
