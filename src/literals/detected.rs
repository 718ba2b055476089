//! Result of a search: a rule and its severity, and nothing of the value.

use crate::finding::FindingSeverity;

/// A kind of secret that a value looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Detected {
    /// Name of the built-in rule or of the custom pattern, as in `private-key`.
    pub rule: String,
    pub severity: FindingSeverity,
}
