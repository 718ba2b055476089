//! Defaults: the annotations of a pod's Namespace and ServiceAccount, in namespaces that the operator labelled.
//!
//! Read only on the `defaults` paths, both at once, by the rule that secrets are bound by: **what is remembered can say
//! yes, never no.** An object whose annotations ask for secrets answers from memory for [`TTL`], so a changed default
//! shows within that. One that asks for nothing, one that does not exist, and a namespace without the label are
//! absences: a pod is told of one by a read that began after its review arrived, shared with everyone who waits for
//! the same object.

mod guarded;
mod kept;
mod kubernetes;
mod object;

use std::sync::Arc;
use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use tokio::time::{Instant, timeout_at};

use self::kept::CachedObject;
use crate::backend::kubernetes::is_dns_label;
use crate::backend::layers::single_flight::{Outcome, ReadRequest, SingleFlight};
use crate::backend::layers::stall_guard::{STALL_AFTER, StallGuard};
use crate::backend::{BackendError, BackendKind, ErrorKind};
use injection::{AnnotationLayers, Annotations, InvalidAnnotation, SecretName};

pub use guarded::Guarded;
pub use injection::ENABLED_LABEL;
pub use kept::{MAX_BYTES, oversize};
pub use kubernetes::KubernetesDefaults;
pub use object::{DefaultsObject, DefaultsReader};

/// How long a Namespace's or ServiceAccount's annotations answer from memory.
pub const TTL: Duration = Duration::from_secs(30);

/// How old they may be to stand in for an API server that gives no verdict: as long as secrets may.
pub const STALE: Duration = Duration::from_mins(10);

/// How long one read may take, whoever waits for it: a review with less time gives up by itself, and shortens the
/// read of nobody else. No API server that answers at all takes longer.
const READ_LIMIT: Duration = Duration::from_secs(5);

/// About how many bytes are kept.
const CAPACITY: u64 = 16 * 1024 * 1024;

/// Longer than any deadline.
const FOREVER: Duration = Duration::from_hours(24);

/// What governs a pod, as far as it exists.
#[derive(Clone, Debug, Default)]
pub struct AppliedDefaults {
    /// Its namespace's defaults.
    pub namespace: Option<Arc<DefaultsObject>>,
    /// Its service account's.
    pub service_account: Option<Arc<DefaultsObject>>,
    mistakes: Vec<InvalidAnnotation>,
    unconfirmed: Option<BackendError>,
}

impl AppliedDefaults {
    /// Defaults that are too large to be read: whoever is governed by them is refused with these sentences.
    #[must_use]
    pub fn mistakes(&self) -> &[InvalidAnnotation] {
        &self.mistakes
    }

    /// Layers of annotations of a pod in `namespace`, with `object` as the nearest.
    #[must_use]
    pub fn layers<'a>(
        &'a self,
        object: Option<&'a Annotations<'a>>,
        namespace: &'a str,
        service_account: &'a str,
    ) -> AnnotationLayers<'a> {
        AnnotationLayers {
            object,
            service_account: self
                .service_account
                .as_deref()
                .map(|account| (service_account, &account.annotations)),
            namespace: self
                .namespace
                .as_deref()
                .map(|object| (namespace, &object.annotations)),
        }
    }

    /// Whether "nothing to inject" may rest on these defaults.
    ///
    /// # Errors
    /// When the API server gave no verdict, and older annotations stand in for it: they can only say yes.
    pub fn confirmed(&self) -> Result<(), BackendError> {
        self.unconfirmed.clone().map_or(Ok(()), Err)
    }
}

/// The object behind defaults: a Namespace, or with `account` a ServiceAccount in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    namespace: String,
    account: Option<String>,
}

impl Key {
    /// `None` for names that no object can have. They must not become keys: a caller may make up any number of them,
    /// of any length.
    fn new(namespace: &str, account: Option<&str>) -> Option<Self> {
        let valid = is_dns_label(namespace)
            // A service account's name is a DNS subdomain, as a Secret's is.
            && account.is_none_or(|account| account.parse::<SecretName>().is_ok());
        valid.then(|| Self {
            namespace: namespace.to_owned(),
            account: account.map(str::to_owned),
        })
    }
}

