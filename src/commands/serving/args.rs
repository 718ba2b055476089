//! Arguments of programs that serve over TLS: the ops port, the certificate, the drain, and the threads.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use crate::cli::values::{at_least_a_second, duration};

/// Ops port, certificate, drain, and threads.
#[derive(Clone, Debug, Args)]
pub struct ServingArgs {
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

impl ServingArgs {
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
