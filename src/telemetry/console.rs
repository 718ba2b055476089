//! Messages for the person who started a command.

use std::io::{self, Write as _};

/// Writes to stderr. A failed write is ignored: there is no other place for the message.
pub(crate) fn say(text: &str) {
    drop(io::stderr().lock().write_all(text.as_bytes()));
}
