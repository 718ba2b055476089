//! Secrets backends: the traits that they implement, and their errors.
//!
//! Two traits, one per consumer. [`SecretBinder`] is all that the admission path uses: names and key names.
//! [`SecretsBackend`] adds values, for the admin API. One object implements both. The admission path receives only the
//! first, so the type system ensures that admission never reads a value.
//!
//! Decorators ([`layers`], [`limits`]) wrap a binder and keep its contract. Every backend, decorator and fake passes
//! the same conformance suite.

#![warn(missing_docs)]

#[cfg(any(test, feature = "test-util"))]
pub mod conformance;
mod dns_label;
mod error;
#[cfg(feature = "cluster")]
pub mod kubernetes;
pub mod layers;
pub mod limits;
#[cfg(any(test, feature = "test-util"))]
pub mod memory;
pub mod metrics;
pub mod registry;
pub mod static_binder;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::SecretString;
use tokio::time::Instant;

pub(crate) use dns_label::is_dns_label;
pub use error::{BackendError, ErrorCause, ErrorKind, OptionalSecret};

pub use crate::plugin::{HealthState, HealthStatus};
pub use injection::KeyQuery;
use injection::{SecretBinding, SecretId, SecretKey, SecretName, SecretSource};

/// Limit of the keys that are read of one secret. A pod may refer to 64 secrets, and what is read of all of them is
/// held until the pod is planned. A Secret of a megabyte can have a hundred thousand keys, and `env-from` injects all
/// of them.
pub const MAX_KEYS: usize = 1_000;
/// Limit of the bytes of the key names of one secret: see [`MAX_KEYS`].
pub const MAX_KEY_BYTES: usize = 128 << 10;

/// Query of a review about one secret.
#[derive(Clone, Debug)]
pub struct BindQuery {
    /// Namespace of the pod, from the `AdmissionRequest`.
    pub namespace: String,
    /// Secret that is bound.
    pub secret: SecretId,
    /// Key names that the binding must have.
    pub keys: KeyQuery,
    /// Arrival of the review. A refusal, and an expansion of `name/*`, rest only on a read that began after it.
    pub arrived: Instant,
    /// Time after which the result is no longer of use.
    pub deadline: Instant,
}

/// Time limit of a lookup by [`BindQuery::of_all_keys`].
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

impl BindQuery {
    /// Query of a command for all keys of a Kubernetes Secret, outside of an admission.
    pub(crate) fn of_all_keys(namespace: &str, name: SecretName) -> Self {
        let arrived = Instant::now();
        Self {
            namespace: namespace.to_owned(),
            secret: SecretId {
                source: SecretSource::Kubernetes,
                name,
            },
            keys: KeyQuery::all(),
            arrived,
            deadline: arrived + LOOKUP_TIMEOUT,
        }
    }
}

/// Binds secrets: whether a secret exists, its name in the namespace of the pod, and its keys.
///
/// # Contract
/// The conformance suite has one test per line.
/// - `bind` of a secret that exists returns the name of its Kubernetes Secret in the namespace of the query.
/// - If the query needs keys, `keys` of the binding is `Some` and complete. A requested key that is missing is not an
///   error here: the planner reports it, with the name of the annotation.
/// - If the query needs only existence, `keys` may be `None`.
/// - A secret that does not exist in that namespace, whatever other namespaces have: [`ErrorKind::NotFound`].
/// - A refused read: [`ErrorKind::PermissionDenied`], the same whether or not the secret exists.
/// - If the query needs keys, and the secret has more than [`MAX_KEYS`], or their names are longer than
///   [`MAX_KEY_BYTES`]: [`ErrorKind::TooManyKeys`].
/// - An unreadable response: [`ErrorKind::Protocol`], never "not found".
/// - No response before `deadline`: [`ErrorKind::Deadline`], and no work continues in the background.
/// - Dropping the future cancels the work, unless another caller waits for the same read.
/// - No error, in `Display` or `Debug`, contains a value or any text that the backend sent.
#[async_trait]
pub trait SecretBinder: fmt::Debug + Send + Sync + 'static {
    /// Kind of the backend, for messages, metrics and audit.
    fn kind(&self) -> BackendKind;

    /// Binds the secret of `query`.
    async fn bind(&self, query: &BindQuery) -> Result<SecretBinding, BackendError>;
}

