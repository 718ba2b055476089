//! `explain`: prints what a live pod or workload got, and why.

use std::process::ExitCode;

use clap::Args;

use super::process::run_command;
use crate::cli::output::{print_result, write_structured};
use crate::cli::progress::ProgressLine;
use crate::cli::{KubernetesArgs, OutputFormat, SidecarArgs};
use crate::explain::{ExplainTarget, Explainer, Explanation, text, to_json};
use crate::kubernetes::{ObjectApi, connect_for_long_calls};
use crate::scan::exempt;

/// Examples of the help.
pub(super) const EXAMPLES: &str = "Examples:
  # Reasons for what a pod got
  floe-secrets-webhook explain pod/etl-7xk2p -n jobs

  # A workload and its pods, for scripts
  floe-secrets-webhook explain deployment/etl -n jobs -o json

Exit codes: 0 the object has everything that it asks for; 1 something is missing; 2 it could not be read.";

#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The object: `pod/NAME`, or `deployment`, `statefulset`, `daemonset`, `job`, `cronjob` or `rollout`.
    #[arg(value_name = "KIND/NAME")]
    pub target: ExplainTarget,
    #[command(flatten)]
    pub kubernetes: KubernetesArgs,
    /// Namespace of the object. Default: that of the context.
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Output format.
    #[arg(
        short,
        long,
        value_enum,
        value_name = "FORMAT",
        default_value = "table"
    )]
    pub output: OutputFormat,
    #[command(flatten)]
    pub sidecars: SidecarArgs,
    /// Namespaces that the webhook never mutates, besides kube-system and kube-node-lease.
    #[arg(
        long,
        env = "FLOE_SECRETS_EXEMPT_NAMESPACES",
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "floe-secrets-webhook"
    )]
    pub exempt_namespaces: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ExplainExitStatus {
    /// The object has everything that it asks for.
    Complete = 0,
    /// Something is missing.
    Incomplete = 1,
    /// The object could not be read.
    Failed = 2,
}

impl From<ExplainExitStatus> for u8 {
    fn from(status: ExplainExitStatus) -> Self {
        status as Self
    }
}

#[must_use]
pub fn run(args: ExplainArgs) -> ExitCode {
    run_command(explain(args), ExplainExitStatus::Failed)
}

async fn explain(args: ExplainArgs) -> Result<ExplainExitStatus, String> {
    let client = connect_for_long_calls(&args.kubernetes.settings(true))
        .await
        .map_err(|error| error.to_string())?;
    let namespace = args
        .namespace
        .unwrap_or_else(|| client.default_namespace().to_owned());
    if !crate::backend::is_dns_label(&namespace) {
        return Err(format!(
            "{namespace:?} is not the name of a namespace; correct it"
        ));
    }
    let explainer = Explainer::new(
        ObjectApi::new(client),
        args.sidecars.sidecar_containers,
        exempt(args.exempt_namespaces),
    );
    let line = ProgressLine::of("reading the object and its pods");
    let result = explainer.explain(&namespace, &args.target).await;
    drop(line);
    let explanation = result.map_err(|error| error.to_string())?;
    print_explanation(&explanation, args.output)?;
    Ok(if explanation.is_incomplete() {
        ExplainExitStatus::Incomplete
    } else {
        ExplainExitStatus::Complete
    })
}

fn print_explanation(explanation: &Explanation, output: OutputFormat) -> Result<(), String> {
    print_result(|out| match output {
        OutputFormat::Table => text(explanation, out),
        format => write_structured(out, format, &to_json(explanation)?),
    })
}
