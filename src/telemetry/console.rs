//! Messages to the user of a command.

use std::io::{self, Write as _};

/// Writes to stderr. A failed write is ignored, because the message cannot be written elsewhere.
pub(crate) fn print_message(text: &str) {
    drop(io::stderr().lock().write_all(text.as_bytes()));
}
