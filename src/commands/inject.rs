//! `inject`: prints manifests with the webhook's plan applied, offline or with a cluster's Secrets.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::cli::SidecarArgs;
use crate::cli::progress::ProgressLine;
use crate::inject::{self, InjectRequest, ManifestFormat};

/// Examples of the help.
pub(super) const EXAMPLES: &str = "Examples:
  # Inject into a manifest, and explain what was done
  floe-secrets-webhook inject -f job.yaml --explain

  # Check against files of Secrets, and apply the result
  floe-secrets-webhook inject -f manifests/ -R --secrets secrets/ | kubectl apply -f -

Exit codes: 0 injected, or nothing to do; 1 refused; 2 the arguments or the input cannot be read.";

#[derive(Debug, Args)]
pub struct InjectArgs {
    #[command(flatten)]
    pub files: ManifestArgs,
    #[cfg(feature = "cluster")]
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Namespace of objects without one. Default: with --cluster that of the kubeconfig, otherwise `default`.
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<String>,
    #[command(flatten)]
    pub sidecars: SidecarArgs,
    /// Explain in sentences what is done and why.
    #[arg(long)]
    pub explain: bool,
    /// Warn about unknown annotations under secrets.floe.dev/ instead of refusing them.
    #[arg(long)]
    pub allow_unknown: bool,
    /// Print every document in this format. By default, each keeps its own.
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub output: Option<ManifestFormat>,
}

/// The cluster to check against.
#[cfg(feature = "cluster")]
#[derive(Debug, Args)]
pub struct ClusterArgs {
    /// Check against the cluster of the kubeconfig, with your own permissions.
    #[arg(long)]
    pub cluster: bool,
    #[command(flatten)]
    pub kubernetes: crate::cli::KubernetesArgs,
}

/// Manifests that are read.
#[derive(Clone, Debug, Args)]
pub struct ManifestArgs {
    /// Manifests to inject into: files, folders of .json, .yaml and .yml files, or - for standard input. May be
    /// repeated.
    #[arg(short, long, required = true, value_name = "PATH")]
    pub filename: Vec<PathBuf>,
    /// Also read subfolders.
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// Files and folders of Secrets (and Namespaces, ServiceAccounts) to check against. Values of Secrets are not used.
    #[arg(long, value_name = "PATH")]
    #[cfg_attr(feature = "cluster", arg(conflicts_with = "cluster"))]
    pub secrets: Vec<PathBuf>,
}

#[must_use]
pub fn run(args: InjectArgs) -> ExitCode {
    #[cfg(feature = "cluster")]
    let cluster = args
        .cluster
        .cluster
        .then(|| args.cluster.kubernetes.settings(true));
    #[cfg(not(feature = "cluster"))]
    let cluster = None;
    let request = InjectRequest {
        filename: args.files.filename,
        recursive: args.files.recursive,
        secrets: args.files.secrets,
        cluster,
        namespace: args.namespace,
        sidecars: args.sidecars.sidecar_containers,
        explain: args.explain,
        allow_unknown: args.allow_unknown,
        output: args.output,
    };
    let progress = ProgressLine::of("reading manifests and secrets");
    let status = inject::inject(
        request,
        io::stdin().lock(),
        &mut progress.results(io::stdout().lock()),
        &mut progress.messages(),
    );
    drop(progress);
    ExitCode::from(status as u8)
}
