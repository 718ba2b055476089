//! `serve`: builds the admission webhook, serves it, and drains it.

mod args;
mod certificate;
pub mod routes;
mod tls_secret;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use kube::Client;
use prometheus_client::registry::Registry;
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use self::args::ServeArgs;
use self::args::{ListenerArgs, PolicyArgs};
use self::certificate::CertificateStatus;
use super::process::logged;
use super::traces;
use crate::admission::event::metrics::AdmissionMetrics;
use crate::admission::handler::Handler;
use crate::admission::pipeline::Pipeline;
use crate::admission::policy::{CLUSTER_NAMESPACES, Policy};
use crate::admission::sources::{Source, Sources};
use crate::backend::kubernetes::KubernetesBackend;
use crate::backend::metrics::BackendMetrics;
use crate::backend::registry::{Backend, DecoratorSettings};
use crate::defaults::{Defaults, Guarded, KubernetesDefaults};
use crate::kubernetes::ObjectApi;
use crate::kubernetes::tls_secret::TlsSecret;
use crate::kubernetes::{ClientSettings, connect, connect_patiently};
use crate::server::cert_store::{CertStore, ClientAuth, TlsFiles};
use crate::server::limits::{BodyLimits, BodySettings};
use crate::server::listener::{Listener, ListenerSettings};
use crate::server::metrics::{Port, ServerMetrics};
use crate::server::ops::{self, Checks};
use crate::server::shutdown::{Shutdown, Signals};
use crate::server::{Clock, open_files};
use crate::telemetry::logs::Log;
use crate::telemetry::metrics::registry;
use crate::telemetry::traces::Flush;
use crate::telemetry::traces::metrics::TraceMetrics;
use injection::SecretSource;

/// Our name in traces.
const SERVICE: &str = "floe-secrets-webhook";

/// The most worker threads that are taken unasked. A node of 64 CPUs gives the program a small part of each, and every
/// thread has memory of its own; a few threads answer thousands of reviews a second.
const WORKERS: usize = 4;

/// Time limit of exporting the last traces.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs `serve` until it is told to stop.
#[must_use]
pub fn run(args: ServeArgs, clock: Clock) -> ExitCode {
    let telemetry = args.telemetry.clone();
    logged(&telemetry, |log| {
        open_files::raise_limit();
        let available = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let workers = worker_threads(args.listener.worker_threads, available);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(workers)
            .enable_all()
            .build();
        runtime
            .context("the runtime could not be started")?
            .block_on(serve(args, clock, log))
    })
}

/// The worker threads of `serve`: as many as the operator said, else as many as there are CPUs, up to [`WORKERS`].
fn worker_threads(wanted: Option<u16>, available: usize) -> usize {
    wanted.map_or_else(|| available.min(WORKERS), usize::from)
}

async fn serve(args: ServeArgs, clock: Clock, log: &Log) -> anyhow::Result<()> {
    // Before anything slow: process 1 loses a signal without a handler.
    let signals = Signals::install().context("signals could not be caught")?;
    let shutdown = Shutdown::new();
    let mut program = Program::build(args, clock, log, &shutdown).await?;
    program.background.spawn(signals.run(shutdown.clone()));
    program.run(&shutdown).await
}

/// All parts of the webhook.
struct Program {
    admission: (Listener, Router),
    ops: (Listener, Router),
    /// Tasks that run until the end. A drain may outlast a certificate.
    background: JoinSet<()>,
    flush: Flush,
    /// Time from the signal to the end of the drain.
    drain: Duration,
}

