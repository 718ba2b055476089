//! The composition root of `serve`.

use std::process::ExitCode;

use crate::cli::ServeArgs;

/// Runs `serve`.
#[must_use]
pub fn run(_args: ServeArgs) -> ExitCode {
    ExitCode::SUCCESS
}
