//! Error about an input that cannot be read.

use std::fmt;

/// Position and problem. Text of the input is never in it, because it may contain values of Secrets. Messages of the
/// parsers are not used, because they quote the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnreadableInput {
    pub(crate) input: String,
    /// Line and column, from 1.
    pub(crate) line: Option<(usize, Option<usize>)>,
    pub(crate) problem: String,
}

impl UnreadableInput {
    /// Error about a path or stream as a whole.
    pub(crate) fn of_input(input: String, problem: impl Into<String>) -> Self {
        Self {
            input,
            line: None,
            problem: problem.into(),
        }
    }
}

impl fmt::Display for UnreadableInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            input,
            line,
            problem,
        } = self;
        match line {
            Some((line, Some(column))) => write!(f, "{input}:{line}:{column}: {problem}"),
            Some((line, None)) => write!(f, "{input}:{line}: {problem}"),
            None => write!(f, "{input}: {problem}"),
        }
    }
}
