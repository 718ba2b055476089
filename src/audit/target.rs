//! Secrets that a record names.

use serde::Serialize;

use super::text::Text;

/// A secret, by its name in a backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TargetSecret {
    pub backend: Text<63>,
    pub name: Text<253>,
    #[serde(skip_serializing_if = "Text::is_empty")]
    pub namespace: Text<63>,
    /// Object whose annotation asks for the secret: `pod`, `template`, `serviceaccount` or `namespace`.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub origin: &'static str,
}

/// Number of a part, from 1, and of all parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RecordPart {
    pub n: u64,
    pub of: u64,
    /// Targets that no part names.
    #[serde(skip_serializing_if = "is_zero")]
    pub omitted: u64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes the field by reference"
)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}
