//! Where secrets live: the traits that backends implement, and what can go wrong there.
//!
//! Two traits, split by consumer. [`SecretBinder`] is all that the admission path can see: names and key
//! names. [`SecretsBackend`] adds values, for the admin API. One object implements both; the admission path
//! is handed only the first, so "admission never reads a value" is a type, not a promise.
//!
//! Decorators ([`cached`], [`retrying`], [`limits`], [`breaker`], [`metered`]) wrap a binder and keep its contract; every backend,
//! decorator and fake passes the same conformance suite.

#![warn(missing_docs)]

#[cfg(any(test, feature = "test-util"))]
pub mod conformance;
mod error;
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

pub use error::{BackendError, Cause, ErrorKind, OptionalSecret};

pub use injection::KeyQuery;
use injection::{SecretBinding, SecretId, SecretKey, SecretName};

/// The most keys that are read of one secret whose keys are asked for, and the most bytes of their names. A pod may refer
/// to 64 secrets, and what is read of all of them is held until the pod is planned. A Secret of a megabyte can have a
/// hundred thousand keys; `env-from` brings in those as well.
pub const MAX_KEYS: usize = 1_000;
/// See [`MAX_KEYS`].
pub const MAX_KEY_BYTES: usize = 128 << 10;

/// What a review asks of a backend about one secret.
#[derive(Clone, Debug)]
pub struct BindQuery {
    /// The pod's namespace, as the `AdmissionRequest` names it.
    pub namespace: String,
    /// The secret.
    pub secret: SecretId,
    /// Key names that the binding must have.
    pub keys: KeyQuery,
    /// When the review arrived. A refusal, and an expansion of `name/*`, rest only on a read that began
    /// after this moment.
    pub arrived: Instant,
    /// When the answer is no longer of use.
    pub deadline: Instant,
}

/// Tells whether a secret exists, under which name the pod's namespace knows it, and which keys it has.
///
/// # Contract (one test of the conformance suite per line)
/// - `bind` of a secret that exists answers its Kubernetes Secret's name in the query's namespace.
/// - When the query wants keys, the answer's `keys` are `Some` and complete; a key that is wanted and missing
///   is not an error here: the planner says it, with the annotation's name.
/// - When the query wants only existence, `keys` may be `None`.
/// - A secret that does not exist in that namespace, whatever other namespaces hold: [`ErrorKind::NotFound`].
/// - A refused read: [`ErrorKind::PermissionDenied`], the same whether or not the secret exists.
/// - When the query wants keys, and the secret has more than [`MAX_KEYS`] or longer ones than [`MAX_KEY_BYTES`]:
///   [`ErrorKind::TooManyKeys`].
/// - An answer that cannot be read: [`ErrorKind::Protocol`]; never taken for "not found".
/// - No answer before `deadline`: [`ErrorKind::Deadline`], and nothing goes on in the background.
/// - Dropping the future cancels the work, unless another caller waits for the same read.
/// - No error, in `Display` or `Debug`, carries a value or any text that the backend sent.
#[async_trait]
pub trait SecretBinder: fmt::Debug + Send + Sync + 'static {
    /// Which backend this is, for messages, metrics and audit.
    fn kind(&self) -> BackendKind;

    /// The names behind `query.secret`.
    async fn bind(&self, query: &BindQuery) -> Result<SecretBinding, BackendError>;
}

/// Shared ownership keeps the contract: one backend under two chains of decorators.
#[async_trait]
impl<B: SecretBinder + ?Sized> SecretBinder for Arc<B> {
    fn kind(&self) -> BackendKind {
        (**self).kind()
    }

    async fn bind(&self, query: &BindQuery) -> Result<SecretBinding, BackendError> {
        (**self).bind(query).await
    }
}

/// The values of one secret, by key.
pub type SecretData = BTreeMap<SecretKey, SecretString>;

/// The floe spec's `SecretsPlugin`: what the admin API needs of a backend.
///
/// # Contract
/// - `get_secret` and `get_all` of what does not exist: [`ErrorKind::NotFound`] (see [`OptionalSecret`] for
///   the spec's "missing is None").
/// - `set_secret` creates, or updates the given keys and keeps all others, labels and annotations; it refuses
///   ([`ErrorKind::Conflict`]) to write a secret that it does not manage.
/// - `list_secrets` answers names in order, all with `prefix`, never values.
/// - `health_check` answers within `timeout`.
#[async_trait]
pub trait SecretsBackend: SecretBinder {
    /// The value behind one key.
    async fn get_secret(
        &self,
        namespace: &str,
        name: &SecretName,
        key: &SecretKey,
    ) -> Result<SecretString, BackendError>;

    /// All keys and values of one secret.
    async fn get_all(&self, namespace: &str, name: &SecretName)
    -> Result<SecretData, BackendError>;

    /// Creates the secret, or writes these keys of it; `metadata` is kept beside it, readable by anyone who
    /// may read the secret.
    async fn set_secret(
        &self,
        namespace: &str,
        name: &SecretName,
        data: SecretData,
        metadata: BTreeMap<String, String>,
    ) -> Result<(), BackendError>;

    /// The names of the secrets in `namespace` that start with `prefix`.
    async fn list_secrets(
        &self,
        namespace: &str,
        prefix: &str,
    ) -> Result<Vec<SecretName>, BackendError>;

    /// Whether the backend answers, and how well.
    async fn health_check(&self, timeout: Duration) -> HealthStatus;

    /// Who this backend is (floe spec: `PluginMetadata`).
    fn metadata(&self) -> BackendMetadata;
}

/// As for [`SecretBinder`].
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

/// Name and versions of a backend, as the floe spec's `PluginMetadata` wants them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendMetadata {
    /// Lower-case name.
    pub name: &'static str,
    /// `X.Y.Z` of this program.
    pub version: &'static str,
    /// `X.Y` of the floe plugin API that the backend's behaviour follows.
    pub floe_api_version: &'static str,
}

/// The floe spec's `HealthStatus`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthStatus {
    /// How well.
    pub state: HealthState,
    /// A sentence for a person; never a backend's own text.
    pub message: String,
}

/// How well a backend is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthState {
    /// It answers.
    Healthy,
    /// It answers, but not all it should.
    Degraded,
    /// It does not answer.
    Unhealthy,
}

/// A backend that this program can be built with: one variant, one module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BackendKind {
    /// Kubernetes Secrets.
    Kubernetes,
    /// Scripted, in memory.
    Memory,
    /// The manifests that `inject` was given.
    Files,
}

impl BackendKind {
    /// The word in messages, labels and logs.
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