/// What was found about one object.
#[derive(Debug, Default)]
struct Found {
    kept: Option<Arc<CachedObject>>,
    /// Why it is an older answer that stands in.
    unconfirmed: Option<BackendError>,
}

/// A reader with a memory. Concurrent reviews share one read.
#[derive(Debug)]
pub struct Defaults {
    memory: Arc<DefaultsCache>,
    flights: Arc<SingleFlight<Key, Option<Arc<CachedObject>>>>,
}

/// What is remembered, and whom to ask for the rest: what a shared read needs when its first caller is gone.
#[derive(Debug)]
struct DefaultsCache {
    reader: Arc<dyn DefaultsReader>,
    stored: Cache<Key, Arc<CachedObject>>,
    patience: StallGuard,
    /// For those whom no controller waits for.
    patient: bool,
}

impl Defaults {
    /// A memory over `reader`.
    #[must_use]
    pub fn new(reader: Arc<dyn DefaultsReader>) -> Self {
        Self::with(reader, false)
    }

    /// The same for those whom no controller waits for, and who admit nothing: in a silence, everybody waits until
    /// their own deadline, and an object that asks for nothing answers from memory too.
    #[must_use]
    pub fn patient(reader: Arc<dyn DefaultsReader>) -> Self {
        Self::with(reader, true)
    }

    fn with(reader: Arc<dyn DefaultsReader>, patient: bool) -> Self {
        let stored = Cache::builder()
            .max_capacity(CAPACITY)
            .weigher(|key: &Key, kept: &Arc<CachedObject>| {
                kept.weight(key.namespace.len() + key.account.as_ref().map_or(0, String::len))
            })
            .eviction_policy(EvictionPolicy::lru())
            // Only so that nothing is kept for nothing: what counts is decided by `recall` and `stand_in`.
            .time_to_live(STALE)
            .build();
        let patience = StallGuard::new(if patient { FOREVER } else { STALL_AFTER });
        Self {
            memory: Arc::new(DefaultsCache {
                reader,
                stored,
                patience,
                patient,
            }),
            flights: Arc::default(),
        }
    }

    /// The defaults that govern a pod of that service account, for a review that arrived then: none in a namespace
    /// that does not carry [`ENABLED_LABEL`], or that no namespace can be called.
    ///
    /// # Errors
    /// When either could not be read: a pod is never admitted on half of its defaults.
    pub async fn applied(
        &self,
        namespace: &str,
        service_account: &str,
        arrived: Instant,
        deadline: Instant,
    ) -> Result<AppliedDefaults, BackendError> {
        let of_namespace = self.find(Key::new(namespace, None), arrived, deadline);
        let of_account = self.find(
            Key::new(namespace, Some(service_account)),
            arrived,
            deadline,
        );
        let (of_namespace, of_account) = futures::try_join!(of_namespace, of_account)?;
        let unconfirmed = of_namespace.unconfirmed.or(of_account.unconfirmed);
        let enabled = of_namespace
            .kept
            .as_ref()
            .is_some_and(|kept| kept.source.enabled);
        if !enabled {
            return Ok(AppliedDefaults {
                unconfirmed,
                ..AppliedDefaults::default()
            });
        }
        let both = [&of_namespace.kept, &of_account.kept];
        let mistakes = both
            .into_iter()
            .flatten()
            .filter_map(|kept| kept.mistake.clone())
            .collect();
        let source = |kept: Option<Arc<CachedObject>>| kept.map(|kept| Arc::clone(&kept.source));
        Ok(AppliedDefaults {
            namespace: source(of_namespace.kept),
            service_account: source(of_account.kept),
            mistakes,
            unconfirmed,
        })
    }

