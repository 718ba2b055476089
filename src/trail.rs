//! Trail of `admin` itself: its own chain, the signed checkpoints of all chains, and retention.
//!
//! [`OwnTrail`] writes records straight into the store. [`Upkeep`] signs checkpoints ([`checkpoints`]) and deletes old
//! lines after it has announced them ([`retention`]), both with a key from a Secret ([`keys`]).

pub mod checkpoints;
pub mod keys;
mod metrics;
pub mod output;
pub mod own;
pub mod retention;
mod retry;
pub mod signer;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::sync::Arc;

use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use self::checkpoints::Checkpoints;
use self::keys::KeySecret;
use self::metrics::UpkeepMetrics;
use self::output::TrailOutput;
use self::retention::Retention;
use self::signer::Signer;
use crate::clock::Clock;
use crate::recorder::RecorderSettings;
use crate::store::AuditStore;

pub use self::own::{OwnTrail, OwnTrailError};
pub use self::retention::RetentionSettings;

/// Settings of a trail.
#[derive(Clone, Debug)]
pub struct TrailSettings {
    /// Names of the process, and the id of its chain.
    pub names: RecorderSettings,
    pub retention: RetentionSettings,
    /// Secret of the signing key. Without it, there are no checkpoints, and nothing is deleted, because a deletion has
    /// to be announced by a signed record.
    pub key: Option<KeySecret>,
}

/// Parts of a trail whose store is not open yet.
#[derive(Debug)]
pub struct TrailParts {
    settings: TrailSettings,
    clock: Clock,
    output: TrailOutput,
    metrics: UpkeepMetrics,
}

impl TrailParts {
    /// Starts the thread that writes durable lines to `out`, and registers the metrics.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn new(
        settings: TrailSettings,
        out: impl Write + Send + 'static,
        clock: Clock,
        registry: &mut Registry,
    ) -> io::Result<Self> {
        Ok(Self {
            settings,
            clock,
            output: TrailOutput::start(out, registry)?,
            metrics: UpkeepMetrics::register(registry),
        })
    }

    /// Starts the own chain in a store that is open. The upkeep does nothing until it runs.
    pub async fn start(self, store: &Arc<dyn AuditStore>) -> (OwnTrail, Upkeep) {
        let Self {
            settings,
            clock,
            output,
            metrics,
        } = self;
        let trail = OwnTrail::start(store, settings.names, clock, output).await;
        let signer = Arc::new(Signer::new(settings.key, trail.clone()));
        let upkeep = Upkeep {
            trail: trail.clone(),
            checkpoints: Checkpoints::new(store, &trail, &signer, &metrics),
            retention: Retention::new(store, &trail, &signer, settings.retention, metrics),
        };
        (trail, upkeep)
    }
}

/// Checkpoints and retention of a store.
#[derive(Debug)]
pub struct Upkeep {
    trail: OwnTrail,
    checkpoints: Checkpoints,
    retention: Retention,
}

impl Upkeep {
    /// Runs until `stop`, and signs a last checkpoint then. Ends the chain of the trail afterwards. Both take
    /// [`checkpoints::LAST_TIMEOUT`] and [`own::APPEND_TIMEOUT`] at most.
    pub async fn run(self, stop: CancellationToken) {
        let Self {
            trail,
            checkpoints,
            mut retention,
        } = self;
        let retain = async {
            tokio::select! {
                () = stop.cancelled() => {}
                () = retention.run() => {}
            }
        };
        tokio::join!(checkpoints.run(stop.clone()), retain);
        trail.stop().await;
    }
}

#[cfg(test)]
mod documents {
    use super::*;
    use crate::store::RESERVED_BYTES;

    #[test]
    fn docs_contain_the_limits_of_the_own_trail() {
        let docs = include_str!("../docs/AUDIT.md");
        let limits = [
            (
                "Seconds between checkpoints",
                checkpoints::CHECKPOINT_INTERVAL.as_secs(),
            ),
            (
                "Lines after which a checkpoint is due",
                checkpoints::CHECKPOINT_LINES,
            ),
            (
                "Seconds of the last checkpoint",
                checkpoints::LAST_TIMEOUT.as_secs(),
            ),
            (
                "Seconds of an append of `admin`",
                own::APPEND_TIMEOUT.as_secs(),
            ),
            ("Records of an append of `admin`", own::MAX_RECORDS as u64),
            (
                "Seconds between readings of the key",
                signer::KEY_INTERVAL.as_secs(),
            ),
            (
                "Seconds between passes of retention",
                retention::RETENTION_INTERVAL.as_secs(),
            ),
            (
                "Seconds between readings of the size of a store",
                retention::SIZE_INTERVAL.as_secs(),
            ),
            (
                "Percent of its size that a store should use",
                retention::FULL_PERCENT,
            ),
            ("Plans of a pass of retention", retention::MAX_PLANS as u64),
            (
                "Bytes beyond its size that a store has for announcements",
                RESERVED_BYTES,
            ),
        ];
        for (name, limit) in limits {
            let row = format!("| {name} | {limit} |");
            assert!(docs.contains(&row), "docs/AUDIT.md lacks {row}");
        }
        for name in [
            keys::PRIVATE_ENTRY,
            keys::PUBLIC_ENTRY,
            keys::ROTATE_ANNOTATION,
        ] {
            assert!(docs.contains(name), "docs/AUDIT.md lacks {name}");
        }
    }
}
