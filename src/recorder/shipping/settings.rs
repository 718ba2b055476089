//! Settings of shipping, and its pace.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::url::CollectorUrl;
use crate::audit::delivery::ReplicaState;

/// Time between the first line of a batch and its sending, so that many admissions share a commit of the store.
pub const BATCH_INTERVAL: Duration = Duration::from_millis(100);

/// Bytes of lines from which a batch is sent without waiting, and limit of a batch.
pub const BATCH_BYTES: usize = 256 << 10;

/// Interval at which the state of the replica is sent if there are no lines.
pub const STATE_INTERVAL: Duration = Duration::from_secs(10);

/// Collector, and the files that a connection to it needs.
#[derive(Clone, Debug)]
pub struct ShippingSettings {
    pub collector: CollectorUrl,
    /// CA of the collector's certificate, PEM.
    pub ca: PathBuf,
    /// Token of the pod's ServiceAccount.
    pub token: PathBuf,
}

/// State of the replica, as far as the recorder does not have it.
pub type ReadReplica = dyn Fn() -> ReplicaState + Send + Sync;

impl fmt::Display for ShippingSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.collector.fmt(f)
    }
}
