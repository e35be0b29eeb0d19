//! What no body may have, whatever its fields are.

use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

/// Longest text of a body in characters: no path of Linux is longer.
pub(crate) const LONGEST_TEXT: usize = 4096;

/// Any JSON that can be stored: its texts are not longer than [`LONGEST_TEXT`] and contain no NUL, which Postgres does
/// not store; its integers have 64 bits with the sign, as Postgres has them; no object has a field twice.
pub(super) struct Storable;

impl<'de> Deserialize<'de> for Storable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Storable {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self, E> {
        if text.contains('\0') {
            return Err(E::custom("a text contains the character NUL (\\u0000), which cannot be stored"));
        }
        let length = text.chars().count();
        if length > LONGEST_TEXT {
            return Err(E::custom(format!("a text of {length} characters: at most {LONGEST_TEXT} are allowed")));
        }
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Self, E> {
        match i64::try_from(number) {
            Ok(_) => Ok(self),
            Err(_) => Err(E::custom(format!("the number {number}: at most {} is allowed", i64::MAX))),
        }
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self, A::Error> {
        let mut keys = HashSet::new();
        while let Some(key) = fields.next_key::<String>()? {
            Self.visit_str(&key)?;
            fields.next_value::<Self>()?;
            if let Some(twice) = keys.replace(key) {
                return Err(serde::de::Error::custom(format!("duplicate field `{twice}`: a field stands once")));
            }
        }
        Ok(self)
    }
}
