//! `rotation`: prints who uses a Secret, and waits until no pod runs with an older value.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::time::Instant;

use super::process::{api_and_namespace, run_command};
use crate::cli::output::{print_result, write_structured};
use crate::cli::progress::ProgressLine;
use crate::cli::values::at_least_a_second;
use crate::cli::{KubernetesArgs, OutputArgs, OutputFormat};
use crate::consumers::{ConsumerReader, Consumers, ReadProgress};
use crate::rotation::{RotationOutcome, document, table, wait_until_current};
use crate::telemetry::console::print_message;
use injection::SecretName;

/// Examples of the help.
pub(super) const EXAMPLES: &str = "Examples:
  # Consumers of a Secret, and pods that run with an older value
  floe-secrets-webhook rotation secret/snowflake-credentials -n jobs

  # Rotate, wait until nobody runs with the old value, revoke it
  floe-secrets-webhook rotation secret/snowflake-credentials -n jobs --wait 10m

Exit codes: 0 no pod runs with an older value; 1 some do, or may do; 2 not everything could be read.";

#[derive(Debug, Args)]
pub struct RotationArgs {
    /// The Secret: `secret/NAME`, or its name alone.
    #[arg(value_name = "secret/NAME", value_parser = secret_name)]
    pub secret: SecretName,
    #[command(flatten)]
    pub kubernetes: KubernetesArgs,
    /// Namespace of the Secret. Default: that of the context.
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Wait until no pod runs with an older value, at most this long, as in 10m.
    #[arg(long, value_name = "DURATION", value_parser = at_least_a_second)]
    pub wait: Option<Duration>,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RotationExitStatus {
    /// No pod runs with an older value.
    Current = 0,
    /// Pods run, or may run, with an older value.
    Stale = 1,
    /// Not everything could be read.
    Failed = 2,
}

impl From<RotationExitStatus> for u8 {
    fn from(status: RotationExitStatus) -> Self {
        status as Self
    }
}

/// Parses `secret/NAME`, in kubectl's spellings, or a name.
fn secret_name(text: &str) -> Result<SecretName, String> {
    let name = match text.split_once('/') {
        Some(("secret" | "secrets", name)) => name,
        Some((kind, _)) => {
            return Err(format!(
                "{:?} is not a kind that rotates; write secret/NAME",
                kind.chars().take(63).collect::<String>()
            ));
        }
        None => text,
    };
    name.parse::<SecretName>()
        .map_err(|error| error.to_string())
}

#[must_use]
pub fn run(args: RotationArgs) -> ExitCode {
    run_command(rotation(args), RotationExitStatus::Failed)
}

async fn rotation(args: RotationArgs) -> Result<RotationExitStatus, String> {
    let (api, namespace) = api_and_namespace(args.kubernetes, args.namespace).await?;
    let reader = ConsumerReader::new(api);
    let progress = Arc::new(ReadProgress::default());
    let deadline = args.wait.map(deadline).transpose()?;
    let waiting = wait_until_current(
        &reader,
        (&namespace, args.secret.as_str()),
        deadline,
        &progress,
    );
    let shown = Arc::clone(&progress);
    let line = ProgressLine::start(move || {
        format!(
            "{} objects looked at, {} pods with an older value so far",
            shown.objects(),
            shown.stale()
        )
    });
    let waited = waiting.await;
    drop(line);
    let outcome = waited.map_err(|error| error.to_string())?;
    let (consumers, status) = match outcome {
        RotationOutcome::Current(consumers) => (consumers, RotationExitStatus::Current),
        RotationOutcome::Stale(consumers) => (consumers, RotationExitStatus::Stale),
    };
    print_consumers(&consumers, args.output.output)?;
    check_complete(&consumers)?;
    Ok(status)
}

fn deadline(wait: Duration) -> Result<Instant, String> {
    Instant::now()
        .checked_add(wait)
        .ok_or_else(|| "the duration of --wait is too long; try 24h".to_owned())
}

/// Prints the consumers to standard output, and notes about what was not read to stderr.
fn print_consumers(consumers: &Consumers, output: OutputFormat) -> Result<(), String> {
    print_result(|out| match output {
        OutputFormat::Table => table(consumers, out),
        format => write_structured(out, format, &document(consumers)),
    })?;
    for note in &consumers.notes {
        print_message(&format!("{note}\n"));
    }
    Ok(())
}

/// Checks that "current" and "old" are known for every pod.
fn check_complete(consumers: &Consumers) -> Result<(), String> {
    if consumers.counts.skipped > 0 {
        return Err(format!(
            "{} pods or workloads are too large to be read; read them with kubectl",
            consumers.counts.skipped
        ));
    }
    if consumers.secret.changed.is_none() {
        return Err(format!(
            "the managed fields of secret \"{}\" do not have the time of its last change, so no pod can be compared with it; write its data again",
            consumers.secret.name
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_beyond_the_clock_is_rejected() {
        assert!(deadline(Duration::from_mins(10)).is_ok());
        assert!(deadline(Duration::MAX).is_err());
    }

    #[test]
    fn secret_is_named_as_in_kubectl() {
        for text in ["db", "secret/db", "secrets/db"] {
            assert_eq!(secret_name(text).unwrap().as_str(), "db");
        }
        let error = secret_name("configmap/db").unwrap_err();
        assert!(error.ends_with("write secret/NAME"), "{error}");
        assert!(secret_name("secret/../db").is_err());
        assert!(secret_name("secret/").is_err());
    }
}
