//! `explain`: prints what a live pod or workload got, and why.

use std::process::ExitCode;

use clap::Args;

use super::process::{api_and_namespace, run_command};
use crate::cli::output::{print_result, write_structured};
use crate::cli::progress::ProgressLine;
use crate::cli::{ExemptNamespaceArgs, KubernetesArgs, OutputArgs, OutputFormat, SidecarArgs};
use crate::explain::{ExplainTarget, Explainer, Explanation, text, to_json};
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
    #[command(flatten)]
    pub output: OutputArgs,
    #[command(flatten)]
    pub sidecars: SidecarArgs,
    #[command(flatten)]
    pub exempt: ExemptNamespaceArgs,
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
    let (api, namespace) = api_and_namespace(args.kubernetes, args.namespace).await?;
    let explainer = Explainer::new(
        api,
        args.sidecars.sidecar_containers,
        exempt(args.exempt.exempt_namespaces),
    );
    let line = ProgressLine::of("reading the object and its pods");
    let result = explainer.explain(&namespace, &args.target).await;
    drop(line);
    let explanation = result.map_err(|error| error.to_string())?;
    print_explanation(&explanation, args.output.output)?;
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
