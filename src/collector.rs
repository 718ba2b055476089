//! Collector: takes the lines of replicas, and appends them to the store.
//!
//! A batch is checked from the outside in: who sends it (`session`), its size, its head, its lines, and then the store
//! checks their place in the chain. Each failure has its status and sentence (`rejection`). A replica can write its own
//! chain and no other.

mod metrics;
mod rejection;
mod replicas;
mod session;
mod shares;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::Response;
use axum::routing::post;
use bytes::Bytes;
use http::{HeaderMap, Request};
use tracing::{error, warn};

pub use self::metrics::CollectorMetrics;
pub use self::replicas::{MAX_REPLICAS, ReplicaStatus, Replicas};
pub use self::session::{CHECK_INTERVAL, MAX_CHECKS_PER_SECOND};
use self::session::{Sender, SenderCheck, SenderSession};
use self::shares::{BatchShare, BatchShares};
pub use self::shares::{MAX_BATCHES, MAX_BATCHES_OF_A_POD};
use crate::audit::delivery::{self, BatchHead, Receipt, RejectedBatch, Rejection};
use crate::clock::Clock;
use crate::identity::kubernetes::{ServiceAccountName, TokenReviewer};
use crate::server::connection::Peer;
use crate::server::limits::{BodyLimits, BodySettings};
use crate::server::metrics::ServerMetrics;
use crate::store::{Batch, StoreHandle, StoreMetrics};
use crate::telemetry::traces::Traces;

/// Limits of bodies. A usual batch has at most 256 KiB, and fits into the reserve.
fn body_settings() -> BodySettings {
    BodySettings {
        per_body: delivery::MAX_BODY,
        in_flight: 24 << 20,
        reserve: 8 << 20,
        deadline: Duration::from_secs(10),
    }
}

/// Parts that a collector uses.
#[derive(Debug)]
pub struct CollectorParts {
    /// ServiceAccounts whose pods may send lines.
    pub senders: BTreeSet<ServiceAccountName>,
    pub reviewer: TokenReviewer,
    pub store: StoreHandle,
    pub store_metrics: StoreMetrics,
    pub metrics: CollectorMetrics,
    pub server_metrics: ServerMetrics,
    pub traces: Traces,
    pub clock: Clock,
}

/// Collector of the lines of replicas.
#[derive(Debug)]
pub struct LineCollector {
    check: SenderCheck,
    store: StoreHandle,
    store_metrics: StoreMetrics,
    limits: BodyLimits,
    shares: Arc<BatchShares>,
    replicas: Replicas,
    metrics: CollectorMetrics,
    traces: Traces,
    clock: Clock,
}

impl LineCollector {
    #[must_use]
    pub fn new(parts: CollectorParts) -> Arc<Self> {
        let CollectorParts {
            senders,
            reviewer,
            store,
            store_metrics,
            metrics,
            server_metrics,
            traces,
            clock,
        } = parts;
        Arc::new(Self {
            check: SenderCheck::new(senders, reviewer),
            store,
            store_metrics,
            limits: BodyLimits::new(body_settings(), server_metrics),
            shares: Arc::default(),
            replicas: Replicas::new(metrics.clone()),
            metrics,
            traces,
            clock,
        })
    }

    /// Routes of the collector's port.
    pub fn router(self: &Arc<Self>) -> Router {
        Router::new()
            .route(delivery::PATH, post(collect))
            .with_state(Arc::clone(self))
    }

    /// States of the replicas that sent batches lately.
    #[must_use]
    pub fn replicas(&self) -> Vec<ReplicaStatus> {
        self.replicas.list()
    }

    /// Takes a batch: the first check that fails rejects it, and nothing of it is stored.
    async fn receive(
        &self,
        session: &SenderSession,
        address: IpAddr,
        request: Request<Body>,
    ) -> Result<Receipt, RejectedBatch> {
        let admitted = self.admit(session, address, request.headers()).await;
        let (sender, _share) = match admitted {
            Ok(admitted) => admitted,
            Err(rejected) => {
                self.limits.discard(request).await;
                return Err(rejected);
            }
        };
        let body = self.limits.read(request).await?.into_body();
        // Lines are copied out of the body, with an index of their fields.
        let _parsed = self.limits.reserve(2 * body.len())?;
        let (head, _) = BatchHead::split(&body)?;
        sender.may_send(&head)?;
        self.replicas.record(&head, self.clock.now());
        // Without the store, the lines need not be read.
        let store = self.store.get()?;
        let batch = parse(body).await?;
        let appended = store.append(batch).await;
        self.store_metrics
            .set_ready(!rejection::is_failure_of_store(&appended));
        let appended = appended?;
        self.metrics.collected.inc_by(appended.added);
        Ok(Receipt {
            durable: appended.durable,
        })
    }

    /// Checks the sender, and takes a place for its batch.
    async fn admit(
        &self,
        session: &SenderSession,
        address: IpAddr,
        headers: &HeaderMap,
    ) -> Result<(Arc<Sender>, BatchShare), RejectedBatch> {
        let sender = self.check.check(session, address, headers).await?;
        let share = self.shares.claim(&sender.pod.uid)?;
        Ok((sender, share))
    }

    /// Counts a rejection. It is logged when it is not the one before of the connection.
    fn report(&self, session: &SenderSession, rejected: &RejectedBatch) {
        self.metrics.count(rejected.reason);
        if !session.is_new(rejected.reason) {
            return;
        }
        let (pod, message) = (session.pod(), &rejected.message);
        if rejected.reason == Rejection::SecondHistory {
            error!(pod, error = message, "second history of an audit chain");
        } else {
            let reason = rejected.reason.as_str();
            warn!(pod, reason, error = message, "audit lines rejected");
        }
    }
}

async fn collect(
    State(collector): State<Arc<LineCollector>>,
    Extension(peer): Extension<Peer>,
    request: Request<Body>,
) -> Response {
    let session = SenderSession::of(&peer);
    let mut span = collector.traces.request("collect", request.headers());
    match collector.receive(&session, peer.addr.ip(), request).await {
        Ok(receipt) => {
            session.clear_rejection();
            span.set_static("result", "stored");
            rejection::accepted(receipt)
        }
        Err(rejected) => {
            collector.report(&session, &rejected);
            span.set_static("result", rejected.reason.as_str());
            span.set_error(rejected.reason.as_str());
            rejection::rejected(&rejected)
        }
    }
}

/// Reads the lines of a batch, on a thread of its own: the largest batch takes some milliseconds.
async fn parse(body: Bytes) -> Result<Batch, RejectedBatch> {
    let parse = move || -> Result<Batch, RejectedBatch> {
        let (head, lines) = BatchHead::split(&body)?;
        let batch = Batch::parse(head.chain, lines)?;
        Ok(if head.lost_before {
            batch.lost_before()
        } else {
            batch
        })
    };
    let parsed = tokio::task::spawn_blocking(parse).await;
    parsed.unwrap_or_else(|_| Err(rejection::failed()))
}

#[cfg(test)]
mod tests;
