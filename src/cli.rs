//! Arguments that subcommands share: one `Args` struct for each subsystem, flattened into the subcommands.
//!
//! Flags are named positively. Each has an environment variable (`FLOE_SECRETS_…`), so that manifests and shells can
//! use the same settings.

#[cfg(feature = "cluster")]
mod cluster;
#[cfg(feature = "cluster")]
pub(crate) mod values;

use clap::Args;
use injection::Sidecar;

#[cfg(feature = "cluster")]
pub use self::cluster::{
    KubernetesArgs, OutputFormat, PodProxyArgs, SelectorArgs, TelemetryArgs, TraceArgs,
};

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
