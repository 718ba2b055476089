//! Kubernetes backend: Secrets in the namespace of the pod. It is the default backend.
//!
//! Admission needs `get` on secrets and nothing else: no list, no watch. Existence is read as metadata alone. Key names
//! need one GET, whose values are skipped and never built. No read has a `resourceVersion`, so each one is a quorum
//! read.

mod decode;
mod encode;
#[cfg(any(test, feature = "test-util"))]
pub mod fake_api;
mod health;
mod secret_path;
mod transport;
mod wire;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, Request};
use kube::Client;
use kube::client::Body;
use secrecy::SecretString;
use tokio::time::{timeout, timeout_at};

use self::decode::SecretValue;
use self::health::health_status;
use self::secret_path::{SecretPath, is_continue_token};
use self::transport::request;
use self::wire::{ACCEPT_FULL, ACCEPT_METADATA, ACCEPT_METADATA_LIST};
use super::{
    BackendError, BackendKind, BackendMetadata, BindQuery, ErrorKind, HealthStatus, SecretBinder,
    SecretData, SecretsBackend,
};
use injection::{SecretBinding, SecretKey, SecretName};

use super::dns_label::is_dns_label;

/// Limit of the bytes that are read of one Secret: the API server stores at most 1 MiB of data, which is 1.4 MiB in
/// base64.
const MAX_SECRET_BYTES: usize = 4 * 1024 * 1024;

/// Limit of the bytes that are read of one page of a list: metadata of [`PAGE_SIZE`] Secrets with their annotations.
const MAX_PAGE_BYTES: usize = 32 * 1024 * 1024;

/// Secrets per page, as in kubectl.
const PAGE_SIZE: usize = 500;

/// Limit of the pages of a list: more than a namespace can have. A server that always has another page is broken.
const MAX_PAGES: usize = 1000;

/// Time limit of one call of the admin API.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads and writes Kubernetes Secrets.
pub struct KubernetesBackend {
    client: Client,
    allowed_namespaces: Option<BTreeSet<String>>,
}

/// Written by hand: a client has no `Debug`, and it has credentials.
impl fmt::Debug for KubernetesBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KubernetesBackend")
            .field("allowed_namespaces", &self.allowed_namespaces)
            .finish_non_exhaustive()
    }
}

impl KubernetesBackend {
    /// Creates a backend over `client` ([`crate::kubernetes::client::connect`] creates one with the timeouts of
    /// admission). With `allowed_namespaces`, reads in every other namespace are denied without a request.
    #[must_use]
    pub fn new(client: Client, allowed_namespaces: Option<BTreeSet<String>>) -> Self {
        Self {
            client,
            allowed_namespaces,
        }
    }

    /// Checks a path before a call. Only a DNS label may be part of a URL: `..` would be another path.
    fn allowed_path<'a>(
        &self,
        namespace: &'a str,
        name: Option<&'a SecretName>,
    ) -> Result<SecretPath<'a>, BackendError> {
        let path = SecretPath { namespace, name };
        if !is_dns_label(namespace) {
            return Err(path
                .error(ErrorKind::Invalid)
                .because("that is not a namespace's name"));
        }
        match &self.allowed_namespaces {
            Some(allowed) if !allowed.contains(namespace) => Err(path
                .error(ErrorKind::PermissionDenied)
                .because("the namespace is not among those configured")),
            _ => Ok(path),
        }
    }

    /// Reads the metadata of another object of a namespace by the path of its URL, for defaults. It is not limited to
    /// the allowed namespaces, which limit reads of Secrets.
    pub(crate) async fn metadata(
        client: &Client,
        namespace: &str,
        url_path: &str,
    ) -> Result<Bytes, BackendError> {
        let request = request(
            Method::GET,
            url_path.to_owned(),
            ACCEPT_METADATA,
            Body::empty(),
        );
        let path = SecretPath {
            namespace,
            name: None,
        };
        transport::exchange(client, request, MAX_SECRET_BYTES)
            .await
            .map_err(|failure| path.exchange_error(failure))
    }

    async fn get(&self, path: SecretPath<'_>, accept: &'static str) -> Result<Bytes, BackendError> {
        self.send(
            path,
            request(Method::GET, path.url_path(), accept, Body::empty()),
            MAX_SECRET_BYTES,
        )
        .await
    }

    async fn send(
        &self,
        path: SecretPath<'_>,
        request: Request<Body>,
        limit: usize,
    ) -> Result<Bytes, BackendError> {
        transport::exchange(&self.client, request, limit)
            .await
            .map_err(|failure| path.exchange_error(failure))
    }

    async fn read_binding(&self, query: &BindQuery) -> Result<SecretBinding, BackendError> {
        let BindQuery {
            namespace,
            secret,
            keys,
            ..
        } = query;
        let name = &secret.name;
        let path = self.allowed_path(namespace, Some(name))?;
        let keys = if keys.needs_keys() {
            let body = self.get(path, ACCEPT_FULL).await?;
            let names = decode::key_names(&body, namespace, name)
                .map_err(|cause| path.decode_error(cause))?;
            Some(names.ok_or_else(|| path.error(ErrorKind::TooManyKeys))?)
        } else {
            let body = self.get(path, ACCEPT_METADATA).await?;
            decode::summary(&body, namespace, name).map_err(|cause| path.decode_error(cause))?;
            None
        };
        Ok(SecretBinding {
            secret_name: name.as_str().to_owned(),
            keys,
        })
    }

    async fn read_values(
        &self,
        path: SecretPath<'_>,
        name: &SecretName,
    ) -> Result<BTreeMap<String, SecretValue>, BackendError> {
        let body = self.with_timeout(path, self.get(path, ACCEPT_FULL)).await?;
        decode::values(&body, path.namespace, name).map_err(|cause| path.decode_error(cause))
    }

    /// Reads one page of the names of a namespace, and the continue token of the next one.
    async fn read_page(
        &self,
        path: SecretPath<'_>,
        continue_token: Option<&str>,
    ) -> Result<(Vec<String>, Option<String>), BackendError> {
        let mut url_path = format!("{}?limit={PAGE_SIZE}", path.url_path());
        if let Some(token) = continue_token {
            url_path.push_str("&continue=");
            url_path.push_str(token);
        }
        let request = request(Method::GET, url_path, ACCEPT_METADATA_LIST, Body::empty());
        let body = self
            .with_timeout(path, self.send(path, request, MAX_PAGE_BYTES))
            .await?;
        decode::page(&body).map_err(|cause| path.decode_error(cause))
    }

    async fn with_timeout<T>(
        &self,
        path: SecretPath<'_>,
        call: impl Future<Output = Result<T, BackendError>> + Send,
    ) -> Result<T, BackendError> {
        timeout(CALL_TIMEOUT, call)
            .await
            .unwrap_or_else(|_| Err(path.error(ErrorKind::Deadline)))
    }
}