    /// The namespace alone, whether or not defaults apply there; `None` when it does not exist.
    ///
    /// # Errors
    /// When it could not be read.
    pub async fn namespace(
        &self,
        namespace: &str,
        arrived: Instant,
        deadline: Instant,
    ) -> Result<Option<Arc<DefaultsObject>>, BackendError> {
        let found = self
            .find(Key::new(namespace, None), arrived, deadline)
            .await?;
        Ok(found.kept.map(|kept| Arc::clone(&kept.source)))
    }

    /// Forgets a Namespace, or with `service_account` a ServiceAccount in it, because it is about to change.
    pub fn forget(&self, namespace: &str, service_account: Option<&str>) {
        if let Some(key) = Key::new(namespace, service_account) {
            self.memory.stored.invalidate(&key);
        }
    }

    async fn find(
        &self,
        key: Option<Key>,
        arrived: Instant,
        deadline: Instant,
    ) -> Result<Found, BackendError> {
        let Some(key) = key else {
            return Ok(Found::default());
        };
        if let Some(kept) = self.memory.recall(&key, arrived) {
            return Ok(Found {
                kept: Some(kept),
                unconfirmed: None,
            });
        }
        let (memory, of) = (Arc::clone(&self.memory), key.clone());
        let ask = ReadRequest {
            keys: false,
            deadline,
        };
        let read = self
            .flights
            .read(&key, ask, arrived, move |ask, began| async move {
                memory.read(of, ask, began).await
            });
        let outcome = match self.memory.patience.wait(arrived, deadline, read).await {
            Ok((outcome, _)) => outcome,
            Err(kind) => Err(failed(kind, &key).because("nobody was answered in a while")),
        };
        match outcome {
            Err(error) if error.kind.is_unavailable() => match self.memory.stand_in(&key) {
                Some(kept) => Ok(Found {
                    kept: Some(kept),
                    unconfirmed: Some(error),
                }),
                None => Err(error),
            },
            outcome => Ok(Found {
                kept: outcome?,
                unconfirmed: None,
            }),
        }
    }
}

impl DefaultsCache {
    /// The answer from memory, where the rule allows one.
    fn recall(&self, key: &Key, arrived: Instant) -> Option<Arc<CachedObject>> {
        let kept = self.stored.get(key)?;
        let says_yes = kept.asks && (key.account.is_some() || kept.source.enabled);
        let usable =
            kept.began > arrived || (kept.began.elapsed() < TTL && (says_yes || self.patient));
        usable.then_some(kept)
    }

    /// An older answer, when the API server gave no verdict.
    fn stand_in(&self, key: &Key) -> Option<Arc<CachedObject>> {
        self.stored
            .get(key)
            .filter(|kept| kept.began.elapsed() < STALE)
    }

    /// One read for all of its waiters; what it says is remembered before they are told. What does not exist is not.
    async fn read(
        self: Arc<Self>,
        key: Key,
        ask: ReadRequest,
        began: Instant,
    ) -> Outcome<Option<Arc<CachedObject>>> {
        let deadline = if self.patient {
            ask.deadline
        } else {
            began + READ_LIMIT
        };
        let read = match &key.account {
            None => self.reader.namespace(&key.namespace, deadline),
            Some(account) => self
                .reader
                .service_account(&key.namespace, account, deadline),
        };
        let answer = timeout_at(deadline, read)
            .await
            .unwrap_or_else(|_| Err(failed(ErrorKind::Deadline, &key)));
        self.patience.learn(&answer);
        match answer {
            Ok(Some(source)) => {
                let kept = Arc::new(CachedObject::new(
                    source,
                    &key.namespace,
                    key.account.as_deref(),
                    began,
                ));
                self.stored.insert(key, Arc::clone(&kept));
                Ok(Some(kept))
            }
            Ok(None) => {
                self.stored.invalidate(&key);
                Ok(None)
            }
            Err(error) => {
                // A verdict: what was remembered must not stand in for it later.
                if error.kind == ErrorKind::PermissionDenied {
                    self.stored.invalidate(&key);
                }
                Err(error)
            }
        }
    }
}

fn failed(kind: ErrorKind, key: &Key) -> BackendError {
    BackendError::new(kind, BackendKind::Kubernetes, &key.namespace, None)
}

#[cfg(test)]
mod tests;
