//! `doctor`: checks an installation and prints how to fix its problems.

use std::process::ExitCode;

use clap::Args;

use super::process::run_command;
use crate::cli::output::{print_result, write_structured};
use crate::cli::{KubernetesArgs, OutputArgs, OutputFormat};
use crate::clock::Clock;
use crate::doctor::{self, Check, CheckId, DoctorRequest, Status, output};
use crate::kubernetes::connect_for_long_calls;
use crate::telemetry::console::print_message;

/// Examples of the help.
pub(super) const EXAMPLES: &str = "Examples:
  # Check the installation of the current context
  floe-secrets-webhook doctor

  # On a large cluster, for a monitoring job
  floe-secrets-webhook doctor --drift=false -o json

Exit codes: 0 healthy; 1 a check failed; 2 nothing could be checked.";

#[derive(Debug, Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    pub kubernetes: KubernetesArgs,
    /// Namespace in which a pod is created as a dry run. The webhook must serve it.
    #[arg(short, long, value_name = "NAME", default_value = "default")]
    pub namespace: String,
    /// Namespace of the webhook, unless the webhook configuration names it.
    #[arg(
        long,
        env = "FLOE_SECRETS_WEBHOOK_NAMESPACE",
        value_name = "NAME",
        default_value = "floe-secrets-webhook"
    )]
    pub webhook_namespace: String,
    /// Name of the webhook configuration. By default, it is found by its entries.
    #[arg(long, env = "FLOE_SECRETS_WEBHOOK_CONFIGURATION", value_name = "NAME")]
    pub webhook_configuration: Option<String>,
    /// Create a pod as a dry run.
    #[arg(long, value_name = "true|false", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value_t = true, default_missing_value = "true")]
    pub probe: bool,
    /// Scan all pods and workloads for drift. Use `--drift=false` on a large cluster.
    #[arg(long, value_name = "true|false", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value_t = true, default_missing_value = "true")]
    pub drift: bool,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ExitStatus {
    /// No check failed.
    Healthy = 0,
    /// A check failed.
    Failed = 1,
    /// Nothing of the installation could be checked.
    Inconclusive = 2,
}

#[must_use]
pub fn run(args: DoctorArgs, clock: &Clock) -> ExitCode {
    run_command(doctor(args, clock), ExitStatus::Inconclusive)
}

impl From<ExitStatus> for u8 {
    fn from(status: ExitStatus) -> Self {
        status as Self
    }
}

async fn doctor(args: DoctorArgs, clock: &Clock) -> Result<ExitStatus, String> {
    let client = connect_for_long_calls(&args.kubernetes.settings(true))
        .await
        .map_err(|error| error.to_string())?;
    let request = DoctorRequest {
        configuration: args.webhook_configuration,
        webhook_namespace: args.webhook_namespace,
        namespace: args.namespace,
        probe: args.probe,
        drift: args.drift,
    };
    let checks = doctor::examine(&client, request, clock).await?;
    let status = exit_status(&checks);
    print_result(|out| match args.output.output {
        OutputFormat::Table => output::write_table(&checks, out),
        format => write_structured(
            out,
            format,
            &output::to_json(&checks, status == ExitStatus::Healthy),
        ),
    })?;
    if status == ExitStatus::Inconclusive {
        print_message("nothing of the installation could be looked at: see caller-permissions\n");
    }
    Ok(status)
}

fn exit_status(checks: &[Check]) -> ExitStatus {
    let failed = checks.iter().any(|check| check.status == Status::Failure);
    let is_conclusive = |check: &Check| {
        // These checks report nothing about the installation, or nothing if it is missing.
        let is_about_installation = !matches!(
            check.check,
            CheckId::ApiServer
                | CheckId::CallerPermissions
                | CheckId::Reloader
                | CheckId::InfisicalOperator
        );
        is_about_installation && check.status != Status::NotChecked
    };
    if failed {
        ExitStatus::Failed
    } else if checks.iter().any(is_conclusive) {
        ExitStatus::Healthy
    } else {
        ExitStatus::Inconclusive
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_status_is_inconclusive_if_nothing_could_be_checked() {
        let server = Check::ok(CheckId::ApiServer, "");
        let unchecked = [
            server.clone(),
            Check::unchecked(CheckId::Configuration, ""),
            Check::warning(CheckId::Reloader, "", ""),
        ];
        assert_eq!(exit_status(&unchecked), ExitStatus::Inconclusive);
        assert_eq!(
            exit_status(&[server.clone(), Check::warning(CheckId::Drift, "", "")]),
            ExitStatus::Healthy
        );
        assert_eq!(
            exit_status(&[server, Check::failure(CheckId::Service, "", "")]),
            ExitStatus::Failed
        );
    }
}
