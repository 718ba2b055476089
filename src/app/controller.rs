//! The composition root of `controller`: build, seek the lead, work, give it up.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use prometheus_client::registry::Registry;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{logged, traces};
use crate::api::{ObjectApi, Pace};
use crate::backend::kubernetes::connect_patiently;
use crate::cli::{CertificateArgs, ControllerArgs, LeaseArgs, SelectorArgs};
use crate::controller::certificates::{CertificateSettings, Certificates};
use crate::controller::drift::Drift;
use crate::controller::lease::{Election, LeaseSettings};
use crate::controller::metrics::ControllerMetrics;
use crate::controller::retry::RetryTrigger;
use crate::controller::while_leading;
use crate::metrics::{self, Metrics, Port};
use crate::scan::{self, Rules, Scope};
use crate::server::listener::{Listener, ListenerSettings};
use crate::server::ops::{self, Checks};
use crate::server::shutdown::{Shutdown, Signals};
use crate::telemetry::Log;

/// Our name in the API server's audit log.
const USER_AGENT: &str = concat!("floe-secrets-controller/", env!("CARGO_PKG_VERSION"));

/// Our name in traces.
const SERVICE: &str = "floe-secrets-controller";

/// Calls of the drift scan in a second: it has ten minutes.
const SCAN_CALLS: u32 = 50;

/// How long giving up the lease may take.
const GOODBYE: Duration = Duration::from_secs(5);

/// Runs `controller` until it is told to stop.
#[must_use]
pub fn run(args: ControllerArgs) -> ExitCode {
    let telemetry = args.telemetry.clone();
    logged(&telemetry, |log| {
        // It waits, for the most part: one worker beside the main thread is plenty.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        runtime
            .context("the runtime could not be started")?
            .block_on(control(args, log))
    })
}

async fn control(args: ControllerArgs, log: &Log) -> anyhow::Result<()> {
    let ControllerArgs {
        kubernetes,
        proxy,
        lease,
        ops_listen,
        drift_interval,
        retry_owners,
        sidecar_containers,
        own_namespace,
        exempt_namespaces,
        namespaces,
        selectors:
            SelectorArgs {
                namespace_selector,
                object_selector,
            },
        certificate,
        telemetry,
    } = args;
    // Before anything slow: process 1 loses a signal that nobody caught.
    let signals = Signals::install().context("signals could not be caught")?;
    let shutdown = Shutdown::new();

    let mut registry = Registry::with_prefix(metrics::PREFIX);
    let listening = Metrics::register(&mut registry);
    let metrics = ControllerMetrics::register(&mut registry);
    log.register(&mut registry);

    let mut settings = kubernetes.settings(proxy.proxy_from_environment);
    settings.user_agent = Some(USER_AGENT.to_owned());
    let client = connect_patiently(&settings).await?;
    let own_namespace = own_namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    let namespace = Some(own_namespace.clone());
    let (traces, flush) = traces::start(telemetry.traces, SERVICE, namespace, &listening).await?;
    let exempt = scan::exempt(exempt_namespaces.into_iter().chain([own_namespace.clone()]));
    let api = ObjectApi::new(client.clone());

    let certificates = self_managed(certificate, &own_namespace).map(|settings| {
        Certificates::new(&api, settings, metrics.clone(), jiff::Timestamp::now).traced(&traces)
    });

    let LeaseArgs {
        lease_name,
        lease_duration,
        identity,
    } = lease;
    let settings = LeaseSettings {
        namespace: own_namespace,
        name: lease_name,
        // A container that starts again has its pod's name again, and must not take itself for its predecessor.
        identity: format!("{identity}_{:016x}", fastrand::u64(..)),
        duration: lease_duration,
    };
    let (election, leading) = Election::new(
        client,
        settings,
        jiff::Timestamp::now,
        metrics.leader.clone(),
    );
    let rules = Rules {
        sidecars: sidecar_containers,
        exempt,
        selected: namespace_selector,
        objects: object_selector,
    };
    let namespaces: Vec<String> = namespaces
        .into_iter()
        .filter(|name| !name.is_empty())
        .collect();
    let scope = if namespaces.is_empty() {
        Scope::All
    } else {
        Scope::Namespaces(namespaces)
    };
    let now = jiff::Timestamp::now;
    let paced = api.paced(&Pace::per_second(SCAN_CALLS));
    let drift = Drift::new(
        &paced,
        rules.clone(),
        scope.clone(),
        drift_interval,
        metrics.clone(),
        now,
    )
    .traced(&traces);
    let retries = retry_owners
        .then(|| RetryTrigger::new(&api, rules, scope, metrics.clone(), now).traced(&traces));

    let settings = ListenerSettings {
        shutdown_delay: Duration::ZERO,
        ..ListenerSettings::ops()
    };
    let ops = Listener::bind(ops_listen, Port::Ops, settings, listening)
        .await
        .with_context(|| format!("{ops_listen} could not be bound"))?;
    tracing::info!(ops = %ops.local_addr()?, version = env!("CARGO_PKG_VERSION"), "watching");

    let ended = Shutdown::new();
    let goodbye = CancellationToken::new();
    let mut background = JoinSet::new();
    background.spawn(signals.run(shutdown.clone()));
    let router = ops::router(Arc::new(registry), readiness(&shutdown));
    let ops_ended = ended.clone();
    background.spawn(async move {
        ops.serve(router, ops_ended).await;
    });
    let mut electing = tokio::spawn(election.run(goodbye.clone()));

    let work = || async {
        let nudging = async {
            match &retries {
                Some(retries) => Box::pin(retries.run()).await,
                None => std::future::pending().await,
            }
        };
        let certifying = async {
            match &certificates {
                Some(certificates) => certificates.run().await,
                None => std::future::pending().await,
            }
        };
        tokio::join!(drift.run(), nudging, certifying);
    };
    tokio::select! {
        // Work ends before the lead is given up.
        () = while_leading(leading, work, shutdown.draining()) => {}
        died = &mut electing => {
            died.context("the lease task died")?;
            anyhow::bail!("the lease task ended");
        }
        // A task that ends by panic would leave a program that looks alive and is not.
        Some(died) = background.join_next() => died.context("a background task died")?,
    }
    goodbye.cancel();
    let farewell = futures::future::join(timeout(GOODBYE, &mut electing), flush.within(GOODBYE));
    tokio::select! {
        (given_up, ()) = farewell => drop(given_up),
        () = shutdown.aborted() => {}
    }
    ended.abort();
    Ok(())
}

/// The certificate, when it is made here.
fn self_managed(args: CertificateArgs, own_namespace: &str) -> Option<CertificateSettings> {
    let CertificateArgs {
        tls_secret,
        tls_names,
        webhook_configuration,
        tls_validity,
        ca_grace,
        tls_poll,
    } = args;
    tls_secret.map(|secret| CertificateSettings {
        namespace: own_namespace.to_owned(),
        secret,
        configuration: webhook_configuration,
        names: tls_names.into_iter().collect(),
        validity: tls_validity,
        ca_grace,
        every: tls_poll,
    })
}

/// Ready is: no end in sight. A replica that does not lead is as ready as the one that does.
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