impl Program {
    async fn build(
        args: ServeArgs,
        clock: Clock,
        log: &Log,
        shutdown: &Shutdown,
    ) -> anyhow::Result<Self> {
        let ServeArgs {
            kubernetes,
            proxy,
            policy,
            listener,
            telemetry,
        } = args;
        let mut registry = registry();
        let metrics = ServerMetrics::register(&mut registry);
        let trace_metrics = TraceMetrics::register(&mut registry);
        log.register(&mut registry);

        let settings = kubernetes.settings(proxy.proxy_from_environment);
        let client = connect(&settings).await?;
        let own_namespace = policy.own_namespace.clone();
        let starting = traces::start(
            telemetry.traces,
            SERVICE,
            own_namespace.clone(),
            &trace_metrics,
        );
        let (traces, flush) = starting.await?;
        let own_namespace = own_namespace.unwrap_or_else(|| client.default_namespace().to_owned());

        let sources = CertificateSources::connect(&listener, &settings, &own_namespace).await?;
        let (store, files) = certificate(&listener, Arc::clone(&clock), &metrics, &sources).await?;
        let admission = bind(&listener, Port::Admission, &metrics)
            .await?
            .with_tls(Arc::clone(&store));
        let ops = bind(&listener, Port::Ops, &metrics).await?;
        tracing::info!(
            admission = %admission.local_addr()?,
            ops = %ops.local_addr()?,
            version = env!("CARGO_PKG_VERSION"),
            "serving"
        );

        let trusted = policy.trusted_callers;
        let handler = handler(client, policy, &mut registry);
        let limits = BodyLimits::new(BodySettings::default(), metrics);
        let checks = readiness(&store, shutdown, sources.status.clone());
        Ok(Self {
            admission: (
                admission,
                routes::admission(handler, limits, traces, trusted),
            ),
            ops: (ops, ops::router(Arc::new(registry), checks)),
            background: watch_certificates(&store, files, sources, listener.tls_poll, clock),
            flush,
            drain: listener.shutdown_delay + listener.drain_timeout,
        })
    }

    /// Serves until the drain is complete. The ops port ends last: it reports "not ready" until then.
    async fn run(self, shutdown: &Shutdown) -> anyhow::Result<()> {
        let Self {
            admission: (admission, routes),
            ops: (ops, ops_routes),
            mut background,
            flush,
            drain,
        } = self;
        let ended = Shutdown::new();
        let admission = async {
            let draining = async {
                shutdown.draining().await;
                Instant::now() + drain
            };
            let (_drained, deadline) =
                futures::future::join(admission.serve(routes, shutdown.clone()), draining).await;
            // The last traces get what the drain left of its time.
            tokio::select! {
                () = flush.flush(FLUSH_TIMEOUT.min(deadline.saturating_duration_since(Instant::now()))) => {}
                () = shutdown.aborted() => {}
            }
            ended.abort();
        };
        let serving = futures::future::join(admission, ops.serve(ops_routes, ended.clone()));
        tokio::pin!(serving);
        loop {
            tokio::select! {
                _ = &mut serving => return Ok(()),
                // After a panic in a task, the program would still look alive.
                Some(ended) = background.join_next() => ended.context("a background task died")?,
            }
        }
    }
}

/// Where the serving certificate comes from, beside files.
struct CertificateSources {
    /// The Secret of self-managed certificates.
    secret: Option<TlsSecret>,
    /// What cert-manager reports about the certificate.
    status: Option<CertificateStatus>,
}

impl CertificateSources {
    async fn connect(
        listener: &ListenerArgs,
        settings: &ClientSettings,
        namespace: &str,
    ) -> anyhow::Result<Self> {
        let secret = match &listener.tls_secret {
            Some(name) => {
                let api = ObjectApi::new(connect_patiently(settings).await?);
                Some(TlsSecret::new(api, namespace, name))
            }
            None => None,
        };
        let status = match &listener.tls_certificate {
            Some(name) => Some(CertificateStatus::new(
                connect_patiently(settings).await?,
                namespace,
                name,
            )),
            None => None,
        };
        Ok(Self { secret, status })
    }
}

/// Tasks that keep the serving certificate current.
fn watch_certificates(
    store: &Arc<CertStore>,
    files: TlsFiles,
    sources: CertificateSources,
    poll: Duration,
    clock: Clock,
) -> JoinSet<()> {
    let CertificateSources { secret, status } = sources;
    let mut tasks = JoinSet::new();
    if let Some(secret) = secret {
        let store = Arc::clone(store);
        tasks.spawn(async move { tls_secret::watch(secret, &store, poll).await });
    }
    if let Some(status) = status {
        let store = Arc::clone(store);
        tasks.spawn(async move { status.watch(&store, || clock()).await });
    }
    let store = Arc::clone(store);
    tasks.spawn(async move { files.watch(&store, poll).await });
    tasks
}

