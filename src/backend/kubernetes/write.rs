//! Writes of Secrets. They never adopt a Secret of another owner, and never read the values that they keep.

use std::collections::BTreeMap;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request};
use kube::client::Body;
use tokio::time::sleep;

use super::secret_path::SecretPath;
use super::transport::request;
use super::wire::{ACCEPT_METADATA, MANAGED_BY};
use super::{KubernetesBackend, MAX_SECRET_BYTES, decode, encode};
use crate::backend::{BackendError, ErrorKind, SecretData};
use injection::SecretName;

/// Attempts of one write, if other writers interfere.
const MAX_ATTEMPTS: u32 = 5;

/// Limit of the backoff between two attempts.
const MAX_BACKOFF: Duration = Duration::from_millis(50);

/// Field manager of the writes, in `managedFields`.
const FIELD_MANAGER: &str = "?fieldManager=floe-secrets-webhook";

impl KubernetesBackend {
    /// Creates the Secret or patches these keys into it.
    pub(super) async fn write(
        &self,
        path: SecretPath<'_>,
        name: &SecretName,
        data: &SecretData,
        metadata: &BTreeMap<String, String>,
    ) -> Result<(), BackendError> {
        if let Some(key) = metadata.keys().find(|key| !encode::is_metadata_key(key)) {
            let cause = format!("metadata key {key:?} cannot be the name of an annotation");
            return Err(path.error(ErrorKind::Invalid).because(cause));
        }
        for _ in 0..MAX_ATTEMPTS {
            if self.try_write(path, name, data, metadata).await?.is_some() {
                return Ok(());
            }
            sleep(MAX_BACKOFF.mul_f64(fastrand::f64())).await;
        }
        let cause = format!("others wrote the secret during each of {MAX_ATTEMPTS} attempts");
        Err(path.error(ErrorKind::Conflict).because(cause))
    }

    /// Reads the metadata and writes once; `None` if another writer came in between.
    async fn try_write(
        &self,
        path: SecretPath<'_>,
        name: &SecretName,
        data: &SecretData,
        metadata: &BTreeMap<String, String>,
    ) -> Result<Option<()>, BackendError> {
        match self.get(path, ACCEPT_METADATA).await {
            Ok(body) => {
                let summary = decode::summary(&body, path.namespace, name)
                    .map_err(|cause| path.decode_error(cause))?;
                if !summary.managed {
                    let (label, value) = MANAGED_BY;
                    let cause = format!("the secret exists without the label {label}={value}");
                    return Err(path.error(ErrorKind::Conflict).because(cause));
                }
                let body = encode::patch_body(summary.resource_version.as_deref(), data, metadata);
                let request =
                    write_request(Method::PATCH, path, "application/merge-patch+json", body);
                match self.send(path, request, MAX_SECRET_BYTES).await {
                    Ok(_) => Ok(Some(())),
                    // The Secret was written or deleted after the read.
                    Err(error)
                        if matches!(error.kind, ErrorKind::Conflict | ErrorKind::NotFound) =>
                    {
                        Ok(None)
                    }
                    Err(error) => Err(error),
                }
            }
            Err(error) if error.kind == ErrorKind::NotFound => {
                let all = SecretPath { name: None, ..path };
                let body = encode::create_body(name, data, metadata);
                let create = write_request(Method::POST, all, "application/json", body);
                match self.send(path, create, MAX_SECRET_BYTES).await {
                    Ok(_) => Ok(Some(())),
                    // The Secret was created after the read.
                    Err(error) if error.kind == ErrorKind::Conflict => Ok(None),
                    Err(error) if error.kind == ErrorKind::NotFound => {
                        Err(error.because("there is no such namespace"))
                    }
                    Err(error) => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }
}

/// Requests only metadata in the response: a full one would have every value of the Secret.
fn write_request(
    method: Method,
    path: SecretPath<'_>,
    content: &'static str,
    body: Vec<u8>,
) -> Request<Body> {
    let url_path = format!("{}{FIELD_MANAGER}", path.url_path());
    let mut request = request(method, url_path, ACCEPT_METADATA, Body::from(body));
    request
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content));
    request
}
