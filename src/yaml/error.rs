//! Errors of a document, without any text of it.

use std::fmt;

use serde_saphyr::Error;
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::granit_parser::ErrorKind;
use serde_saphyr::localizer::ExternalMessageSource;

use super::limits::YamlLimits;
use super::node::{NOT_FINITE, Position};

/// An error of a document. `Display` is the problem alone, to follow the file's name and the position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct YamlError {
    pub position: Option<Position>,
    pub problem: YamlProblem,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum YamlProblem {
    /// Bytes allowed.
    TooLarge(usize),
    /// Levels allowed.
    TooDeep(usize),
    TooManyNodes,
    DuplicateKey,
    /// Bytes allowed.
    LongKey(usize),
    UnknownAnchor,
    SecondDocument,
    CutOff,
    NotFinite,
    Invalid,
    /// The parser failed, or the system has no thread for it.
    NotRead,
}

impl YamlError {
    pub(super) fn new(error: &Error, limits: YamlLimits) -> Self {
        let position = error.location().map(Position::from);
        Self {
            position: position.filter(|at| at.line > 0),
            problem: problem_of(error, limits),
        }
    }
}

fn problem_of(error: &Error, limits: YamlLimits) -> YamlProblem {
    match error {
        Error::DuplicateMappingKey { .. } => YamlProblem::DuplicateKey,
        Error::UnknownAnchor { .. } => YamlProblem::UnknownAnchor,
        Error::MultipleDocuments { .. }
        | Error::Budget {
            breach: BudgetBreach::Documents { .. },
            ..
        } => YamlProblem::SecondDocument,
        Error::Eof { .. } => YamlProblem::CutOff,
        Error::NonFiniteFloat { .. } => YamlProblem::NotFinite,
        // From the nodes' own visitor.
        Error::Message { msg, .. } if msg.contains(NOT_FINITE) => YamlProblem::NotFinite,
        Error::Budget {
            breach: BudgetBreach::Depth { .. },
            ..
        }
        | Error::AliasReplayStackDepthExceeded { .. } => YamlProblem::TooDeep(limits.depth),
        Error::Budget { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. } => YamlProblem::TooManyNodes,
        Error::ExternalMessage { source, .. } => match source.as_ref() {
            ExternalMessageSource::Parser(error) => match error.kind() {
                ErrorKind::RecursionLimitExceeded => YamlProblem::TooDeep(limits.depth),
                ErrorKind::UnknownAnchor => YamlProblem::UnknownAnchor,
                _ => YamlProblem::Invalid,
            },
            _ => YamlProblem::Invalid,
        },
        Error::AliasError { error, .. } => problem_of(error, limits),
        _ => YamlProblem::Invalid,
    }
}

impl fmt::Display for YamlProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge(bytes) => write!(f, "the file is larger than {bytes} bytes"),
            Self::TooDeep(depth) => {
                write!(
                    f,
                    "more than {depth} levels of maps and lists in each other"
                )
            }
            Self::TooManyNodes => {
                f.write_str("too many values, counted after aliases are replaced")
            }
            Self::DuplicateKey => f.write_str("a key stands twice in one map"),
            Self::LongKey(bytes) => write!(f, "a key is longer than {bytes} bytes"),
            Self::UnknownAnchor => f.write_str("an alias refers to no anchor before it"),
            Self::SecondDocument => f.write_str("a second document begins here; expected one"),
            Self::CutOff => f.write_str("the file is cut off"),
            Self::NotFinite => f.write_str(NOT_FINITE),
            Self::Invalid => f.write_str("not valid YAML"),
            Self::NotRead => {
                f.write_str("it could not be read: its parser failed or could not be started")
            }
        }
    }
}

impl fmt::Display for YamlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem.fmt(f)
    }
}
