//! Bearer tokens: 256 random bits, shown once, stored as their sha256.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use protocol::id::TokenId;

/// The start of every token. It makes a token that was leaked into a log or a repository recognisable.
const MARK: &str = "lamina_";
const RANDOM_BYTES: usize = 32;
/// Characters of the random part that may be shown.
const SHOWN: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "token_scope", rename_all = "snake_case")]
pub enum Scope {
    Admin,
    Write,
    Read,
    /// For agents: sync and artifacts only.
    Agent,
}

impl Scope {
    /// True if a token of this scope may do what requires `wanted`. Admin includes write, write includes read; agent includes
    /// no other scope and is included in none.
    pub const fn allows(self, wanted: Scope) -> bool {
        match (self, wanted) {
            (Scope::Admin, _)
            | (Scope::Write, Scope::Write | Scope::Read)
            | (Scope::Read, Scope::Read)
            | (Scope::Agent, Scope::Agent) => true,
            (Scope::Write | Scope::Read | Scope::Agent, _) => false,
        }
    }
}

/// A token in clear text. It cannot be printed or logged by accident: `Debug` hides it and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A new token from 256 random bits.
    pub fn from_random(bytes: [u8; RANDOM_BYTES]) -> Self {
        Self(format!("{MARK}{}", hex::encode(bytes)))
    }

    /// Reads a token; `None` if `text` does not have the form of one.
    pub fn parse(text: &str) -> Option<Self> {
        let random = text.trim().strip_prefix(MARK)?;
        let fits = random.len() == 2 * RANDOM_BYTES
            && random.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        fits.then(|| Self(text.trim().to_owned()))
    }

    /// The token itself, for its owner.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The first characters, which may be shown and by which the token is looked up.
    pub fn prefix(&self) -> &str {
        &self.0[..MARK.len() + SHOWN]
    }

    pub fn sha256(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_bytes()).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({}...)", self.prefix())
    }
}

/// A token as the API shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    pub id: TokenId,
    pub name: String,
    pub scope: Scope,
    /// Its first characters.
    pub prefix: String,
    pub created_at: DateTime<Utc>,
    pub expires_at: Option<DateTime<Utc>>,
    pub revoked_at: Option<DateTime<Utc>>,
}

/// A usable token as it is stored. Compare its hash in constant time.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownToken {
    pub id: TokenId,
    pub scope: Scope,
    pub sha256: [u8; 32],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_its_text_and_hides_from_debug() {
        let secret = Secret::from_random([0xab; 32]);
        assert_eq!(Secret::parse(&format!(" {}\n", secret.expose())), Some(secret.clone()));
        assert_eq!(secret.prefix(), "lamina_abababab");
        assert!(!format!("{secret:?}").contains(secret.expose()));
        for wrong in ["", "lamina_", "lamina_abab", &secret.expose().to_uppercase(), &secret.expose()[1..]] {
            assert_eq!(Secret::parse(wrong), None, "{wrong}");
        }
        assert_eq!(Secret::parse("lamina_é"), None);
    }

    #[test]
    fn an_agent_may_not_read_and_a_reader_may_not_sync() {
        assert!(Scope::Admin.allows(Scope::Agent) && Scope::Write.allows(Scope::Read));
        for (held, wanted) in [
            (Scope::Agent, Scope::Read),
            (Scope::Read, Scope::Agent),
            (Scope::Write, Scope::Agent),
            (Scope::Read, Scope::Write),
            (Scope::Write, Scope::Admin),
        ] {
            assert!(!held.allows(wanted), "{held:?} {wanted:?}");
        }
    }
}
