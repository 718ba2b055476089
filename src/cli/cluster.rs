//! Arguments of commands that talk to a cluster.

use std::path::PathBuf;

use clap::Args;

use super::values::{Collector, collector, log_filter, ratio};
use crate::kubernetes::proxy::ProxyVariables;
use crate::kubernetes::{ClientSettings, Selector};
use crate::telemetry::logs::LogFormat;

/// Connection to Kubernetes.
#[derive(Clone, Debug, Default, Args)]
pub struct KubernetesArgs {
    /// Kubeconfig file, instead of the pod's service account or $KUBECONFIG.
    #[arg(long, env = "FLOE_SECRETS_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig, instead of its current one.
    #[arg(long, env = "FLOE_SECRETS_CONTEXT", value_name = "NAME")]
    pub context: Option<String>,
}

impl KubernetesArgs {
    /// Builds the settings of a client, with the proxies of the environment.
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

/// Use of the environment's proxies by programs that run in pods.
#[derive(Clone, Debug, Default, Args)]
pub struct PodProxyArgs {
    /// Use `HTTPS_PROXY` and `NO_PROXY` of the environment to reach the API server from a pod. With a kubeconfig they
    /// are always used, unless it has a proxy-url.
    #[arg(
        long,
        env = "FLOE_SECRETS_PROXY_FROM_ENVIRONMENT",
        value_name = "true|false",
        action = clap::ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value_t = false,
        default_missing_value = "true"
    )]
    pub proxy_from_environment: bool,
}

/// Reads the proxy variables of the environment, in both spellings. They are not flags of clap, because their values
/// may have passwords, which clap would print.
#[expect(
    clippy::disallowed_methods,
    reason = "clap reads one name for each flag, and shows values in its help"
)]
fn proxies() -> ProxyVariables {
    ProxyVariables::read(|name| std::env::var(name).ok())
}

/// Logs and traces.
#[derive(Clone, Debug, Args)]
pub struct TelemetryArgs {
    /// Format of log lines.
    #[arg(long, env = "FLOE_SECRETS_LOG_FORMAT", value_name = "json|pretty", default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,
    /// Log filter: a level, or directives as in `info,floe_secrets_webhook=debug`.
    #[arg(
        long,
        env = "FLOE_SECRETS_LOG",
        value_name = "FILTER",
        default_value = "info",
        value_parser = log_filter
    )]
    pub log: String,
    #[command(flatten)]
    pub traces: TraceArgs,
}

/// Export of traces; off by default.
#[derive(Clone, Debug, Args)]
pub struct TraceArgs {
    /// Export traces to this collector by OTLP over HTTP (protobuf); its base address, as in `http://collector:4318`.
    #[arg(
        long,
        env = "OTEL_EXPORTER_OTLP_ENDPOINT",
        // Other programs accept a password in it.
        hide_env_values = true,
        value_name = "URL",
        default_value = "",
        hide_default_value = true,
        value_parser = collector
    )]
    pub otlp_endpoint: Collector,
    /// CA of the collector's certificate, PEM. Default: the system's CAs.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_CERTIFICATE", value_name = "FILE")]
    pub otlp_ca: Option<PathBuf>,
    /// Ratio of traces that are recorded, 0 to 1, unless the caller has decided.
    #[arg(long, env = "FLOE_SECRETS_TRACE_RATIO", value_name = "RATIO", default_value = "1", value_parser = ratio)]
    pub trace_ratio: f64,
    /// Name of the pod that this program runs in, for traces.
    #[arg(long, env = "FLOE_SECRETS_POD_NAME", value_name = "NAME")]
    pub pod_name: Option<String>,
}

/// Selectors of the webhook configuration. Objects that they exclude lack no secrets, and are not retried.
#[derive(Clone, Debug, Args)]
pub struct SelectorArgs {
    /// Label selector of namespaces that the webhook serves, besides its own conditions, as in `team in (a,b),!legacy`.
    #[arg(
        long,
        env = "FLOE_SECRETS_NAMESPACE_SELECTOR",
        value_name = "SELECTOR",
        default_value = "",
        hide_default_value = true
    )]
    pub namespace_selector: Selector,
    /// Label selector of pods and workloads that are sent to the webhook, as in `tier!=batch`.
    #[arg(
        long,
        env = "FLOE_SECRETS_OBJECT_SELECTOR",
        value_name = "SELECTOR",
        default_value = "",
        hide_default_value = true
    )]
    pub object_selector: Selector,
}
