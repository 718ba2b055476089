//! Defaults: the annotations of a pod's Namespace and ServiceAccount, in namespaces that the operator labelled.
//!
//! Read only on the `defaults` paths, both at once, and kept for a while: a changed default shows within
//! [`TTL`].

mod kubernetes;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use moka::future::Cache;
use tokio::time::Instant;

use crate::backend::patience::{Patience, SILENCE};
use crate::backend::{BackendError, BackendKind, ErrorKind};
use crate::injection::Annotations;

pub use kubernetes::KubernetesSources;

/// The label by which an operator lets defaults apply in a namespace.
pub const ENABLED_LABEL: (&str, &str) = ("secrets.floe.dev/inject", "enabled");

/// How long a Namespace's or ServiceAccount's annotations are kept.
pub const TTL: Duration = Duration::from_secs(30);

/// As many of them as are kept; each is a few hundred bytes.
const CAPACITY: u64 = 10_000;

/// Longer than any deadline.
const FOREVER: Duration = Duration::from_hours(24);

/// What a Namespace or a ServiceAccount says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// The annotations under our prefix.
    pub annotations: Annotations<'static>,
    /// `kubernetes.io/enforce-mountable-secrets: "true"`, on a ServiceAccount.
    pub enforces_mountable_secrets: bool,
    /// It carries [`ENABLED_LABEL`]; on a Namespace that is what lets defaults apply.
    pub enabled: bool,
}

/// Reads Namespaces and ServiceAccounts; one that does not exist is `None`.
#[async_trait]
pub trait SourceReader: fmt::Debug + Send + Sync + 'static {
    /// The Namespace.
    async fn namespace(&self, name: &str, deadline: Instant) -> Result<Option<Source>, BackendError>;

    /// The ServiceAccount.
    async fn service_account(
        &self,
        namespace: &str,
        name: &str,
        deadline: Instant,
    ) -> Result<Option<Source>, BackendError>;
}

/// What governs a pod, as far as it exists.
#[derive(Clone, Debug, Default)]
pub struct Governing {
    /// Its namespace's defaults.
    pub namespace: Option<Arc<Source>>,
    /// Its service account's.
    pub service_account: Option<Arc<Source>>,
}

/// A cached reader. Concurrent reviews share one read.
#[derive(Debug)]
pub struct Defaults {
    reader: Arc<dyn SourceReader>,
    /// By namespace and, for a service account, its name.
    cache: Cache<(String, Option<String>), Option<Arc<Source>>>,
    patience: Patience,
}

impl Defaults {
    /// A cache over `reader`.
    #[must_use]
    pub fn new(reader: Arc<dyn SourceReader>) -> Self {
        let cache = Cache::builder().max_capacity(CAPACITY).time_to_live(TTL).build();
        Self { reader, cache, patience: Patience::new(SILENCE) }
    }

    /// The same for those whom no controller waits for: in a silence, everybody waits until their own deadline.
    #[must_use]
    pub fn patient(reader: Arc<dyn SourceReader>) -> Self {
        Self { patience: Patience::new(FOREVER), ..Self::new(reader) }
    }

    /// The defaults that govern a pod of that service account, for a review that arrived then.
    ///
    /// # Errors
    /// When either could not be read: a pod is never admitted on half of its defaults.
    pub async fn governing(
        &self,
        namespace: &str,
        service_account: &str,
        arrived: Instant,
        deadline: Instant,
    ) -> Result<Governing, BackendError> {
        let of_namespace = self.of_namespace(namespace, deadline);
        let key = (namespace.to_owned(), Some(service_account.to_owned()));
        let of_account = self.cache.try_get_with(key, async {
            let answer = self.reader.service_account(namespace, service_account, deadline).await;
            self.patience.learn(&answer);
            Ok(answer?.map(Arc::new))
        });
        let both = async { futures::try_join!(of_namespace, of_account) };
        let read = self.patience.wait(arrived, deadline, both).await.map_err(|kind| silence(kind, namespace))?;
        let (namespace, service_account) = read.map_err(|error: Arc<BackendError>| (*error).clone())?;
        Ok(Governing { namespace, service_account })
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
    ) -> Result<Option<Arc<Source>>, BackendError> {
        let read = self.patience.wait(arrived, deadline, self.of_namespace(namespace, deadline)).await;
        read.map_err(|kind| silence(kind, namespace))?.map_err(|error| (*error).clone())
    }

    async fn of_namespace(&self, namespace: &str, deadline: Instant) -> Result<Option<Arc<Source>>, Arc<BackendError>> {
        let read = async {
            let answer = self.reader.namespace(namespace, deadline).await;
            self.patience.learn(&answer);
            Ok(answer?.map(Arc::new))
        };
        self.cache.try_get_with((namespace.to_owned(), None), read).await
    }
}

fn silence(kind: ErrorKind, namespace: &str) -> BackendError {
    BackendError::new(kind, BackendKind::Kubernetes, namespace, None).because("nobody was answered in a while")
}
