//! Defaults: annotations of the Namespace and the ServiceAccount of a pod, in namespaces that the operator labelled.
//!
//! They are read only on the `defaults` paths, both at the same time, by the rule that applies to secrets: **a stored
//! object may add secrets to a pod, but "nothing to inject" needs a read.** An object whose annotations request secrets
//! is returned from memory for [`TTL`], so a changed default is effective within that time. An object that requests
//! nothing, one that does not exist, and a namespace without the label are absences. An absence rests on a read that
//! began after the review arrived, which is shared with all callers that wait for the same object.

mod applied;
mod cache;
mod cached_object;
mod guarded;
#[cfg(feature = "cluster")]
mod kubernetes;
mod object;

use std::sync::Arc;

use tokio::time::Instant;

use self::cache::{DefaultsCache, DefaultsKey};
use self::cached_object::CachedObject;
use crate::backend::BackendError;
use crate::backend::layers::single_flight::{ReadRequest, SingleFlight};

pub use applied::AppliedDefaults;
pub use cache::{MAX_STALE, TTL};
pub use cached_object::{MAX_BYTES, oversize};
pub use guarded::Guarded;
pub use injection::ENABLED_LABEL;
#[cfg(feature = "cluster")]
pub use kubernetes::KubernetesDefaults;
pub use object::{DefaultsObject, DefaultsReader};

/// Result of looking up one object.
#[derive(Debug, Default)]
struct DefaultsLookup {
    cached: Option<Arc<CachedObject>>,
    /// Reason why the object is a stale one.
    unconfirmed: Option<BackendError>,
}

/// Reader with a cache. Concurrent reviews share one read.
#[derive(Debug)]
pub struct Defaults {
    cache: Arc<DefaultsCache>,
    single_flight: Arc<SingleFlight<DefaultsKey, Option<Arc<CachedObject>>>>,
}

impl Defaults {
    /// Creates a cache in front of `reader`.
    #[must_use]
    pub fn new(reader: Arc<dyn DefaultsReader>) -> Self {
        Self::with(reader, false)
    }

    /// Creates a cache for callers that admit nothing, so that no controller waits for them. While the API server is
    /// stalled all of them wait until their own deadline, and an object that requests nothing is returned from memory
    /// too.
    #[must_use]
    pub fn for_background_reads(reader: Arc<dyn DefaultsReader>) -> Self {
        Self::with(reader, true)
    }

    fn with(reader: Arc<dyn DefaultsReader>, background: bool) -> Self {
        Self {
            cache: Arc::new(DefaultsCache::new(reader, background)),
            single_flight: Arc::default(),
        }
    }

    /// Reads the defaults that apply to a pod with that service account, for a review that arrived at `arrived`. They
    /// are empty in a namespace without [`ENABLED_LABEL`], and for a name that no namespace can have.
    ///
    /// # Errors
    /// The failure of either read: a pod is never admitted with half of its defaults.
    pub async fn applied(
        &self,
        namespace: &str,
        service_account: &str,
        arrived: Instant,
        deadline: Instant,
    ) -> Result<AppliedDefaults, BackendError> {
        let of_namespace = self.lookup(DefaultsKey::new(namespace, None), arrived, deadline);
        let of_account = self.lookup(
            DefaultsKey::new(namespace, Some(service_account)),
            arrived,
            deadline,
        );
        let (of_namespace, of_account) = futures::try_join!(of_namespace, of_account)?;
        let unconfirmed = of_namespace.unconfirmed.or(of_account.unconfirmed);
        let enabled = of_namespace
            .cached
            .as_ref()
            .is_some_and(|cached| cached.object.enabled);
        if !enabled {
            return Ok(AppliedDefaults {
                unconfirmed,
                ..AppliedDefaults::default()
            });
        }
        let both = [&of_namespace.cached, &of_account.cached];
        let mistakes = both
            .into_iter()
            .flatten()
            .filter_map(|cached| cached.mistake.clone())
            .collect();
        let object =
            |cached: Option<Arc<CachedObject>>| cached.map(|cached| Arc::clone(&cached.object));
        Ok(AppliedDefaults {
            namespace: object(of_namespace.cached),
            service_account: object(of_account.cached),
            mistakes,
            unconfirmed,
        })
    }

    /// Reads the Namespace alone, whether or not defaults apply there; `None` if it does not exist.
    ///
    /// # Errors
    /// The failure of the read.
    pub async fn namespace(
        &self,
        namespace: &str,
        arrived: Instant,
        deadline: Instant,
    ) -> Result<Option<Arc<DefaultsObject>>, BackendError> {
        let lookup = self
            .lookup(DefaultsKey::new(namespace, None), arrived, deadline)
            .await?;
        Ok(lookup.cached.map(|cached| Arc::clone(&cached.object)))
    }

    /// Removes a Namespace, or with `service_account` a ServiceAccount in it, because it is about to change.
    pub fn forget(&self, namespace: &str, service_account: Option<&str>) {
        if let Some(key) = DefaultsKey::new(namespace, service_account) {
            self.cache.objects.invalidate(&key);
        }
    }

    async fn lookup(
        &self,
        key: Option<DefaultsKey>,
        arrived: Instant,
        deadline: Instant,
    ) -> Result<DefaultsLookup, BackendError> {
        let Some(key) = key else {
            return Ok(DefaultsLookup::default());
        };
        if let Some(cached) = self.cache.fresh(&key, arrived) {
            return Ok(DefaultsLookup {
                cached: Some(cached),
                unconfirmed: None,
            });
        }
        match self.read(&key, arrived, deadline).await {
            Err(error) if error.kind.is_unavailable() => match self.cache.stale(&key) {
                Some(cached) => Ok(DefaultsLookup {
                    cached: Some(cached),
                    unconfirmed: Some(error),
                }),
                None => Err(error),
            },
            result => Ok(DefaultsLookup {
                cached: result?,
                unconfirmed: None,
            }),
        }
    }

    /// Joins or begins a read, and waits for it as long as the deadline and the stall guard allow.
    async fn read(
        &self,
        key: &DefaultsKey,
        arrived: Instant,
        deadline: Instant,
    ) -> Result<Option<Arc<CachedObject>>, BackendError> {
        let request = ReadRequest {
            keys: false,
            deadline,
        };
        let (cache, read_key) = (Arc::clone(&self.cache), key.clone());
        let read =
            self.single_flight
                .read(key, request, arrived, move |request, began| async move {
                    cache.read(read_key, request, began).await
                });
        match self.cache.stall_guard.wait(arrived, deadline, read).await {
            Ok((result, _)) => result,
            Err(kind) => Err(key.error(kind).because("nobody was answered in a while")),
        }
    }
}

#[cfg(test)]
mod tests;
