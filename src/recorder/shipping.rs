//! Shipping: sends the lines of the spool to the collector, in the order of the spool, and acknowledges what is durable
//! there.
//!
//! One task with one connection. A batch has lines of one chain, the very bytes. It is sent [`BATCH_INTERVAL`] after its
//! first line was written, or at [`BATCH_BYTES`]; without lines, the state of the replica is sent every
//! [`STATE_INTERVAL`]. Every step has a time limit, and memory is that of one batch. After a failure, the same lines are
//! sent again, with back-off and full jitter.

mod backoff;
mod batch;
mod client;
mod credentials;
mod failure;
mod metrics;
mod report;
mod settings;
mod shipper;
mod url;

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio::time::timeout;

use self::client::CollectorClient;
use self::metrics::ShippingMetrics;
use self::shipper::Shipper;
use super::AuditRecorder;

pub use self::backoff::{MAX_BACKOFF, MIN_BACKOFF};
pub use self::client::{CONNECT_TIMEOUT, HANDSHAKE_TIMEOUT, RESPONSE_TIMEOUT};
pub use self::credentials::{CREDENTIALS_INTERVAL, MAX_CA_BYTES, MAX_TOKEN_BYTES};
pub use self::failure::ShippingFailureReason;
pub use self::metrics::UnshippableReason;
pub use self::settings::{
    BATCH_BYTES, BATCH_INTERVAL, ReadReplica, STATE_INTERVAL, ShippingSettings,
};
pub use self::url::{CollectorUrl, InvalidCollectorUrl};

/// Handle of the task that ships.
#[derive(Debug)]
pub struct Shipping {
    stop: watch::Sender<bool>,
    ended: watch::Receiver<bool>,
    recorder: AuditRecorder,
}

impl AuditRecorder {
    /// Ships the spool of this recorder. The second value is the task, which runs until [`Shipping::finish`].
    pub fn ship(
        &self,
        settings: ShippingSettings,
        replica: Arc<ReadReplica>,
        registry: &mut Registry,
    ) -> (Shipping, impl Future<Output = ()> + Send + 'static) {
        let metrics = ShippingMetrics::register(registry, &self.link);
        let client = CollectorClient::new(settings);
        let shipper = Shipper::new(self.clone(), client, replica, metrics);
        let (stop, stopping) = watch::channel(false);
        let (end, ended) = watch::channel(false);
        let task = async move {
            shipper.run(stopping).await;
            end.send_replace(true);
        };
        let shipping = Shipping {
            stop,
            ended,
            recorder: self.clone(),
        };
        (shipping, task)
    }
}

impl Shipping {
    /// Ships the rest of the spool, within `limit`, and ends the task. Lines that remain are in the spool of the pod.
    pub async fn finish(&self, limit: Duration) {
        self.stop.send_replace(true);
        let mut ended = self.ended.clone();
        let has_ended = timeout(limit, ended.wait_for(|has_ended| *has_ended)).await;
        if !matches!(has_ended, Ok(Ok(_))) {
            tracing::error!(
                lines = self.recorder.link.unshipped_lines.get(),
                "lines of the audit trail were not shipped before the end: the spool and standard output have them"
            );
        }
    }
}

#[cfg(test)]
mod tests;
