//! Builds the admission handler with the recorder of its audit trail, and the task that ships it to the collector.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use kube::Client;
use prometheus_client::registry::Registry;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::admission;
use super::args::{AuditOutput, PolicyArgs, RecorderArgs};
use crate::admission::event::metrics::AdmissionTotals;
use crate::admission::handler::Handler;
use crate::admission::policy::SharedPolicy;
use crate::audit::delivery::ReplicaState;
use crate::audit::record::Service;
use crate::audit::text::Text;
use crate::clock::Clock;
use crate::kubernetes::cluster_uid;
use crate::recorder::shipping::{ReadReplica, Shipping};
use crate::recorder::{AuditRecorder, RecorderSettings, chain_of_process};
use crate::server::cert_store::CertStore;
use crate::telemetry::error_chain::excerpt;
use crate::telemetry::logs::Log;

/// Time limit of writing the last records of the audit trail.
const RECORDER_TIMEOUT: Duration = Duration::from_secs(3);

/// Least time for shipping the last records, if connections have used up the drain.
const MIN_SHIPPING_TIMEOUT: Duration = Duration::from_secs(1);

/// Limit of the time for shipping the last records: a collector that is away does not delay the end of a rollout.
const MAX_SHIPPING_TIMEOUT: Duration = Duration::from_secs(10);

/// Limit of the pod's name in bytes, as that of Kubernetes.
const MAX_POD_NAME: usize = 253;

/// Audit trail of this process.
pub(super) struct ServeTrail {
    recorder: AuditRecorder,
    shipping: Option<Shipping>,
}

/// Builds the admission handler with its policy, and starts the recorder that it uses, unless there is to be no audit
/// trail. Without a name, the cluster is named by its uid.
pub(super) async fn recorded_handler(
    client: Client,
    policy: PolicyArgs,
    mut args: RecorderArgs,
    certificates: Arc<CertStore>,
    (clock, log): (Clock, &Log),
    registry: &mut Registry,
    background: &mut JoinSet<()>,
) -> anyhow::Result<(Handler, SharedPolicy, Option<ServeTrail>)> {
    let (handler, policy, totals) = admission::handler(client.clone(), policy, registry);
    if args.audit == AuditOutput::Off {
        return Ok((handler, policy, None));
    }
    if args
        .audit_cluster_name
        .as_deref()
        .unwrap_or_default()
        .is_empty()
    {
        args.audit_cluster_name = cluster_uid(&client).await;
    }
    let settings = settings(&args, &clock);
    let shipping = args.shipping();
    tracing::info!(
        chain = %settings.chain,
        cluster = settings.cluster.as_str(),
        collector = shipping.as_ref().map(|(shipping, _)| shipping.to_string()),
        "recording the audit trail"
    );
    let spool = shipping.as_ref().map(|(_, spool)| spool.clone());
    let recorder = AuditRecorder::start_with_spool(settings, spool, log.output(), clock, registry)
        .context("the audit trail could not be started")?;
    let shipping = shipping.map(|(shipping, _)| {
        let replica = replica(
            args.pod_name.as_deref().unwrap_or_default(),
            certificates,
            totals,
        );
        let (shipping, task) = recorder.ship(shipping, replica, registry);
        background.spawn(task);
        shipping
    });
    let handler = handler.recorded_by(recorder.clone(), args.audit_on_failure);
    Ok((handler, policy, Some(ServeTrail { recorder, shipping })))
}

fn settings(args: &RecorderArgs, clock: &Clock) -> RecorderSettings {
    RecorderSettings {
        cluster: Text::new(args.audit_cluster_name.as_deref().unwrap_or_default()),
        service: Service {
            name: "serve",
            replica: Text::new(args.pod_name.as_deref().unwrap_or_default()),
            version: env!("CARGO_PKG_VERSION"),
        },
        chain: chain_of_process(args.pod_uid.as_deref(), clock.now()),
    }
}

fn replica(
    pod: &str,
    certificates: Arc<CertStore>,
    totals: Arc<AdmissionTotals>,
) -> Arc<ReadReplica> {
    let pod = excerpt(pod, MAX_POD_NAME).into_owned();
    Arc::new(move || ReplicaState {
        pod: pod.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        certificate_end: certificates.not_after(),
        admissions: totals.admissions(),
        refusals: totals.refusals(),
        ..ReplicaState::default()
    })
}

impl ServeTrail {
    /// Writes the last record after the last admission, and ships what is left until `deadline`.
    pub(super) async fn end(self, deadline: Instant) {
        self.recorder.stop(RECORDER_TIMEOUT).await;
        if let Some(shipping) = self.shipping {
            let left = deadline.saturating_duration_since(Instant::now());
            let limit = left.clamp(MIN_SHIPPING_TIMEOUT, MAX_SHIPPING_TIMEOUT);
            shipping.finish(limit).await;
        }
    }
}
