//! Settings and outcome of one run of `compile`.

use std::path::PathBuf;
use std::sync::Arc;

use injection::NameConvention;

use super::live_secrets::LiveSecrets;
use super::plan::ConnectionKeys;

/// Exit status of `compile`. Nothing is printed to standard output unless it is [`Self::Done`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum CompileExitStatus {
    /// Compiled, or the files are current.
    Done = 0,
    /// The manifest was refused, or the files are stale.
    Refused = 1,
    /// The command line or its input cannot be read, or an output cannot be written.
    Unreadable = 2,
    /// Profile and annotations disagree: a bug.
    Bug = 3,
}

/// Form of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum OutputForm {
    /// dbt's profiles.yml.
    Profile,
    /// A map of annotations, to paste.
    Annotations,
    /// A patch for workloads with a pod template.
    Patch,
    /// A kustomize component that patches every workload.
    Kustomize,
    /// A patch for a Namespace, for pods that cannot be annotated.
    Namespace,
    /// A patch for a `ServiceAccount`, for pods that cannot be annotated.
    Serviceaccount,
}

/// Settings of one run.
#[derive(Clone, Debug)]
pub(crate) struct CompileRequest {
    pub manifest: PathBuf,
    pub spec: Option<PathBuf>,
    pub parent: Option<PathBuf>,
    pub project_dir: Option<PathBuf>,
    pub profile: Option<String>,
    pub targets: Vec<String>,
    /// Default target of the profile; `None` for the first of `targets`.
    pub target: Option<String>,
    pub out: Option<PathBuf>,
    pub form: Option<OutputForm>,
    pub plugin: Option<String>,
    pub connection_keys: ConnectionKeys,
    pub env_from: bool,
    pub mask: bool,
    pub check: bool,
    /// Files and folders of Secrets to check against.
    pub secrets: Vec<PathBuf>,
    /// Cluster to check against, instead of files.
    pub cluster: Option<Arc<dyn LiveSecrets>>,
    /// Convention that the names of secrets have to follow.
    pub secret_names: Option<NameConvention>,
}
