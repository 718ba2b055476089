//! Store of the cache: bindings and recent names, and the reads that fill them.

use std::sync::Arc;
use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use tokio::time::Instant;

use super::recent::RecentIndex;
use super::settings::CacheSettings;
use crate::backend::layers::single_flight::{ReadRequest, ReadResult};
use crate::backend::layers::stall_guard::StallGuard;
use crate::backend::{BackendError, BindQuery, ErrorKind, KeyQuery, SecretBinder};
use injection::{SecretBinding, SecretId};

/// Secret of a query, by which its binding is stored.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct BindKey {
    pub(super) namespace: String,
    pub(super) secret: SecretId,
}

/// Binding and the time at which its read began.
#[derive(Debug)]
pub(super) struct CachedBinding {
    pub(super) binding: SecretBinding,
    began: Instant,
}

#[derive(Clone, Debug)]
pub(super) enum CachedEntry {
    Found(Arc<CachedBinding>),
    /// Only with a negative TTL.
    NotFound(Arc<(BackendError, Instant)>),
}

/// Bindings and the backend behind them: what a shared read needs after its first caller has left.
#[derive(Debug)]
pub(super) struct BindingStore<B> {
    pub(super) inner: B,
    settings: CacheSettings,
    pub(super) entries: Cache<BindKey, CachedEntry>,
    pub(super) recent: RecentIndex,
    pub(super) stall_guard: StallGuard,
}

impl<B: SecretBinder> BindingStore<B> {
    pub(super) fn new(inner: B, settings: CacheSettings) -> Self {
        let entries = Cache::builder()
            .max_capacity(settings.max_bytes)
            .weigher(CachedEntry::weight)
            .eviction_policy(EvictionPolicy::lru())
            // Only so that useless entries are removed: `fresh` and `stale` decide which ones are returned.
            .time_to_live(settings.max_stale.max(settings.ttl))
            .build();
        Self {
            inner,
            settings,
            entries,
            recent: RecentIndex::new(settings.max_stale),
            stall_guard: StallGuard::new(settings.stall_after),
        }
    }

    /// Returns the stored result, where the rule allows one.
    pub(super) fn fresh(
        &self,
        key: &BindKey,
        query: &BindQuery,
    ) -> Option<Result<SecretBinding, BackendError>> {
        match self.entries.get(key)? {
            CachedEntry::Found(cached) => cached
                .satisfies(query, self.settings.ttl)
                .then(|| Ok(cached.binding.clone())),
            CachedEntry::NotFound(missing) => {
                let (error, began) = &*missing;
                (began.elapsed() < self.settings.negative_ttl?).then(|| Err(error.clone()))
            }
        }
    }

    /// Returns an older binding, for a backend that gave no verdict. It never leads to a refusal.
    pub(super) fn stale(&self, key: &BindKey, query: &BindQuery) -> Option<SecretBinding> {
        match self.entries.get(key)? {
            CachedEntry::Found(cached) => cached
                .satisfies(query, self.settings.max_stale)
                .then(|| cached.binding.clone()),
            CachedEntry::NotFound(_) => None,
        }
    }

    /// Reads once for all waiters, and stores the result before they receive it.
    pub(super) async fn read(
        self: Arc<Self>,
        key: BindKey,
        request: ReadRequest,
        began: Instant,
    ) -> ReadResult<Arc<CachedBinding>> {
        let stored = self.entries.get(&key);
        // Keys that were needed recently will be needed again, and one read can serve both kinds of query.
        let has_keys =
            matches!(stored, Some(CachedEntry::Found(cached)) if cached.binding.keys.is_some());
        let query = BindQuery {
            namespace: key.namespace.clone(),
            secret: key.secret.clone(),
            keys: if request.keys || has_keys {
                KeyQuery::all()
            } else {
                KeyQuery::default()
            },
            arrived: began,
            deadline: request.deadline,
        };
        let result = self.inner.bind(&query).await;
        self.stall_guard.record(&result);
        match result {
            Ok(binding) => {
                let cached = Arc::new(CachedBinding { binding, began });
                self.recent
                    .record(&key.namespace, key.secret.name.as_str(), began);
                self.entries
                    .insert(key, CachedEntry::Found(Arc::clone(&cached)));
                Ok(cached)
            }
            Err(error) => {
                self.record_failure(key, &error, began);
                Err(error)
            }
        }
    }

    /// Stores "not found" if it has a lifetime. Removes a binding that a verdict has disproved: it must not be returned
    /// as a stale one later.
    fn record_failure(&self, key: BindKey, error: &BackendError, began: Instant) {
        match error.kind {
            ErrorKind::NotFound if self.settings.negative_ttl.is_some() => {
                self.recent.remove(&key.namespace, key.secret.name.as_str());
                self.entries
                    .insert(key, CachedEntry::NotFound(Arc::new((error.clone(), began))));
            }
            ErrorKind::NotFound | ErrorKind::PermissionDenied => {
                self.recent.remove(&key.namespace, key.secret.name.as_str());
                self.entries.invalidate(&key);
            }
            ErrorKind::Unavailable
            | ErrorKind::RateLimited
            | ErrorKind::Deadline
            | ErrorKind::Unauthenticated
            | ErrorKind::Protocol
            | ErrorKind::Invalid
            | ErrorKind::Conflict
            | ErrorKind::TooManyKeys => {}
        }
    }
}

impl CachedBinding {
    /// Whether this binding satisfies `query`, if bindings are valid for `lifetime`.
    fn satisfies(&self, query: &BindQuery, lifetime: Duration) -> bool {
        // A read after the arrival of the review is valid for any decision, also for a refusal.
        if self.began > query.arrived {
            return !query.keys.needs_keys() || self.binding.keys.is_some();
        }
        !query.keys.all && self.began.elapsed() < lifetime && query.keys.satisfied_by(&self.binding)
    }
}

impl CachedEntry {
    /// Approximate size of an entry in bytes.
    fn weight(key: &BindKey, entry: &Self) -> u32 {
        const ENTRY: usize = 512;
        const NAME: usize = 48;
        let names = match entry {
            Self::Found(cached) => cached
                .binding
                .keys
                .iter()
                .flatten()
                .map(|name| name.len() + NAME)
                .sum(),
            Self::NotFound(_) => 0,
        };
        let bytes = ENTRY + key.namespace.len() + 2 * key.secret.name.as_str().len() + names;
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}
