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
use prometheus_client::registry::Registry;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admission::handler::Handler;
use crate::admission::mutator::{Answering, Binders, CLUSTER_NAMESPACES, Mutator, Policy};
use crate::admission::observe::AdmissionMetrics;
use crate::api::ObjectApi;
use crate::backend::kubernetes::{ClientSettings, KubernetesBackend, connect, connect_patiently};
use crate::backend::registry::{Backend, Tuning};
use crate::cli::{ListenerArgs, PolicyArgs, ServeArgs};
use crate::defaults::{Defaults, KubernetesSources};
use crate::injection::SecretSource;
use crate::metrics::{self, Metrics, Port};
use crate::server::limits::{BodyLimits, BodySettings};
use crate::server::listener::{Listener, ListenerSettings};
use crate::server::ops::{self, Checks};
use crate::server::shutdown::{Shutdown, Signals};
use crate::server::tls::{CertStore, ClientAuth, TlsFiles};
use crate::server::{Clock, panics};
use crate::telemetry;
use crate::tls_secret::TlsSecret;

/// Our name in traces.
const SERVICE: &str = "floe-secrets-webhook";

/// The most that the last traces may take.
const GOODBYE: Duration = Duration::from_secs(5);

/// Runs `serve` until it is told to stop.
#[must_use]
pub fn run(args: ServeArgs, clock: Clock) -> ExitCode {
    if let Err(error) = telemetry::init(args.telemetry.log_format, &args.telemetry.log, std::io::stdout) {
        return fail(&error.into());
    }
    panics::install_hook();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime.context("the runtime could not be started").and_then(|runtime| runtime.block_on(serve(args, clock))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// The last line: in the log, and for whoever started it by hand on stderr.
fn fail(error: &anyhow::Error) -> ExitCode {
    use std::io::Write as _;
    let error = format!("{error:#}");
    tracing::error!(error, "the program ends");
    // When stderr is closed there is nobody left to tell.
    let _ = writeln!(std::io::stderr(), "floe-secrets-webhook: {error}");
    ExitCode::FAILURE
}

async fn serve(args: ServeArgs, clock: Clock) -> anyhow::Result<()> {
    let ServeArgs { kubernetes, policy, listener, telemetry } = args;
    // Before anything slow: process 1 loses a signal that nobody caught.
    let signals = Signals::install().context("signals could not be caught")?;
    let shutdown = Shutdown::new();

    let mut registry = Registry::with_prefix(metrics::PREFIX);
    let metrics = Metrics::register(&mut registry);
    let admission_metrics = AdmissionMetrics::register(&mut registry);

    let settings =
        ClientSettings { kubeconfig: kubernetes.kubeconfig, context: kubernetes.context, ..ClientSettings::default() };
    let client = connect(&settings).await?;
    let own_namespace = policy.own_namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
    let (traces, flush) = traces::start(telemetry.traces, SERVICE, policy.own_namespace.clone(), &metrics).await?;
    let defaults = Arc::new(Defaults::new(Arc::new(KubernetesSources(client.clone()))));
    let backend = Backend::assemble(KubernetesBackend::new(client, allowed(&policy)), Tuning::default(), &metrics);
    let answering = Answering { binder: backend.binder, names: Some(backend.names) };
    let binders = Binders::from([(SecretSource::Kubernetes, answering)]);
    let mutator = Arc::new(Mutator::new(binders, defaults, decide(policy)));
    let handler = Handler::new(mutator, admission_metrics);

    let origin = match &listener.tls_certificate {
        Some(name) => Some(certificate::Origin::new(connect_patiently(&settings).await?, &own_namespace, name)),
        None => None,
    };
    let (store, files) = match certificate(&listener, Arc::clone(&clock), &metrics).await {
        Ok(loaded) => loaded,
        Err(error) => {
            let because = match &origin {
                Some(origin) => origin.ask(clock()).await,
                None => None,
            };
            return Err(match because {
                Some(because) => error.context(because),
                None => error,
            });
        }
    };
    let admission = Listener::bind(listener.listen, Port::Admission, listener_settings(&listener), metrics.clone())
        .await
        .with_context(|| format!("{} could not be bound", listener.listen))?
        .with_tls(Arc::clone(&store));
    let ops = Listener::bind(listener.ops_listen, Port::Ops, listener_settings(&listener), metrics.clone())
        .await
        .with_context(|| format!("{} could not be bound", listener.ops_listen))?;
    tracing::info!(
        admission = %admission.local_addr()?,
        ops = %ops.local_addr()?,
        version = env!("CARGO_PKG_VERSION"),
        "serving"
    );

    let limits = BodyLimits::new(BodySettings::default(), metrics);
    let checks = readiness(&store, &shutdown, origin.clone());
    let mut background = JoinSet::new();
    // Until the end: a drain may outlast a certificate. Dropping the set ends it.
    if let Some(name) = &listener.tls_secret {
        let api = ObjectApi::new(connect_patiently(&settings).await?);
        let (secret, store) = (TlsSecret::new(api, &own_namespace, name), Arc::clone(&store));
        background.spawn(async move { tls_secret::watch(secret, &store, listener.tls_poll).await });
    }
    if let Some(origin) = origin {
        let store = Arc::clone(&store);
        background.spawn(async move { origin.watch(&store, || clock()).await });
    }
    background.spawn(async move { files.watch(&store, listener.tls_poll, CancellationToken::new()).await });
    background.spawn(signals.run(shutdown.clone()));

    // The ops port ends last: it says "not ready" all through the drain.
    let ended = Shutdown::new();
    let patience = listener.shutdown_delay + listener.drain_timeout;
    let admission = async {
        let draining = async {
            shutdown.draining().await;
            Instant::now() + patience
        };
        let drained = admission.serve(routes::admission(handler, limits, traces), shutdown.clone());
        let (_drained, deadline) = futures::future::join(drained, draining).await;
        // The last traces get what the drain left of its time.
        tokio::select! {
            () = flush.within(GOODBYE.min(deadline.saturating_duration_since(Instant::now()))) => {}
            () = shutdown.aborted() => {}
        }
        ended.abort();
    };
    let ops = ops.serve(ops::router(Arc::new(registry), checks), ended.clone());
    let serving = futures::future::join(admission, ops);
    tokio::pin!(serving);
    loop {
        tokio::select! {
            _ = &mut serving => return Ok(()),
            // A task that ends by panic would leave a program that looks alive and is not.
            Some(ended) = background.join_next() => ended.context("a background task died")?,
        }
    }
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
    } = policy;
    let cluster = CLUSTER_NAMESPACES.into_iter().map(str::to_owned);
    Policy {
        sidecars: sidecar_containers,
        exempt_namespaces: cluster.chain(own_namespace).chain(exempt_namespaces).collect(),
        on_unavailable,
        inject_template: workloads_inject_template,
    }
}

async fn certificate(
    listener: &ListenerArgs,
    clock: Clock,
    metrics: &Metrics,
) -> anyhow::Result<(Arc<CertStore>, TlsFiles)> {
    let auth = if listener.tls_client_ca.is_some() { ClientAuth::Required } else { ClientAuth::None };
    let store = CertStore::new(auth, clock, metrics.clone());
    let files = TlsFiles {
        pair: listener.tls_cert.clone().zip(listener.tls_key.clone()),
        client_ca: listener.tls_client_ca.clone(),
    };
    files.load(&store).await.context("the serving certificate could not be loaded")?;
    Ok((store, files))
}

fn listener_settings(args: &ListenerArgs) -> ListenerSettings {
    ListenerSettings {
        shutdown_delay: args.shutdown_delay,
        drain_timeout: args.drain_timeout,
        ..ListenerSettings::default()
    }
}

/// Ready is: a certificate that is valid now, and no end in sight. Never the health of a backend: a dead one must
/// not take the endpoints away that could say so.
fn readiness(store: &Arc<CertStore>, shutdown: &Shutdown, origin: Option<certificate::Origin>) -> Checks {
    let (store, shutdown) = (Arc::clone(store), shutdown.clone());
    let certificate = move || {
        store.check().map_err(|why| match &origin {
            Some(origin) => origin.explain(why),
            None => why,
        })
    };
    Checks::new().with("certificate", certificate).with("shutdown", move || {
        if shutdown.is_draining() { Err("the program is stopping".to_owned()) } else { Ok(()) }
    })
}