#[async_trait]
impl SecretBinder for KubernetesBackend {
    fn kind(&self) -> BackendKind {
        BackendKind::Kubernetes
    }

    async fn bind(&self, query: &BindQuery) -> Result<SecretBinding, BackendError> {
        match timeout_at(query.deadline, self.read_binding(query)).await {
            Ok(result) => result,
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
        let path = self.allowed_path(namespace, Some(name))?;
        match self.read_values(path, name).await?.remove(key.as_str()) {
            Some(value) => text(path, key, value),
            None => Err(path
                .error(ErrorKind::NotFound)
                .because(format!("the secret has no key \"{key}\""))),
        }
    }

    async fn get_all(
        &self,
        namespace: &str,
        name: &SecretName,
    ) -> Result<SecretData, BackendError> {
        let path = self.allowed_path(namespace, Some(name))?;
        let mut data = SecretData::new();
        for (key, value) in self.read_values(path, name).await? {
            let key: SecretKey = key.parse().map_err(|_| {
                path.decode_error("a key of the secret is not a valid key".to_owned())
            })?;
            let value = text(path, &key, value)?;
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
        let path = self.allowed_path(namespace, Some(name))?;
        self.with_timeout(path, self.write(path, name, &data, &metadata))
            .await
    }

    async fn list_secrets(
        &self,
        namespace: &str,
        prefix: &str,
    ) -> Result<Vec<SecretName>, BackendError> {
        let path = self.allowed_path(namespace, None)?;
        let mut names = BTreeSet::new();
        let mut continue_token: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let (page, next) = self.read_page(path, continue_token.as_deref()).await?;
            for name in page.into_iter().filter(|name| name.starts_with(prefix)) {
                names.insert(
                    name.parse().map_err(|_| {
                        path.decode_error("a name is not a Secret's name".to_owned())
                    })?,
                );
            }
            match next {
                None => return Ok(names.into_iter().collect()),
                Some(token) if is_continue_token(&token) => continue_token = Some(token),
                Some(_) => {
                    return Err(path.decode_error("the next page cannot be asked for".to_owned()));
                }
            }
        }
        Err(path.decode_error("the list does not end".to_owned()))
    }

    async fn health_check(&self, limit: Duration) -> HealthStatus {
        let request = request(Method::GET, "/readyz".to_owned(), "*/*", Body::empty());
        let exchange = transport::exchange(&self.client, request, MAX_SECRET_BYTES);
        let result = timeout(limit, exchange).await.ok();
        health_status(result.map(|result| result.map(drop)))
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
    path: SecretPath<'_>,
    key: &SecretKey,
    value: SecretValue,
) -> Result<SecretString, BackendError> {
    match value {
        SecretValue::Text(text) => Ok(text),
        SecretValue::Binary => Err(path
            .error(ErrorKind::Invalid)
            .because(format!("the value of key \"{key}\" is not UTF-8 text"))),
        SecretValue::NotBase64 => {
            Err(path.decode_error(format!("the value of key \"{key}\" is not base64")))
        }
    }
}

#[cfg(test)]
mod tests;
