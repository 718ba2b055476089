//! `controller`: builds the controller, runs its work while it leads, and releases the lease.

mod args;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use clap::ArgMatches;
use futures::future::join_all;
use kube::Client;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub use self::args::ControllerArgs;
use self::args::{CertificateArgs, LeaseArgs};
use super::process::run_server;
use super::program::subcommand_args;
use super::reload::ConfigReload;
use super::traces;
use crate::clock::Clock;
use crate::controller::certificates::{CaPublication, CertificateSettings, Certificates};
use crate::controller::drift::Drift;
use crate::controller::metrics::ControllerMetrics;
use crate::controller::retry::RetryTrigger;
use crate::controller::while_leading;
use crate::kubernetes::client::connect_for_long_calls;
use crate::kubernetes::lease::{LeaderElector, LeaseSettings};
use crate::kubernetes::{ObjectApi, RateLimiter};
use crate::scan::{self, Rules, Scope};
use crate::server::listener::{Listener, ListenerSettings};
use crate::server::metrics::{Port, ServerMetrics};
use crate::server::ops::{self, Checks};
use crate::server::shutdown::{Shutdown, Signals};
use crate::telemetry::logs::{FilterHandle, Log};
use crate::telemetry::metrics::registry;
use crate::telemetry::traces::metrics::TraceMetrics;
use crate::telemetry::traces::{Flush, Traces};

/// Examples of the help.
pub(super) const EXAMPLES: &str = "Examples:
  # In the current context, for a try
  floe-secrets-webhook controller --own-namespace floe-secrets-webhook --log-format pretty

Exit codes: 0 stopped by SIGTERM or SIGINT; 1 an error ended it; 2 wrong arguments.";

/// User agent in the API server's audit log.
const USER_AGENT: &str = concat!("floe-secrets-controller/", env!("CARGO_PKG_VERSION"));

/// `service.name` of traces.
const SERVICE: &str = "floe-secrets-controller";

/// Limit of the drift scan's calls per second. With the default interval, a scan has ten minutes.
const MAX_SCAN_CALLS_PER_SECOND: u32 = 50;

/// Time limit of releasing the lease and exporting the last traces.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

#[must_use]
pub(super) fn run(args: ControllerArgs, reload: ConfigReload) -> ExitCode {
    let telemetry = args.telemetry.clone();
    run_server(&telemetry, |log, filter| {
        // One worker besides the main thread is enough, because the controller mostly waits.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        runtime
            .context("the runtime could not be started")?
            .block_on(control(args, (reload, filter), log))
    })
}

async fn control(
    args: ControllerArgs,
    (reload, filter): (ConfigReload, FilterHandle),
    log: &Log,
) -> anyhow::Result<()> {
    // Signals come first, because process 1 loses a signal without a handler.
    let signals = Signals::install().context("signals could not be caught")?;
    let shutdown = Shutdown::new();
    let program = ControllerProgram::build(args, log, &shutdown).await?;
    let apply = move |matches: &ArgMatches| {
        let args = subcommand_args::<ControllerArgs>(matches)?;
        // The next start would fail with such a file.
        args.certificate.check()?;
        filter
            .replace(&args.telemetry.log)
            .map_err(|error| error.to_string())
    };
    let mut background = JoinSet::new();
    background.spawn(signals.run(shutdown.clone()));
    background.spawn(reload.run(apply));
    program.run(background, &shutdown).await
}

/// All parts of the controller.
struct ControllerProgram {
    work: Work,
    elector: LeaderElector,
    leading: watch::Receiver<bool>,
    ops: Listener,
    router: Router,
    flush: Flush,
}

/// Parts that only the leader runs.
struct Work {
    drift: Drift,
    retries: Option<RetryTrigger>,
    /// Certificates of the webhook and of `admin`, if they are self-managed.
    certificates: Vec<Certificates>,
}

impl ControllerProgram {
    async fn build(args: ControllerArgs, log: &Log, shutdown: &Shutdown) -> anyhow::Result<Self> {
        let mut registry = registry();
        let server_metrics = ServerMetrics::register(&mut registry);
        let trace_metrics = TraceMetrics::register(&mut registry);
        let metrics = ControllerMetrics::register(&mut registry);
        log.register(&mut registry);

        let mut settings = args
            .kubernetes
            .clone()
            .settings(args.proxy.proxy_from_environment);
        settings.user_agent = Some(USER_AGENT.to_owned());
        let client = connect_for_long_calls(&settings).await?;
        let own_namespace = args.own_namespace.clone();
        let own_namespace = own_namespace.unwrap_or_else(|| client.default_namespace().to_owned());
        let namespace = Some(own_namespace.clone());
        let starting = traces::start(
            args.telemetry.traces.clone(),
            SERVICE,
            namespace,
            &trace_metrics,
        );
        let (traces, flush) = starting.await?;

        let (elector, leading) = LeaderElector::new(
            client.clone(),
            lease_settings(args.lease.clone(), &own_namespace),
            Clock::system(),
            metrics.leader.clone(),
        );
        let ops_listen = args.ops_listen;
        let settings = ListenerSettings {
            shutdown_delay: Duration::ZERO,
            ..ListenerSettings::ops()
        };
        let ops = Listener::bind(ops_listen, Port::Ops, settings, server_metrics)
            .await
            .with_context(|| format!("{ops_listen} could not be bound"))?;
        tracing::info!(ops = %ops.local_addr()?, version = env!("CARGO_PKG_VERSION"), "watching");
        Ok(Self {
            work: Work::build(args, client, own_namespace, &metrics, &traces),
            elector,
            leading,
            ops,
            router: ops::router(Arc::new(registry), readiness(shutdown)),
            flush,
        })
    }

