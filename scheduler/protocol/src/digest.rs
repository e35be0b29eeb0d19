//! The digest that names an artifact.

use std::fmt;
use std::str::FromStr;

/// The sha256 of an artifact's bytes as 64 lower-case hexadecimal digits. It is also a safe file name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(String);

/// A text that is not a [`Digest`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a digest: a digest is a sha256 written as 64 lower-case hexadecimal digits")]
pub struct InvalidDigest(String);

impl Digest {
    /// The digest of everything that `hasher` has read.
    pub fn of(hasher: impl sha2::Digest) -> Self {
        Self(hex::encode(hasher.finalize()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hexadecimal = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() == 64 && text.bytes().all(hexadecimal) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidDigest(text.to_owned()))
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_64_lower_case_hexadecimal_digits() {
        let good = "a5".repeat(32);
        assert_eq!(good.parse::<Digest>().unwrap().as_str(), good);
        for bad in ["", "a5", &good.to_uppercase(), &good[1..], &format!("{good}0"), &format!("{}/.", &good[2..])] {
            assert_eq!(bad.parse::<Digest>(), Err(InvalidDigest(bad.into())));
        }
    }
}
