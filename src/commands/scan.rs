//! `scan`: prints pods and workloads that run without the secrets that they request.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use super::process::run_command;
use crate::cli::output::{print_result, write_structured};
use crate::cli::{
    ExemptNamespaceArgs, KubernetesArgs, OutputArgs, OutputFormat, SelectorArgs, SidecarArgs,
};
use crate::kubernetes::{ObjectApi, connect_for_long_calls};
use crate::scan::{
    Finding, Progress, Rules, ScanError, ScanFinding, ScanStats, Scanner, Scope, Task, exempt,
    output, run_with_progress,
};
use crate::telemetry::console::print_message;

/// Examples of the help.
pub(super) const EXAMPLES: &str = "Examples:
  # All namespaces, as a table
  floe-secrets-webhook scan -A

  # Names of the objects, for scripts
  floe-secrets-webhook scan -n jobs -o json | jq -r '.findings[].name'

Exit codes: 0 no findings; 1 findings; 2 not everything could be read.";

#[derive(Debug, Args)]
pub struct ScanArgs {
    #[command(flatten)]
    pub kubernetes: KubernetesArgs,
    /// Namespace to scan. Default: that of the context.
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Scan all namespaces.
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub all_namespaces: bool,
    #[command(flatten)]
    pub output: OutputArgs,
    #[command(flatten)]
    pub sidecars: SidecarArgs,
    #[command(flatten)]
    pub exempt: ExemptNamespaceArgs,
    #[command(flatten)]
    pub selectors: SelectorArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ScanExitStatus {
    /// There are no findings.
    Clean = 0,
    Found = 1,
    /// The scan is incomplete.
    Failed = 2,
}

#[must_use]
pub fn run(args: ScanArgs) -> ExitCode {
    run_command(scan(args), ScanExitStatus::Failed)
}

impl From<ScanExitStatus> for u8 {
    fn from(status: ScanExitStatus) -> Self {
        status as Self
    }
}

async fn scan(args: ScanArgs) -> Result<ScanExitStatus, String> {
    let client = connect_for_long_calls(&args.kubernetes.settings(true))
        .await
        .map_err(|error| error.to_string())?;
    let scope = if args.all_namespaces {
        Scope::All
    } else {
        let namespace = args.namespace;
        Scope::Namespaces(vec![
            namespace.unwrap_or_else(|| client.default_namespace().to_owned()),
        ])
    };
    let rules = Rules {
        sidecars: args.sidecars.sidecar_containers,
        exempt: exempt(args.exempt.exempt_namespaces),
        selected: args.selectors.namespace_selector,
        objects: args.selectors.object_selector,
    };
    let scanner = Scanner::new(ObjectApi::new(client), rules);
    let progress = Arc::new(Progress::default());
    let (findings, ended) = collect_findings(&scanner, scope, &progress).await;
    print_findings(&findings, &progress, args.output.output)?;
    let objects = progress.stats().objects;
    ended.map_err(|error| format!("{error}; {objects} objects were looked at until then"))?;
    summarize(&progress, args.output.output)?;
    Ok(if findings.is_empty() {
        ScanExitStatus::Clean
    } else {
        ScanExitStatus::Found
    })
}

/// Runs the scan and returns its findings in a stable order, also those before an error.
async fn collect_findings(
    scanner: &Scanner,
    scope: Scope,
    progress: &Arc<Progress>,
) -> (Vec<Finding>, Result<(), ScanError>) {
    let task = Task {
        scope,
        warned_since: None,
        ineffective: true,
        lost: true,
    };
    let mut findings = Vec::new();
    let ended = run_with_progress(scanner, &task, progress, |found| match found {
        ScanFinding::Drifted(finding)
        | ScanFinding::Ineffective(finding)
        | ScanFinding::Lost(finding) => {
            findings.push(finding);
        }
        // The task does not request warnings.
        ScanFinding::Warned(_) => {}
    })
    .await;
    findings.sort_by(|one, other| {
        (&one.namespace, one.kind, &one.name).cmp(&(&other.namespace, other.kind, &other.name))
    });
    (findings, ended)
}

/// Prints the findings to standard output.
fn print_findings(
    findings: &[Finding],
    progress: &Progress,
    output: OutputFormat,
) -> Result<(), String> {
    print_result(|out| match output {
        OutputFormat::Table => output::table(findings, out),
        format => write_structured(out, format, &output::to_json(findings, progress.stats())),
    })
}

/// Prints to stderr which objects were read, and which were not.
///
/// # Errors
/// Objects were skipped, so that the scan is incomplete.
fn summarize(progress: &Progress, output: OutputFormat) -> Result<(), String> {
    let ScanStats {
        objects,
        read,
        found,
        ineffective,
        lost,
        skipped,
    } = progress.stats();
    if output == OutputFormat::Table {
        print_message(&format!(
            "{objects} objects looked at, {read} of them whole; {found} run without what they ask for\n"
        ));
        if ineffective > 0 {
            print_message(&format!(
                "{ineffective} have annotations or labels without effect\n"
            ));
        }
        if lost > 0 {
            print_message(&format!(
                "{lost} lost references to secrets in their latest revision, together with an annotation\n"
            ));
        }
    }
    if progress.hides_service_accounts() {
        print_message(
            "ServiceAccounts were not looked at for annotations without effect: you may not list them\n",
        );
    }
    for note in progress.notes() {
        print_message(&format!("{note}\n"));
    }
    if skipped > 0 {
        return Err(format!(
            "not everything was looked at: too large to be read: {skipped} objects, among them {}",
            progress.unread().join(", ")
        ));
    }
    Ok(())
}
