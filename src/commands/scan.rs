//! `scan`: prints pods and workloads that run without the secrets they ask for.

use std::io;
use std::process::ExitCode;

use clap::Args;
use injection::Sidecar;

use super::process::conclude;
use crate::cli::{KubernetesArgs, OutputFormat, SIDECARS, SelectorArgs};
use crate::kubernetes::{ObjectApi, connect_patiently};
use crate::scan::{
    Found, Progress, Rules, ScanStats, Scanner, Scope, Task, exempt, output, run_with_progress,
};
use crate::telemetry::console::say;

/// `scan`.
#[derive(Debug, Args)]
pub struct ScanArgs {
    /// Which cluster.
    #[command(flatten)]
    pub kubernetes: KubernetesArgs,
    /// The namespace; else the context's.
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// All namespaces.
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub all_namespaces: bool,
    /// What is printed.
    #[arg(
        short,
        long,
        value_enum,
        value_name = "FORMAT",
        default_value = "table"
    )]
    pub output: OutputFormat,
    /// Containers that get nothing unless an annotation names them, as the webhook's operator set it.
    #[arg(
        long,
        env = "FLOE_SECRETS_SIDECAR_CONTAINERS",
        value_name = "LIST",
        value_delimiter = ',',
        default_value = SIDECARS
    )]
    pub sidecar_containers: Vec<Sidecar>,
    /// Namespaces that the webhook leaves alone, beside kube-system and kube-node-lease.
    #[arg(
        long,
        env = "FLOE_SECRETS_EXEMPT_NAMESPACES",
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "floe-secrets-webhook"
    )]
    pub exempt_namespaces: Vec<String>,
    /// What else the webhook leaves alone.
    #[command(flatten)]
    pub selectors: SelectorArgs,
}

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    /// Nothing is missing.
    Clean = 0,
    /// Something is.
    Found = 1,
    /// Not everything could be looked at.
    Failed = 2,
}

/// Runs `scan`.
#[must_use]
pub fn run(args: ScanArgs) -> ExitCode {
    conclude(scan(args), Status::Failed)
}

impl From<Status> for u8 {
    fn from(status: Status) -> Self {
        status as Self
    }
}

async fn scan(args: ScanArgs) -> Result<Status, String> {
    let ScanArgs {
        kubernetes,
        namespace,
        all_namespaces,
        output,
        sidecar_containers,
        exempt_namespaces,
        selectors:
            SelectorArgs {
                namespace_selector,
                object_selector,
            },
    } = args;
    let client = connect_patiently(&kubernetes.settings(true))
        .await
        .map_err(|error| error.to_string())?;
    let scope = if all_namespaces {
        Scope::All
    } else {
        Scope::Namespaces(vec![
            namespace.unwrap_or_else(|| client.default_namespace().to_owned()),
        ])
    };
    let task = Task {
        scope,
        warned_since: None,
        ineffective: true,
        lost: true,
    };
    let rules = Rules {
        sidecars: sidecar_containers,
        exempt: exempt(exempt_namespaces),
        selected: namespace_selector,
        objects: object_selector,
    };
    let scanner = Scanner::new(ObjectApi::new(client), rules);
    let progress = Progress::default();
    let mut findings = Vec::new();
    let ended = run_with_progress(&scanner, &task, &progress, |found| match found {
        Found::Drifted(finding) | Found::Ineffective(finding) | Found::Lost(finding) => {
            findings.push(finding);
        }
        // Not asked for.
        Found::Warned(_) => {}
    })
    .await;
    findings.sort_by(|one, other| {
        (&one.namespace, one.kind, &one.name).cmp(&(&other.namespace, other.kind, &other.name))
    });
    let mut out = io::stdout().lock();
    let written = match output {
        OutputFormat::Table => output::table(&findings, &mut out),
        OutputFormat::Json => output::json(&findings, progress.looked(), &mut out),
    };
    match written {
        // Whoever reads has what they wanted.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => {
            written.map_err(|error| format!("standard output cannot be written: {error}"))?;
        }
    }
    let objects = progress.looked().objects;
    ended.map_err(|error| format!("{error}; {objects} objects were looked at until then"))?;
    summarize(&progress, output)?;
    Ok(if findings.is_empty() {
        Status::Clean
    } else {
        Status::Found
    })
}

/// Says on stderr what was looked at, and what was not.
///
/// # Errors
/// When objects were left out: the scan is not complete without them.
fn summarize(progress: &Progress, output: OutputFormat) -> Result<(), String> {
    let ScanStats {
        objects,
        read,
        found,
        ineffective,
        lost,
        skipped,
    } = progress.looked();
    if output == OutputFormat::Table {
        say(&format!(
            "{objects} objects looked at, {read} of them whole; {found} run without what they ask for\n"
        ));
        if ineffective > 0 {
            say(&format!(
                "{ineffective} have annotations or labels without effect\n"
            ));
        }
        if lost > 0 {
            say(&format!(
                "{lost} lost references to secrets in their latest revision, together with an annotation\n"
            ));
        }
    }
    if progress.hides_service_accounts() {
        say(
            "ServiceAccounts were not looked at for annotations without effect: you may not list them\n",
        );
    }
    for note in progress.notes() {
        say(&format!("{note}\n"));
    }
    if skipped > 0 {
        return Err(format!(
            "not everything was looked at: too large to be read: {skipped} objects, among them {}",
            progress.unread().join(", ")
        ));
    }
    Ok(())
}
