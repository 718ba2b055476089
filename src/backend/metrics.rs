//! Metrics of calls to secrets backends.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Registry, Unit};

use super::{BackendKind, ErrorKind};
use crate::telemetry::metrics::{Durations, label, label_enum, seconds};

label!(BackendKind);

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

/// `{backend,operation,result}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct BackendRequest {
    /// Which backend.
    pub backend: BackendKind,
    /// Which call.
    pub operation: BackendOperation,
    /// How it ended.
    pub result: BackendResult,
}

/// `{backend,operation}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct BackendCall {
    /// Which backend.
    pub backend: BackendKind,
    /// Which call.
    pub operation: BackendOperation,
}

/// `{backend,result}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct BackendCache {
    /// Which backend.
    pub backend: BackendKind,
    /// What the cache did.
    pub result: CacheResult,
}

/// Metrics of calls to backends. Clones share their values.
#[derive(Clone, Debug)]
pub struct BackendMetrics {
    /// Calls to backends.
    pub requests: Family<BackendRequest, Counter>,
    /// Their length.
    pub duration: Durations<BackendCall>,
    /// What the cache did.
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
    /// Makes the metrics and registers them.
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
