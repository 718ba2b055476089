//! What the program counts: one struct of families, registered once, handed to whoever observes.
//!
//! Every label is an enum with a fixed set of values: never a name, a namespace or a message.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// The prefix of every metric.
pub const PREFIX: &str = "floe_secrets_webhook";

/// Implements a label from a fieldless enum's `as_str`.
macro_rules! label {
    ($type:ty) => {
        impl EncodeLabelValue for $type {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
                EncodeLabelValue::encode(&self.as_str(), encoder)
            }
        }
    };
}

/// A fieldless enum whose values are label values.
macro_rules! label_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident => $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant,)+ }
        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
            /// The label's text.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
        label!($name);
    };
}

pub(crate) use label;

label!(crate::backend::BackendKind);

label_enum! {
    /// Which call to a backend.
    BackendOperation {
        /// Names and keys for an admission.
        Bind => "bind",
        /// One value.
        Get => "get",
        /// All values of a secret.
        GetAll => "get_all",
        /// A write.
        Set => "set",
        /// Names in a namespace.
        List => "list",
        /// Is it well?
        Health => "health",
    }
}

label_enum! {
    /// How a call to a backend ended: `ok`, or the kind of its error.
    BackendResult {
        /// An answer.
        Ok => "ok",
        /// No such secret.
        NotFound => "not_found",
        /// May not.
        PermissionDenied => "permission_denied",
        /// No connection, or 5xx.
        Unavailable => "unavailable",
        /// 429.
        RateLimited => "rate_limited",
        /// Too late.
        Deadline => "deadline",
        /// Our credential was refused.
        Unauthenticated => "unauthenticated",
        /// Unreadable.
        Protocol => "protocol",
        /// The question was refused.
        Invalid => "invalid",
        /// Another writer, or not ours.
        Conflict => "conflict",
        /// The secret has more keys than are read.
        TooManyKeys => "too_many_keys",
        /// The caller went away first.
        Cancelled => "cancelled",
    }
}

impl From<crate::backend::ErrorKind> for BackendResult {
    fn from(kind: crate::backend::ErrorKind) -> Self {
        use crate::backend::ErrorKind;
        match kind {
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::PermissionDenied => Self::PermissionDenied,
            ErrorKind::Unavailable => Self::Unavailable,
            ErrorKind::RateLimited => Self::RateLimited,
            ErrorKind::Deadline => Self::Deadline,
            ErrorKind::Unauthenticated => Self::Unauthenticated,
            ErrorKind::Protocol => Self::Protocol,
            ErrorKind::Invalid => Self::Invalid,
            ErrorKind::Conflict => Self::Conflict,
            ErrorKind::TooManyKeys => Self::TooManyKeys,
        }
    }
}

label_enum! {
    /// What the cache did for a query.
    CacheResult {
        /// Answered from memory.
        Hit => "hit",
        /// Asked the backend.
        Miss => "miss",
        /// Waited for a read that others wanted too.
        Shared => "shared",
        /// The backend was unavailable: an older answer stood in.
        Stale => "stale",
    }
}

label_enum! {
    /// What became of a certificate reload.
    ReloadResult {
        /// The new pair serves.
        Loaded => "loaded",
        /// Refused; the last good pair serves on.
        Kept => "kept",
    }
}

label_enum! {
    /// Why a request or a connection was turned away.
    ShedReason {
        /// Larger than a body may be.
        BodyTooLarge => "body_too_large",
        /// Too many bytes of bodies and answers in flight.
        BytesInFlight => "bytes_in_flight",
        /// A new connection that found all places taken by requests under way.
        Connections => "connections",
        /// A connection without a request under way that had to make room for a new one.
        Evicted => "evicted",
        /// A body that was not complete in time.
        BodyDeadline => "body_deadline",
        /// A request whose answer was not read in time.
        WriteDeadline => "write_deadline",
    }
}

label_enum! {
    /// What became of a span.
    SpanResult {
        /// The collector has it.
        Exported => "exported",
        /// The collector was away or refused it.
        Failed => "failed",
        /// Too many waited.
        Dropped => "dropped",
    }
}

label_enum! {
    /// Which listener.
    Port {
        /// Where the API server calls.
        Admission => "admission",
        /// Where people and tools call.
        Admin => "admin",
        /// Probes and metrics.
        Ops => "ops",
    }
}

/// `{backend,operation,result}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct BackendRequest {
    /// Which backend.
    pub backend: crate::backend::BackendKind,
    /// Which call.
    pub operation: BackendOperation,
    /// How it ended.
    pub result: BackendResult,
}

