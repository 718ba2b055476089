//! `policy`: prints objects by which the API server injects secrets without the webhook.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use crate::admission::policy::CLUSTER_NAMESPACES;
use crate::cli::output::{print_error, print_result};
use crate::cli::{ExemptNamespaceArgs, SidecarArgs};
use crate::mutating_policy::{MAX_SIDECARS, objects};

/// Examples of the help.
pub(super) const EXAMPLES: &str = "Examples:
  # Inject env-from in a cluster that forbids webhooks
  floe-secrets-webhook policy mutating | kubectl apply -f -

  # Remove the policies
  floe-secrets-webhook policy mutating | kubectl delete -f -

Exit codes: 0 printed; 2 wrong arguments, or it cannot be written.";

#[derive(Debug, Args)]
pub struct AdmissionPolicyArgs {
    /// Kind of the policies.
    #[arg(value_enum, value_name = "KIND")]
    pub kind: PolicyKind,
    #[command(flatten)]
    pub exempt: ExemptNamespaceArgs,
    #[command(flatten)]
    pub sidecars: SidecarArgs,
}

/// Kind of policies that are printed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum PolicyKind {
    /// Policies that inject env-from, for Kubernetes 1.36 and newer.
    Mutating,
}

pub(super) fn run(args: &AdmissionPolicyArgs) -> ExitCode {
    let printed = match args.kind {
        PolicyKind::Mutating => print_policies(args),
    };
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_error(error);
            ExitCode::from(2)
        }
    }
}

fn print_policies(args: &AdmissionPolicyArgs) -> Result<(), String> {
    let sidecars = &args.sidecars.sidecar_containers;
    if sidecars.len() > MAX_SIDECARS {
        return Err(format!(
            "--sidecar-containers has {} entries, and a policy may have {MAX_SIDECARS}: shorten the list, or use globs",
            sidecars.len()
        ));
    }
    let mut namespaces = CLUSTER_NAMESPACES.map(str::to_owned).to_vec();
    for namespace in &args.exempt.exempt_namespaces {
        if !namespaces.contains(namespace) {
            namespaces.push(namespace.clone());
        }
    }
    let documents = objects(&namespaces, sidecars)
        .iter()
        .map(serde_saphyr::to_string)
        .collect::<Result<Vec<String>, _>>()
        .map_err(|error| format!("the policies cannot be written as YAML: {error}"))?;
    print_result(|out| out.write_all(documents.join("---\n").as_bytes()))
}