/// Shared ownership keeps the contract: one backend can be under two chains of decorators.
#[async_trait]
impl<B: SecretBinder + ?Sized> SecretBinder for Arc<B> {
    fn kind(&self) -> BackendKind {
        (**self).kind()
    }

    async fn bind(&self, query: &BindQuery) -> Result<SecretBinding, BackendError> {
        (**self).bind(query).await
    }
}

/// Values of one secret by key.
pub type SecretData = BTreeMap<SecretKey, SecretString>;

/// Reads and writes values, for the admin API: `SecretsPlugin` of the floe spec.
///
/// # Contract
/// - `get_secret` and `get_all` of what does not exist: [`ErrorKind::NotFound`] (see [`OptionalSecret`] for "missing is
///   None" of the spec).
/// - `set_secret` creates the secret, or updates the given keys and keeps all others, labels and annotations. It
///   refuses ([`ErrorKind::Conflict`]) to write a secret that it does not manage.
/// - `list_secrets` returns names in order, all with `prefix`, never values.
/// - `health_check` returns within `timeout`.
#[async_trait]
pub trait SecretsBackend: SecretBinder {
    /// Reads the value of one key.
    async fn get_secret(
        &self,
        namespace: &str,
        name: &SecretName,
        key: &SecretKey,
    ) -> Result<SecretString, BackendError>;

    /// Reads all keys and values of one secret.
    async fn get_all(&self, namespace: &str, name: &SecretName)
    -> Result<SecretData, BackendError>;

    /// Creates the secret, or writes these keys of it. `metadata` is stored beside it, readable by anyone who may read
    /// the secret.
    async fn set_secret(
        &self,
        namespace: &str,
        name: &SecretName,
        data: SecretData,
        metadata: BTreeMap<String, String>,
    ) -> Result<(), BackendError>;

    /// Lists the names of the secrets in `namespace` that start with `prefix`.
    async fn list_secrets(
        &self,
        namespace: &str,
        prefix: &str,
    ) -> Result<Vec<SecretName>, BackendError>;

    /// Checks whether the backend responds.
    async fn health_check(&self, timeout: Duration) -> HealthStatus;

    /// Name and versions of the backend (floe spec: `PluginMetadata`).
    fn metadata(&self) -> BackendMetadata;
}

/// Shared ownership keeps the contract, as for [`SecretBinder`].
#[async_trait]
impl<B: SecretsBackend + ?Sized> SecretsBackend for Arc<B> {
    async fn get_secret(
        &self,
        namespace: &str,
        name: &SecretName,
        key: &SecretKey,
    ) -> Result<SecretString, BackendError> {
        (**self).get_secret(namespace, name, key).await
    }

    async fn get_all(
        &self,
        namespace: &str,
        name: &SecretName,
    ) -> Result<SecretData, BackendError> {
        (**self).get_all(namespace, name).await
    }

    async fn set_secret(
        &self,
        namespace: &str,
        name: &SecretName,
        data: SecretData,
        metadata: BTreeMap<String, String>,
    ) -> Result<(), BackendError> {
        (**self).set_secret(namespace, name, data, metadata).await
    }

    async fn list_secrets(
        &self,
        namespace: &str,
        prefix: &str,
    ) -> Result<Vec<SecretName>, BackendError> {
        (**self).list_secrets(namespace, prefix).await
    }

    async fn health_check(&self, timeout: Duration) -> HealthStatus {
        (**self).health_check(timeout).await
    }

    fn metadata(&self) -> BackendMetadata {
        (**self).metadata()
    }
}

/// Name and versions of a backend: `PluginMetadata` of the floe spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendMetadata {
    /// Lower-case name.
    pub name: &'static str,
    /// `X.Y.Z` of this program.
    pub version: &'static str,
    /// `X.Y` of the floe plugin API that the backend follows.
    pub floe_api_version: &'static str,
}

/// Backend that this program is built with: one module per variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BackendKind {
    /// Kubernetes Secrets.
    Kubernetes,
    /// Scripted secrets in memory, for tests.
    Memory,
    /// Manifests that `inject` reads.
    Files,
}

impl BackendKind {
    /// Name in messages, labels and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::Memory => "memory",
            Self::Files => "files",
        }
    }
}

impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
