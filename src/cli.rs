//! Arguments that subcommands share: one `Args` struct for each subsystem, flattened into the subcommands.
//!
//! Flags are named positively. Each has an environment variable (`FLOE_SECRETS_…`), so that manifests and shells can
//! use the same settings.

#[cfg(feature = "cluster")]
mod cluster;
#[cfg(feature = "cluster")]
pub(crate) mod values;

#[cfg(feature = "cluster")]
pub use self::cluster::{
    KubernetesArgs, OutputFormat, PodProxyArgs, SelectorArgs, TelemetryArgs, TraceArgs,
};

/// Default sidecar list: containers of service meshes and proxies, and containers that tools of data platforms add.
/// Common words are limited to pods with the tool's label.
pub const SIDECARS: &str = "istio-proxy,linkerd-proxy,vault-agent,cloud-sql-proxy,envoy,daprd,kuma-sidecar,\
    airflow-xcom-sidecar,queue-proxy,wait@workflows.argoproj.io/workflow,autoscaler@ray.io/cluster,\
    helper@job.runner.gitlab.com/pod,svc-*@job.runner.gitlab.com/pod,sidecar-*@tekton.dev/taskRun";
