//! Metrics of calls to secrets backends.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Registry, Unit};

use super::{BackendKind, ErrorKind};
use crate::telemetry::metrics::{Durations, label, label_enum, seconds};

label!(BackendKind);

label_enum! {
    /// Operation of a call to a backend.
    BackendOperation {
        /// Binding for an admission.
        Bind => "bind",
        /// Read of one value.
        Get => "get",
        /// Read of all values of a secret.
        GetAll => "get_all",
        /// Write of a secret.
        Set => "set",
        /// List of the secrets of a namespace.
        List => "list",
        /// Health check.
        Health => "health",
    }
}

label_enum! {
    /// Result of a call to a backend: `ok`, or the kind of its error.
    BackendResult {
        /// Success.
        Ok => "ok",
        /// The secret does not exist.
        NotFound => "not_found",
        /// Access denied.
        PermissionDenied => "permission_denied",
        /// No connection, or HTTP 5xx.
        Unavailable => "unavailable",
        /// HTTP 429.
        RateLimited => "rate_limited",
        /// No response within the deadline.
        Deadline => "deadline",
        /// HTTP 401.
        Unauthenticated => "unauthenticated",
        /// Unreadable response.
        Protocol => "protocol",
        /// HTTP 400 or 422.
        Invalid => "invalid",
        /// Another writer, or a secret that is not managed by this program.
        Conflict => "conflict",
        /// The secret has more keys than are read.
        TooManyKeys => "too_many_keys",
        /// The caller left before the response.
        Cancelled => "cancelled",
    }
}

impl From<ErrorKind> for BackendResult {
    fn from(kind: ErrorKind) -> Self {
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
    /// Result of the cache for a query.
    CacheResult {
        /// Binding from memory.
        Hit => "hit",
        /// Read from the backend.
        Miss => "miss",
        /// Read that other callers share.
        Shared => "shared",
        /// Stale binding, because the backend was unavailable.
        Stale => "stale",
    }
}

/// Labels `{backend,operation,result}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct BackendRequest {
    /// Backend of the call.
    pub backend: BackendKind,
    /// Operation of the call.
    pub operation: BackendOperation,
    /// Result of the call.
    pub result: BackendResult,
}

/// Labels `{backend,operation}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct BackendCall {
    /// Backend of the call.
    pub backend: BackendKind,
    /// Operation of the call.
    pub operation: BackendOperation,
}

/// Labels `{backend,result}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct BackendCache {
    /// Backend of the call.
    pub backend: BackendKind,
    /// Result of the query.
    pub result: CacheResult,
}

/// Metrics of calls to backends. Clones share their values.
#[derive(Clone, Debug)]
pub struct BackendMetrics {
    /// Calls to backends.
    pub requests: Family<BackendRequest, Counter>,
    /// Length of the calls.
    pub duration: Durations<BackendCall>,
    /// Queries by the result of the cache.
    pub cache: Family<BackendCache, Counter>,
}

impl Default for BackendMetrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            duration: Family::new_with_constructor(seconds),
            cache: Family::default(),
        }
    }
}

impl BackendMetrics {
    /// Creates the metrics and registers them.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "backend_requests",
            "Calls to secrets backends",
            metrics.requests.clone(),
        );
        registry.register_with_unit(
            "backend_duration",
            "Length of calls to secrets backends",
            Unit::Seconds,
            metrics.duration.clone(),
        );
        registry.register(
            "backend_cache",
            "Queries by what the cache did for them",
            metrics.cache.clone(),
        );
        metrics
    }
}
