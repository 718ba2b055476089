//! `admin`: builds the collector and its store, serves them, and closes the store after the drain.

mod args;
mod store;
mod upkeep;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use clap::ArgMatches;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

pub use self::args::AdminArgs;
use self::store::AdminStore;
use self::upkeep::{RunningUpkeep, UpkeepParts};
use super::process::run_server;
use super::program::subcommand_args;
use super::reload::ConfigReload;
use super::serving::{self, CertificateSources, ServingArgs};
use super::traces;
use crate::audit::delivery::AUDIENCE;
use crate::clock::Clock;
use crate::collector::{CollectorMetrics, CollectorParts, LineCollector};
use crate::identity::kubernetes::TokenReviewer;
use crate::kubernetes::{ObjectApi, connect_for_long_calls};
use crate::server::cert_store::CertStore;
use crate::server::listener::{Listener, ListenerSettings};
use crate::server::metrics::{Port, ServerMetrics};
use crate::server::open_files;
use crate::server::ops;
use crate::server::shutdown::{Shutdown, Signals};
use crate::store::StoreMetrics;
use crate::telemetry::logs::{FilterHandle, Log};
use crate::telemetry::metrics::registry;
use crate::telemetry::traces::Flush;
use crate::telemetry::traces::metrics::TraceMetrics;

/// Examples of the help.
pub(super) const EXAMPLES: &str = "Examples:
  # With a certificate in files, and lines from the pods of one ServiceAccount
  floe-secrets-webhook admin --store audit.db --senders floe/webhook --tls-cert tls.crt --tls-key tls.key

Exit codes: 0 stopped by SIGTERM or SIGINT, after the drain; 1 an error ended it; 2 wrong arguments.";

/// User agent in the API server's audit log.
const USER_AGENT: &str = concat!("floe-secrets-admin/", env!("CARGO_PKG_VERSION"));

/// `service.name` of traces.
const SERVICE: &str = "floe-secrets-admin";

/// Time limit of exporting the last traces.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Time limit of closing the store.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

#[must_use]
pub(super) fn run(args: AdminArgs, reload: ConfigReload) -> ExitCode {
    let telemetry = args.telemetry.clone();
    run_server(&telemetry, |log, filter| {
        open_files::raise_limit();
        serving::runtime(&args.serving)?.block_on(administrate(args, (reload, filter), log))
    })
}

async fn administrate(
    args: AdminArgs,
    (reload, filter): (ConfigReload, FilterHandle),
    log: &Log,
) -> anyhow::Result<()> {
    // Signals come first, because process 1 loses a signal without a handler.
    let signals = Signals::install().context("signals could not be caught")?;
    let shutdown = Shutdown::new();
    let mut program = AdminProgram::build(args, log, &shutdown).await?;
    program.background.spawn(signals.run(shutdown.clone()));
    let apply = move |matches: &ArgMatches| {
        let args = subcommand_args::<AdminArgs>(matches)?;
        // The next start would fail with such a file.
        args.check()?;
        filter
            .replace(&args.telemetry.log)
            .map_err(|error| error.to_string())
    };
    program.background.spawn(reload.run(apply));
    program.run(&shutdown).await
}

/// Binds the collector's port, with TLS, and the ops port.
async fn bind_both(
    listen: SocketAddr,
    args: &ServingArgs,
    certificate: &Arc<CertStore>,
    metrics: &ServerMetrics,
) -> anyhow::Result<(Listener, Listener)> {
    let port = (listen, Port::Collector);
    let collector = serving::bind(args, port, ListenerSettings::collector(), metrics).await?;
    let collector = collector.with_tls(Arc::clone(certificate));
    let ops = serving::bind_ops(args, metrics).await?;
    tracing::info!(
        collector = %collector.local_addr()?,
        ops = %ops.local_addr()?,
        version = env!("CARGO_PKG_VERSION"),
        "collecting the audit trail"
    );
    Ok((collector, ops))
}

/// All parts of the program.
struct AdminProgram {
    collector: (Listener, Router),
    ops: (Listener, Router),
    store: AdminStore,
    /// Work on the store, for when it is open.
    upkeep: UpkeepParts,
    /// Tasks that run until the end.
    background: JoinSet<()>,
    flush: Flush,
}

