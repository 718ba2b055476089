//! Kubernetes Secrets in the pod's own namespace: the default backend.
//!
//! Admission needs `get` on secrets and nothing else: no list, no watch. Whether a secret exists is asked for
//! metadata alone; where key names are wanted, one GET whose values are skipped unbuilt. No read names a
//! `resourceVersion`, so every one of them is a quorum read.

#[cfg(any(test, feature = "test-util"))]
pub mod fake_api;
mod transport;
mod wire;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::ACCEPT;
use http::{Method, Request};
use kube::Client;
use kube::client::Body;
use secrecy::SecretString;
use tokio::time::{timeout, timeout_at};

use self::transport::Failure;
use self::wire::{Unreadable, Value};
use super::{
    BackendError, BackendKind, BackendMetadata, BindQuery, ErrorKind, HealthState, HealthStatus,
    SecretBinder, SecretData, SecretsBackend,
};
use injection::{SecretBinding, SecretKey, SecretName};

/// The most that is read of one Secret: the API server stores at most 1 MiB of data, base64 makes it 1.4.
const SECRET_LIMIT: usize = 4 * 1024 * 1024;

/// The most that is read of one page of a list: metadata of [`PAGE`] Secrets, annotations and all.
const PAGE_LIMIT: usize = 32 * 1024 * 1024;

/// Secrets per page, as kubectl asks.
const PAGE: usize = 500;

/// More pages than a namespace can have: a server that always promises another one is broken.
const MAX_PAGES: usize = 1000;

/// How long one call of the admin API may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads and writes Kubernetes Secrets.
pub struct KubernetesBackend {
    client: Client,
    allowed_namespaces: Option<BTreeSet<String>>,
}

/// By hand: a client has no `Debug`, and holds credentials.
impl fmt::Debug for KubernetesBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KubernetesBackend")
            .field("allowed_namespaces", &self.allowed_namespaces)
            .finish_non_exhaustive()
    }
}

/// What one call is about, for its errors.
#[derive(Clone, Copy)]
struct SecretPath<'a> {
    namespace: &'a str,
    name: Option<&'a SecretName>,
}

impl SecretPath<'_> {
    fn error(self, kind: ErrorKind) -> BackendError {
        BackendError::new(kind, BackendKind::Kubernetes, self.namespace, self.name)
    }

    fn failure(self, failure: Failure) -> BackendError {
        let Failure {
            kind,
            retry_after,
            cause,
        } = failure;
        BackendError {
            retry_after,
            ..self.error(kind).because(cause)
        }
    }

    fn unreadable(self, cause: Unreadable) -> BackendError {
        self.error(ErrorKind::Protocol).because(cause)
    }

    /// The path of the namespace's Secrets, or of the one.
    fn path(self) -> String {
        let Self { namespace, name } = self;
        match name {
            Some(name) => format!("/api/v1/namespaces/{namespace}/secrets/{name}"),
            None => format!("/api/v1/namespaces/{namespace}/secrets"),
        }
    }
}

impl KubernetesBackend {
    /// A backend over `client` ([`connect`] makes one with the patience that admission has). With
    /// `allowed_namespaces`, every other namespace is refused without a request.
    #[must_use]
    pub fn new(client: Client, allowed_namespaces: Option<BTreeSet<String>>) -> Self {
        Self {
            client,
            allowed_namespaces,
        }
    }

