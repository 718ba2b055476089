//! Arguments of `controller`.

use std::net::SocketAddr;

use clap::Args;
use injection::Sidecar;

use crate::cli::values::{at_least_a_second, lease_duration};
use crate::cli::{KubernetesArgs, PodProxyArgs, SIDECARS, SelectorArgs, TelemetryArgs};

/// `controller`.
#[derive(Debug, Args)]
pub struct ControllerArgs {
    /// How to reach Kubernetes.
    #[command(flatten)]
    pub kubernetes: KubernetesArgs,
    /// Proxies on the way there.
    #[command(flatten)]
    pub proxy: PodProxyArgs,
    /// Who leads.
    #[command(flatten)]
    pub lease: LeaseArgs,
    /// Where /livez, /readyz and /metrics are answered, in plain HTTP.
    #[arg(
        long,
        env = "FLOE_SECRETS_OPS_LISTEN",
        value_name = "ADDRESS",
        default_value = "0.0.0.0:8080"
    )]
    pub ops_listen: SocketAddr,
    /// How often everything is looked through for what runs without its secrets.
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
    /// Containers that get nothing unless an annotation names them, as `serve` has it.
    #[arg(
        long,
        env = "FLOE_SECRETS_SIDECAR_CONTAINERS",
        value_name = "LIST",
        value_delimiter = ',',
        default_value = SIDECARS
    )]
    pub sidecar_containers: Vec<Sidecar>,
    /// The namespace that this program runs in: its pods are left alone, and the lease is there.
    #[arg(long, env = "FLOE_SECRETS_OWN_NAMESPACE", value_name = "NAME")]
    pub own_namespace: Option<String>,
    /// More namespaces that the webhook leaves alone, beside the own one, kube-system and kube-node-lease.
    #[arg(
        long,
        env = "FLOE_SECRETS_EXEMPT_NAMESPACES",
        value_name = "LIST",
        value_delimiter = ','
    )]
    pub exempt_namespaces: Vec<String>,
    /// Work in these namespaces alone, with rights in each of them; in all when none is named.
    #[arg(
        long,
        env = "FLOE_SECRETS_NAMESPACES",
        value_name = "LIST",
        value_delimiter = ','
    )]
    pub namespaces: Vec<String>,
    /// What else the webhook leaves alone.
    #[command(flatten)]
    pub selectors: SelectorArgs,
    /// The serving certificate, when it is made here.
    #[command(flatten)]
    pub certificate: CertificateArgs,
    /// What is logged.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
}

/// The self-managed certificate: made, made anew in time, and trusted by the webhook configuration.
#[derive(Clone, Debug, Args)]
pub struct CertificateArgs {
    /// Make the serving certificate and keep it in this Secret of the own namespace, which exists already.
    #[arg(
        long,
        env = "FLOE_SECRETS_TLS_SECRET",
        value_name = "NAME",
        requires = "tls_names"
    )]
    pub tls_secret: Option<String>,
    /// The DNS names under which the API server calls the webhook.
    #[arg(
        long,
        env = "FLOE_SECRETS_TLS_NAMES",
        value_name = "LIST",
        value_delimiter = ','
    )]
    pub tls_names: Vec<String>,
    /// The webhook configuration whose entries shall trust the certificate's CA.
    #[arg(
        long,
        env = "FLOE_SECRETS_WEBHOOK_CONFIGURATION",
        value_name = "NAME",
        default_value = "zz-floe-secrets-webhook"
    )]
    pub webhook_configuration: String,
    /// How long a certificate is valid; the next is made when two thirds are over.
    #[arg(long, env = "FLOE_SECRETS_TLS_VALIDITY", value_name = "DURATION", default_value = "2160h", value_parser = at_least_a_second)]
    pub tls_validity: std::time::Duration,
    /// How long API servers get to learn of a new CA before its certificate serves.
    #[arg(long, env = "FLOE_SECRETS_CA_GRACE", value_name = "DURATION", default_value = "30s", value_parser = at_least_a_second)]
    pub ca_grace: std::time::Duration,
    /// How often the certificate and the trust in it are looked at.
    #[arg(long, env = "FLOE_SECRETS_TLS_POLL", value_name = "DURATION", default_value = "5s", value_parser = at_least_a_second)]
    pub tls_poll: std::time::Duration,
}

/// The leader lease.
#[derive(Clone, Debug, Args)]
pub struct LeaseArgs {
    /// The lease's name.
    #[arg(
        long,
        env = "FLOE_SECRETS_LEASE_NAME",
        value_name = "NAME",
        default_value = "floe-secrets-controller"
    )]
    pub lease_name: String,
    /// How long a leader that is silent is believed to live.
    #[arg(long, env = "FLOE_SECRETS_LEASE_DURATION", value_name = "DURATION", default_value = "15s", value_parser = lease_duration)]
    pub lease_duration: std::time::Duration,
    /// Who this replica is, for people who read the lease; something unique is added.
    #[arg(
        long,
        env = "FLOE_SECRETS_IDENTITY",
        value_name = "NAME",
        default_value = "controller"
    )]
    pub identity: String,
}
