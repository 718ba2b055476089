//! Order of the decorators around a backend.
//!
//! From the outside in:
//! 1. [`Cached`]: returns bindings from memory where the rule allows it; concurrent reviews share a read.
//! 2. [`Retrying`]: repeats temporary failures. While it waits it holds no permit.
//! 3. [`Limited`]: waits for the share of the namespace, then for one of the permits of all calls. It is outside of the
//!    breaker: a deadline that passes in this queue is not a failure of the backend.
//! 4. [`Breaker`]: rejects calls while the backend does not respond. Retries stop at an open breaker.
//! 5. [`Metered`]: counts each call that is sent.
//!
//! Reads of defaults use the same limits and decorators, from [`crate::defaults`].

use std::sync::Arc;

use super::limits::{LimitSettings, Limited, Limits};
use super::{BackendKind, SecretBinder, SecretsBackend};
use crate::backend::layers::cached::{CacheSettings, Cached, RecentNames};
use crate::backend::layers::circuit_breaker::{Breaker, BreakerSettings};
use crate::backend::layers::metered::Metered;
use crate::backend::layers::retry::{RetrySettings, Retrying};
use crate::backend::metrics::BackendMetrics;

/// Settings of all decorators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DecoratorSettings {
    /// Lifetimes and size of the cache.
    pub cache: CacheSettings,
    /// Number and backoff of retries.
    pub retry: RetrySettings,
    /// Concurrent calls.
    pub limits: LimitSettings,
    /// Failures that open the circuit breaker.
    pub breaker: BreakerSettings,
}

/// One backend with its decorators.
#[derive(Clone, Debug)]
pub struct Backend {
    /// Kind of the backend.
    pub kind: BackendKind,
    /// Names for admission, through all decorators.
    pub binder: Arc<dyn SecretBinder>,
    /// Values for the admin API, through the metrics alone. Nothing is cached or repeated, because a person reads the
    /// result and a write must not happen twice.
    pub values: Arc<dyn SecretsBackend>,
    /// Names that admission bound recently, for "did you mean".
    pub names: Arc<dyn RecentNames>,
    /// Limits of all calls of admission, for other callers of the same server.
    pub limits: Arc<Limits>,
}

impl Backend {
    /// Wraps `backend`, outermost first: cache, retry, limits, circuit breaker, metrics.
    #[must_use]
    pub fn assemble<B: SecretsBackend>(
        backend: B,
        settings: DecoratorSettings,
        metrics: &BackendMetrics,
    ) -> Self {
        let DecoratorSettings {
            cache,
            retry,
            limits,
            breaker,
        } = settings;
        let kind = backend.kind();
        let limits = Limits::new(limits);
        let metered = Arc::new(Metered::new(backend, metrics.clone()));
        let breaker = Breaker::new(Arc::clone(&metered), breaker);
        let circuit = breaker.circuit();
        let limited = Limited::new(breaker, Arc::clone(&limits), circuit);
        let cached = Arc::new(Cached::new(
            Retrying::new(limited, retry),
            cache,
            metrics.clone(),
        ));
        Self {
            kind,
            binder: Arc::<Cached<_>>::clone(&cached),
            values: metered,
            names: cached,
            limits,
        }
    }
}
