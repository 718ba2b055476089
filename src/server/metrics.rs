//! Metrics of listeners: connections, certificates, and rejected requests.

use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::telemetry::metrics::label_enum;

label_enum! {
    /// Port of a listener.
    Port {
        /// Port that the API server calls.
        Admission => "admission",
        /// Port for people and tools.
        Admin => "admin",
        /// Port for lines of the audit trail.
        Collector => "collector",
        /// Probes and metrics.
        Ops => "ops",
    }
}

label_enum! {
    /// Reason for which a request or a connection was rejected.
    ShedReason {
        /// A body that exceeds the limit.
        BodyTooLarge => "body_too_large",
        /// Too many bytes of bodies and responses in flight.
        BytesInFlight => "bytes_in_flight",
        /// A new connection, while all others had requests in flight.
        Connections => "connections",
        /// A connection without a request in flight, evicted for a new one.
        Evicted => "evicted",
        /// A body that was not complete in time.
        BodyDeadline => "body_deadline",
        /// A request whose response was not read in time.
        WriteDeadline => "write_deadline",
    }
}

label_enum! {
    /// Result of a certificate reload.
    ReloadResult {
        /// The new pair is in use.
        Loaded => "loaded",
        /// The new pair was rejected; the last valid one is still in use.
        Kept => "kept",
    }
}

/// `{port}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PortLabels {
    pub port: Port,
}

/// `{reason}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ShedLabels {
    pub reason: ShedReason,
}

/// `{result}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReloadLabels {
    pub result: ReloadResult,
}

/// Metrics of all listeners. Clones share their values.
#[derive(Clone, Debug, Default)]
pub struct ServerMetrics {
    /// Certificate reloads.
    pub tls_reloads: Family<ReloadLabels, Counter>,
    /// End of the serving certificate's validity, in Unix seconds.
    pub tls_not_after: Gauge<i64, AtomicI64>,
    /// Rejected requests and connections.
    pub shed: Family<ShedLabels, Counter>,
    /// Open connections.
    pub connections: Family<PortLabels, Gauge>,
    /// Failed TLS handshakes: a wrong `caBundle`, a missing client certificate, a port scan.
    pub tls_handshake_failures: Family<PortLabels, Counter>,
    /// Bytes of request bodies and responses that are held now.
    pub body_bytes_in_flight: Gauge<i64, AtomicI64>,
    /// Requests that panicked.
    pub panics: Counter<u64, AtomicU64>,
}

impl ServerMetrics {
    /// Creates the metrics and registers them.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "tls_reloads",
            "Reloads of the serving certificate",
            metrics.tls_reloads.clone(),
        );
        registry.register_with_unit(
            "tls_certificate_not_after",
            "End of validity of the serving certificate, Unix time",
            Unit::Seconds,
            metrics.tls_not_after.clone(),
        );
        registry.register(
            "requests_shed",
            "Requests and connections turned away",
            metrics.shed.clone(),
        );
        registry.register(
            "connections",
            "Open connections",
            metrics.connections.clone(),
        );
        registry.register(
            "tls_handshake_failures",
            "TLS handshakes that did not end well",
            metrics.tls_handshake_failures.clone(),
        );
        registry.register_with_unit(
            "body_in_flight",
            "Bytes of request bodies and answers held",
            Unit::Bytes,
            metrics.body_bytes_in_flight.clone(),
        );
        registry.register(
            "panics",
            "Requests whose handling panicked",
            metrics.panics.clone(),
        );
        metrics
    }
}