/// `{backend,operation}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct BackendCall {
    /// Which backend.
    pub backend: crate::backend::BackendKind,
    /// Which call.
    pub operation: BackendOperation,
}

/// `{backend,result}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct BackendCache {
    /// Which backend.
    pub backend: crate::backend::BackendKind,
    /// What the cache did.
    pub result: CacheResult,
}

/// `{result}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reload {
    /// What became of it.
    pub result: ReloadResult,
}

/// `{reason}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Shed {
    /// Why.
    pub reason: ShedReason,
}

/// `{result}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TraceSpans {
    /// What became of them.
    pub result: SpanResult,
}

/// `{port}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OnPort {
    /// Which listener.
    pub port: Port,
}

/// 0.5 ms to 10 s: an admission's life, from a cache hit to the API server's patience.
const SECONDS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// A histogram over [`SECONDS`], for families.
pub(crate) fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

/// A family of histograms that all start as [`seconds`].
pub(crate) type Durations<L> = Family<L, Histogram, fn() -> Histogram>;

/// All families. Cheap to clone: clones count into the same place.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Calls to backends.
    pub backend_requests: Family<BackendRequest, Counter>,
    /// Their length.
    pub backend_duration: Durations<BackendCall>,
    /// What the cache did.
    pub backend_cache: Family<BackendCache, Counter>,
    /// Certificate reloads.
    pub tls_reloads: Family<Reload, Counter>,
    /// End of the serving certificate's validity, in Unix seconds.
    pub tls_not_after: Gauge<i64, AtomicI64>,
    /// Requests and connections turned away.
    pub shed: Family<Shed, Counter>,
    /// Open connections.
    pub connections: Family<OnPort, Gauge>,
    /// TLS handshakes that did not end well: a wrong `caBundle`, a missing client certificate, a port scan.
    pub tls_handshake_failures: Family<OnPort, Counter>,
    /// Bytes of request bodies and answers held at this moment.
    pub body_bytes_in_flight: Gauge<i64, AtomicI64>,
    /// Requests whose handling panicked.
    pub panics: Counter<u64, AtomicU64>,
    /// Spans, when traces are on.
    pub trace_spans: Family<TraceSpans, Counter>,
}

impl Metrics {
    /// Makes the families and registers them.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            backend_requests: Family::default(),
            backend_duration: Family::new_with_constructor(seconds),
            backend_cache: Family::default(),
            tls_reloads: Family::default(),
            tls_not_after: Gauge::default(),
            shed: Family::default(),
            connections: Family::default(),
            tls_handshake_failures: Family::default(),
            body_bytes_in_flight: Gauge::default(),
            panics: Counter::default(),
            trace_spans: Family::default(),
        };
        let r = registry;
        r.register(
            "backend_requests",
            "Calls to secrets backends",
            metrics.backend_requests.clone(),
        );
        r.register_with_unit(
            "backend_duration",
            "Length of calls to secrets backends",
            Unit::Seconds,
            metrics.backend_duration.clone(),
        );
        r.register(
            "backend_cache",
            "Queries by what the cache did for them",
            metrics.backend_cache.clone(),
        );
        r.register(
            "tls_reloads",
            "Reloads of the serving certificate",
            metrics.tls_reloads.clone(),
        );
        r.register_with_unit(
            "tls_certificate_not_after",
            "End of validity of the serving certificate, Unix time",
            Unit::Seconds,
            metrics.tls_not_after.clone(),
        );
        r.register(
            "requests_shed",
            "Requests and connections turned away",
            metrics.shed.clone(),
        );
        r.register(
            "connections",
            "Open connections",
            metrics.connections.clone(),
        );
        r.register(
            "tls_handshake_failures",
            "TLS handshakes that did not end well",
            metrics.tls_handshake_failures.clone(),
        );
        r.register_with_unit(
            "body_in_flight",
            "Bytes of request bodies and answers held",
            Unit::Bytes,
            metrics.body_bytes_in_flight.clone(),
        );
        r.register(
            "panics",
            "Requests whose handling panicked",
            metrics.panics.clone(),
        );
        r.register(
            "trace_spans",
            "Spans by what became of them",
            metrics.trace_spans.clone(),
        );
        metrics
    }
}

/// The registry behind `/metrics`, with the program's prefix.
#[must_use]
pub fn registry() -> (Arc<Registry>, Metrics) {
    let mut registry = Registry::with_prefix(PREFIX);
    let metrics = Metrics::register(&mut registry);
    (Arc::new(registry), metrics)
}
