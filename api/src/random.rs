//! Bytes that nobody can guess. Not for draws of a trial: these come from its seeds.

use std::fs::File;
use std::io::{self, Read};

/// From the kernel's generator.
pub(crate) fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}
