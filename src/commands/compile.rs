//! `compile`: prints or writes a dbt profile and annotations for a floe manifest.

#[cfg(feature = "cluster")]
mod cluster;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

#[cfg(feature = "cluster")]
use super::inject::ClusterArgs;
use crate::cli::SecretNameArgs;
use crate::cli::output::{print_error, print_result};
use crate::cli::progress::ProgressLine;
use crate::compile::plan::ConnectionKeys;
use crate::compile::{self, CompileExitStatus, CompileRequest, OutputForm};

/// Examples of the help.
pub(super) const EXAMPLES: &str = "Examples:
  # The profile on standard output
  floe-secrets-webhook compile manifest.yaml --project-dir dbt

  # All files into a folder, and a check in CI that they are current
  floe-secrets-webhook compile manifest.yaml --out deploy
  floe-secrets-webhook compile manifest.yaml --out deploy --check

  # Annotations for a namespace whose pods cannot be annotated
  floe-secrets-webhook compile manifest.yaml -o namespace | kubectl apply -f -

Exit codes: 0 compiled, or with --check all files are current; 1 refused, or with --check files are stale; 2 the arguments or the input cannot be read; 3 a bug, nothing was printed.";

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags")]
pub struct CompileArgs {
    /// Manifest to compile; - for standard input.
    #[arg(value_name = "MANIFEST", required_unless_present = "print_schema")]
    pub manifest: Option<PathBuf>,
    /// The product's floe.yaml, for its name. Default: floe.yaml in the project's folder, if it exists.
    #[arg(long, value_name = "FILE")]
    pub spec: Option<PathBuf>,
    /// Manifest that a manifest of scope: domain inherits from.
    #[arg(long, value_name = "FILE")]
    pub parent: Option<PathBuf>,
    /// Folder of the dbt project, whose `dbt_project.yml` names the profile. Default: the folder of --spec, or the current one.
    #[arg(long, value_name = "DIR")]
    pub project_dir: Option<PathBuf>,
    /// Name of the profile. Default: that of `dbt_project.yml`, or the product's name.
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Targets of the profile.
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        default_value = "dev"
    )]
    pub targets: Vec<String>,
    /// Target that dbt uses by default. Default: the first of --targets.
    #[arg(long, value_name = "NAME")]
    pub target: Option<String>,
    /// Write all files into this folder, instead of printing one.
    #[arg(long, value_name = "DIR", conflicts_with = "output")]
    pub out: Option<PathBuf>,
    /// Print this instead of the profile.
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub output: Option<OutputForm>,
    /// Annotations for the references of this plugin, instead of those of compute.
    #[arg(long, value_name = "CATEGORY")]
    pub plugin: Option<String>,
    /// Keys of the Secret in `connection_secret_ref`: variables such as `SNOWFLAKE_PASSWORD`, or fields such as password.
    #[arg(long, value_enum, value_name = "KEYS", default_value = "variable")]
    pub connection_keys: KeysArg,
    /// Inject the whole Secret of `connection_secret_ref` by envFrom. Its keys are not checked unless there are Secrets to
    /// check against.
    #[arg(long)]
    pub env_from: bool,
    /// Name variables of secrets so that dbt hides their values in its logs.
    #[arg(long)]
    pub mask: bool,
    /// Compare the files in --out with what would be written, and print the difference.
    #[arg(long, requires = "out")]
    pub check: bool,
    /// Files and folders of Secrets to check names and keys against. Values are not used. May be repeated.
    #[arg(long, value_name = "PATH")]
    #[cfg_attr(feature = "cluster", arg(conflicts_with = "cluster"))]
    pub secrets: Vec<PathBuf>,
    #[cfg(feature = "cluster")]
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Namespace of the Secrets that --cluster checks against. Default: that of the kubeconfig.
    #[cfg(feature = "cluster")]
    #[arg(short, long, value_name = "NAME", requires = "cluster")]
    pub namespace: Option<String>,
    #[command(flatten)]
    pub secret_names: SecretNameArgs,
    /// Print the JSON schema of manifests.
    #[arg(long, exclusive = true)]
    pub print_schema: bool,
}

/// Names of keys in the Secret of a connection.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum KeysArg {
    Variable,
    Field,
}

#[must_use]
pub fn run(args: CompileArgs) -> ExitCode {
    let Some(manifest) = args.manifest else {
        return print_schema();
    };
    #[cfg(feature = "cluster")]
    let cluster = match cluster::connect(args.cluster, args.namespace) {
        Ok(cluster) => cluster,
        Err(message) => {
            print_error(message);
            return ExitCode::from(CompileExitStatus::Unreadable as u8);
        }
    };
    #[cfg(not(feature = "cluster"))]
    let cluster = None;
    let out = io::stdout().lock();
    let request = CompileRequest {
        manifest,
        spec: args.spec,
        parent: args.parent,
        project_dir: args.project_dir,
        profile: args.profile,
        targets: args.targets,
        target: args.target,
        out: args.out,
        form: args.output,
        plugin: args.plugin,
        connection_keys: match args.connection_keys {
            KeysArg::Variable => ConnectionKeys::Variable,
            KeysArg::Field => ConnectionKeys::Field,
        },
        env_from: args.env_from,
        mask: args.mask,
        check: args.check,
        secrets: args.secrets,
        cluster,
        secret_names: args.secret_names.secret_name_pattern,
    };
    let progress = ProgressLine::of("compiling the manifest");
    let status: CompileExitStatus = compile::compile(
        &request,
        io::stdin().lock(),
        &mut progress.results(out),
        &mut progress.messages(),
    );
    drop(progress);
    ExitCode::from(status as u8)
}

fn print_schema() -> ExitCode {
    let schema = compile::manifest_schema();
    match print_result(|out| out.write_all(schema.as_bytes())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            print_error(message);
            ExitCode::from(CompileExitStatus::Unreadable as u8)
        }
    }
}
