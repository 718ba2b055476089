//! How programs start and end: servers, which run until they are stopped, and commands, which run once.

use std::process::ExitCode;

use crate::cli::TelemetryArgs;
use crate::server::panics;
use crate::telemetry::console::say;
use crate::telemetry::logs::{self, Log};

/// Runs a server with its log on standard output, and writes the log's last lines before the program ends.
pub(super) fn logged(
    args: &TelemetryArgs,
    server: impl FnOnce(&Log) -> anyhow::Result<()>,
) -> ExitCode {
    let log = match Log::stdout() {
        Ok(log) => log,
        Err(error) => {
            return fail(&anyhow::Error::new(error).context("standard output cannot be written"));
        }
    };
    let writer = log.clone();
    if let Err(error) = logs::init(args.log_format, &args.log, move || writer.clone()) {
        return fail(&error.into());
    }
    panics::install_hook();
    let status = match server(&log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    };
    log.flush();
    status
}

/// The last line: in the log, and for whoever started it by hand on stderr.
fn fail(error: &anyhow::Error) -> ExitCode {
    use std::io::Write as _;
    let error = format!("{error:#}");
    tracing::error!(error, "exiting after an error");
    // When stderr is closed there is nobody left to tell.
    let _ = writeln!(std::io::stderr(), "floe-secrets-webhook: {error}");
    ExitCode::FAILURE
}

/// Runs a command to its end, on a runtime of its own. What kept it from ending well is said on stderr, and it ends
/// with `failed` then.
pub(super) fn conclude<S: Into<u8>>(
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
