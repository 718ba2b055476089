//! Start and end of programs: servers, which run until they are stopped, and commands, which run once.

use std::process::ExitCode;

use crate::cli::TelemetryArgs;
use crate::server::panics;
use crate::telemetry::console::print_message;
use crate::telemetry::logs::{self, Log};

/// Runs a server with its log on standard output, and flushes the log at the end.
pub(super) fn run_server(
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

/// Reports the error that ends the program: in the log, and on stderr for a start by hand.
fn fail(error: &anyhow::Error) -> ExitCode {
    use std::io::Write as _;
    let error = format!("{error:#}");
    tracing::error!(error, "exiting after an error");
    // If stderr is closed, the error is in the log only.
    let _ = writeln!(std::io::stderr(), "floe-secrets-webhook: {error}");
    ExitCode::FAILURE
}

/// Runs a command on its own runtime. An error is printed to stderr, and the exit status is `failed` then.
pub(super) fn run_command<S: Into<u8>>(
    command: impl Future<Output = Result<S, String>>,
    failed: S,
) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(command),
        Err(error) => Err(format!("no runtime could be started: {error}")),
    };
    let status = result.unwrap_or_else(|error| {
        print_message(&format!("error: {error}\n"));
        failed
    });
    ExitCode::from(status.into())
}