    /// Runs until the shutdown is complete.
    async fn run(self, mut background: JoinSet<()>, shutdown: &Shutdown) -> anyhow::Result<()> {
        let Self {
            work,
            elector,
            leading,
            ops,
            router,
            flush,
        } = self;
        let ended = Shutdown::new();
        let release = CancellationToken::new();
        let ops_ended = ended.clone();
        background.spawn(async move {
            ops.serve(router, ops_ended).await;
        });
        let mut electing = tokio::spawn(elector.run(release.clone()));
        tokio::select! {
            // The work ends before the lease is released.
            () = while_leading(leading, || work.run(), shutdown.draining()) => {}
            died = &mut electing => {
                died.context("the lease task died")?;
                anyhow::bail!("the lease task ended");
            }
            // After a panic in a task, the program would still look alive.
            Some(died) = background.join_next() => died.context("a background task died")?,
        }
        release.cancel();
        let last = futures::future::join(
            timeout(SHUTDOWN_TIMEOUT, &mut electing),
            flush.flush(SHUTDOWN_TIMEOUT),
        );
        tokio::select! {
            (released, ()) = last => drop(released),
            () = shutdown.aborted() => {}
        }
        ended.abort();
        Ok(())
    }
}

impl Work {
    fn build(
        args: ControllerArgs,
        client: Client,
        own_namespace: String,
        metrics: &ControllerMetrics,
        traces: &Traces,
    ) -> Self {
        let clock = Clock::system();
        let api = ObjectApi::new(client);
        let certificates = certificate_settings(args.certificate, &own_namespace)
            .into_iter()
            .map(|settings| {
                Certificates::new(&api, settings, metrics.clone(), clock.clone()).traced(traces)
            });
        let exempt = args.exempt_namespaces.into_iter().chain([own_namespace]);
        let rules = Rules {
            sidecars: args.sidecars.sidecar_containers,
            exempt: scan::exempt(exempt),
            selected: args.selectors.namespace_selector,
            objects: args.selectors.object_selector,
        };
        let namespaces = args.namespaces.into_iter();
        let namespaces: Vec<String> = namespaces.filter(|name| !name.is_empty()).collect();
        let scope = if namespaces.is_empty() {
            Scope::All
        } else {
            Scope::Namespaces(namespaces)
        };
        let drift = Drift::new(
            &api.rate_limited(&RateLimiter::per_second(MAX_SCAN_CALLS_PER_SECOND)),
            rules.clone(),
            scope.clone(),
            args.drift_interval,
            metrics.clone(),
            clock.clone(),
        );
        let retries =
            || RetryTrigger::new(&api, rules, scope, metrics.clone(), clock.clone()).traced(traces);
        Self {
            drift: drift.traced(traces),
            retries: args.retry_owners.then(retries),
            certificates: certificates.collect(),
        }
    }

    /// Runs as long as it is polled.
    async fn run(&self) {
        let retrying = async {
            match &self.retries {
                Some(retries) => Box::pin(retries.run()).await,
                None => std::future::pending().await,
            }
        };
        let certifying = join_all(self.certificates.iter().map(Certificates::run));
        // The drift scan never ends.
        tokio::join!(self.drift.run(), retrying, certifying);
    }
}

fn lease_settings(args: LeaseArgs, own_namespace: &str) -> LeaseSettings {
    let LeaseArgs {
        lease_name,
        lease_duration,
        identity,
    } = args;
    LeaseSettings {
        namespace: own_namespace.to_owned(),
        name: lease_name,
        // A restarted container has the same pod name, and must not use the lease of its predecessor.
        identity: format!("{identity}_{:016x}", fastrand::u64(..)),
        duration: lease_duration,
    }
}

/// Settings of the self-managed certificates that are enabled.
fn certificate_settings(args: CertificateArgs, own_namespace: &str) -> Vec<CertificateSettings> {
    let CertificateArgs {
        tls_secret,
        tls_names,
        admin_tls_secret,
        admin_dns_names,
        webhook_configuration,
        tls_validity,
        ca_grace,
        tls_poll,
    } = args;
    let settings = |secret, names: Vec<String>, publication| CertificateSettings {
        namespace: own_namespace.to_owned(),
        secret,
        publication,
        names: names.into_iter().collect(),
        validity: tls_validity,
        ca_grace,
        poll_interval: tls_poll,
    };
    let webhook = tls_secret.map(|secret| {
        let publication = CaPublication::Configuration(webhook_configuration);
        settings(secret, tls_names, publication)
    });
    let admin =
        admin_tls_secret.map(|secret| settings(secret, admin_dns_names, CaPublication::Secret));
    webhook.into_iter().chain(admin).collect()
}

/// Readiness: no shutdown in progress. A replica that does not lead is ready too.
fn readiness(shutdown: &Shutdown) -> Checks {
    let shutdown = shutdown.clone();
    Checks::new().with("shutdown", move || {
        if shutdown.is_draining() {
            Err("the program is stopping".to_owned())
        } else {
            Ok(())
        }
    })
}
