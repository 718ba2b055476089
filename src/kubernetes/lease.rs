//! Leader election by a Lease of `coordination.k8s.io`.
//!
//! The rules are those of client-go. A holder is gone if its record has not changed for the lease's duration, measured
//! by the local monotonic clock and not by comparing wall clocks. Changes of the object's metadata do not count, so
//! that they cannot keep a dead holder alive. The object's resourceVersion decides between concurrent writers.
//! A holder stops working well before others may take over, and releases the lease at a graceful shutdown.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::clock::Clock;
use crate::telemetry::error_chain::ErrorChain;

/// Time limit of releasing the lease.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(3);

/// Name of the lease, and identity of the candidate.
#[derive(Clone, Debug)]
pub struct LeaseSettings {
    pub namespace: String,
    pub name: String,
    /// Identity of this process; it must be unique.
    pub identity: String,
    /// Time without a renewal after which a holder is gone.
    pub duration: Duration,
}

impl LeaseSettings {
    /// Time without a renewal after which a holder stops working.
    fn renew_deadline(&self) -> Duration {
        self.duration * 2 / 3
    }

    /// Interval at which the holder renews, and others read the lease.
    fn retry_period(&self) -> Duration {
        self.duration * 2 / 15
    }
}

/// Acquires, renews and releases the lease.
pub struct LeaderElector {
    api: Api<Lease>,
    settings: LeaseSettings,
    clock: Clock,
    /// Record of another holder, and the time at which its last change was observed.
    observed: Option<(LeaseSpec, Instant)>,
    leading: watch::Sender<bool>,
    gauge: Gauge,
}

