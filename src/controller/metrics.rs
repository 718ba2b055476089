//! What the controller counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::telemetry::metrics::label;

/// What runs without its secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Drifted {
    /// Pods.
    Pod,
    /// Objects with a pod template.
    Workload,
}

impl Drifted {
    /// The label's text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::Workload => "workload",
        }
    }
}

/// How a scan ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScanResult {
    /// Everything was looked at.
    Complete,
    /// Not everything.
    Failed,
}

impl ScanResult {
    /// The label's text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Failed => "failed",
        }
    }
}

/// How a wait for secrets ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RetryResult {
    /// A retry was triggered.
    Triggered,
    /// It had been triggered for the same secrets before.
    Unchanged,
    /// The owner went away or has its pods.
    Gone,
    /// Not within an hour.
    GaveUp,
    /// Too many were waiting already.
    Full,
    /// The owner could not be written.
    Failed,
}

impl RetryResult {
    /// The label's text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Triggered => "triggered",
            Self::Unchanged => "unchanged",
            Self::Gone => "gone",
            Self::GaveUp => "gave_up",
            Self::Full => "full",
            Self::Failed => "failed",
        }
    }
}

/// What became of a certificate that was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RotationResult {
    /// A new one serves.
    Rotated,
    /// The old one still does; it is tried again.
    Failed,
}

impl RotationResult {
    /// The label's text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rotated => "rotated",
            Self::Failed => "failed",
        }
    }
}

label!(Drifted);
label!(RotationResult);
label!(ScanResult);
label!(RetryResult);

/// `{kind}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfKind {
    /// What.
    pub kind: Drifted,
}

/// `{result}` of a scan.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfScan {
    /// How it ended.
    pub result: ScanResult,
}

/// `{result}` of a wait.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RetryLabels {
    /// How it ended.
    pub result: RetryResult,
}

/// `{result}` of a rotation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfRotation {
    /// How it ended.
    pub result: RotationResult,
}

/// All families. Clones count into the same place.
#[derive(Clone, Debug, Default)]
pub struct ControllerMetrics {
    /// Whether this replica leads.
    pub leader: Gauge,
    /// What the last complete scan found; 0 on replicas that do not lead.
    pub uninjected: Family<OfKind, Gauge>,
    /// Scans.
    pub scans: Family<OfScan, Counter>,
    /// Objects that the last complete scan could not look at, because each alone is too large; 0 on replicas that do
    /// not lead.
    pub skipped: Gauge,
    /// Owners that wait for secrets.
    pub pending_owners: Gauge,
    /// Waits that ended.
    pub retries: Family<RetryLabels, Counter>,
    /// Certificates that were due.
    pub rotations: Family<OfRotation, Counter>,
    /// End of validity of the self-managed certificate, in seconds since 1970; 0 on replicas that do not lead.
    pub certificate_not_after: Gauge,
}

impl ControllerMetrics {
    /// Makes the families and registers them.
    #[must_use]
    pub fn register(r: &mut Registry) -> Self {
        let metrics = Self::default();
        r.register(
            "leader",
            "1 on the controller replica that leads",
            metrics.leader.clone(),
        );
        let help = "Objects that run without the secrets that they ask for, by the leader's last complete scan";
        r.register("uninjected", help, metrics.uninjected.clone());
        r.register(
            "drift_scans",
            "Drift scans by how they ended",
            metrics.scans.clone(),
        );
        let help = "Objects that the leader's last complete scan left out, each of them too large to be read";
        r.register("drift_skipped", help, metrics.skipped.clone());
        r.register(
            "retry_pending_owners",
            "Owners of pods that wait for secrets",
            metrics.pending_owners.clone(),
        );
        r.register(
            "retries_triggered",
            "Waits for secrets by how they ended",
            metrics.retries.clone(),
        );
        r.register(
            "certificate_rotations",
            "Self-managed certificates by what became of them",
            metrics.rotations.clone(),
        );
        let help = "End of validity of the self-managed certificate, on the leader";
        r.register(
            "certificate_not_after_seconds",
            help,
            metrics.certificate_not_after.clone(),
        );
        metrics.found(0, 0);
        metrics
    }

    /// The last scan's findings.
    pub fn found(&self, pods: i64, workloads: i64) {
        self.uninjected
            .get_or_create(&OfKind { kind: Drifted::Pod })
            .set(pods);
        self.uninjected
            .get_or_create(&OfKind {
                kind: Drifted::Workload,
            })
            .set(workloads);
    }

    /// A scan ended.
    pub fn scanned(&self, result: ScanResult) {
        self.scans.get_or_create(&OfScan { result }).inc();
    }

    /// A certificate was due.
    pub fn rotated(&self, result: RotationResult) {
        self.rotations.get_or_create(&OfRotation { result }).inc();
    }

    /// Counts owners that were rejected because too many wait.
    pub fn owners_rejected(&self, owners: u64) {
        if owners > 0 {
            self.retries
                .get_or_create(&RetryLabels {
                    result: RetryResult::Full,
                })
                .inc_by(owners);
        }
    }

    /// Counts a wait that ended.
    pub fn wait_ended(&self, result: RetryResult) {
        self.retries.get_or_create(&RetryLabels { result }).inc();
    }
}
