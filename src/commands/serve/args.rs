//! Arguments of `serve`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::admission::policy::{OnAuditFailure, OnUnavailable, SecretNameMode};
use crate::cli::values::{at_least_a_second, duration};
use crate::cli::{KubernetesArgs, PodProxyArgs, SecretNameArgs, SidecarArgs, TelemetryArgs};

#[derive(Debug, Args)]
pub struct ServeArgs {
    #[command(flatten)]
    pub kubernetes: KubernetesArgs,
    #[command(flatten)]
    pub proxy: PodProxyArgs,
    #[command(flatten)]
    pub policy: PolicyArgs,
    #[command(flatten)]
    pub recorder: RecorderArgs,
    #[command(flatten)]
    pub listener: ListenerArgs,
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
}

/// Policy of the operator.
#[derive(Clone, Debug, Args)]
pub struct PolicyArgs {
    #[command(flatten)]
    pub sidecars: SidecarArgs,
    /// Response to a pod while a secrets backend is unavailable.
    #[arg(
        long,
        env = "FLOE_SECRETS_ON_UNAVAILABLE",
        value_enum,
        default_value = "deny"
    )]
    pub on_unavailable: OnUnavailable,
    /// Namespace that this program runs in; its pods are never mutated.
    #[arg(long, env = "FLOE_SECRETS_OWN_NAMESPACE", value_name = "NAME")]
    pub own_namespace: Option<String>,
    /// More namespaces whose pods are never mutated, besides its own, kube-system and kube-node-lease.
    #[arg(
        long,
        env = "FLOE_SECRETS_EXEMPT_NAMESPACES",
        value_name = "LIST",
        value_delimiter = ','
    )]
    pub exempt_namespaces: Vec<String>,
    /// Read Secrets only in these namespaces. Default: all.
    #[arg(
        long,
        env = "FLOE_SECRETS_NAMESPACES",
        value_name = "LIST",
        value_delimiter = ','
    )]
    pub namespaces: Vec<String>,
    /// Inject into the pod templates of workloads too, and not only into pods. Server-side apply of a template by two
    /// field managers may then lead to conflicts.
    #[arg(
        long,
        env = "FLOE_SECRETS_WORKLOADS_INJECT_TEMPLATE",
        value_name = "true|false",
        action = clap::ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value_t = false,
        default_missing_value = "true"
    )]
    pub workloads_inject_template: bool,
    #[command(flatten)]
    pub secret_names: SecretNameArgs,
    /// Response to an object that asks for a secret whose name does not match --secret-name-pattern.
    #[arg(
        long,
        env = "FLOE_SECRETS_SECRET_NAME_MODE",
        value_enum,
        default_value = "warn"
    )]
    pub secret_name_mode: SecretNameMode,
    /// Declare that only the API server can reach the admission port, because of a client certificate or a
    /// `NetworkPolicy`. Otherwise, responses have no names that the author did not write: `name/*` is refused, and no
    /// names are suggested.
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

/// Audit trail.
#[derive(Clone, Debug, Args)]
pub struct RecorderArgs {
    /// Output of the audit trail: `stdout` writes records between the lines of the log.
    #[arg(long, env = "FLOE_SECRETS_AUDIT", value_enum, default_value = "off")]
    pub audit: AuditOutput,
    /// Name of the cluster in each record of the audit trail.
    #[arg(long, env = "FLOE_SECRETS_AUDIT_CLUSTER_NAME", value_name = "NAME")]
    pub audit_cluster_name: Option<String>,
    /// Response to an object that asks for secrets, if its record cannot be written.
    #[arg(
        long,
        env = "FLOE_SECRETS_AUDIT_ON_FAILURE",
        value_enum,
        default_value = "ignore"
    )]
    pub audit_on_failure: OnAuditFailure,
    /// Uid of the pod that this program runs in; begins the id of its chain of records.
    #[arg(long, env = "FLOE_SECRETS_POD_UID", value_name = "UID")]
    pub pod_uid: Option<String>,
    /// Name of the pod, which is an argument of the traces.
    #[arg(skip)]
    pub pod_name: Option<String>,
}

