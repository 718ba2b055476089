//! Start and end of programs: servers, which run until they are stopped, and commands, which run once.

use std::process::ExitCode;

use crate::backend::is_dns_label;
use crate::cli::output::print_error;
use crate::cli::{KubernetesArgs, TelemetryArgs};
use crate::kubernetes::{ObjectApi, connect_for_long_calls};
use crate::server::panics;
use crate::telemetry::logs::{self, FilterHandle, Log};

/// Runs a server with its log on standard output, and flushes the log at the end.
pub(super) fn run_server(
    args: &TelemetryArgs,
    server: impl FnOnce(&Log, FilterHandle) -> anyhow::Result<()>,
) -> ExitCode {
    let log = match Log::stdout() {
        Ok(log) => log,
        Err(error) => {
            return fail(&anyhow::Error::new(error).context("standard output cannot be written"));
        }
    };
    let writer = log.clone();
    let filter = match logs::init(args.log_format, &args.log, move || writer.clone()) {
        Ok(filter) => filter,
        Err(error) => return fail(&error.into()),
    };
    panics::install_hook();
    let status = match server(&log, filter) {
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

/// Connects a command about one namespace: that of the arguments, or of the context.
///
/// # Errors
/// A sentence: there is no connection, or the namespace has no valid name.
pub(super) async fn api_and_namespace(
    kubernetes: KubernetesArgs,
    namespace: Option<String>,
) -> Result<(ObjectApi, String), String> {
    let client = connect_for_long_calls(&kubernetes.settings(true))
        .await
        .map_err(|error| error.to_string())?;
    let namespace = namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    if !is_dns_label(&namespace) {
        return Err(format!(
            "{namespace:?} is not the name of a namespace; correct it"
        ));
    }
    Ok((ObjectApi::new(client), namespace))
}

/// Exit code after Ctrl-C, as shells have it.
pub(super) const INTERRUPTED: u8 = 130;

/// Runs a command on its own runtime, until Ctrl-C. An error is printed to stderr, and the exit status is `failed` then.
pub(super) fn run_command<S: Into<u8>>(
    command: impl Future<Output = Result<S, String>>,
    failed: S,
) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(until_interrupted(command));
            // A blocking task, such as the resolution of a name, cannot be interrupted and is not waited for.
            runtime.shutdown_background();
            result
        }
        Err(error) => Err(format!("no runtime could be started: {error}")),
    };
    match result {
        Ok(Some(status)) => ExitCode::from(status.into()),
        Ok(None) => ExitCode::from(INTERRUPTED),
        Err(error) => {
            print_error(error);
            ExitCode::from(failed.into())
        }
    }
}

/// Result of a command; `None` if it was interrupted. Dropping it removes its progress line.
async fn until_interrupted<S>(
    command: impl Future<Output = Result<S, String>>,
) -> Result<Option<S>, String> {
    tokio::select! {
        result = command => result.map(Some),
        Ok(()) = tokio::signal::ctrl_c() => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    #[test]
    fn command_ends_without_waiting_for_blocking_tasks() {
        let (blocked, released) = channel();
        let code = run_command(
            async {
                let (started, running) = tokio::sync::oneshot::channel();
                tokio::task::spawn_blocking(move || {
                    let _ = started.send(());
                    let _ = released.recv_timeout(Duration::from_secs(30));
                });
                running.await.map_err(|error| error.to_string())?;
                Ok(0_u8)
            },
            1,
        );
        assert_eq!(code, ExitCode::SUCCESS);
        assert!(blocked.send(()).is_ok(), "the task has ended");
    }
}
