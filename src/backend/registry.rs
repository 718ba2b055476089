//! The decorators that a backend wears.
//!
//! From the outside in:
//! 1. [`Cached`]: answers from memory where the rule allows it; concurrent reviews share a read.
//! 2. [`Retrying`]: repeats what failed for a moment. While it pauses it holds nobody up.
//! 3. [`Limited`]: waits for the namespace's share, then for a place among all calls. Outside of the breaker, because
//!    a deadline that passes in our own line says nothing about the backend.
//! 4. [`Breaker`]: refuses while the backend does not answer. Retries stop at an open breaker.
//! 5. [`Metered`]: counts each call that is really sent.
//!
//! Reads of defaults go through the same limits and wear the same decorators, from [`crate::defaults`].

use std::sync::Arc;

use super::limits::{LimitSettings, Limited, Limits};
use super::{BackendKind, SecretBinder, SecretsBackend};
use crate::backend::layers::cached::{CacheSettings, Cached, RecentNames};
use crate::backend::layers::circuit_breaker::{Breaker, BreakerSettings};
use crate::backend::layers::metered::Metered;
use crate::backend::layers::retry::{RetrySettings, Retrying};
use crate::backend::metrics::BackendMetrics;

/// The numbers of the decorators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DecoratorSettings {
    /// What is remembered, and how long.
    pub cache: CacheSettings,
    /// What is asked again.
    pub retry: RetrySettings,
    /// How much is asked at once.
    pub limits: LimitSettings,
    /// When nothing is asked.
    pub breaker: BreakerSettings,
}

/// One backend, as its consumers see it.
#[derive(Clone, Debug)]
pub struct Backend {
    /// Which it is.
    pub kind: BackendKind,
    /// For admission: names, through all decorators.
    pub binder: Arc<dyn SecretBinder>,
    /// For the admin API: values, counted and otherwise as they come. Nothing is cached or repeated, because
    /// a person reads the answer and a write must not happen twice.
    pub values: Arc<dyn SecretsBackend>,
    /// For "did you mean": what admission bound lately.
    pub names: Arc<dyn RecentNames>,
    /// The shares of all calls of admission, for others who call the same server.
    pub limits: Arc<Limits>,
}

impl Backend {
    /// Wraps `backend` in its decorators, in the order of this module's description.
    #[must_use]
    pub fn assemble<B: SecretsBackend>(
        backend: B,
        tuning: DecoratorSettings,
        metrics: &BackendMetrics,
    ) -> Self {
        let DecoratorSettings {
            cache,
            retry,
            limits,
            breaker,
        } = tuning;
        let kind = backend.kind();
        let limits = Limits::new(limits);
        let metered = Arc::new(Metered::new(backend, metrics.clone()));
        let guarded = Breaker::new(Arc::clone(&metered), breaker);
        let circuit = guarded.circuit();
        let limited = Limited::new(guarded, Arc::clone(&limits), circuit);
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
