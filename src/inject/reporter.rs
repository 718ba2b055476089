//! What is said to a person on standard error, and how a run ends.

use std::fmt;
use std::io::Write;

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Status {
    /// Injected, or nothing to do.
    Done = 0,
    /// Refused; nothing was printed.
    Refused = 1,
    /// The call or its input cannot be read; nothing was printed.
    Unreadable = 2,
}

/// Says things to a person, and remembers how bad they were.
pub(super) struct Reporter<'w> {
    err: &'w mut dyn Write,
    /// The worst so far.
    pub status: Status,
}

impl<'w> Reporter<'w> {
    pub(super) fn new(err: &'w mut dyn Write) -> Self {
        Self {
            err,
            status: Status::Done,
        }
    }

    fn line(&mut self, word: &str, said: impl fmt::Display) {
        // Nobody is left to be told that this failed.
        drop(writeln!(self.err, "{word}{said}"));
    }

    pub(super) fn error(&mut self, status: Status, said: impl fmt::Display) {
        self.status = self.status.max(status);
        self.line("error: ", said);
    }

    pub(super) fn warning(&mut self, said: impl fmt::Display) {
        self.line("warning: ", said);
    }

    pub(super) fn note(&mut self, said: impl fmt::Display) {
        self.line("note: ", said);
    }
}
