//! Command line that subcommands share: arguments, output, colour, progress.
//!
//! There is one `Args` struct for each subsystem, flattened into the subcommands. Flags are named positively. Each has an
//! environment variable (`FLOE_SECRETS_…`) and a setting in the configuration file (`config`), so that manifests, shells
//! and files can set the same.

#[cfg(feature = "cluster")]
mod cluster;
pub(crate) mod color;
mod global;
pub(crate) mod output;
pub(crate) mod progress;
#[cfg(feature = "cluster")]
pub(crate) mod values;

use clap::Args;
use injection::{NameConvention, Sidecar};

#[cfg(feature = "cluster")]
pub use self::cluster::{KubernetesArgs, PodProxyArgs, SelectorArgs, TelemetryArgs, TraceArgs};
pub use self::color::ColorWhen;
pub use self::global::GlobalArgs;
pub use self::output::{OutputArgs, OutputFormat};

/// Default sidecar list: containers of service meshes and proxies, and containers that tools of data platforms add.
/// Common words are limited to pods with the tool's label.
pub const SIDECARS: &str = "istio-proxy,linkerd-proxy,vault-agent,cloud-sql-proxy,envoy,daprd,kuma-sidecar,\
    airflow-xcom-sidecar,queue-proxy,wait@workflows.argoproj.io/workflow,autoscaler@ray.io/cluster,\
    helper@job.runner.gitlab.com/pod,svc-*@job.runner.gitlab.com/pod,sidecar-*@tekton.dev/taskRun";

/// Containers that are left out unless an annotation names them.
#[derive(Clone, Debug, Args)]
pub struct SidecarArgs {
    /// Containers that receive nothing unless an annotation names them: names or globs, each with @LABEL to limit it to
    /// pods with that label. All commands should have the list of the webhook.
    #[arg(
        long,
        env = "FLOE_SECRETS_SIDECAR_CONTAINERS",
        value_name = "LIST",
        value_delimiter = ',',
        default_value = SIDECARS
    )]
    pub sidecar_containers: Vec<Sidecar>,
}

/// Namespaces that commands leave out, as the webhook does.
#[derive(Clone, Debug, Args)]
pub struct ExemptNamespaceArgs {
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

/// Naming convention for secrets.
#[derive(Clone, Debug, Args)]
pub struct SecretNameArgs {
    /// Check that the names of secrets match this pattern: a glob in which words in braces, such as {service}, stand
    /// for a part of the name; or `floe` for {service}-{environment}-credentials. Default: any name.
    #[arg(long, env = "FLOE_SECRETS_SECRET_NAME_PATTERN", value_name = "PATTERN")]
    pub secret_name_pattern: Option<NameConvention>,
}
