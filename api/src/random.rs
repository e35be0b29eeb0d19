//! Secret random bytes, for tokens. The draws of a trial do not come from here: they follow from its seeds.

use std::fs::File;
use std::io::{self, Read};

/// Bytes of the kernel's generator.
pub(crate) fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}
