//! `lint`: reports what is wrong in manifests and profiles, for people, editors and code scanners.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

#[cfg(feature = "cluster")]
use super::inject::ClusterArgs;
use crate::cli::progress::ProgressLine;
use crate::cli::{SecretNameArgs, SidecarArgs};
use crate::finding::FindingFormat;
use crate::lint::{self, LintRequest, ProfileRequest};

/// Examples of the help.
pub(super) const EXAMPLES: &str = "Examples:
  # Manifests of a folder, with the Secrets that they need
  floe-secrets-webhook lint -f manifests -R --secrets secrets.yaml

  # Findings for a code scanner
  floe-secrets-webhook lint -f manifests -R -o sarif > lint.sarif

  # Whether the pods get every variable of a dbt profile
  floe-secrets-webhook lint -f manifests --profiles profiles.yml --target prod

Exit codes: 0 no errors; 1 errors, or with --strict warnings; 2 something cannot be read.";

#[derive(Debug, Args)]
pub struct LintArgs {
    /// Manifests to check: files, folders of .json, .yaml and .yml files, or - for standard input. May be repeated.
    #[arg(short, long, value_name = "PATH", required_unless_present = "paths")]
    pub filename: Vec<PathBuf>,
    /// More manifests to check, as tools pass them that list files.
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Also read subfolders.
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// Files and folders of Secrets (and Namespaces, ServiceAccounts) to check against. Values of Secrets are not used.
    #[arg(long, value_name = "PATH")]
    #[cfg_attr(feature = "cluster", arg(conflicts_with = "cluster"))]
    pub secrets: Vec<PathBuf>,
    #[cfg(feature = "cluster")]
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Profiles of dbt. Every pod has to get the variables that the target of the profile reads.
    #[arg(long, value_name = "FILE")]
    pub profiles: Option<PathBuf>,
    /// Profile in that file. Default: the only one.
    #[arg(long, value_name = "NAME", requires = "profiles")]
    pub profile: Option<String>,
    /// Target of the profile. Default: the profile's own.
    #[arg(long, value_name = "NAME", requires = "profiles")]
    pub target: Option<String>,
    /// Namespace of objects without one. Default: with --cluster that of the kubeconfig, otherwise `default`.
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<String>,
    #[command(flatten)]
    pub sidecars: SidecarArgs,
    #[command(flatten)]
    pub secret_names: SecretNameArgs,
    /// Warn about unknown annotations under secrets.floe.dev/ instead of reporting errors.
    #[arg(long)]
    pub allow_unknown: bool,
    /// Exit with 1 for warnings, too.
    #[arg(long)]
    pub strict: bool,
    /// Format of the findings.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub output: FindingFormat,
}

#[must_use]
pub fn run(args: LintArgs) -> ExitCode {
    #[cfg(feature = "cluster")]
    let cluster = args
        .cluster
        .cluster
        .then(|| args.cluster.kubernetes.settings(true));
    #[cfg(not(feature = "cluster"))]
    let cluster = None;
    let request = LintRequest {
        filename: args.filename.into_iter().chain(args.paths).collect(),
        recursive: args.recursive,
        secrets: args.secrets,
        cluster,
        profile: args.profiles.map(|file| ProfileRequest {
            file,
            profile: args.profile,
            target: args.target,
        }),
        namespace: args.namespace,
        sidecars: args.sidecars.sidecar_containers,
        secret_names: args.secret_names.secret_name_pattern,
        allow_unknown: args.allow_unknown,
        strict: args.strict,
        format: args.output,
    };
    let progress = ProgressLine::of("checking manifests");
    let status = lint::lint(
        &request,
        io::stdin().lock(),
        &mut io::BufWriter::new(progress.results(io::stdout().lock())),
        &mut progress.messages(),
    );
    drop(progress);
    ExitCode::from(status as u8)
}