/// Implemented by hand because a client has no `Debug`.
impl std::fmt::Debug for LeaderElector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LeaderElector")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl LeaderElector {
    /// Creates an elector, and a receiver of whether it leads. `now` is only used for the timestamps in the lease.
    #[must_use]
    pub fn new(
        client: Client,
        settings: LeaseSettings,
        clock: Clock,
        gauge: Gauge,
    ) -> (Self, watch::Receiver<bool>) {
        let (leading, receiver) = watch::channel(false);
        let api = Api::namespaced(client, &settings.namespace);
        (
            Self {
                api,
                settings,
                clock,
                observed: None,
                leading,
                gauge,
            },
            receiver,
        )
    }

    /// Acquires and renews the lease until `stop`, then releases it.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut renewed = Instant::now();
        let mut failing = false;
        loop {
            let began = Instant::now();
            // A call that hangs must not outlast the renew deadline.
            let time_limit = if self.is_leader() {
                (renewed + self.settings.renew_deadline()).saturating_duration_since(began)
            } else {
                self.settings.renew_deadline()
            };
            let attempt = tokio::select! {
                attempt = timeout(time_limit, self.try_acquire_or_renew()) => attempt,
                () = stop.cancelled() => break,
            };
            match attempt {
                Ok(Ok(held)) => {
                    failing = false;
                    if held {
                        renewed = began;
                    }
                    self.set_leader(held);
                }
                Ok(Err(error)) => {
                    if !std::mem::replace(&mut failing, true) {
                        warn!(error = %ErrorChain(&error), "cannot read or write the leader lease; retrying");
                    }
                }
                Err(_) if !failing => {
                    failing = true;
                    warn!("request for the leader lease timed out; retrying");
                }
                Err(_) => {}
            }
            if self.is_leader() && renewed.elapsed() >= self.settings.renew_deadline() {
                warn!("cannot renew the leader lease");
                self.set_leader(false);
            }
            tokio::select! {
                () = sleep(self.settings.retry_period()) => {}
                () = stop.cancelled() => break,
            }
        }
        if self.is_leader() {
            self.set_leader(false);
            if let Ok(Ok(())) = timeout(RELEASE_TIMEOUT, self.release()).await {
                info!("released the leader lease");
            } else {
                warn!("cannot release the leader lease; it expires by itself");
            }
        }
    }

    fn is_leader(&self) -> bool {
        *self.leading.borrow()
    }

    fn set_leader(&self, is_leader: bool) {
        self.gauge.set(i64::from(is_leader));
        let identity = &self.settings.identity;
        match (self.leading.send_replace(is_leader), is_leader) {
            (false, true) => info!(identity, "became leader"),
            (true, false) => info!(identity, "stopped leading"),
            (false, false) | (true, true) => {}
        }
    }

    /// Reads the lease, and writes it if it is free, expired, or held by this process. Returns whether this process
    /// holds it.
    async fn try_acquire_or_renew(&mut self) -> Result<bool, kube::Error> {
        let Some(mut lease) = self.api.get_opt(&self.settings.name).await? else {
            let metadata = ObjectMeta {
                name: Some(self.settings.name.clone()),
                ..ObjectMeta::default()
            };
            let lease = Lease {
                metadata,
                spec: Some(self.spec(None)),
            };
            return is_written(self.api.create(&PostParams::default(), &lease).await);
        };
        let previous = lease.spec.take();
        let record = previous.clone().unwrap_or_default();
        let holder = record.holder_identity.as_deref().unwrap_or_default();
        if holder != self.settings.identity && !holder.is_empty() {
            let duration = record
                .lease_duration_seconds
                .and_then(|seconds| u64::try_from(seconds).ok());
            let duration = duration.map_or(self.settings.duration, Duration::from_secs);
            let observed_at = self
                .observed
                .as_ref()
                .filter(|(observed, _)| *observed == record)
                .map(|(_, at)| *at);
            match observed_at {
                None => {
                    self.observed = Some((record, Instant::now()));
                    return Ok(false);
                }
                Some(at) if at.elapsed() < duration => return Ok(false),
                Some(_) => info!(holder, "the leader lease expired; taking over"),
            }
        }
        lease.spec = Some(self.spec(previous.as_ref()));
        // It has the resourceVersion that was read, so that a write in between is a conflict.
        is_written(
            self.api
                .replace(&self.settings.name, &PostParams::default(), &lease)
                .await,
        )
    }

    /// The spec that makes this process the holder.
    fn spec(&self, previous: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(self.clock.now());
        let own = previous.filter(|spec| self.is_holder(spec));
        let transitions = previous.map_or(0, |spec| {
            spec.lease_transitions.unwrap_or(0) + i32::from(own.is_none())
        });
        LeaseSpec {
            holder_identity: Some(self.settings.identity.clone()),
            lease_duration_seconds: Some(
                i32::try_from(self.settings.duration.as_secs())
                    .unwrap_or(i32::MAX)
                    .max(1),
            ),
            acquire_time: own
                .and_then(|spec| spec.acquire_time.clone())
                .or_else(|| Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    /// Clears the holder, so that others can take over at once. A renewal in flight may still arrive in between.
    async fn release(&self) -> Result<(), kube::Error> {
        loop {
            let mut lease = self.api.get(&self.settings.name).await?;
            let Some(spec) = lease.spec.as_mut().filter(|spec| self.is_holder(spec)) else {
                return Ok(());
            };
            spec.holder_identity = None;
            spec.renew_time = Some(MicroTime(self.clock.now()));
            if is_written(
                self.api
                    .replace(&self.settings.name, &PostParams::default(), &lease)
                    .await,
            )? {
                return Ok(());
            }
        }
    }

    fn is_holder(&self, spec: &LeaseSpec) -> bool {
        spec.holder_identity.as_deref() == Some(&self.settings.identity)
    }
}

/// Whether a write succeeded. A conflict with another writer is not an error.
fn is_written(result: Result<Lease, kube::Error>) -> Result<bool, kube::Error> {
    match result {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;

    /// An API server with one Lease, held by `other` and, if `renewing`, renewed by it. The Lease's metadata changes
    /// all the time.
    fn api_with_lease(renewing: bool) -> (Client, Arc<Mutex<Value>>) {
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "lease", "namespace": "ns", "resourceVersion": "0"},
            "spec": {"holderIdentity": "other", "leaseDurationSeconds": 15, "leaseTransitions": 3,
                "renewTime": "2026-01-01T00:00:00.000000Z"},
        });
        let stored = Arc::new(Mutex::new(lease));
        let (shared, began) = (Arc::clone(&stored), Instant::now());
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let shared = Arc::clone(&shared);
            let seconds = began.elapsed().as_secs();
            async move {
                use http_body_util::BodyExt as _;
                let is_write = request.method() == http::Method::PUT;
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let mut lease = shared.lock().unwrap();
                if is_write {
                    *lease = serde_json::from_slice(&body).unwrap();
                } else if lease["spec"]["holderIdentity"] == "other" {
                    lease["metadata"]["resourceVersion"] = seconds.to_string().into();
                    if renewing {
                        let at = format!(
                            "2026-01-01T00:{:02}:{:02}.000000Z",
                            seconds / 60,
                            seconds % 60
                        );
                        lease["spec"]["renewTime"] = at.into();
                    }
                }
                let response = http::Response::new(Body::from(lease.to_string().into_bytes()));
                Ok::<_, tower::BoxError>(response)
            }
        });
        (Client::new(service, "default"), stored)
    }

    /// Time after which this process became leader, within a minute, and the record then.
    async fn time_to_lead(renewing: bool) -> (Option<Duration>, Value) {
        let (client, stored) = api_with_lease(renewing);
        let settings = LeaseSettings {
            namespace: "ns".to_owned(),
            name: "lease".to_owned(),
            identity: "me".to_owned(),
            duration: Duration::from_secs(15),
        };
        let began = Instant::now();
        let (elector, mut leading) = LeaderElector::new(
            client,
            settings,
            Clock::new(|| jiff::Timestamp::UNIX_EPOCH),
            Gauge::default(),
        );
        let taken = tokio::select! {
            () = elector.run(CancellationToken::new()) => None,
            _ = leading.wait_for(|is_leader| *is_leader) => Some(began.elapsed()),
            () = sleep(Duration::from_mins(1)) => None,
        };
        let record = stored.lock().unwrap()["spec"].clone();
        (taken, record)
    }

    #[tokio::test(start_paused = true)]
    async fn dead_holder_is_succeeded_although_metadata_change() {
        let (taken, record) = time_to_lead(false).await;
        let taken = taken.expect("this process becomes leader");
        assert!(
            (Duration::from_secs(15)..Duration::from_secs(18)).contains(&taken),
            "{taken:?}"
        );
        assert_eq!(
            (&record["holderIdentity"], &record["leaseTransitions"]),
            (&json!("me"), &json!(4))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn holder_that_renews_its_record_stays_leader() {
        let (taken, record) = time_to_lead(true).await;
        assert_eq!((taken, &record["holderIdentity"]), (None, &json!("other")));
    }
}
