//! Arguments of `serve`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use injection::Sidecar;

use crate::admission::policy::OnUnavailable;
use crate::cli::values::{at_least_a_second, duration};
use crate::cli::{KubernetesArgs, PodProxyArgs, SIDECARS, TelemetryArgs};

/// `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// How to reach Kubernetes.
    #[command(flatten)]
    pub kubernetes: KubernetesArgs,
    /// Proxies on the way there.
    #[command(flatten)]
    pub proxy: PodProxyArgs,
    /// What is decided how.
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// The admission listener.
    #[command(flatten)]
    pub listener: ListenerArgs,
    /// What is logged.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
}

/// What the operator decides.
#[derive(Clone, Debug, Args)]
pub struct PolicyArgs {
    /// Containers that get nothing unless an annotation names them: names or globs, each with @LABEL for pods that carry
    /// that label alone.
    #[arg(
        long,
        env = "FLOE_SECRETS_SIDECAR_CONTAINERS",
        value_name = "LIST",
        value_delimiter = ',',
        default_value = SIDECARS
    )]
    pub sidecar_containers: Vec<Sidecar>,
    /// What to answer about a pod while a secrets backend is unavailable.
    #[arg(
        long,
        env = "FLOE_SECRETS_ON_UNAVAILABLE",
        value_enum,
        default_value = "deny"
    )]
    pub on_unavailable: OnUnavailable,
    /// The namespace that this program runs in; its pods are never touched.
    #[arg(long, env = "FLOE_SECRETS_OWN_NAMESPACE", value_name = "NAME")]
    pub own_namespace: Option<String>,
    /// More namespaces whose pods are never touched, beside the own one, kube-system and kube-node-lease.
    #[arg(
        long,
        env = "FLOE_SECRETS_EXEMPT_NAMESPACES",
        value_name = "LIST",
        value_delimiter = ','
    )]
    pub exempt_namespaces: Vec<String>,
    /// Read Secrets in these namespaces alone; in all when none is named.
    #[arg(
        long,
        env = "FLOE_SECRETS_NAMESPACES",
        value_name = "LIST",
        value_delimiter = ','
    )]
    pub namespaces: Vec<String>,
    /// Inject into the pod templates of workloads too, and not only into pods. Server-side apply of a template by
    /// two field managers may then meet conflicts.
    #[arg(long, env = "FLOE_SECRETS_WORKLOADS_INJECT_TEMPLATE")]
    pub workloads_inject_template: bool,
    /// Declare that nobody but the API server reaches the admission port, by a client certificate or a `NetworkPolicy`.
    /// Without it, answers tell no names that the author did not write: `name/*` is refused, and nothing is suggested.
    #[arg(
        long,
        env = "FLOE_SECRETS_TRUSTED_CALLERS",
        value_name = "true|false",
        action = clap::ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value_t = false,
        default_missing_value = "true"
    )]
    pub trusted_callers: bool,
}

/// The listeners of `serve`.
#[derive(Clone, Debug, Args)]
pub struct ListenerArgs {
    /// Where reviews are answered, over TLS.
    #[arg(
        long,
        env = "FLOE_SECRETS_LISTEN",
        value_name = "ADDRESS",
        default_value = "0.0.0.0:8443"
    )]
    pub listen: SocketAddr,
    /// Where /livez, /readyz and /metrics are answered, in plain HTTP.
    #[arg(
        long,
        env = "FLOE_SECRETS_OPS_LISTEN",
        value_name = "ADDRESS",
        default_value = "0.0.0.0:8080"
    )]
    pub ops_listen: SocketAddr,
    /// The serving certificate and its chain, PEM; read again when it changes.
    #[arg(
        long,
        env = "FLOE_SECRETS_TLS_CERT",
        value_name = "FILE",
        requires = "tls_key",
        required_unless_present = "tls_secret"
    )]
    pub tls_cert: Option<PathBuf>,
    /// Its private key, PEM.
    #[arg(
        long,
        env = "FLOE_SECRETS_TLS_KEY",
        value_name = "FILE",
        requires = "tls_cert"
    )]
    pub tls_key: Option<PathBuf>,
    /// Instead of files: the Secret, in the own namespace, in which the controller keeps the certificate.
    #[arg(long, env = "FLOE_SECRETS_TLS_SECRET", value_name = "NAME", conflicts_with_all = ["tls_cert", "tls_key"])]
    pub tls_secret: Option<String>,
    /// cert-manager's Certificate in the own namespace that the files come from: while they cannot serve, what it says
    /// stands in the log and at /readyz.
    #[arg(
        long,
        env = "FLOE_SECRETS_TLS_CERTIFICATE",
        value_name = "NAME",
        requires = "tls_cert"
    )]
    pub tls_certificate: Option<String>,
    /// Demand a client certificate of this CA, PEM, from whoever calls: the API server, if it has one.
    #[arg(long, env = "FLOE_SECRETS_TLS_CLIENT_CA", value_name = "FILE")]
    pub tls_client_ca: Option<PathBuf>,
    /// How often the certificate is looked at.
    #[arg(long, env = "FLOE_SECRETS_TLS_POLL", value_name = "DURATION", default_value = "10s", value_parser = at_least_a_second)]
    pub tls_poll: std::time::Duration,
    /// How long new connections are still accepted after the signal to stop, while endpoints are updated.
    #[arg(long, env = "FLOE_SECRETS_SHUTDOWN_DELAY", value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub shutdown_delay: std::time::Duration,
    /// How long requests in flight may take to end after that.
    #[arg(long, env = "FLOE_SECRETS_DRAIN_TIMEOUT", value_name = "DURATION", default_value = "20s", value_parser = duration)]
    pub drain_timeout: std::time::Duration,
    /// Worker threads, 1 to 64. By default as many as there are CPUs, 4 at the most.
    #[arg(
        long,
        env = "FLOE_SECRETS_WORKER_THREADS",
        value_name = "NUMBER",
        value_parser = clap::value_parser!(u16).range(1..=64)
    )]
    pub worker_threads: Option<u16>,
}
