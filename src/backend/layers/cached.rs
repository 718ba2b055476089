//! Remembers which secrets exist and which keys they have: names, never values.
//!
//! The rule: **a refusal, and an expansion of `name/*`, rest only on a read that began after the review
//! arrived.** A stored answer may say yes for a while; whoever would be told no is told so by a read of its
//! own time, shared with everyone who waits for the same secret ([`crate::backend::flight`]).

mod recent;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use tokio::time::Instant;

use self::recent::Recent;
use crate::backend::layers::single_flight::{Outcome, ReadRequest, SingleFlight};
use crate::backend::layers::stall_guard::{STALL_AFTER, StallGuard};
use crate::backend::metrics::{BackendCache, BackendMetrics, CacheResult};
use crate::backend::{BackendError, BackendKind, BindQuery, ErrorKind, KeyQuery, SecretBinder};
use injection::{SecretBinding, SecretId};

/// How long what is remembered counts, and how much is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheSettings {
    /// How long a stored binding answers without a read.
    pub ttl: Duration,
    /// How long "not found" answers without a read. `None` is the rule above without exception; remote
    /// backends that bill or throttle by the call set a second or two.
    pub negative_ttl: Option<Duration>,
    /// How old a stored binding may be to stand in for a backend that is unavailable.
    pub stale: Duration,
    /// When nobody was answered for this long, one review waits on and the others are told "unavailable".
    pub silence: Duration,
    /// About how many bytes of names are kept.
    pub max_bytes: u64,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(30),
            negative_ttl: None,
            stale: Duration::from_mins(10),
            silence: STALL_AFTER,
            max_bytes: 16 * 1024 * 1024,
        }
    }
}

/// The names that were bound lately, for "did you mean": never more than this replica was told anyway.
pub trait RecentNames: std::fmt::Debug + Send + Sync + 'static {
    /// Names of secrets that were bound in `namespace` within the stale limit, in order. The cost is that of this
    /// namespace's names, and they are few hundred at most.
    fn recent_names(&self, namespace: &str) -> Vec<String>;
}

/// A decorator that answers from memory where the rule allows it.
#[derive(Debug)]
pub struct Cached<B> {
    memory: Arc<Store<B>>,
    flights: Arc<SingleFlight<BindKey, Arc<CachedBinding>>>,
    metrics: BackendMetrics,
}

/// The secret that a query is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct BindKey {
    namespace: String,
    secret: SecretId,
}

/// A binding and when the read behind it began.
#[derive(Debug)]
struct CachedBinding {
    binding: SecretBinding,
    began: Instant,
}

#[derive(Clone, Debug)]
enum Entry {
    CachedBinding(Arc<CachedBinding>),
    /// Only with a negative TTL.
    NotFound(Arc<(BackendError, Instant)>),
}

/// What is remembered, and whom to ask for the rest: what a shared read needs when its first caller is gone.
#[derive(Debug)]
struct Store<B> {
    inner: B,
    settings: CacheSettings,
    stored: Cache<BindKey, Entry>,
    recent: Recent,
    patience: StallGuard,
}

impl<B: SecretBinder> Cached<B> {
    /// Remembers what `inner` answers.
    #[must_use]
    pub fn new(inner: B, settings: CacheSettings, metrics: BackendMetrics) -> Self {
        let stored = Cache::builder()
            .max_capacity(settings.max_bytes)
            .weigher(Entry::weight)
            .eviction_policy(EvictionPolicy::lru())
            // Only so that nothing is kept for nothing: what counts is decided by `usable` and `stale`.
            .time_to_live(settings.stale.max(settings.ttl))
            .build();
        let (recent, patience) = (
            Recent::new(settings.stale),
            StallGuard::new(settings.silence),
        );
        let memory = Arc::new(Store {
            inner,
            settings,
            stored,
            recent,
            patience,
        });
        Self {
            memory,
            flights: Arc::default(),
            metrics,
        }
    }

    fn count(&self, result: CacheResult) {
        let labels = BackendCache {
            backend: self.kind(),
            result,
        };
        self.metrics.cache.get_or_create(&labels).inc();
    }
}

#[async_trait]
impl<B: SecretBinder> SecretBinder for Cached<B> {
    fn kind(&self) -> BackendKind {
        self.memory.inner.kind()
    }

