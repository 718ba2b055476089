//! `serve`: builds the admission webhook, serves it, and drains it.

mod admission;
mod args;
mod recorder;
pub mod routes;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use clap::ArgMatches;
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use self::args::ServeArgs;
use self::recorder::ServeTrail;
use super::process::run_server;
use super::program::subcommand_args;
use super::reload::ConfigReload;
use super::serving::{self, CertificateSources, ServingArgs};
use super::traces;
use crate::admission::policy::SharedPolicy;
use crate::clock::Clock;
use crate::kubernetes::connect;
use crate::server::cert_store::CertStore;
use crate::server::limits::{BodyLimits, BodySettings};
use crate::server::listener::{Listener, ListenerSettings};
use crate::server::metrics::{Port, ServerMetrics};
use crate::server::open_files;
use crate::server::ops;
use crate::server::shutdown::{Shutdown, Signals};
use crate::telemetry::logs::{FilterHandle, Log};
use crate::telemetry::metrics::registry;
use crate::telemetry::traces::Flush;
use crate::telemetry::traces::metrics::TraceMetrics;

/// Examples of the help.
pub(super) const EXAMPLES: &str = "Examples:
  # With a certificate in files
  floe-secrets-webhook serve --tls-cert tls.crt --tls-key tls.key

  # With a configuration file, and the settings of the command shown first
  floe-secrets-webhook config show --origin --config webhook.yaml serve
  floe-secrets-webhook serve --config webhook.yaml

Exit codes: 0 stopped by SIGTERM or SIGINT, after the drain; 1 an error ended it; 2 wrong arguments.";

/// `service.name` of traces.
const SERVICE: &str = "floe-secrets-webhook";

/// Time limit of exporting the last traces.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

#[must_use]
pub(super) fn run(args: ServeArgs, reload: ConfigReload, clock: Clock) -> ExitCode {
    let telemetry = args.telemetry.clone();
    run_server(&telemetry, |log, filter| {
        open_files::raise_limit();
        let runtime = serving::runtime(&args.listener.serving)?;
        let result = runtime.block_on(serve(args, (reload, filter), clock, log));
        // A lookup of a name that is still waited for does not delay the end.
        runtime.shutdown_background();
        result
    })
}

async fn serve(
    mut args: ServeArgs,
    (reload, filter): (ConfigReload, FilterHandle),
    clock: Clock,
    log: &Log,
) -> anyhow::Result<()> {
    // Signals come first, because process 1 loses a signal without a handler.
    let signals = Signals::install().context("signals could not be caught")?;
    let shutdown = Shutdown::new();
    let own_namespace = args.policy.own_namespace.clone();
    args.recorder.pod_name = args.telemetry.traces.pod_name.clone();
    let mut program = WebhookProgram::build(args, clock, log, &shutdown).await?;
    program.background.spawn(signals.run(shutdown.clone()));
    let policy = program.policy.clone();
    let apply = move |matches: &ArgMatches| {
        apply_settings(matches, own_namespace.as_deref(), &filter, &policy)
    };
    program.background.spawn(reload.run(apply));
    program.run(&shutdown).await
}

/// Applies the settings that are safe to change, all or none. The own namespace is that of the start.
fn apply_settings(
    matches: &ArgMatches,
    own_namespace: Option<&str>,
    filter: &FilterHandle,
    policy: &SharedPolicy,
) -> Result<(), String> {
    let mut args = subcommand_args::<ServeArgs>(matches)?;
    // The next start would fail with such a file.
    args.listener.serving.check()?;
    args.recorder.check()?;
    args.policy.own_namespace = own_namespace.map(str::to_owned);
    filter
        .replace(&args.telemetry.log)
        .map_err(|error| error.to_string())?;
    policy.replace(admission::to_policy(args.policy));
    Ok(())
}

/// Binds the admission port, with TLS, and the ops port.
async fn bind_both(
    listen: SocketAddr,
    args: &ServingArgs,
    store: &Arc<CertStore>,
    metrics: &ServerMetrics,
) -> anyhow::Result<(Listener, Listener)> {
    let port = (listen, Port::Admission);
    let admission = serving::bind(args, port, ListenerSettings::default(), metrics).await?;
    let admission = admission.with_tls(Arc::clone(store));
    let ops = serving::bind_ops(args, metrics).await?;
    tracing::info!(
        admission = %admission.local_addr()?,
        ops = %ops.local_addr()?,
        version = env!("CARGO_PKG_VERSION"),
        "serving"
    );
    Ok((admission, ops))
}

/// All parts of the webhook.
struct WebhookProgram {
    admission: (Listener, Router),
    ops: (Listener, Router),
    policy: SharedPolicy,
    trail: Option<ServeTrail>,
    /// Tasks that run until the end of the drain, which may outlast a certificate.
    background: JoinSet<()>,
    flush: Flush,
    /// Time from the signal to the end of the drain.
    drain: Duration,
}

impl WebhookProgram {
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
            recorder,
            listener,
            telemetry,
        } = args;
        let mut registry = registry();
        let metrics = ServerMetrics::register(&mut registry);
        log.register(&mut registry);

        let settings = kubernetes.settings(proxy.proxy_from_environment);
        let client = connect(&settings).await?;
        let own_namespace = policy.own_namespace.clone();
        let namespace = own_namespace.clone();
        let trace_metrics = TraceMetrics::register(&mut registry);
        let starting = traces::start(telemetry.traces, SERVICE, namespace, &trace_metrics);
        let (traces, flush) = starting.await?;
        let own_namespace = own_namespace.unwrap_or_else(|| client.default_namespace().to_owned());

        let (listen, client_ca) = (listener.listen, listener.tls_client_ca);
        let listener = listener.serving;
        let sources = CertificateSources::connect(&listener, &settings, &own_namespace).await?;
        let loading = serving::load(&listener, client_ca, clock.clone(), &metrics, &sources);
        let (store, files) = loading.await?;
        let (admission, ops) = bind_both(listen, &listener, &store, &metrics).await?;
        let trusted = policy.trusted_callers;
        let checks = serving::readiness(&store, shutdown, sources.monitor.clone());
        let poll = listener.tls_poll;
        let mut background = serving::watch(&store, files, sources, poll, clock.clone());
        let (handler, policy, trail) = recorder::recorded_handler(
            client,
            policy,
            recorder,
            store,
            (clock, log),
            &mut registry,
            &mut background,
        )
        .await?;
        let limits = BodyLimits::new(BodySettings::default(), metrics);
        let routes = routes::admission(handler, limits, traces, trusted);
        Ok(Self {
            admission: (admission, routes),
            ops: (ops, ops::router(Arc::new(registry), checks)),
            policy,
            trail,
            background,
            flush,
            drain: listener.shutdown_delay + listener.drain_timeout,
        })
    }

    /// Serves until the drain is complete. The ops port closes last, and reports "not ready" until then.
    async fn run(self, shutdown: &Shutdown) -> anyhow::Result<()> {
        let Self {
            admission: (admission, routes),
            ops: (ops, ops_routes),
            policy: _,
            trail,
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
            // No admission follows, so that the chain ends here.
            if let Some(trail) = trail {
                tokio::select! {
                    () = trail.end(deadline) => {}
                    () = shutdown.aborted() => {}
                }
            }
            // The export of the last traces gets the time that is left of the drain.
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