impl AdminProgram {
    async fn build(args: AdminArgs, log: &Log, shutdown: &Shutdown) -> anyhow::Result<Self> {
        let AdminArgs {
            kubernetes,
            proxy,
            trail,
            collector,
            serving,
            telemetry,
        } = args;
        let clock = Clock::system();
        let mut registry = registry();
        let server_metrics = ServerMetrics::register(&mut registry);
        let trace_metrics = TraceMetrics::register(&mut registry);
        let metrics = CollectorMetrics::register(&mut registry);
        let store_metrics = StoreMetrics::register(&mut registry);
        log.register(&mut registry);

        let mut settings = kubernetes.settings(proxy.proxy_from_environment);
        settings.user_agent = Some(USER_AGENT.to_owned());
        let client = connect_for_long_calls(&settings).await?;
        let own_namespace = trail.own_namespace_or(client.default_namespace());
        let namespace = Some(own_namespace.clone());
        let upkeep = upkeep::parts(
            &trail,
            (&client, &own_namespace),
            telemetry.traces.pod_name.as_deref(),
            (&clock, log),
            &mut registry,
        );
        let upkeep = upkeep.await?;
        let starting = traces::start(telemetry.traces, SERVICE, namespace, &trace_metrics);
        let (traces, flush) = starting.await?;

        let sources = CertificateSources::connect(&serving, &settings, &own_namespace).await?;
        let loading = serving::load(&serving, None, clock.clone(), &server_metrics, &sources);
        let (certificate, files) = loading.await?;
        let address = collector.collector_listen;
        let (listener, ops) = bind_both(address, &serving, &certificate, &server_metrics).await?;
        let store = AdminStore::new(&trail, store_metrics.clone())?;
        let checks = serving::readiness(&certificate, shutdown, sources.monitor.clone());
        let checks = store.checked(checks);
        let parts = CollectorParts {
            senders: collector.audit_senders.into_iter().collect(),
            reviewer: TokenReviewer::new(ObjectApi::new(client), AUDIENCE),
            store: store.handle(),
            store_metrics,
            metrics,
            server_metrics,
            traces,
            clock: clock.clone(),
        };
        Ok(Self {
            collector: (listener, LineCollector::new(parts).router()),
            ops: (ops, ops::router(Arc::new(registry), checks)),
            store,
            upkeep,
            background: serving::watch(&certificate, files, sources, serving.tls_poll, clock),
            flush,
        })
    }

    /// Serves until the drain is complete. The store is closed after the last batch, and the ops port closes last.
    async fn run(self, shutdown: &Shutdown) -> anyhow::Result<()> {
        let Self {
            collector: (collector, routes),
            ops: (ops, ops_routes),
            store,
            upkeep,
            mut background,
            flush,
        } = self;
        let ended = Shutdown::new();
        let mut store_tasks = store.start();
        let upkeep = RunningUpkeep::start(upkeep, store.handle(), &mut store_tasks);
        let collecting = async {
            collector.serve(routes, shutdown.clone()).await;
            // No batch follows, so that the last checkpoint confirms all lines.
            upkeep.end().await;
            let began = Instant::now();
            if timeout(CLOSE_TIMEOUT, store.close()).await.is_err() {
                tracing::error!(
                    seconds = began.elapsed().as_secs(),
                    "the audit store was not closed in time"
                );
            }
            tokio::select! {
                () = flush.flush(FLUSH_TIMEOUT) => {}
                () = shutdown.aborted() => {}
            }
            ended.abort();
        };
        let serving = futures::future::join(collecting, ops.serve(ops_routes, ended.clone()));
        tokio::pin!(serving);
        loop {
            tokio::select! {
                _ = &mut serving => return Ok(()),
                // After a panic in a task, the program would still look alive.
                Some(ended) = background.join_next() => ended.context("a background task died")?,
                Some(ended) = store_tasks.join_next() => ended.context("a task of the store died")?,
            }
        }
    }
}
