//! The command line: one `Args` struct for each subsystem, flattened into the subcommands.
//!
//! Flags are named positively, and each may come from the environment (`FLOE_SECRETS_…`), so that a manifest
//! and a shell can say the same thing.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::admission::policy::OnUnavailable;
use crate::api::Selector;
use crate::backend::kubernetes::ClientSettings;
use crate::injection::Sidecar;
use crate::proxy::ProxyVariables;
use crate::telemetry::LogFormat;
use crate::traces::{Endpoint, InvalidEndpoint};

/// Containers that get nothing unless an annotation names them, where nobody says otherwise: those of service meshes and
/// proxies, and those that tools of data platforms add. Everyday words count only in pods with the tool's label.
pub const SIDECARS: &str = "istio-proxy,linkerd-proxy,vault-agent,cloud-sql-proxy,envoy,daprd,kuma-sidecar,\
    airflow-xcom-sidecar,queue-proxy,wait@workflows.argoproj.io/workflow,autoscaler@ray.io/cluster,\
    helper@job.runner.gitlab.com/pod,svc-*@job.runner.gitlab.com/pod,sidecar-*@tekton.dev/taskRun";

/// The least pause between two rounds of anything, and the least of what they measure: without one, a mistyped value
/// would keep a CPU and the API server busy.
const MIN_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);

/// Injects the secrets that pods ask for by name.
#[derive(Debug, Parser)]
#[command(
    name = "floe-secrets-webhook",
    version,
    about,
    propagate_version = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the admission webhook.
    Serve(Box<ServeArgs>),
    /// Watch over what was injected: the drift scan and retries of refused pods, by the one replica that leads.
    ///
    /// Admission never depends on it. The drift scan is what `scan` does, from time to time, told by a metric and
    /// Events. Owners of refused pods are retried as soon as the secrets that they wait for exist.
    Controller(Box<ControllerArgs>),
    /// Inject into manifests, offline: YAML or JSON in, the same out, patched.
    ///
    /// Patched manifests go to stdout, messages to stderr. Exit code 0: injected, or nothing to do; 1: refused, and
    /// nothing was printed; 2: the call or its input cannot be read.
    Inject(Box<InjectArgs>),
    /// Find what runs without the secrets that it asks for.
    ///
    /// Pods and workloads that were created while the webhook was away, or changed by another webhook later; and workloads
    /// whose containers lost a Secret in the latest revision, because an annotation was removed. Looks with your own
    /// rights (get and list on pods, workloads and their revisions) and reads no Secret. A long run says on stderr how far it
    /// is. Exit code 0: nothing found; 1: found; 2: not everything could be looked at.
    Scan(Box<ScanArgs>),
    /// Find out whether an installation is healthy, and what mends it.
    ///
    /// Looks from outside, with your own rights: the webhook configuration, the CA and the certificate, Service,
    /// replicas, rights, cert-manager, Reloader. Then it asks the API server to create a pod that asks for a secret that
    /// nobody has, as a dry run: only when the webhook's own sentence comes back does everything work. It changes
    /// nothing, and what you may not look at is not checked. Exit code 0: healthy, warnings or not; 1: something failed;
    /// 2: nothing could be looked at.
    Doctor(Box<DoctorArgs>),
}

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

/// A collector, or none. An empty variable of the environment counts as one that is not set.
#[derive(Clone, Debug)]
pub struct Collector(pub Option<Endpoint>);

fn collector(text: &str) -> Result<Collector, InvalidEndpoint> {
    if text.is_empty() {
        Ok(Collector(None))
    } else {
        text.parse().map(|endpoint| Collector(Some(endpoint)))
    }
}

/// A part of the whole.
fn ratio(text: &str) -> Result<f64, String> {
    let parsed = text
        .parse()
        .ok()
        .filter(|ratio| (0.0..=1.0).contains(ratio));
    parsed.ok_or_else(|| format!("{text:?} is no number from 0 to 1"))
}

