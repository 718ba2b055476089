//! Metrics of the controller.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::telemetry::metrics::label;

/// Kinds of objects that run without their secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Drifted {
    Pod,
    /// Objects with a pod template.
    Workload,
}

impl Drifted {
    /// Label value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::Workload => "workload",
        }
    }
}

/// Result of a drift scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DriftScanResult {
    /// All objects in scope were read.
    Complete,
    /// An object or a list could not be read.
    Failed,
}

impl DriftScanResult {
    /// Label value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Failed => "failed",
        }
    }
}

/// Result of an owner's wait for secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RetryResult {
    /// A retry was triggered.
    Triggered,
    /// A retry had been triggered for the same secrets before.
    Unchanged,
    /// The owner is gone or has its pods.
    Gone,
    /// The secrets did not exist within an hour.
    GaveUp,
    /// Too many owners were waiting already.
    Full,
    /// The owner could not be written.
    Failed,
}

impl RetryResult {
    /// Label value.
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

/// Result of renewing a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RotationResult {
    /// A new certificate was written.
    Rotated,
    /// The old certificate is still served; renewal is retried at the next interval.
    Failed,
}

impl RotationResult {
    /// Label value.
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
label!(DriftScanResult);
label!(RetryResult);

/// Labels of `uninjected`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DriftLabels {
    /// Pods or workloads.
    pub kind: Drifted,
}

/// Labels of `drift_scans`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DriftScanLabels {
    pub result: DriftScanResult,
}

/// Labels of `retries_triggered`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RetryLabels {
    pub result: RetryResult,
}

/// Labels of `certificate_rotations`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RotationLabels {
    pub result: RotationResult,
}

/// All metric families. Clones share their values.
#[derive(Clone, Debug, Default)]
pub struct ControllerMetrics {
    /// 1 if this replica leads.
    pub leader: Gauge,
    /// Objects without their secrets in the last complete scan; 0 on replicas that do not lead.
    pub uninjected: Family<DriftLabels, Gauge>,
    /// Drift scans by result.
    pub scans: Family<DriftScanLabels, Counter>,
    /// Objects that the last complete scan skipped because each is too large to be read; 0 on replicas that do not
    /// lead.
    pub skipped: Gauge,
    /// Owners that wait for secrets.
    pub pending_owners: Gauge,
    /// Ended waits by result.
    pub retries: Family<RetryLabels, Counter>,
    /// Certificates that were due, by result.
    pub rotations: Family<RotationLabels, Counter>,
    /// End of validity of the self-managed certificate, in seconds since 1970; 0 on replicas that do not lead.
    pub certificate_not_after: Gauge,
    /// Like [`Self::certificate_not_after`], of the certificate of `admin`.
    pub admin_certificate_not_after: Gauge,
}

impl ControllerMetrics {
    /// Creates and registers all families.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "leader",
            "1 on the controller replica that leads",
            metrics.leader.clone(),
        );
        let help = "Objects that run without the secrets that they ask for, by the leader's last complete scan";
        registry.register("uninjected", help, metrics.uninjected.clone());
        registry.register(
            "drift_scans",
            "Drift scans by how they ended",
            metrics.scans.clone(),
        );
        let help = "Objects that the leader's last complete scan left out, each of them too large to be read";
        registry.register("drift_skipped", help, metrics.skipped.clone());
        registry.register(
            "retry_pending_owners",
            "Owners of pods that wait for secrets",
            metrics.pending_owners.clone(),
        );
        registry.register(
            "retries_triggered",
            "Waits for secrets by how they ended",
            metrics.retries.clone(),
        );
        registry.register(
            "certificate_rotations",
            "Self-managed certificates by what became of them",
            metrics.rotations.clone(),
        );
        let help = "End of validity of the self-managed certificate, on the leader";
        registry.register(
            "certificate_not_after_seconds",
            help,
            metrics.certificate_not_after.clone(),
        );
        registry.register(
            "admin_certificate_not_after_seconds",
            "End of validity of the self-managed certificate of admin, on the leader",
            metrics.admin_certificate_not_after.clone(),
        );
        metrics.set_uninjected(0, 0);
        metrics
    }

    /// Sets the counts of the last complete scan.
    pub fn set_uninjected(&self, pods: i64, workloads: i64) {
        self.uninjected
            .get_or_create(&DriftLabels { kind: Drifted::Pod })
            .set(pods);
        self.uninjected
            .get_or_create(&DriftLabels {
                kind: Drifted::Workload,
            })
            .set(workloads);
    }

    /// Counts a drift scan that ended.
    pub fn scan_ended(&self, result: DriftScanResult) {
        self.scans.get_or_create(&DriftScanLabels { result }).inc();
    }

    /// Counts a certificate that was due.
    pub fn rotation_ended(&self, result: RotationResult) {
        self.rotations
            .get_or_create(&RotationLabels { result })
            .inc();
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
