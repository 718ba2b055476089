//! Work on the store that the collector writes: the own chain of `admin`, checkpoints, retention, and who asked.

use std::sync::Arc;

use anyhow::Context as _;
use kube::Client;
use prometheus_client::registry::Registry;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::args::TrailArgs;
use crate::attribution::{self, AttributionMetrics, Controllers};
use crate::audit::record::Service;
use crate::audit::text::Text;
use crate::clock::Clock;
use crate::kubernetes::{ObjectApi, cluster_uid};
use crate::recorder::{RecorderSettings, chain_of_process};
use crate::store::{AuditStore, StoreHandle};
use crate::telemetry::logs::Log;
use crate::trail::keys::KeySecret;
use crate::trail::{RetentionSettings, TrailParts, TrailSettings};

/// Parts that wait for the store.
pub(super) struct UpkeepParts {
    trail: TrailParts,
    client: Client,
    controllers: Controllers,
    metrics: AttributionMetrics,
    clock: Clock,
}

/// Builds the parts that need no store yet.
pub(super) async fn parts(
    args: &TrailArgs,
    (client, namespace): (&Client, &str),
    pod_name: Option<&str>,
    (clock, log): (&Clock, &Log),
    registry: &mut Registry,
) -> anyhow::Result<UpkeepParts> {
    let named = args.audit_cluster_name.clone();
    let cluster = match named.filter(|name| !name.is_empty()) {
        Some(name) => name,
        None => cluster_uid(client).await.unwrap_or_default(),
    };
    let recorder = RecorderSettings {
        cluster: Text::new(&cluster),
        service: Service {
            name: "admin",
            replica: Text::new(pod_name.unwrap_or_default()),
            version: env!("CARGO_PKG_VERSION"),
        },
        chain: chain_of_process(args.pod_uid.as_deref(), clock.now()),
    };
    tracing::info!(chain = %recorder.chain, cluster, "recording the audit trail");
    let key = args.audit_key_secret.as_deref();
    let settings = TrailSettings {
        names: recorder,
        retention: RetentionSettings {
            max_age: args.audit_retention,
            min_age: args.audit_min_age,
        },
        key: key.map(|name| KeySecret::new(ObjectApi::new(client.clone()), namespace, name)),
    };
    let trail = TrailParts::new(settings, log.output(), clock.clone(), registry)
        .context("the audit trail could not be started")?;
    Ok(UpkeepParts {
        trail,
        client: client.clone(),
        controllers: Controllers::new(&args.audit_controllers),
        metrics: AttributionMetrics::register(registry),
        clock: clock.clone(),
    })
}

impl UpkeepParts {
    /// Runs until `stop`, and ends the own chain then.
    async fn run(self, store: Arc<dyn AuditStore>, stop: CancellationToken) {
        let Self {
            trail,
            client,
            controllers,
            metrics,
            clock,
        } = self;
        let (_trail, upkeep) = trail.start(&store).await;
        let attributing =
            attribution::run(store, client, controllers, metrics, clock, stop.clone());
        tokio::join!(upkeep.run(stop), attributing);
    }
}

/// Upkeep that runs as soon as the store is open.
pub(super) struct RunningUpkeep {
    stop: CancellationToken,
    ended: CancellationToken,
}

impl RunningUpkeep {
    pub(super) fn start(parts: UpkeepParts, store: StoreHandle, tasks: &mut JoinSet<()>) -> Self {
        let stop = CancellationToken::new();
        let (stopping, ended) = (stop.clone(), CancellationToken::new());
        let end = ended.clone().drop_guard();
        tasks.spawn(async move {
            let opened = tokio::select! {
                opened = store.opened() => opened,
                () = stopping.cancelled() => None,
            };
            if let Some(store) = opened {
                parts.run(store, stopping).await;
            }
            drop(end);
        });
        Self { stop, ended }
    }

    /// Signs a last checkpoint and ends the own chain, if the store is open.
    pub(super) async fn end(self) {
        self.stop.cancel();
        self.ended.cancelled().await;
    }
}