/// The admission handler over the API server behind `client`.
fn handler(client: Client, policy: PolicyArgs, registry: &mut Registry) -> Handler {
    let settings = DecoratorSettings::default();
    let backend = Backend::assemble(
        KubernetesBackend::new(client.clone(), allowed(&policy)),
        settings,
        &BackendMetrics::register(registry),
    );
    let reader = Guarded::new(KubernetesDefaults(client), backend.limits, settings);
    let defaults = Arc::new(Defaults::new(Arc::new(reader)));
    let source = Source {
        binder: backend.binder,
        recent_names: Some(backend.names),
    };
    let sources = Sources::from([(SecretSource::Kubernetes, source)]);
    let pipeline = Pipeline::new(sources, defaults, decide(policy));
    Handler::new(Arc::new(pipeline), AdmissionMetrics::register(registry))
}

async fn bind(
    args: &ListenerArgs,
    port: Port,
    metrics: &ServerMetrics,
) -> anyhow::Result<Listener> {
    let (address, bounds) = match port {
        Port::Admission => (args.listen, ListenerSettings::default()),
        Port::Ops | Port::Admin => (args.ops_listen, ListenerSettings::ops()),
    };
    let listener = Listener::bind(
        address,
        port,
        listener_settings(args, bounds),
        metrics.clone(),
    )
    .await;
    listener.with_context(|| format!("{address} could not be bound"))
}

fn allowed(policy: &PolicyArgs) -> Option<std::collections::BTreeSet<String>> {
    (!policy.namespaces.is_empty()).then(|| policy.namespaces.iter().cloned().collect())
}

fn decide(policy: PolicyArgs) -> Policy {
    let PolicyArgs {
        sidecar_containers,
        on_unavailable,
        own_namespace,
        exempt_namespaces,
        namespaces: _,
        workloads_inject_template,
        trusted_callers: _,
    } = policy;
    let cluster = CLUSTER_NAMESPACES.into_iter().map(str::to_owned);
    Policy {
        sidecars: sidecar_containers,
        exempt_namespaces: cluster
            .chain(own_namespace)
            .chain(exempt_namespaces)
            .collect(),
        on_unavailable,
        inject_template: workloads_inject_template,
    }
}

/// The certificate that is there at the start; where there is none that can serve, with what its origin says of it.
async fn certificate(
    listener: &ListenerArgs,
    clock: Clock,
    metrics: &ServerMetrics,
    sources: &CertificateSources,
) -> anyhow::Result<(Arc<CertStore>, TlsFiles)> {
    let auth = if listener.tls_client_ca.is_some() {
        ClientAuth::Required
    } else {
        ClientAuth::None
    };
    let store = CertStore::new(auth, Arc::clone(&clock), metrics.clone());
    let files = TlsFiles {
        pair: listener.tls_cert.clone().zip(listener.tls_key.clone()),
        client_ca: listener.tls_client_ca.clone(),
    };
    let Err(error) = files
        .load(&store)
        .await
        .context("the serving certificate could not be loaded")
    else {
        return Ok((store, files));
    };
    let reason = match &sources.status {
        Some(status) => status.ask(clock()).await,
        None => None,
    };
    Err(match reason {
        Some(reason) => error.context(reason),
        None => error,
    })
}

fn listener_settings(args: &ListenerArgs, bounds: ListenerSettings) -> ListenerSettings {
    ListenerSettings {
        shutdown_delay: args.shutdown_delay,
        drain_timeout: args.drain_timeout,
        ..bounds
    }
}

/// Ready is: a certificate that is valid now, and no end in sight. Never the health of a backend: a dead one must
/// not take the endpoints away that could say so.
fn readiness(
    store: &Arc<CertStore>,
    shutdown: &Shutdown,
    origin: Option<CertificateStatus>,
) -> Checks {
    let (store, shutdown) = (Arc::clone(store), shutdown.clone());
    let certificate = move || {
        store.check().map_err(|why| match &origin {
            Some(origin) => origin.explain(why),
            None => why,
        })
    };
    Checks::new()
        .with("certificate", certificate)
        .with("shutdown", move || {
            if shutdown.is_draining() {
                Err("the program is stopping".to_owned())
            } else {
                Ok(())
            }
        })
}

#[cfg(test)]
mod tests {
    use super::worker_threads;
    use rstest::rstest;

    #[rstest]
    #[case(None, 1, 1)]
    #[case(None, 4, 4)]
    #[case(None, 64, 4)]
    #[case(Some(64), 2, 64)]
    #[case(Some(1), 64, 1)]
    fn workers_are_few_unless_told(
        #[case] wanted: Option<u16>,
        #[case] available: usize,
        #[case] workers: usize,
    ) {
        assert_eq!(worker_threads(wanted, available), workers);
    }
}
