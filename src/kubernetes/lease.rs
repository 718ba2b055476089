//! Who leads: a Lease of `coordination.k8s.io`.
//!
//! As client-go does it: a holder whose record has not been seen to change for the lease's length is gone, by our own
//! monotonic clock and not by comparing anybody's time of day. The record alone counts: whoever touches the object's
//! metadata keeps no dead holder alive. The object's resourceVersion decides between two who try at once.
//! A holder stops well before others may take over, and gives the lease up when it ends in good order.

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

use crate::telemetry::error_chain::ErrorChain;

/// How long giving up the lease may take.
const RELEASE: Duration = Duration::from_secs(3);

/// Which lease, and for whom.
#[derive(Clone, Debug)]
pub struct LeaseSettings {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Who we are; no two processes may be the same.
    pub identity: String,
    /// How long a holder that is silent is believed to live.
    pub duration: Duration,
}

impl LeaseSettings {
    /// How long a holder may fail to renew before it stops working.
    fn renew_deadline(&self) -> Duration {
        self.duration * 2 / 3
    }

    /// How often it renews, and others look.
    fn period(&self) -> Duration {
        self.duration * 2 / 15
    }
}

/// Seeks, holds and gives up the lease.
pub struct LeaderElector {
    api: Api<Lease>,
    settings: LeaseSettings,
    now: fn() -> jiff::Timestamp,
    /// Somebody else's record as it was last seen to change, and when.
    observed: Option<(LeaseSpec, Instant)>,
    leading: watch::Sender<bool>,
    gauge: Gauge,
}