    /// A subject that may be asked about. Nothing but a DNS label reaches a URL: `..` would be another path.
    fn subject<'a>(
        &self,
        namespace: &'a str,
        name: Option<&'a SecretName>,
    ) -> Result<SecretPath<'a>, BackendError> {
        let subject = SecretPath { namespace, name };
        if !is_dns_label(namespace) {
            return Err(subject
                .error(ErrorKind::Invalid)
                .because("that is not a namespace's name"));
        }
        match &self.allowed_namespaces {
            Some(allowed) if !allowed.contains(namespace) => Err(subject
                .error(ErrorKind::PermissionDenied)
                .because("the namespace is not among those configured")),
            _ => Ok(subject),
        }
    }

    /// The metadata of another object of a namespace, by its path; for defaults. Not limited to the allowed
    /// namespaces: those limit whose Secrets are read.
    pub(crate) async fn metadata(
        client: &Client,
        namespace: &str,
        path: &str,
    ) -> Result<Bytes, BackendError> {
        let request = request(
            Method::GET,
            path.to_owned(),
            wire::ACCEPT_METADATA,
            Body::empty(),
        );
        let subject = SecretPath {
            namespace,
            name: None,
        };
        transport::exchange(client, request, SECRET_LIMIT)
            .await
            .map_err(|failure| subject.failure(failure))
    }

    async fn get(
        &self,
        subject: SecretPath<'_>,
        accept: &'static str,
    ) -> Result<Bytes, BackendError> {
        self.send(
            subject,
            request(Method::GET, subject.path(), accept, Body::empty()),
            SECRET_LIMIT,
        )
        .await
    }

    async fn send(
        &self,
        subject: SecretPath<'_>,
        request: Request<Body>,
        limit: usize,
    ) -> Result<Bytes, BackendError> {
        transport::exchange(&self.client, request, limit)
            .await
            .map_err(|failure| subject.failure(failure))
    }

    async fn read_binding(&self, query: &BindQuery) -> Result<SecretBinding, BackendError> {
        let BindQuery {
            namespace,
            secret,
            keys,
            ..
        } = query;
        let name = &secret.name;
        let subject = self.subject(namespace, Some(name))?;
        let keys = if keys.needs_keys() {
            let body = self.get(subject, wire::ACCEPT_WHOLE).await?;
            let names = wire::key_names(&body, namespace, name)
                .map_err(|cause| subject.unreadable(cause))?;
            Some(names.ok_or_else(|| subject.error(ErrorKind::TooManyKeys))?)
        } else {
            let body = self.get(subject, wire::ACCEPT_METADATA).await?;
            wire::head(&body, namespace, name).map_err(|cause| subject.unreadable(cause))?;
            None
        };
        Ok(SecretBinding {
            secret_name: name.as_str().to_owned(),
            keys,
        })
    }

    async fn read_values(
        &self,
        subject: SecretPath<'_>,
        name: &SecretName,
    ) -> Result<BTreeMap<String, Value>, BackendError> {
        let body = self
            .within_call(subject, self.get(subject, wire::ACCEPT_WHOLE))
            .await?;
        wire::values(&body, subject.namespace, name).map_err(|cause| subject.unreadable(cause))
    }

    async fn within_call<T>(
        &self,
        subject: SecretPath<'_>,
        call: impl Future<Output = Result<T, BackendError>> + Send,
    ) -> Result<T, BackendError> {
        timeout(CALL_TIMEOUT, call)
            .await
            .unwrap_or_else(|_| Err(subject.error(ErrorKind::Deadline)))
    }
}

#[async_trait]
impl SecretBinder for KubernetesBackend {
    fn kind(&self) -> BackendKind {
        BackendKind::Kubernetes
    }

    async fn bind(&self, query: &BindQuery) -> Result<SecretBinding, BackendError> {
        match timeout_at(query.deadline, self.read_binding(query)).await {
            Ok(answer) => answer,
            Err(_) => Err(BackendError::about(ErrorKind::Deadline, self.kind(), query)),
        }
    }
}

#[async_trait]
impl SecretsBackend for KubernetesBackend {
    async fn get_secret(
        &self,
        namespace: &str,
        name: &SecretName,
        key: &SecretKey,
    ) -> Result<SecretString, BackendError> {
        let subject = self.subject(namespace, Some(name))?;
        match self.read_values(subject, name).await?.remove(key.as_str()) {
            Some(value) => text(subject, key, value),
            None => Err(subject
                .error(ErrorKind::NotFound)
                .because(format!("the secret has no key \"{key}\""))),
        }
    }

    async fn get_all(
        &self,
        namespace: &str,
        name: &SecretName,
    ) -> Result<SecretData, BackendError> {
        let subject = self.subject(namespace, Some(name))?;
        let mut data = SecretData::new();
        for (key, value) in self.read_values(subject, name).await? {
            let key: SecretKey = key.parse().map_err(|_| {
                subject.unreadable("a key of the secret is not a valid key".to_owned())
            })?;
            let value = text(subject, &key, value)?;
            data.insert(key, value);
        }
        Ok(data)
    }

