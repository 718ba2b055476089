//! Owners of objects, and their times of creation, read from the API server by their uid while they live.
//!
//! Only metadata are read. An object of the same name with another uid is not the owner.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use kube::Client;
use moka::sync::Cache;
use serde::Deserialize;
use tokio::time::{Instant, timeout};

use crate::audit::asked_by::UnknownReason;
use crate::kubernetes::{ApiErrorKind, ObjectApi, RateLimiter, Representation};

/// Owners between an object and the one whose author asked: a pod's `ReplicaSet`, its Deployment, and two more.
pub const MAX_OWNERS: usize = 4;

/// Reads per second.
pub const MAX_CALLS_PER_SECOND: u32 = 20;

/// Time limit of one read.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Time for which an owner is remembered, also after it was deleted.
pub const MEMORY: Duration = Duration::from_mins(10);

/// Owners that are remembered: a few MiB.
pub const MAX_REMEMBERED: u64 = 10_000;

/// Time for which an object is remembered that is known by its name alone, or that may not be read.
const SHORT_MEMORY: Duration = Duration::from_secs(5);

/// Time without reads after one that was not answered.
const PAUSE: Duration = Duration::from_secs(5);

/// Kinds that own objects of known controllers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwningKind {
    CronJob,
    DaemonSet,
    Deployment,
    Job,
    ReplicaSet,
    Rollout,
    StatefulSet,
}

impl OwningKind {
    const ALL: [Self; 7] = [
        Self::CronJob,
        Self::DaemonSet,
        Self::Deployment,
        Self::Job,
        Self::ReplicaSet,
        Self::Rollout,
        Self::StatefulSet,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CronJob => "CronJob",
            Self::DaemonSet => "DaemonSet",
            Self::Deployment => "Deployment",
            Self::Job => "Job",
            Self::ReplicaSet => "ReplicaSet",
            Self::Rollout => "Rollout",
            Self::StatefulSet => "StatefulSet",
        }
    }

    #[must_use]
    pub fn of_kind(kind: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == kind)
    }

    fn of_reference(api_version: &str, kind: &str) -> Option<Self> {
        let group = api_version.split_once('/').map(|(group, _)| group);
        Self::of_kind(kind).filter(|known| group == Some(known.group_version().0))
    }

    fn group_version(self) -> (&'static str, &'static str) {
        match self {
            Self::CronJob | Self::Job => ("batch", "v1"),
            Self::DaemonSet | Self::Deployment | Self::ReplicaSet | Self::StatefulSet => {
                ("apps", "v1")
            }
            Self::Rollout => ("argoproj.io", "v1alpha1"),
        }
    }

    /// Whether admissions of the kind leave records.
    #[must_use]
    pub fn is_recorded(self) -> bool {
        self != Self::ReplicaSet
    }
}

/// Controller reference to an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerReference {
    /// `None` for other kinds.
    pub kind: Option<OwningKind>,
    pub name: String,
    pub uid: String,
}

/// Live object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveOwner {
    pub created: Timestamp,
    /// Prefix of the name if the API server has generated it.
    pub generate_name: Option<String>,
    pub controller: Option<OwnerReference>,
}

/// Object that has defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultsKind {
    Namespace,
    ServiceAccount,
}

impl DefaultsKind {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::ServiceAccount => "ServiceAccount",
        }
    }
}

type Found = Result<Arc<LiveOwner>, UnknownReason>;

/// Reader of owners.
pub struct Owners {
    api: ObjectApi,
    limiter: Arc<RateLimiter>,
    /// Owners by uid.
    remembered: Cache<String, Found>,
    /// Other results by path.
    briefly: Cache<String, Found>,
    paused_until: Mutex<Option<Instant>>,
}

impl std::fmt::Debug for Owners {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Owners")
            .field("api", &self.api)
            .finish_non_exhaustive()
    }
}

impl Owners {
    #[must_use]
    pub fn new(client: Client) -> Self {
        let cache = |memory| {
            Cache::builder()
                .max_capacity(MAX_REMEMBERED)
                .time_to_live(memory)
                .build()
        };
        Self {
            api: ObjectApi::new(client),
            limiter: RateLimiter::per_second(MAX_CALLS_PER_SECOND),
            remembered: cache(MEMORY),
            briefly: cache(SHORT_MEMORY),
            paused_until: Mutex::new(None),
        }
    }

