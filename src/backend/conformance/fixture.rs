//! Fixture of the conformance suite: a backend under test, and ways to make it fail.

use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::backend::{ErrorKind, SecretBinder, SecretsBackend};

/// Value that must never appear outside of a secret.
pub const CANARY: &str = "canary-2f9d0c47";

/// Whether `text` contains [`CANARY`], plain or in base64.
#[must_use]
pub fn leaks(text: &str) -> bool {
    text.contains(CANARY) || text.contains(&STANDARD.encode(CANARY))
}

/// Failure of a backend that a fixture can cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InjectedFailure {
    /// The backend denies access to this reader.
    Denied,
    /// The response is unreadable: half of a secret that has [`CANARY`], if the backend sends secrets at all.
    Unreadable,
    /// The response is HTTP 5xx or equivalent.
    Unavailable,
    /// The backend limits the rate of requests, with a Retry-After of a minute.
    RateLimited,
    /// The backend refuses the credential.
    Unauthenticated,
    /// The backend does not respond.
    NoResponse,
}

impl InjectedFailure {
    /// All failures.
    pub const ALL: [Self; 6] = [
        Self::Denied,
        Self::Unreadable,
        Self::Unavailable,
        Self::RateLimited,
        Self::Unauthenticated,
        Self::NoResponse,
    ];

    /// Kind of the error of a call under this failure.
    #[must_use]
    pub fn kind(self) -> ErrorKind {
        match self {
            Self::Denied => ErrorKind::PermissionDenied,
            Self::Unreadable => ErrorKind::Protocol,
            Self::Unavailable => ErrorKind::Unavailable,
            Self::RateLimited => ErrorKind::RateLimited,
            Self::Unauthenticated => ErrorKind::Unauthenticated,
            Self::NoResponse => ErrorKind::Deadline,
        }
    }
}

/// Backend under test, with access to the system behind it.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// Returns the binder under test, as admission uses it.
    fn binder(&self) -> Arc<dyn SecretBinder>;

    /// Returns the backend under test, as the admin API uses it. Only [`crate::backend_conformance`] calls it.
    fn backend(&self) -> Arc<dyn SecretsBackend> {
        panic!("this fixture has only a binder")
    }

    /// Namespace of the queries.
    fn namespace(&self) -> String {
        "jobs".to_owned()
    }

    /// Second namespace.
    fn other_namespace(&self) -> String {
        "other".to_owned()
    }

    /// Creates a secret as another program would, not through the backend under test.
    async fn create(&self, namespace: &str, name: &str, data: &[(&str, &str)]);

    /// Writes an annotation of a stored secret, as another program would. Only [`crate::backend_conformance`] calls it.
    async fn annotate(&self, _namespace: &str, _name: &str, _key: &str, _value: &str) {
        panic!("this fixture has only a binder")
    }

    /// Reads an annotation of a stored secret.
    async fn annotation(&self, _namespace: &str, _name: &str, _key: &str) -> Option<String> {
        panic!("this fixture has only a binder")
    }

    /// Makes every further call fail. Returns `false` if this fixture cannot, and the clause is skipped.
    async fn fail_with(&self, failure: InjectedFailure) -> bool;

    /// Number of calls that the backend works on; `None` if it is unknown.
    fn in_flight(&self) -> Option<usize>;
}