    async fn bind(&self, query: &BindQuery) -> Result<SecretBinding, BackendError> {
        let key = BindKey {
            namespace: query.namespace.clone(),
            secret: query.secret.clone(),
        };
        if let Some(answer) = self.memory.recall(&key, query) {
            self.count(CacheResult::Hit);
            return answer;
        }
        let ask = ReadRequest {
            keys: query.keys.needs_keys(),
            deadline: query.deadline,
        };
        let memory = Arc::clone(&self.memory);
        let of = key.clone();
        let read = self
            .flights
            .read(&key, ask, query.arrived, move |ask, began| async move {
                memory.read(of, ask, began).await
            });
        // The read serves others too, and some may be more patient.
        let (outcome, shared) = match self
            .memory
            .patience
            .wait(query.arrived, query.deadline, read)
            .await
        {
            Ok(answered) => answered,
            Err(kind) => {
                let error = BackendError::about(kind, self.kind(), query);
                (Err(error.because("nobody was answered in a while")), false)
            }
        };
        match outcome {
            Err(error) if error.kind.is_unavailable() => match self.memory.stand_in(&key, query) {
                Some(binding) => {
                    self.count(CacheResult::Stale);
                    Ok(binding)
                }
                None => Err(error),
            },
            outcome => {
                self.count(if shared {
                    CacheResult::Shared
                } else {
                    CacheResult::Miss
                });
                outcome.map(|bound| bound.binding.clone())
            }
        }
    }
}

impl<B: SecretBinder> RecentNames for Cached<B> {
    fn recent_names(&self, namespace: &str) -> Vec<String> {
        self.memory.recent.names(namespace)
    }
}

// === what is remembered ===

impl<B: SecretBinder> Store<B> {
    /// The answer from memory, where the rule allows one.
    fn recall(
        &self,
        key: &BindKey,
        query: &BindQuery,
    ) -> Option<Result<SecretBinding, BackendError>> {
        match self.stored.get(key)? {
            Entry::CachedBinding(bound) => bound
                .answers(query, self.settings.ttl)
                .then(|| Ok(bound.binding.clone())),
            Entry::NotFound(missing) => {
                let (error, began) = &*missing;
                (began.elapsed() < self.settings.negative_ttl?).then(|| Err(error.clone()))
            }
        }
    }

    /// An older binding, when the backend gave no verdict. It can only say yes.
    fn stand_in(&self, key: &BindKey, query: &BindQuery) -> Option<SecretBinding> {
        match self.stored.get(key)? {
            Entry::CachedBinding(bound) => bound
                .answers(query, self.settings.stale)
                .then(|| bound.binding.clone()),
            Entry::NotFound(_) => None,
        }
    }

    /// One read for all of its waiters; what it says is remembered before they are told.
    async fn read(
        self: Arc<Self>,
        key: BindKey,
        ask: ReadRequest,
        began: Instant,
    ) -> Outcome<Arc<CachedBinding>> {
        let known = self.stored.get(&key);
        // Who wanted keys lately will want them again, and one read can serve both kinds of query.
        let keys_known =
            matches!(known, Some(Entry::CachedBinding(bound)) if bound.binding.keys.is_some());
        let query = BindQuery {
            namespace: key.namespace.clone(),
            secret: key.secret.clone(),
            keys: if ask.keys || keys_known {
                KeyQuery::all()
            } else {
                KeyQuery::default()
            },
            arrived: began,
            deadline: ask.deadline,
        };
        let answer = self.inner.bind(&query).await;
        self.patience.learn(&answer);
        match answer {
            Ok(binding) => {
                let bound = Arc::new(CachedBinding { binding, began });
                self.recent
                    .note(&key.namespace, key.secret.name.as_str(), began);
                self.stored
                    .insert(key, Entry::CachedBinding(Arc::clone(&bound)));
                Ok(bound)
            }
            Err(error) => {
                match error.kind {
                    ErrorKind::NotFound if self.settings.negative_ttl.is_some() => {
                        self.recent.forget(&key.namespace, key.secret.name.as_str());
                        self.stored
                            .insert(key, Entry::NotFound(Arc::new((error.clone(), began))));
                    }
                    // A verdict: what was remembered is no longer true, and must not stand in for it later.
                    ErrorKind::NotFound | ErrorKind::PermissionDenied => {
                        self.recent.forget(&key.namespace, key.secret.name.as_str());
                        self.stored.invalidate(&key);
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
                Err(error)
            }
        }
    }
}

impl CachedBinding {
    /// Whether this binding may answer `query` when bindings count for `limit`.
    fn answers(&self, query: &BindQuery, limit: Duration) -> bool {
        // Read after the review arrived: good for any answer, also for one that leads to a refusal.
        if self.began > query.arrived {
            return !query.keys.needs_keys() || self.binding.keys.is_some();
        }
        !query.keys.all && self.began.elapsed() < limit && query.keys.satisfied_by(&self.binding)
    }
}

impl Entry {
    /// About how many bytes an entry takes.
    fn weight(key: &BindKey, stored: &Self) -> u32 {
        const ENTRY: usize = 512;
        const NAME: usize = 48;
        let names = match stored {
            Self::CachedBinding(bound) => bound
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

#[cfg(test)]
mod tests;
