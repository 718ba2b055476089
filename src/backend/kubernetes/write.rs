//! Writing a Secret without ever adopting one, and without reading the values that stay.

use std::collections::BTreeMap;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request};
use kube::client::Body;
use tokio::time::sleep;

use super::{KubernetesBackend, SECRET_LIMIT, SecretPath, request, wire};
use crate::backend::{BackendError, ErrorKind, SecretData};
use injection::SecretName;

/// How often a write that met another writer is begun again.
const ATTEMPTS: u32 = 5;

/// The longest pause between two attempts.
const PAUSE: Duration = Duration::from_millis(50);

/// Whose fields these are, in `managedFields`.
const FIELD_MANAGER: &str = "?fieldManager=floe-secrets-webhook";

impl KubernetesBackend {
    /// Creates the Secret or patches these keys into it.
    pub(super) async fn write(
        &self,
        subject: SecretPath<'_>,
        name: &SecretName,
        data: &SecretData,
        metadata: &BTreeMap<String, String>,
    ) -> Result<(), BackendError> {
        if let Some(key) = metadata.keys().find(|key| !wire::is_metadata_key(key)) {
            let cause = format!("metadata key {key:?} cannot be the name of an annotation");
            return Err(subject.error(ErrorKind::Invalid).because(cause));
        }
        for _ in 0..ATTEMPTS {
            if self
                .try_write(subject, name, data, metadata)
                .await?
                .is_some()
            {
                return Ok(());
            }
            sleep(PAUSE.mul_f64(fastrand::f64())).await;
        }
        let cause = format!("others wrote the secret during each of {ATTEMPTS} attempts");
        Err(subject.error(ErrorKind::Conflict).because(cause))
    }

    /// One look and one write; `None` when someone else wrote in between.
    async fn try_write(
        &self,
        subject: SecretPath<'_>,
        name: &SecretName,
        data: &SecretData,
        metadata: &BTreeMap<String, String>,
    ) -> Result<Option<()>, BackendError> {
        match self.get(subject, wire::ACCEPT_METADATA).await {
            Ok(body) => {
                let head = wire::head(&body, subject.namespace, name)
                    .map_err(|cause| subject.unreadable(cause))?;
                if !head.managed {
                    let (label, value) = wire::MANAGED_BY;
                    let cause = format!("the secret exists without the label {label}={value}");
                    return Err(subject.error(ErrorKind::Conflict).because(cause));
                }
                let body = wire::patch_body(head.resource_version.as_deref(), data, metadata);
                let patch =
                    write_request(Method::PATCH, subject, "application/merge-patch+json", body);
                match self.send(subject, patch, SECRET_LIMIT).await {
                    Ok(_) => Ok(Some(())),
                    // Written, or deleted, after the look.
                    Err(error)
                        if matches!(error.kind, ErrorKind::Conflict | ErrorKind::NotFound) =>
                    {
                        Ok(None)
                    }
                    Err(error) => Err(error),
                }
            }
            Err(error) if error.kind == ErrorKind::NotFound => {
                let all = SecretPath {
                    name: None,
                    ..subject
                };
                let body = wire::create_body(name, data, metadata);
                let create = write_request(Method::POST, all, "application/json", body);
                match self.send(subject, create, SECRET_LIMIT).await {
                    Ok(_) => Ok(Some(())),
                    // Created after the look.
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

/// The answer to a write would carry every value of the Secret, so only its metadata are asked for.
fn write_request(
    method: Method,
    subject: SecretPath<'_>,
    content: &'static str,
    body: Vec<u8>,
) -> Request<Body> {
    let path = format!("{}{FIELD_MANAGER}", subject.path());
    let mut request = request(method, path, wire::ACCEPT_METADATA, Body::from(body));
    request
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content));
    request
}
