//! How recipes are written as JSON: a setting that was added later is left out while it has its default, so that older
//! recipes keep their text and with it their fingerprints.

/// For `skip_serializing_if`.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// For `serde(default)` of a switch that is on.
pub(crate) fn default_true() -> bool {
    true
}