/// Output of the audit trail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AuditOutput {
    Off,
    Stdout,
}

/// Listeners and their certificate.
#[derive(Clone, Debug, Args)]
pub struct ListenerArgs {
    /// Address of the admission port, over TLS.
    #[arg(
        long,
        env = "FLOE_SECRETS_LISTEN",
        value_name = "ADDRESS",
        default_value = "0.0.0.0:8443"
    )]
    pub listen: SocketAddr,
    /// Address of /livez, /readyz and /metrics, in plain HTTP.
    #[arg(
        long,
        env = "FLOE_SECRETS_OPS_LISTEN",
        value_name = "ADDRESS",
        default_value = "0.0.0.0:8080"
    )]
    pub ops_listen: SocketAddr,
    /// Serving certificate and its chain, PEM. It is read again when it changes.
    #[arg(long, env = "FLOE_SECRETS_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// Private key of the serving certificate, PEM.
    #[arg(long, env = "FLOE_SECRETS_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Secret in the own namespace in which the controller stores the certificate, instead of files.
    #[arg(long, env = "FLOE_SECRETS_TLS_SECRET", value_name = "NAME")]
    pub tls_secret: Option<String>,
    /// cert-manager's Certificate in the own namespace that the files come from. While they cannot serve, its problem
    /// is reported in the log and at /readyz.
    #[arg(long, env = "FLOE_SECRETS_TLS_CERTIFICATE", value_name = "NAME")]
    pub tls_certificate: Option<String>,
    /// Require from callers a client certificate that is signed by this CA, PEM. The API server must have one.
    #[arg(long, env = "FLOE_SECRETS_TLS_CLIENT_CA", value_name = "FILE")]
    pub tls_client_ca: Option<PathBuf>,
    /// Interval at which the certificate is read.
    #[arg(long, env = "FLOE_SECRETS_TLS_POLL", value_name = "DURATION", default_value = "10s", value_parser = at_least_a_second)]
    pub tls_poll: std::time::Duration,
    /// Time for which new connections are accepted after the signal to stop, while endpoints are updated.
    #[arg(long, env = "FLOE_SECRETS_SHUTDOWN_DELAY", value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub shutdown_delay: std::time::Duration,
    /// Time limit of requests in flight after that.
    #[arg(long, env = "FLOE_SECRETS_DRAIN_TIMEOUT", value_name = "DURATION", default_value = "20s", value_parser = duration)]
    pub drain_timeout: std::time::Duration,
    /// Number of worker threads, 1 to 64. Default: the number of CPUs, at most 4.
    #[arg(
        long,
        env = "FLOE_SECRETS_WORKER_THREADS",
        value_name = "NUMBER",
        value_parser = clap::value_parser!(u16).range(1..=64)
    )]
    pub worker_threads: Option<u16>,
}

impl ListenerArgs {
    /// Checks that there is one source of the certificate.
    ///
    /// # Errors
    /// A sentence that names the flags and the settings.
    pub fn check(&self) -> Result<(), String> {
        let (cert, key) = (self.tls_cert.is_some(), self.tls_key.is_some());
        let problem = if self.tls_secret.is_some() {
            if cert || key {
                "--tls-secret (tls.secret) cannot be used with --tls-cert and --tls-key (tls.cert and tls.key): keep one of them"
            } else if self.tls_certificate.is_some() {
                "--tls-certificate (tls.certificate) is about files: use it with --tls-cert and --tls-key, not with --tls-secret"
            } else {
                return Ok(());
            }
        } else if !cert && !key {
            "a serving certificate is required: set --tls-cert and --tls-key, or --tls-secret (in the configuration file: tls.cert and tls.key, or tls.secret)"
        } else if !cert {
            "--tls-key (tls.key) requires --tls-cert (tls.cert)"
        } else if !key {
            "--tls-cert (tls.cert) requires --tls-key (tls.key)"
        } else {
            return Ok(());
        };
        Err(problem.to_owned())
    }
}
