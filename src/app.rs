//! The composition roots. Here that of `serve`: build, spawn, serve, drain; [`controller`] has its own.

mod certificate;
pub mod controller;
pub mod routes;
mod tls_secret;
mod traces;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use kube::Client;
use prometheus_client::registry::Registry;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::certificate::CertificateStatus;
use crate::admission::event::metrics::AdmissionMetrics;
use crate::admission::handler::Handler;
use crate::admission::pipeline::{Pipeline, Source, Sources};
use crate::admission::policy::{CLUSTER_NAMESPACES, Policy};
use crate::api::ObjectApi;
use crate::backend::kubernetes::{KubernetesBackend, connect, connect_patiently};
use crate::backend::registry::{Backend, DecoratorSettings};
use crate::cli::{ListenerArgs, PolicyArgs, ServeArgs, TelemetryArgs};
use crate::defaults::{Defaults, Guarded, KubernetesDefaults};
use crate::injection::SecretSource;
use crate::metrics::{self, Metrics, Port};
use crate::server::limits::{BodyLimits, BodySettings};
use crate::server::listener::{Listener, ListenerSettings};
use crate::server::ops::{self, Checks};
use crate::server::shutdown::{Shutdown, Signals};
use crate::server::tls::{CertStore, ClientAuth, TlsFiles};
use crate::server::{Clock, open_files, panics};
use crate::telemetry::{self, Log};
use crate::tls_secret::TlsSecret;
use crate::traces::Flush;

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

/// Runs a server with its log on standard output, and writes the log's last lines before the program ends.
fn logged(args: &TelemetryArgs, server: impl FnOnce(&Log) -> anyhow::Result<()>) -> ExitCode {
    let log = match Log::stdout() {
        Ok(log) => log,
        Err(error) => {
            return fail(&anyhow::Error::new(error).context("standard output cannot be written"));
        }
    };
    let writer = log.clone();
    if let Err(error) = telemetry::init(args.log_format, &args.log, move || writer.clone()) {
        return fail(&error.into());
    }
    panics::install_hook();
    let status = match server(&log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    };
    log.flush();
    status
}

/// The worker threads of `serve`: as many as the operator said, else as many as there are CPUs, up to [`WORKERS`].
fn worker_threads(wanted: Option<u16>, available: usize) -> usize {
    wanted.map_or_else(|| available.min(WORKERS), usize::from)
}

/// The last line: in the log, and for whoever started it by hand on stderr.
fn fail(error: &anyhow::Error) -> ExitCode {
    use std::io::Write as _;
    let error = format!("{error:#}");
    tracing::error!(error, "exiting after an error");
    // When stderr is closed there is nobody left to tell.
    let _ = writeln!(std::io::stderr(), "floe-secrets-webhook: {error}");
    ExitCode::FAILURE
}

async fn serve(args: ServeArgs, clock: Clock, log: &Log) -> anyhow::Result<()> {
    let ServeArgs {
        kubernetes,
        proxy,
        policy,
        listener,
        telemetry,
    } = args;
    // Before anything slow: process 1 loses a signal that nobody caught.
    let signals = Signals::install().context("signals could not be caught")?;
    let shutdown = Shutdown::new();

    let mut registry = Registry::with_prefix(metrics::PREFIX);
    let metrics = Metrics::register(&mut registry);
    let admission_metrics = AdmissionMetrics::register(&mut registry);
    log.register(&mut registry);

    let settings = kubernetes.settings(proxy.proxy_from_environment);
    let client = connect(&settings).await?;
    let own_namespace = policy
        .own_namespace
        .clone()
        .unwrap_or_else(|| client.default_namespace().to_owned());
    let (traces, flush) = traces::start(
        telemetry.traces,
        SERVICE,
        policy.own_namespace.clone(),
        &metrics,
    )
    .await?;
    let declared = policy.trusted_callers;
    let handler = Handler::new(
        Arc::new(pipeline(client, policy, &metrics)),
        admission_metrics,
    );

    let origin = match &listener.tls_certificate {
        Some(name) => Some(CertificateStatus::new(
            connect_patiently(&settings).await?,
            &own_namespace,
            name,
        )),
        None => None,
    };
    let (store, files) =
        certificate(&listener, Arc::clone(&clock), &metrics, origin.as_ref()).await?;
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

    let limits = BodyLimits::new(BodySettings::default(), metrics);
    let checks = readiness(&store, &shutdown, origin.clone());
    let secret = match &listener.tls_secret {
        Some(name) => {
            let api = ObjectApi::new(connect_patiently(&settings).await?);
            Some(TlsSecret::new(api, &own_namespace, name))
        }
        None => None,
    };
    // Until the end: a drain may outlast a certificate. Dropping the set ends it.
    let mut background =
        watch_certificates(&store, files, secret, origin, listener.tls_poll, clock);
    background.spawn(signals.run(shutdown.clone()));

    let patience = listener.shutdown_delay + listener.drain_timeout;
    let admission = (
        admission,
        routes::admission(handler, limits, traces, declared),
    );
    let ops = (ops, ops::router(Arc::new(registry), checks));
    run_listeners(admission, ops, &shutdown, patience, flush, background).await
}

/// Tasks that keep the serving certificate current.
fn watch_certificates(
    store: &Arc<CertStore>,
    files: TlsFiles,
    secret: Option<TlsSecret>,
    origin: Option<CertificateStatus>,
    poll: Duration,
    clock: Clock,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    if let Some(secret) = secret {
        let store = Arc::clone(store);
        tasks.spawn(async move { tls_secret::watch(secret, &store, poll).await });
    }
    if let Some(origin) = origin {
        let store = Arc::clone(store);
        tasks.spawn(async move { origin.watch(&store, || clock()).await });
    }
    let store = Arc::clone(store);
    tasks.spawn(async move { files.watch(&store, poll).await });
    tasks
}

/// Serves until the drain is through. The ops port ends last: it says "not ready" all the time.
async fn run_listeners(
    (admission, routes): (Listener, Router),
    (ops, ops_routes): (Listener, Router),
    shutdown: &Shutdown,
    patience: Duration,
    flush: Flush,
    mut background: JoinSet<()>,
) -> anyhow::Result<()> {
    let ended = Shutdown::new();
    let admission = async {
        let draining = async {
            shutdown.draining().await;
            Instant::now() + patience
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
            // A task that ends by panic would leave a program that looks alive and is not.
            Some(ended) = background.join_next() => ended.context("a background task died")?,
        }
    }
}

/// The pipeline, over the API server behind `client`.
fn pipeline(client: Client, policy: PolicyArgs, metrics: &Metrics) -> Pipeline {
    let tuning = DecoratorSettings::default();
    let backend = Backend::assemble(
        KubernetesBackend::new(client.clone(), allowed(&policy)),
        tuning,
        metrics,
    );
    let sources = Guarded::new(KubernetesDefaults(client), backend.limits, tuning);
    let defaults = Arc::new(Defaults::new(Arc::new(sources)));
    let source = Source {
        binder: backend.binder,
        recent_names: Some(backend.names),
    };
    Pipeline::new(
        Sources::from([(SecretSource::Kubernetes, source)]),
        defaults,
        decide(policy),
    )
}

async fn bind(args: &ListenerArgs, port: Port, metrics: &Metrics) -> anyhow::Result<Listener> {
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
    metrics: &Metrics,
    origin: Option<&CertificateStatus>,
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
    let reason = match origin {
        Some(origin) => origin.ask(clock()).await,
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
