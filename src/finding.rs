//! Findings: problems in files, each with a stable rule and a place, for people, editors and code scanners.
//!
//! `compile` and `lint` report by them. A finding names the place and the field; it never quotes a value.

mod artifact;
mod counts;
mod fingerprint;
mod format;
mod github;
mod help;
mod json;
mod printable;
mod rule;
mod sarif;
#[cfg(test)]
mod test_support;
mod text;

use std::sync::Arc;

pub(crate) use self::counts::FindingCounts;
pub use self::format::FindingFormat;
pub(crate) use self::format::write;
pub(crate) use self::printable::printable;
pub(crate) use self::rule::{FindingSeverity, Rule};
use crate::yaml::Position;

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Path as it was given on the command line, or `standard input`.
    pub file: Arc<str>,
    /// `None` for the file as a whole.
    pub position: Option<Position>,
    /// Path of the field, as in `plugins.compute.config.port`; empty for the file as a whole.
    pub field: String,
}

/// A problem at a place. `Display` is one line: `manifest.yaml:12:5: plugins.compute.config.port: …`. Findings are
/// ordered by place, and the errors of a place come first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FileFinding {
    pub place: Place,
    pub severity: FindingSeverity,
    pub rule: Rule,
    /// A sentence that says what is wrong and what to do.
    pub message: String,
    /// The source line with every scalar replaced by `…`.
    pub excerpt: Option<String>,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&printable(&self.file))?;
        if let Some(Position { line, column }) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        if !self.field.is_empty() {
            write!(f, ": {}", printable(&self.field))?;
        }
        Ok(())
    }
}

impl std::fmt::Display for FileFinding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.place, printable(&self.message))
    }
}