    /// Owner of an object in a namespace.
    ///
    /// # Errors
    /// It is gone, of another kind, or cannot be read.
    pub async fn owner(&self, namespace: &str, reference: &OwnerReference) -> Found {
        let kind = reference.kind.ok_or(UnknownReason::OwnerKind)?;
        if let Some(found) = self.remembered.get(&reference.uid) {
            return found;
        }
        // The names come from records, and anybody may write owner references.
        if !is_object_name(&reference.name) || reference.uid.is_empty() {
            return Err(UnknownReason::OwnerGone);
        }
        let (group, version) = kind.group_version();
        let plural = kind.as_str().to_ascii_lowercase();
        let name = &reference.name;
        let path = format!("/apis/{group}/{version}/namespaces/{namespace}/{plural}s/{name}");
        let found = match self.read(namespace, &path).await {
            Ok((uid, _)) if uid != reference.uid => Err(UnknownReason::OwnerGone),
            Ok((_, owner)) => Ok(Arc::new(owner)),
            Err(reason) => Err(reason),
        };
        // A uid is not given to another object.
        if matches!(found, Ok(_) | Err(UnknownReason::OwnerGone)) {
            self.remembered.insert(reference.uid.clone(), found.clone());
        }
        found
    }

    /// Object with defaults, by its name.
    ///
    /// # Errors
    /// It is gone, or cannot be read.
    pub async fn defaults(&self, kind: DefaultsKind, namespace: &str, name: &str) -> Found {
        if !is_object_name(name) {
            return Err(UnknownReason::OwnerGone);
        }
        let path = match kind {
            DefaultsKind::Namespace => format!("/api/v1/namespaces/{name}"),
            DefaultsKind::ServiceAccount => {
                format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}")
            }
        };
        if let Some(found) = self.briefly.get(&path) {
            return found;
        }
        let found = self.read(namespace, &path).await;
        let found = found.map(|(_, owner)| Arc::new(owner));
        if matches!(found, Ok(_) | Err(UnknownReason::OwnerGone)) {
            self.briefly.insert(path, found.clone());
        }
        found
    }

    /// Uid and fields of the object at a path.
    async fn read(
        &self,
        namespace: &str,
        path: &str,
    ) -> Result<(String, LiveOwner), UnknownReason> {
        if let Some(Err(reason)) = self.briefly.get(path) {
            return Err(reason);
        }
        if !is_object_name(namespace) {
            return Err(UnknownReason::OwnerGone);
        }
        if self.is_paused() {
            return Err(UnknownReason::ApiUnavailable);
        }
        self.limiter.acquire(namespace).await;
        let read = timeout(CALL_TIMEOUT, self.api.get(path, Representation::Metadata)).await;
        let body = match read {
            Ok(Ok(Some(body))) => body,
            Ok(Ok(None)) => return Err(UnknownReason::OwnerGone),
            Ok(Err(error)) => {
                tracing::debug!(%error, "an owner could not be read");
                return Err(self.failed(path, error.kind));
            }
            Err(_) => return Err(self.failed(path, ApiErrorKind::Unavailable)),
        };
        parse(&body).ok_or_else(|| self.failed(path, ApiErrorKind::Unexpected))
    }

    /// Remembers a failed read, so that not every record waits for another one.
    fn failed(&self, path: &str, kind: ApiErrorKind) -> UnknownReason {
        if kind.is_denied() {
            let reason = UnknownReason::OwnerForbidden;
            self.briefly.insert(path.to_owned(), Err(reason));
            return reason;
        }
        *self.paused() = Some(Instant::now() + PAUSE);
        UnknownReason::ApiUnavailable
    }

    fn is_paused(&self) -> bool {
        self.paused().is_some_and(|until| Instant::now() < until)
    }

    fn paused(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.paused_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Deserialize)]
struct MetadataObject {
    metadata: LiveMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LiveMetadata {
    uid: String,
    creation_timestamp: Timestamp,
    #[serde(default)]
    generate_name: Option<String>,
    #[serde(default)]
    owner_references: Option<Vec<ControllingOwner>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ControllingOwner {
    api_version: String,
    kind: String,
    name: String,
    uid: String,
    #[serde(default)]
    controller: Option<bool>,
}

fn parse(body: &[u8]) -> Option<(String, LiveOwner)> {
    let MetadataObject { metadata } = serde_json::from_slice(body).ok()?;
    let references = metadata.owner_references.unwrap_or_default();
    let controller = references
        .into_iter()
        .find(|reference| reference.controller == Some(true));
    let owner = LiveOwner {
        created: metadata.creation_timestamp,
        generate_name: metadata.generate_name.filter(|prefix| !prefix.is_empty()),
        controller: controller.map(|reference| OwnerReference {
            kind: OwningKind::of_reference(&reference.api_version, &reference.kind),
            name: reference.name,
            uid: reference.uid,
        }),
    };
    Some((metadata.uid, owner))
}

/// Whether a name may be part of a path.
fn is_object_name(name: &str) -> bool {
    name.parse::<injection::SecretName>().is_ok()
}

#[cfg(test)]
mod tests;
