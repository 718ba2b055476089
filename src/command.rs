//! What the commands share that run once and end: how they start, speak to a person, and end.

use std::io::{self, Write as _};
use std::process::ExitCode;

/// Runs a command to its end, on a runtime of its own. What kept it from ending well is said on stderr, and it ends
/// with `failed` then.
pub(crate) fn conclude<S: Into<u8>>(
    command: impl Future<Output = Result<S, String>>,
    failed: S,
) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(command),
        Err(error) => Err(format!("no runtime could be started: {error}")),
    };
    let status = ended.unwrap_or_else(|problem| {
        say(&format!("error: {problem}\n"));
        failed
    });
    ExitCode::from(status.into())
}

/// Tells whoever started the program.
pub(crate) fn say(text: &str) {
    // Nobody is left to be told that this failed.
    drop(io::stderr().lock().write_all(text.as_bytes()));
}
