//! Messages on standard error, and the exit status of a run.

use std::fmt;
use std::io::Write;

use crate::cli::color::{Stream, Tone, paint};

/// Exit status of `inject`. No manifest is printed unless it is [`Self::Done`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum InjectExitStatus {
    /// Injected, or nothing to do.
    Done = 0,
    /// A manifest was refused.
    Refused = 1,
    /// The command line or its input cannot be read.
    Unreadable = 2,
}

/// Writes messages, and keeps the worst status.
pub(super) struct Reporter<'w> {
    err: &'w mut dyn Write,
    /// Worst status so far.
    pub status: InjectExitStatus,
}

impl<'w> Reporter<'w> {
    pub(super) fn new(err: &'w mut dyn Write) -> Self {
        Self {
            err,
            status: InjectExitStatus::Done,
        }
    }

    fn line(&mut self, level: &str, message: impl fmt::Display) {
        // A failure to write to standard error cannot be reported anywhere.
        let level = paint(Stream::Stderr, Tone::of_level(level), level);
        // One write for each message, because progress is removed before it and shown again after it.
        let line = format!("{level}{message}\n");
        drop(self.err.write_all(line.as_bytes()));
    }

    pub(super) fn error(&mut self, status: InjectExitStatus, message: impl fmt::Display) {
        self.status = self.status.max(status);
        self.line("error: ", message);
    }

    pub(super) fn warning(&mut self, message: impl fmt::Display) {
        self.line("warning: ", message);
    }

    pub(super) fn note(&mut self, message: impl fmt::Display) {
        self.line("note: ", message);
    }
}
