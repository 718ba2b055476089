//! `doctor`: prints whether an installation is healthy, and what mends it.

use std::io;
use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;

use super::process::conclude;
use crate::cli::{KubernetesArgs, OutputFormat};
use crate::doctor::{self, Check, Id, Request, Status, output};
use crate::kubernetes::connect_patiently;
use crate::telemetry::console::say;

/// `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Which cluster.
    #[command(flatten)]
    pub kubernetes: KubernetesArgs,
    /// The namespace in which a pod is created, as a dry run; one that the webhook serves.
    #[arg(short, long, value_name = "NAME", default_value = "default")]
    pub namespace: String,
    /// Where the webhook runs, when its configuration does not say so.
    #[arg(
        long,
        env = "FLOE_SECRETS_WEBHOOK_NAMESPACE",
        value_name = "NAME",
        default_value = "floe-secrets-webhook"
    )]
    pub webhook_namespace: String,
    /// The webhook configuration; found by its entries when not given.
    #[arg(long, env = "FLOE_SECRETS_WEBHOOK_CONFIGURATION", value_name = "NAME")]
    pub webhook_configuration: Option<String>,
    /// Create the pod.
    #[arg(long, value_name = "true|false", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value_t = true, default_missing_value = "true")]
    pub probe: bool,
    /// Look through all pods and workloads for what runs without its secrets. `--drift=false` on a large cluster.
    #[arg(long, value_name = "true|false", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value_t = true, default_missing_value = "true")]
    pub drift: bool,
    /// What is printed.
    #[arg(
        short,
        long,
        value_enum,
        value_name = "FORMAT",
        default_value = "table"
    )]
    pub output: OutputFormat,
}

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ExitStatus {
    /// Nothing failed.
    Healthy = 0,
    /// Something did.
    Failed = 1,
    /// Nothing could be looked at.
    Inconclusive = 2,
}

/// Runs `doctor`; `here` is the clock of this machine.
#[must_use]
pub fn run(args: DoctorArgs, here: fn() -> Timestamp) -> ExitCode {
    conclude(doctor(args, here), ExitStatus::Inconclusive)
}

impl From<ExitStatus> for u8 {
    fn from(outcome: ExitStatus) -> Self {
        outcome as Self
    }
}

async fn doctor(args: DoctorArgs, here: fn() -> Timestamp) -> Result<ExitStatus, String> {
    let client = connect_patiently(&args.kubernetes.settings(true))
        .await
        .map_err(|error| error.to_string())?;
    let request = Request {
        configuration: args.webhook_configuration,
        webhook_namespace: args.webhook_namespace,
        namespace: args.namespace,
        probe: args.probe,
        drift: args.drift,
    };
    let checks = doctor::examine(&client, request, here).await?;
    let outcome = outcome(&checks);
    let mut out = io::stdout().lock();
    let written = match args.output {
        OutputFormat::Table => output::table(&checks, &mut out),
        OutputFormat::Json => output::json(&checks, outcome == ExitStatus::Healthy, &mut out),
    };
    match written {
        // Whoever reads has what they wanted.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => {
            written.map_err(|error| format!("standard output cannot be written: {error}"))?;
        }
    }
    if outcome == ExitStatus::Inconclusive {
        say("nothing of the installation could be looked at: see caller-permissions\n");
    }
    Ok(outcome)
}

fn outcome(checks: &[Check]) -> ExitStatus {
    let of = |status: Status| checks.iter().any(|check| check.status == status);
    let looked = |check: &Check| {
        // These say nothing about the installation, or nothing when it is not there.
        let about = !matches!(
            check.check,
            Id::ApiServer | Id::CallerPermissions | Id::Reloader | Id::InfisicalOperator
        );
        about && check.status != Status::NotChecked
    };
    if of(Status::Failure) {
        ExitStatus::Failed
    } else if checks.iter().any(looked) {
        ExitStatus::Healthy
    } else {
        ExitStatus::Inconclusive
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_sees_nothing_is_told_by_the_exit_code() {
        let server = Check::ok(Id::ApiServer, "");
        let blind = [
            server.clone(),
            Check::unchecked(Id::Configuration, ""),
            Check::warning(Id::Reloader, "", ""),
        ];
        assert_eq!(outcome(&blind), ExitStatus::Inconclusive);
        assert_eq!(
            outcome(&[server.clone(), Check::warning(Id::Drift, "", "")]),
            ExitStatus::Healthy
        );
        assert_eq!(
            outcome(&[server, Check::failure(Id::Service, "", "")]),
            ExitStatus::Failed
        );
    }
}
