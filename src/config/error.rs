//! Problems of a configuration file, each with its place.

use std::fmt;

use crate::finding::Place;

/// Limit of the problems that are reported for one file.
pub(crate) const MAX_REPORTED_ERRORS: usize = 50;

/// A problem of a configuration file. `Display` is one line: `config.yaml:3:5: serve.listen: …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConfigError {
    pub place: Place,
    /// Problem and remedy, in one sentence.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}