/// `inject`.
#[derive(Debug, Args)]
pub struct InjectArgs {
    /// Manifests to read.
    #[command(flatten)]
    pub files: ManifestArgs,
    /// Check against the cluster of the kubeconfig, with your own rights.
    #[arg(long)]
    pub cluster: bool,
    /// How to reach that cluster.
    #[command(flatten)]
    pub kubernetes: KubernetesArgs,
    /// The namespace of objects that name none; else the kubeconfig's with --cluster, or default.
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Containers that get nothing unless an annotation names them, as the webhook's operator set it.
    #[arg(
        long,
        env = "FLOE_SECRETS_SIDECAR_CONTAINERS",
        value_name = "LIST",
        value_delimiter = ',',
        default_value = SIDECARS
    )]
    pub sidecar_containers: Vec<Sidecar>,
    /// Say in plain sentences what is done and why.
    #[arg(long)]
    pub explain: bool,
    /// Warn about annotations under secrets.floe.dev/ that are not acted on, instead of refusing them.
    #[arg(long)]
    pub allow_unknown: bool,
    /// Print every document in this format. By default each keeps its own.
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub output: Option<ManifestFormat>,
}

/// Which manifests are read.
#[derive(Clone, Debug, Args)]
pub struct ManifestArgs {
    /// Manifests to inject into: files, folders of .json, .yaml and .yml files, or - for standard input. May be given
    /// several times.
    #[arg(short, long, required = true, value_name = "PATH")]
    pub filename: Vec<PathBuf>,
    /// Read the folders in a folder too.
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// Files and folders of Secrets (and Namespaces, ServiceAccounts) to check against; their values are not looked at.
    #[arg(long, value_name = "PATH", conflicts_with = "cluster")]
    pub secrets: Vec<PathBuf>,
}

/// A format of manifests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ManifestFormat {
    /// JSON objects, one after the other.
    Json,
    /// YAML documents.
    Yaml,
}

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

/// `scan`.
#[derive(Debug, Args)]
pub struct ScanArgs {
    /// Which cluster.
    #[command(flatten)]
    pub kubernetes: KubernetesArgs,
    /// The namespace; else the context's.
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// All namespaces.
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub all_namespaces: bool,
    /// What is printed.
    #[arg(
        short,
        long,
        value_enum,
        value_name = "FORMAT",
        default_value = "table"
    )]
    pub output: OutputFormat,
    /// Containers that get nothing unless an annotation names them, as the webhook's operator set it.
    #[arg(
        long,
        env = "FLOE_SECRETS_SIDECAR_CONTAINERS",
        value_name = "LIST",
        value_delimiter = ',',
        default_value = SIDECARS
    )]
    pub sidecar_containers: Vec<Sidecar>,
    /// Namespaces that the webhook leaves alone, beside kube-system and kube-node-lease.
    #[arg(
        long,
        env = "FLOE_SECRETS_EXEMPT_NAMESPACES",
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "floe-secrets-webhook"
    )]
    pub exempt_namespaces: Vec<String>,
    /// What else the webhook leaves alone.
    #[command(flatten)]
    pub selectors: SelectorArgs,
}

/// `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Which cluster.
    #[command(flatten)]
    pub kubernetes: KubernetesArgs,
    /// The namespace in which a pod is created, as a dry run; one that the webhook serves.
    #[arg(short, long, value_name = "NAME", default_value = "default")]
    pub namespace: String,
    /// Where the webhook runs, when its configuration does not say so.
    #[arg(
        long,
        env = "FLOE_SECRETS_WEBHOOK_NAMESPACE",
        value_name = "NAME",
        default_value = "floe-secrets-webhook"
    )]
    pub webhook_namespace: String,
    /// The webhook configuration; found by its entries when not given.
    #[arg(long, env = "FLOE_SECRETS_WEBHOOK_CONFIGURATION", value_name = "NAME")]
    pub webhook_configuration: Option<String>,
    /// Create the pod.
    #[arg(long, value_name = "true|false", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value_t = true, default_missing_value = "true")]
    pub probe: bool,
    /// Look through all pods and workloads for what runs without its secrets. `--drift=false` on a large cluster.
    #[arg(long, value_name = "true|false", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value_t = true, default_missing_value = "true")]
    pub drift: bool,
    /// What is printed.
    #[arg(
        short,
        long,
        value_enum,
        value_name = "FORMAT",
        default_value = "table"
    )]
    pub output: OutputFormat,
}