/// By hand: a client has no `Debug`.
impl std::fmt::Debug for LeaderElector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LeaderElector")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl LeaderElector {
    /// An election, and where to hear who leads. `now` writes the times that people read.
    #[must_use]
    pub fn new(
        client: Client,
        settings: LeaseSettings,
        now: fn() -> jiff::Timestamp,
        gauge: Gauge,
    ) -> (Self, watch::Receiver<bool>) {
        let (leading, receiver) = watch::channel(false);
        let api = Api::namespaced(client, &settings.namespace);
        (
            Self {
                api,
                settings,
                now,
                observed: None,
                leading,
                gauge,
            },
            receiver,
        )
    }

    /// Seeks and holds the lease until `stop`, then gives it up.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut renewed = Instant::now();
        let mut failing = false;
        loop {
            let began = Instant::now();
            // A call that hangs must not outlast the right to work.
            let patience = if self.leads() {
                (renewed + self.settings.renew_deadline()).saturating_duration_since(began)
            } else {
                self.settings.renew_deadline()
            };
            let tried = tokio::select! {
                tried = timeout(patience, self.attempt()) => tried,
                () = stop.cancelled() => break,
            };
            match tried {
                Ok(Ok(held)) => {
                    failing = false;
                    if held {
                        renewed = began;
                    }
                    self.lead(held);
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
            if self.leads() && renewed.elapsed() >= self.settings.renew_deadline() {
                warn!("cannot renew the leader lease");
                self.lead(false);
            }
            tokio::select! {
                () = sleep(self.settings.period()) => {}
                () = stop.cancelled() => break,
            }
        }
        if self.leads() {
            self.lead(false);
            if let Ok(Ok(())) = timeout(RELEASE, self.release()).await {
                info!("released the leader lease");
            } else {
                warn!("cannot release the leader lease; it expires by itself");
            }
        }
    }

    fn leads(&self) -> bool {
        *self.leading.borrow()
    }

    fn lead(&self, leads: bool) {
        self.gauge.set(i64::from(leads));
        let identity = &self.settings.identity;
        match (self.leading.send_replace(leads), leads) {
            (false, true) => info!(identity, "became leader"),
            (true, false) => info!(identity, "stopped leading"),
            (false, false) | (true, true) => {}
        }
    }

    /// One look, and one write where it is ours to write. Says whether we hold it.
    async fn attempt(&mut self) -> Result<bool, kube::Error> {
        let Some(mut lease) = self.api.get_opt(&self.settings.name).await? else {
            let metadata = ObjectMeta {
                name: Some(self.settings.name.clone()),
                ..ObjectMeta::default()
            };
            let lease = Lease {
                metadata,
                spec: Some(self.spec(None)),
            };
            return won(self.api.create(&PostParams::default(), &lease).await);
        };
        let before = lease.spec.take();
        let record = before.clone().unwrap_or_default();
        let holder = record.holder_identity.as_deref().unwrap_or_default();
        if holder != self.settings.identity && !holder.is_empty() {
            let length = record
                .lease_duration_seconds
                .and_then(|seconds| u64::try_from(seconds).ok());
            let length = length.map_or(self.settings.duration, Duration::from_secs);
            let seen = self
                .observed
                .as_ref()
                .filter(|(seen, _)| *seen == record)
                .map(|(_, at)| *at);
            match seen {
                None => {
                    self.observed = Some((record, Instant::now()));
                    return Ok(false);
                }
                Some(at) if at.elapsed() < length => return Ok(false),
                Some(_) => info!(holder, "the leader lease expired; taking over"),
            }
        }
        lease.spec = Some(self.spec(before.as_ref()));
        // Carries the resourceVersion that was read: whoever else wrote in between has won.
        won(self
            .api
            .replace(&self.settings.name, &PostParams::default(), &lease)
            .await)
    }

    /// The lease as ours.
    fn spec(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime((self.now)());
        let ours = before.filter(|spec| self.is_ours(spec));
        let transitions = before.map_or(0, |spec| {
            spec.lease_transitions.unwrap_or(0) + i32::from(ours.is_none())
        });
        LeaseSpec {
            holder_identity: Some(self.settings.identity.clone()),
            lease_duration_seconds: Some(
                i32::try_from(self.settings.duration.as_secs())
                    .unwrap_or(i32::MAX)
                    .max(1),
            ),
            acquire_time: ours
                .and_then(|spec| spec.acquire_time.clone())
                .or_else(|| Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    /// Empties the holder, so that nobody has to wait. A renewal that was under way may still arrive in between.
    async fn release(&self) -> Result<(), kube::Error> {
        loop {
            let mut lease = self.api.get(&self.settings.name).await?;
            let Some(spec) = lease.spec.as_mut().filter(|spec| self.is_ours(spec)) else {
                return Ok(());
            };
            spec.holder_identity = None;
            spec.renew_time = Some(MicroTime((self.now)()));
            if won(self
                .api
                .replace(&self.settings.name, &PostParams::default(), &lease)
                .await)?
            {
                return Ok(());
            }
        }
    }

    fn is_ours(&self, spec: &LeaseSpec) -> bool {
        spec.holder_identity.as_deref() == Some(&self.settings.identity)
    }
}

/// A write that met another writer lost; that is no failure.
fn won(written: Result<Lease, kube::Error>) -> Result<bool, kube::Error> {
    match written {
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

    /// An API server that keeps one Lease, which somebody else holds and, when `renewing`, renews; whose metadata
    /// somebody touches all the time.
    fn serving(renewing: bool) -> (Client, Arc<Mutex<Value>>) {
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "lease", "namespace": "ns", "resourceVersion": "0"},
            "spec": {"holderIdentity": "other", "leaseDurationSeconds": 15, "leaseTransitions": 3,
                "renewTime": "2026-01-01T00:00:00.000000Z"},
        });
        let stored = Arc::new(Mutex::new(lease));
        let (kept, began) = (Arc::clone(&stored), Instant::now());
        let answer = tower::service_fn(move |request: http::Request<Body>| {
            let kept = Arc::clone(&kept);
            let seconds = began.elapsed().as_secs();
            async move {
                use http_body_util::BodyExt as _;
                let is_write = request.method() == http::Method::PUT;
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let mut lease = kept.lock().unwrap();
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
        (Client::new(answer, "default"), stored)
    }

    /// When the lead was taken within a minute, and the record then.
    async fn taken(renewing: bool) -> (Option<Duration>, Value) {
        let (client, stored) = serving(renewing);
        let settings = LeaseSettings {
            namespace: "ns".to_owned(),
            name: "lease".to_owned(),
            identity: "me".to_owned(),
            duration: Duration::from_secs(15),
        };
        let began = Instant::now();
        let (election, mut leading) = LeaderElector::new(
            client,
            settings,
            || jiff::Timestamp::UNIX_EPOCH,
            Gauge::default(),
        );
        let taken = tokio::select! {
            () = election.run(CancellationToken::new()) => None,
            _ = leading.wait_for(|leads| *leads) => Some(began.elapsed()),
            () = sleep(Duration::from_mins(1)) => None,
        };
        let record = stored.lock().unwrap()["spec"].clone();
        (taken, record)
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_holder_is_succeeded_whoever_touches_the_lease() {
        let (taken, record) = taken(false).await;
        let taken = taken.expect("the lead is taken");
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
    async fn a_holder_that_renews_its_record_keeps_the_lead() {
        let (taken, record) = taken(true).await;
        assert_eq!((taken, &record["holderIdentity"]), (None, &json!("other")));
    }
}
