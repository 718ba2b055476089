//! Arguments that subcommands share: one `Args` struct for each subsystem, flattened into the subcommands.
//!
//! Flags are named positively, and each has an environment variable (`FLOE_SECRETS_…`), so that a manifest and a shell
//! set the same things.

pub(crate) mod values;

use std::path::PathBuf;

use clap::Args;

use self::values::{Collector, collector, ratio};
use crate::kubernetes::proxy::ProxyVariables;
use crate::kubernetes::{ClientSettings, Selector};
use crate::telemetry::logs::LogFormat;

/// Containers that get nothing unless an annotation names them, where nobody says otherwise: those of service meshes and
/// proxies, and those that tools of data platforms add. Everyday words count only in pods with the tool's label.
pub const SIDECARS: &str = "istio-proxy,linkerd-proxy,vault-agent,cloud-sql-proxy,envoy,daprd,kuma-sidecar,\
    airflow-xcom-sidecar,queue-proxy,wait@workflows.argoproj.io/workflow,autoscaler@ray.io/cluster,\
    helper@job.runner.gitlab.com/pod,svc-*@job.runner.gitlab.com/pod,sidecar-*@tekton.dev/taskRun";

/// How to reach Kubernetes.
#[derive(Clone, Debug, Default, Args)]
pub struct KubernetesArgs {
    /// A kubeconfig file, instead of the pod's service account or $KUBECONFIG.
    #[arg(long, env = "FLOE_SECRETS_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig, instead of its current one.
    #[arg(long, env = "FLOE_SECRETS_CONTEXT", value_name = "NAME")]
    pub context: Option<String>,
}

impl KubernetesArgs {
    /// Settings of a client, with the proxies of the environment.
    #[must_use]
    pub fn settings(self, proxies_in_pods: bool) -> ClientSettings {
        let Self {
            kubeconfig,
            context,
        } = self;
        ClientSettings {
            kubeconfig,
            context,
            user_agent: None,
            proxies: proxies(),
            proxies_in_pods,
        }
    }
}

/// Whether a program that runs in pods believes the environment about proxies.
#[derive(Clone, Debug, Default, Args)]
pub struct PodProxyArgs {
    /// In a pod, reach the API server by `HTTPS_PROXY` and `NO_PROXY` of the environment. With a kubeconfig they count
    /// always, after its proxy-url.
    #[arg(long, env = "FLOE_SECRETS_PROXY_FROM_ENVIRONMENT")]
    pub proxy_from_environment: bool,
}

/// Proxy variables of the environment, in both spellings. They are not flags of clap, because their values may have
/// passwords, which clap would print.
#[expect(
    clippy::disallowed_methods,
    reason = "clap reads one name for each flag, and shows values in its help"
)]
fn proxies() -> ProxyVariables {
    ProxyVariables::read(|name| std::env::var(name).ok())
}

/// What is logged, and how.
#[derive(Clone, Debug, Args)]
pub struct TelemetryArgs {
    /// The form of log lines.
    #[arg(long, env = "FLOE_SECRETS_LOG_FORMAT", value_name = "json|pretty", default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,
    /// What is logged: a level, or directives as in `info,floe_secrets_webhook=debug`.
    #[arg(
        long,
        env = "FLOE_SECRETS_LOG",
        value_name = "FILTER",
        default_value = "info"
    )]
    pub log: String,
    /// What is traced.
    #[command(flatten)]
    pub traces: TraceArgs,
}

/// Where traces go. Off by default.
#[derive(Clone, Debug, Args)]
pub struct TraceArgs {
    /// Send traces to this collector by OTLP over HTTP (protobuf): its base address, as in `http://collector:4318`.
    #[arg(
        long,
        env = "OTEL_EXPORTER_OTLP_ENDPOINT",
        value_name = "URL",
        default_value = "",
        hide_default_value = true,
        value_parser = collector
    )]
    pub otlp_endpoint: Collector,
    /// The CA of the collector's certificate, PEM; without it the system's.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_CERTIFICATE", value_name = "FILE")]
    pub otlp_ca: Option<PathBuf>,
    /// The part of traces that is recorded, 0 to 1, where the caller has not decided about it.
    #[arg(long, env = "FLOE_SECRETS_TRACE_RATIO", value_name = "RATIO", default_value = "1", value_parser = ratio)]
    pub trace_ratio: f64,
    /// The pod that this program runs in, for the traces.
    #[arg(long, env = "FLOE_SECRETS_POD_NAME", value_name = "NAME")]
    pub pod_name: Option<String>,
}

/// What the webhook's operator left out by labels: it lacks nothing, and is not waited for.
#[derive(Clone, Debug, Args)]
pub struct SelectorArgs {
    /// The labels of namespaces that the webhook serves, beside its own conditions, as in `team in (a,b),!legacy`.
    #[arg(
        long,
        env = "FLOE_SECRETS_NAMESPACE_SELECTOR",
        value_name = "SELECTOR",
        default_value = "",
        hide_default_value = true
    )]
    pub namespace_selector: Selector,
    /// The labels of pods and workloads that are sent to the webhook, as in `tier!=batch`.
    #[arg(
        long,
        env = "FLOE_SECRETS_OBJECT_SELECTOR",
        value_name = "SELECTOR",
        default_value = "",
        hide_default_value = true
    )]
    pub object_selector: Selector,
}

/// How findings are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum OutputFormat {
    /// Columns, for people.
    Table,
    /// One JSON object, for programs.
    Json,
}