/// How findings are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum OutputFormat {
    /// Columns, for people.
    Table,
    /// One JSON object, for programs.
    Json,
}

/// A duration as Go and Kubernetes write it: `10s`, `1m30s`.
fn duration(text: &str) -> Result<std::time::Duration, String> {
    let parsed: jiff::SignedDuration = text
        .parse()
        .map_err(|_| format!("{text:?} is no duration such as 10s"))?;
    std::time::Duration::try_from(parsed).map_err(|_| format!("{text:?} is negative"))
}

/// A duration after which something is done again: never at once.
fn at_least_a_second(text: &str) -> Result<std::time::Duration, String> {
    let parsed = duration(text)?;
    if parsed >= MIN_INTERVAL {
        Ok(parsed)
    } else {
        Err(format!("{text:?} is too short; the least is 1s"))
    }
}

/// A duration in which a lease can be renewed a few times; whole seconds, as a Lease says it.
fn lease_duration(text: &str) -> Result<std::time::Duration, String> {
    let parsed = duration(text)?;
    let fits = parsed.subsec_nanos() == 0 && (3..=3600).contains(&parsed.as_secs());
    if fits {
        Ok(parsed)
    } else {
        Err(format!("{text:?} is not whole seconds from 3s to 1h"))
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[rstest::rstest]
    #[case(&["serve", "--tls-secret", "s", "--tls-poll"])]
    #[case(&["controller", "--tls-poll"])]
    #[case(&["controller", "--drift-interval"])]
    #[case(&["controller", "--tls-validity"])]
    #[case(&["controller", "--ca-grace"])]
    fn nothing_is_done_again_without_a_pause(#[case] args: &[&str]) {
        let parse = |value| {
            Cli::try_parse_from(["floe-secrets-webhook"].iter().chain(args).chain([&value]))
        };
        for short in ["0s", "999ms"] {
            let error = parse(short).unwrap_err().to_string();
            assert!(
                error.contains(&format!("{short:?} is too short; the least is 1s")),
                "{error}"
            );
        }
        assert!(parse("1s").is_ok());
    }

    #[test]
    fn a_selector_that_is_none_is_rejected_with_its_flag() {
        let parse = |value| {
            Cli::try_parse_from([
                "floe-secrets-webhook",
                "controller",
                "--object-selector",
                value,
            ])
        };
        let error = parse("tier of (a)").unwrap_err().to_string();
        assert!(
            error.contains("--object-selector") && error.contains("is not a label selector"),
            "{error}"
        );
        let Command::Controller(args) = parse("tier in (a,b)").unwrap().command else {
            panic!("another command")
        };
        assert_eq!(args.selectors.object_selector.to_string(), "tier in (a,b)");
        assert!(args.selectors.namespace_selector.is_empty());
    }

    #[test]
    fn serve_takes_1_to_64_worker_threads() {
        let parsed = |more: &[&str]| {
            let serve = ["floe-secrets-webhook", "serve", "--tls-secret", "tls"];
            match Cli::try_parse_from(serve.iter().chain(more)).ok()?.command {
                Command::Serve(args) => Some(args.listener.worker_threads),
                _ => None,
            }
        };
        assert_eq!(parsed(&[]), Some(None));
        assert_eq!(parsed(&["--worker-threads", "1"]), Some(Some(1)));
        assert_eq!(parsed(&["--worker-threads", "64"]), Some(Some(64)));
        assert_eq!(
            (
                parsed(&["--worker-threads", "0"]),
                parsed(&["--worker-threads", "65"])
            ),
            (None, None)
        );
    }
}
