//! Arguments of `controller`.

use std::net::SocketAddr;

use clap::Args;

use crate::cli::values::{at_least_a_second, lease_duration};
use crate::cli::{KubernetesArgs, PodProxyArgs, SelectorArgs, SidecarArgs, TelemetryArgs};

#[derive(Debug, Args)]
pub struct ControllerArgs {
    #[command(flatten)]
    pub kubernetes: KubernetesArgs,
    #[command(flatten)]
    pub proxy: PodProxyArgs,
    #[command(flatten)]
    pub lease: LeaseArgs,
    /// Address of /livez, /readyz and /metrics, in plain HTTP.
    #[arg(
        long,
        env = "FLOE_SECRETS_OPS_LISTEN",
        value_name = "ADDRESS",
        default_value = "0.0.0.0:8080"
    )]
    pub ops_listen: SocketAddr,
    /// Interval of the drift scan, which finds pods and workloads that run without their secrets.
    #[arg(long, env = "FLOE_SECRETS_DRIFT_INTERVAL", value_name = "DURATION", default_value = "10m", value_parser = at_least_a_second)]
    pub drift_interval: std::time::Duration,
    /// Trigger a retry of the owners of refused pods as soon as the secrets that they wait for exist.
    #[arg(
        long,
        env = "FLOE_SECRETS_RETRY_OWNERS",
        value_name = "true|false",
        action = clap::ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value_t = true,
        default_missing_value = "true"
    )]
    pub retry_owners: bool,
    #[command(flatten)]
    pub sidecars: SidecarArgs,
    /// Namespace that this program runs in. It has the lease, and its pods are ignored.
    #[arg(long, env = "FLOE_SECRETS_OWN_NAMESPACE", value_name = "NAME")]
    pub own_namespace: Option<String>,
    /// More namespaces that the webhook never mutates, besides its own, kube-system and kube-node-lease.
    #[arg(
        long,
        env = "FLOE_SECRETS_EXEMPT_NAMESPACES",
        value_name = "LIST",
        value_delimiter = ','
    )]
    pub exempt_namespaces: Vec<String>,
    /// Work only in these namespaces, with permissions in each of them. Default: all.
    #[arg(
        long,
        env = "FLOE_SECRETS_NAMESPACES",
        value_name = "LIST",
        value_delimiter = ','
    )]
    pub namespaces: Vec<String>,
    #[command(flatten)]
    pub selectors: SelectorArgs,
    #[command(flatten)]
    pub certificate: CertificateArgs,
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
}

/// Self-managed certificate: issued and renewed by the controller, and trusted by the webhook configuration.
#[derive(Clone, Debug, Args)]
pub struct CertificateArgs {
    /// Issue the serving certificate and store it in this Secret in the own namespace. The Secret must exist.
    #[arg(long, env = "FLOE_SECRETS_TLS_SECRET", value_name = "NAME")]
    pub tls_secret: Option<String>,
    /// DNS names under which the API server calls the webhook.
    #[arg(
        long,
        env = "FLOE_SECRETS_TLS_NAMES",
        value_name = "LIST",
        value_delimiter = ','
    )]
    pub tls_names: Vec<String>,
    /// Issue a certificate for admin as well, with a CA of its own in `ca.crt`, and store it in this Secret in the own
    /// namespace. The Secret must exist.
    #[arg(long, env = "FLOE_SECRETS_ADMIN_TLS_SECRET", value_name = "NAME")]
    pub admin_tls_secret: Option<String>,
    /// DNS names under which admin is called.
    #[arg(
        long,
        env = "FLOE_SECRETS_ADMIN_DNS_NAMES",
        value_name = "LIST",
        value_delimiter = ','
    )]
    pub admin_dns_names: Vec<String>,
    /// Webhook configuration whose entries trust the certificate's CA.
    #[arg(
        long,
        env = "FLOE_SECRETS_WEBHOOK_CONFIGURATION",
        value_name = "NAME",
        default_value = "zz-floe-secrets-webhook"
    )]
    pub webhook_configuration: String,
    /// Validity of a certificate. It is renewed after two thirds.
    #[arg(long, env = "FLOE_SECRETS_TLS_VALIDITY", value_name = "DURATION", default_value = "2160h", value_parser = at_least_a_second)]
    pub tls_validity: std::time::Duration,
    /// Time between the publication of a new CA and the use of its certificate, for API servers to read the CA. The
    /// certificate of admin waits six times as long, for kubelets.
    #[arg(long, env = "FLOE_SECRETS_CA_GRACE", value_name = "DURATION", default_value = "30s", value_parser = at_least_a_second)]
    pub ca_grace: std::time::Duration,
    /// Interval at which the certificate and the webhook configuration are checked.
    #[arg(long, env = "FLOE_SECRETS_TLS_POLL", value_name = "DURATION", default_value = "5s", value_parser = at_least_a_second)]
    pub tls_poll: std::time::Duration,
}

/// Leader lease.
#[derive(Clone, Debug, Args)]
pub struct LeaseArgs {
    /// Name of the leader lease.
    #[arg(
        long,
        env = "FLOE_SECRETS_LEASE_NAME",
        value_name = "NAME",
        default_value = "floe-secrets-controller"
    )]
    pub lease_name: String,
    /// Time without a renewal after which another replica takes over.
    #[arg(long, env = "FLOE_SECRETS_LEASE_DURATION", value_name = "DURATION", default_value = "15s", value_parser = lease_duration)]
    pub lease_duration: std::time::Duration,
    /// Name of this replica in the lease; a unique suffix is added.
    #[arg(
        long,
        env = "FLOE_SECRETS_IDENTITY",
        value_name = "NAME",
        default_value = "controller"
    )]
    pub identity: String,
}

impl CertificateArgs {
    /// Checks that certificates that are issued have names, and Secrets of their own.
    ///
    /// # Errors
    /// A sentence that names the flags and the settings.
    pub fn check(&self) -> Result<(), String> {
        if self.tls_secret.is_some() && self.tls_names.is_empty() {
            return Err("--tls-secret (tls.secret) requires --tls-names (tls.names)".to_owned());
        }
        if self.admin_tls_secret.is_some() && self.admin_dns_names.is_empty() {
            return Err(
                "--admin-tls-secret (tls.adminSecret) requires --admin-dns-names (tls.adminNames)"
                    .to_owned(),
            );
        }
        if self.admin_tls_secret.is_some() && self.admin_tls_secret == self.tls_secret {
            return Err(
                "--tls-secret (tls.secret) and --admin-tls-secret (tls.adminSecret) have to name two Secrets: each has \
                 the certificate of one server"
                    .to_owned(),
            );
        }
        Ok(())
    }
}
