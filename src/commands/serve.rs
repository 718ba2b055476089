//! `serve`: builds the admission webhook, serves it, and drains it.

mod admission;
mod args;
mod certificate_monitor;
mod certificate_sources;
mod listeners;
mod recorder;
pub mod routes;
mod tls_secret;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use clap::ArgMatches;
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use self::args::ServeArgs;
use self::certificate_sources::CertificateSources;
use super::process::run_server;
use super::program::subcommand_args;
use super::reload::ConfigReload;
use super::traces;
use crate::admission::policy::SharedPolicy;
use crate::clock::Clock;
use crate::kubernetes::connect;
use crate::recorder::AuditRecorder;
use crate::server::limits::{BodyLimits, BodySettings};
use crate::server::listener::Listener;
use crate::server::metrics::ServerMetrics;
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

/// Limit of worker threads by default. On a node of 64 CPUs, the program gets a small part of each, and every thread
/// uses memory. A few threads respond to thousands of reviews per second.
const MAX_DEFAULT_WORKERS: usize = 4;

/// Time limit of exporting the last traces.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Time limit of writing the last records of the audit trail.
const RECORDER_TIMEOUT: Duration = Duration::from_secs(3);

#[must_use]
pub(super) fn run(args: ServeArgs, reload: ConfigReload, clock: Clock) -> ExitCode {
    let telemetry = args.telemetry.clone();
    run_server(&telemetry, |log, filter| {
        open_files::raise_limit();
        let available = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let workers = worker_threads(args.listener.worker_threads, available);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(workers)
            .enable_all()
            .build();
        runtime
            .context("the runtime could not be started")?
            .block_on(serve(args, (reload, filter), clock, log))
    })
}

/// Number of worker threads: as configured, or as many as there are CPUs, up to [`MAX_DEFAULT_WORKERS`].
fn worker_threads(configured: Option<u16>, available: usize) -> usize {
    configured.map_or_else(|| available.min(MAX_DEFAULT_WORKERS), usize::from)
}

async fn serve(
    args: ServeArgs,
    (reload, filter): (ConfigReload, FilterHandle),
    clock: Clock,
    log: &Log,
) -> anyhow::Result<()> {
    // Signals come first, because process 1 loses a signal without a handler.
    let signals = Signals::install().context("signals could not be caught")?;
    let shutdown = Shutdown::new();
    let own_namespace = args.policy.own_namespace.clone();
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
    args.listener.check()?;
    args.policy.own_namespace = own_namespace.map(str::to_owned);
    filter
        .replace(&args.telemetry.log)
        .map_err(|error| error.to_string())?;
    policy.replace(admission::to_policy(args.policy));
    Ok(())
}

/// All parts of the webhook.
struct WebhookProgram {
    admission: (Listener, Router),
    ops: (Listener, Router),
    policy: SharedPolicy,
    recorder: Option<AuditRecorder>,
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
            recorder: mut recorder_args,
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
        recorder_args
            .pod_name
            .clone_from(&telemetry.traces.pod_name);
        let starting = traces::start(
            telemetry.traces,
            SERVICE,
            own_namespace.clone(),
            &trace_metrics,
        );
        let (traces, flush) = starting.await?;
        let own_namespace = own_namespace.unwrap_or_else(|| client.default_namespace().to_owned());

        let sources = CertificateSources::connect(&listener, &settings, &own_namespace).await?;
        let (store, files) =
            certificate_sources::load(&listener, clock.clone(), &metrics, &sources).await?;
        let (admission, ops) = listeners::bind_both(&listener, &store, &metrics).await?;
        let trusted = policy.trusted_callers;
        let (handler, policy) = admission::handler(client, policy, &mut registry);
        let (handler, recorder) =
            recorder::attach(handler, &recorder_args, clock.clone(), log, &mut registry)?;
        let limits = BodyLimits::new(BodySettings::default(), metrics);
        let checks = listeners::readiness(&store, shutdown, sources.monitor.clone());
        let background =
            certificate_sources::watch(&store, files, sources, listener.tls_poll, clock);
        let admission_routes = routes::admission(handler, limits, traces, trusted);
        Ok(Self {
            admission: (admission, admission_routes),
            ops: (ops, ops::router(Arc::new(registry), checks)),
            policy,
            recorder,
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
            recorder,
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
            if let Some(recorder) = recorder {
                recorder.stop(RECORDER_TIMEOUT).await;
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
    fn worker_threads_are_few_unless_configured(
        #[case] configured: Option<u16>,
        #[case] available: usize,
        #[case] workers: usize,
    ) {
        assert_eq!(worker_threads(configured, available), workers);
    }
}