    async fn set_secret(
        &self,
        namespace: &str,
        name: &SecretName,
        data: SecretData,
        metadata: BTreeMap<String, String>,
    ) -> Result<(), BackendError> {
        let subject = self.subject(namespace, Some(name))?;
        self.within_call(subject, self.write(subject, name, &data, &metadata))
            .await
    }

    async fn list_secrets(
        &self,
        namespace: &str,
        prefix: &str,
    ) -> Result<Vec<SecretName>, BackendError> {
        let subject = self.subject(namespace, None)?;
        let mut names = BTreeSet::new();
        let mut query = format!("?limit={PAGE}");
        for _ in 0..MAX_PAGES {
            let path = format!("{}{query}", subject.path());
            let request = request(Method::GET, path, wire::ACCEPT_METADATA_LIST, Body::empty());
            let body = self
                .within_call(subject, self.send(subject, request, PAGE_LIMIT))
                .await?;
            let (page, more) = wire::page(&body).map_err(|cause| subject.unreadable(cause))?;
            for name in page.into_iter().filter(|name| name.starts_with(prefix)) {
                names.insert(
                    name.parse().map_err(|_| {
                        subject.unreadable("a name is not a Secret's name".to_owned())
                    })?,
                );
            }
            match more {
                None => return Ok(names.into_iter().collect()),
                Some(more) if is_continue_token(&more) => {
                    query = format!("?limit={PAGE}&continue={more}");
                }
                Some(_) => {
                    return Err(subject.unreadable("the next page cannot be asked for".to_owned()));
                }
            }
        }
        Err(subject.unreadable("the list does not end".to_owned()))
    }

    async fn health_check(&self, limit: Duration) -> HealthStatus {
        let asked = request(Method::GET, "/readyz".to_owned(), "*/*", Body::empty());
        let answer = timeout(
            limit,
            transport::exchange(&self.client, asked, SECRET_LIMIT),
        )
        .await;
        let (state, message) = match answer.map(|answer| answer.map_err(|failure| failure.kind)) {
            Ok(Ok(_)) => (HealthState::Healthy, "the API server is ready"),
            // It answered us by name; that it keeps its readiness to itself is the cluster's choice.
            Ok(Err(ErrorKind::PermissionDenied)) => {
                (HealthState::Healthy, "the API server answers")
            }
            Ok(Err(ErrorKind::RateLimited)) => {
                (HealthState::Degraded, "the API server is overloaded")
            }
            Ok(Err(ErrorKind::Unauthenticated)) => (
                HealthState::Unhealthy,
                "the API server refuses the webhook's credential",
            ),
            Ok(Err(ErrorKind::Unavailable | ErrorKind::Deadline)) => (
                HealthState::Unhealthy,
                "the API server is not ready or cannot be reached",
            ),
            Ok(Err(
                ErrorKind::NotFound
                | ErrorKind::Protocol
                | ErrorKind::Invalid
                | ErrorKind::Conflict
                | ErrorKind::TooManyKeys,
            )) => (
                HealthState::Unhealthy,
                "what answers is not a Kubernetes API server",
            ),
            Err(_) => (
                HealthState::Unhealthy,
                "the API server did not answer in time",
            ),
        };
        HealthStatus {
            state,
            message: message.to_owned(),
        }
    }

    fn metadata(&self) -> BackendMetadata {
        BackendMetadata {
            name: "kubernetes",
            version: env!("CARGO_PKG_VERSION"),
            floe_api_version: "1.0",
        }
    }
}

fn text(
    subject: SecretPath<'_>,
    key: &SecretKey,
    value: Value,
) -> Result<SecretString, BackendError> {
    match value {
        Value::Text(text) => Ok(text),
        Value::Binary => Err(subject
            .error(ErrorKind::Invalid)
            .because(format!("the value of key \"{key}\" is not UTF-8 text"))),
        Value::NotBase64 => {
            Err(subject.unreadable(format!("the value of key \"{key}\" is not base64")))
        }
    }
}

fn request(method: Method, path: String, accept: &'static str, body: Body) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(path)
        .header(ACCEPT, accept)
        .body(body)
        .expect("paths are made of checked names")
}

/// A namespace's name: one DNS-1123 label.
pub(crate) fn is_dns_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Tokens are base64 for URLs; anything else would change the query.
fn is_continue_token(text: &str) -> bool {
    text.bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'=' | b'.'))
}

#[cfg(test)]
mod tests;
