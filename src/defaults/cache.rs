//! Cache of Namespaces and ServiceAccounts, and the reads that fill it.

use std::sync::Arc;
use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use tokio::time::{Instant, timeout_at};

use super::cached_object::CachedObject;
use super::object::DefaultsReader;
use crate::backend::is_dns_label;
use crate::backend::layers::single_flight::{ReadRequest, ReadResult};
use crate::backend::layers::stall_guard::{STALL_AFTER, StallGuard};
use crate::backend::{BackendError, BackendKind, ErrorKind};
use injection::SecretName;

/// Time in which the annotations of a Namespace or ServiceAccount are returned without a read.
pub const TTL: Duration = Duration::from_secs(30);

/// Greatest age of annotations that are used while the API server gives no verdict: the same as for secrets.
pub const MAX_STALE: Duration = Duration::from_mins(10);

/// Time limit of one read, which is independent of its callers: a caller with less time gives up by itself, and does
/// not shorten the read of the others. No API server that responds at all takes longer.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Approximate limit of the bytes that are stored.
pub(super) const MAX_CACHE_BYTES: u64 = 16 * 1024 * 1024;

/// Stall limit of callers that always wait until their own deadline: longer than any deadline.
const NEVER_STALLED: Duration = Duration::from_hours(24);

/// Object that has defaults: a Namespace, or with `account` a ServiceAccount in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct DefaultsKey {
    namespace: String,
    account: Option<String>,
}

impl DefaultsKey {
    /// Creates a key; `None` for names that no object can have. They must not become keys: a caller may invent any
    /// number of them, of any length.
    pub(super) fn new(namespace: &str, account: Option<&str>) -> Option<Self> {
        let valid = is_dns_label(namespace)
            // The name of a service account is a DNS subdomain, like that of a Secret.
            && account.is_none_or(|account| account.parse::<SecretName>().is_ok());
        valid.then(|| Self {
            namespace: namespace.to_owned(),
            account: account.map(str::to_owned),
        })
    }

    pub(super) fn error(&self, kind: ErrorKind) -> BackendError {
        BackendError::new(kind, BackendKind::Kubernetes, &self.namespace, None)
    }
}

/// Stored objects and the reader behind them: what a shared read needs after its first caller has left.
#[derive(Debug)]
pub(super) struct DefaultsCache {
    reader: Arc<dyn DefaultsReader>,
    pub(super) objects: Cache<DefaultsKey, Arc<CachedObject>>,
    pub(super) stall_guard: StallGuard,
    /// Whether the callers admit nothing, so that no controller waits for them.
    background: bool,
}

impl DefaultsCache {
    pub(super) fn new(reader: Arc<dyn DefaultsReader>, background: bool) -> Self {
        let objects = Cache::builder()
            .max_capacity(MAX_CACHE_BYTES)
            .weigher(|key: &DefaultsKey, cached: &Arc<CachedObject>| {
                cached.weight(key.namespace.len() + key.account.as_ref().map_or(0, String::len))
            })
            .eviction_policy(EvictionPolicy::lru())
            // Only so that useless entries are removed: `fresh` and `stale` decide which ones are returned.
            .time_to_live(MAX_STALE)
            .build();
        Self {
            reader,
            objects,
            stall_guard: StallGuard::new(if background {
                NEVER_STALLED
            } else {
                STALL_AFTER
            }),
            background,
        }
    }

    /// Returns the stored object, where the rule allows it.
    pub(super) fn fresh(&self, key: &DefaultsKey, arrived: Instant) -> Option<Arc<CachedObject>> {
        let cached = self.objects.get(key)?;
        let adds_secrets =
            cached.requests_secrets && (key.account.is_some() || cached.object.enabled);
        let usable = cached.began > arrived
            || (cached.began.elapsed() < TTL && (adds_secrets || self.background));
        usable.then_some(cached)
    }

    /// Returns an older object, for an API server that gave no verdict.
    pub(super) fn stale(&self, key: &DefaultsKey) -> Option<Arc<CachedObject>> {
        self.objects
            .get(key)
            .filter(|cached| cached.began.elapsed() < MAX_STALE)
    }

    /// Reads once for all waiters, and stores the object before they receive it. An object that does not exist is not
    /// stored.
    pub(super) async fn read(
        self: Arc<Self>,
        key: DefaultsKey,
        request: ReadRequest,
        began: Instant,
    ) -> ReadResult<Option<Arc<CachedObject>>> {
        let deadline = if self.background {
            request.deadline
        } else {
            began + READ_TIMEOUT
        };
        let read = match &key.account {
            None => self.reader.namespace(&key.namespace, deadline),
            Some(account) => self
                .reader
                .service_account(&key.namespace, account, deadline),
        };
        let result = timeout_at(deadline, read)
            .await
            .unwrap_or_else(|_| Err(key.error(ErrorKind::Deadline)));
        self.stall_guard.record(&result);
        match result {
            Ok(Some(object)) => {
                let cached = Arc::new(CachedObject::new(
                    object,
                    &key.namespace,
                    key.account.as_deref(),
                    began,
                ));
                self.objects.insert(key, Arc::clone(&cached));
                Ok(Some(cached))
            }
            Ok(None) => {
                self.objects.invalidate(&key);
                Ok(None)
            }
            Err(error) => {
                // A verdict: the stored object must not be returned as a stale one later.
                if error.kind == ErrorKind::PermissionDenied {
                    self.objects.invalidate(&key);
                }
                Err(error)
            }
        }
    }
}
