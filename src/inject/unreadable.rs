//! Input that cannot be read.

use std::fmt;

/// Where an input cannot be read, and in few words why. Never with a word of the input itself: it may hold
/// values of Secrets, and the parsers' own messages quote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unreadable {
    pub(super) input: String,
    pub(super) line: Option<(usize, Option<usize>)>,
    pub(super) problem: String,
}

impl Unreadable {
    /// A path or stream of which nothing can be read.
    pub(super) fn whole(input: String, problem: impl Into<String>) -> Self {
        Self {
            input,
            line: None,
            problem: problem.into(),
        }
    }
}

impl fmt::Display for Unreadable {
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
