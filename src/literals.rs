//! Literal secrets: a detector for values that look like a secret, which says where one stands and never what it is.

use crate::finding::Severity;

/// A kind of secret that a value looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Detected {
    /// Name of the built-in rule or of the custom pattern, as in `private-key`.
    pub rule: String,
    pub severity: Severity,
}

/// Built-in rules, and the custom patterns of a manifest.
#[derive(Debug, Default)]
pub(crate) struct Detector {}

impl Detector {
    /// The first rule that a value matches. `field` is the name of the field or variable that has the value.
    #[expect(unused_variables, clippy::unused_self, reason = "rules follow")]
    pub(crate) fn detect(&self, field: &str, value: &str) -> Option<Detected> {
        None
    }
}

/// Whether a source line has a mark that allows literal secrets in it.
#[expect(unused_variables, reason = "rules follow")]
pub(crate) fn is_allowed(line: &str) -> bool {
    false
}
