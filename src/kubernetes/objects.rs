//! Calls outside of the request path: pages of metadata, single objects, watches and patches, as JSON.
//!
//! All requests go through `kube::Client::send`, as in the backend, so that no body is logged. Of Secrets, only the
//! metadata are read here, and in full only those that have the webhook's own certificate and the key of the audit trail.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, Method, Request};
use http_body_util::{BodyExt, Limited};
use kube::Client;
use kube::client::Body;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::RateLimiter;
use super::error::{ApiError, ApiErrorKind, incomplete, parse, status_error};

/// Time limit of one call. A page of a list takes seconds in a busy cluster.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Limit of one page of a list, in bytes. A page is in memory twice while it is received; two at the same time have to
/// fit into the controller's 128 MiB several times over.
pub(crate) const PAGE_LIMIT: usize = 8 * 1024 * 1024;

/// Limit of one object, or of one line of a watch, in bytes. The API server stores at most 1.5 MiB of an object, and
/// sends few that are longer.
pub(crate) const OBJECT_LIMIT: usize = 2 * 1024 * 1024;

/// Limit of a review with its status, in bytes.
const REVIEW_LIMIT: usize = 64 * 1024;

/// Part of an object that is requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Representation {
    Metadata,
    Full,
}

/// A page of a list.
#[derive(Debug)]
pub struct Page {
    /// The objects as JSON: slices of the response, which stays in memory as long as any of them.
    pub items: Vec<Bytes>,
    /// Token for the next page; `None` on the last one.
    pub continue_token: Option<String>,
    /// Version from which a watch follows the list.
    pub resource_version: String,
}

/// Untyped calls to the API server. Clones share their connections.
#[derive(Clone)]
pub struct ObjectApi {
    client: Client,
    limiter: Option<Arc<RateLimiter>>,
}

/// Implemented by hand because a client has no `Debug`, and has credentials.
impl fmt::Debug for ObjectApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectApi")
            .field("limiter", &self.limiter)
            .finish_non_exhaustive()
    }
}

impl ObjectApi {
    /// Creates an API over a client of [`super::connect_for_long_calls`].
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self {
            client,
            limiter: None,
        }
    }

    /// Returns a clone whose calls are rate limited; each namespace is one tenant of the limiter.
    #[must_use]
    pub fn rate_limited(&self, limiter: &Arc<RateLimiter>) -> Self {
        Self {
            client: self.client.clone(),
            limiter: Some(Arc::clone(limiter)),
        }
    }

    /// Returns the client, for typed calls.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Reads one object; `None` if it does not exist.
    ///
    /// # Errors
    /// Any [`ApiErrorKind`] except [`ApiErrorKind::NotFound`].
    pub async fn get(
        &self,
        path: &str,
        representation: Representation,
    ) -> Result<Option<Bytes>, ApiError> {
        let accept = match representation {
            Representation::Metadata => {
                "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
            }
            Representation::Full => "application/json",
        };
        match self
            .call(Method::GET, path, accept, None, OBJECT_LIMIT)
            .await
        {
            Ok(body) => Ok(Some(body)),
            Err(error) if error.kind == ApiErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads one page of the list at `path`; `query` must not have `limit` or `continue`.
    ///
    /// # Errors
    /// [`ApiErrorKind::Gone`] if the list has to restart; [`ApiErrorKind::NotFound`] if the kind is not served;
    /// [`ApiErrorKind::TooLong`] if the page has to be smaller.
    pub async fn page(
        &self,
        path: &str,
        query: &str,
        representation: Representation,
        limit: usize,
        continue_token: Option<&str>,
    ) -> Result<Page, ApiError> {
        #[derive(Deserialize)]
        struct ObjectList<'a> {
            metadata: PageMetadata,
            #[serde(borrow, default)]
            items: Option<Vec<&'a RawValue>>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct PageMetadata {
            #[serde(rename = "continue", default)]
            continue_token: Option<String>,
            #[serde(default)]
            resource_version: Option<String>,
        }
        let accept = match representation {
            Representation::Metadata => {
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
            }
            Representation::Full => "application/json",
        };
        let mut url = format!("{path}?limit={limit}");
        for part in [
            query.to_owned(),
            continue_token
                .map(|token| format!("continue={token}"))
                .unwrap_or_default(),
        ] {
            if !part.is_empty() {
                url = format!("{url}&{part}");
            }
        }
        let body = self
            .call(Method::GET, &url, accept, None, PAGE_LIMIT)
            .await?;
        let ObjectList { metadata, items } = parse(path, &body)?;
        let items = items.unwrap_or_default();
        Ok(Page {
            items: items
                .into_iter()
                .map(|item| body.slice_ref(item.get().as_bytes()))
                .collect(),
            continue_token: metadata.continue_token.filter(|token| !token.is_empty()),
            resource_version: metadata.resource_version.unwrap_or_default(),
        })
    }

    /// Creates an object.
    ///
    /// # Errors
    /// [`ApiErrorKind::Conflict`] if it exists.
    pub async fn create(&self, path: &str, object: &Value) -> Result<(), ApiError> {
        self.call(
            Method::POST,
            path,
            "application/json",
            Some(("application/json", object)),
            OBJECT_LIMIT,
        )
        .await
        .map(drop)
    }

    /// Posts an object that is not stored, such as a review, and returns it with its status.
    ///
    /// # Errors
    /// Any [`ApiErrorKind`].
    pub async fn review(&self, path: &str, object: &Value) -> Result<Bytes, ApiError> {
        let json = "application/json";
        self.call(Method::POST, path, json, Some((json, object)), REVIEW_LIMIT)
            .await
    }

    /// Applies a merge patch to an object; the response has only metadata.
    ///
    /// # Errors
    /// [`ApiErrorKind::Conflict`] if the object does not have the UID or resourceVersion in `change`.
    pub async fn merge(&self, path: &str, change: &Value) -> Result<(), ApiError> {
        let accept = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
        self.call(
            Method::PATCH,
            path,
            accept,
            Some(("application/merge-patch+json", change)),
            OBJECT_LIMIT,
        )
        .await
        .map(drop)
    }

    /// Applies `object` by server-side apply as `manager`, with force: other managers lose ownership of the fields.
    ///
    /// # Errors
    /// [`ApiErrorKind::Conflict`] if `object` has `metadata.uid`, and the object is missing or has another UID.
    pub async fn apply(&self, path: &str, manager: &str, object: &Value) -> Result<(), ApiError> {
        let url = format!("{path}?fieldManager={manager}&force=true");
        let accept = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
        self.call(
            Method::PATCH,
            &url,
            accept,
            Some(("application/apply-patch+yaml", object)),
            OBJECT_LIMIT,
        )
        .await
        .map(drop)
    }

    async fn call(
        &self,
        method: Method,
        url: &str,
        accept: &'static str,
        body: Option<(&'static str, &Value)>,
        limit: usize,
    ) -> Result<Bytes, ApiError> {
        if let Some(limiter) = &self.limiter {
            limiter.acquire(tenant(url)).await;
        }
        let description = describe_request(&method, url);
        let exchange = async {
            let response = self.send(method, url, accept, body, &description).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), limit).collect().await;
            let body = body
                .map_err(|error| incomplete(&description, error.as_ref()))?
                .to_bytes();
            if status.is_success() {
                Ok(body)
            } else {
                Err(status_error(&description, status, &body))
            }
        };
        let late = || {
            ApiError::new(
                ApiErrorKind::Unavailable,
                &description,
                "no response in time",
            )
        };
        timeout(CALL_TIMEOUT, exchange)
            .await
            .unwrap_or_else(|_| Err(late()))
    }

    pub(super) async fn send(
        &self,
        method: Method,
        url: &str,
        accept: &'static str,
        body: Option<(&'static str, &Value)>,
        description: &str,
    ) -> Result<http::Response<Body>, ApiError> {
        let mut request = Request::builder()
            .method(method)
            .uri(url)
            .header(ACCEPT, accept);
        if let (Some((content, _)), Some(headers)) = (body, request.headers_mut()) {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content));
        }
        let body = body.map_or_else(Body::empty, |(_, object)| {
            Body::from(object.to_string().into_bytes())
        });
        let request = request.body(body).map_err(|_| {
            ApiError::new(
                ApiErrorKind::Unexpected,
                description,
                "the path is not a valid URI",
            )
        })?;
        let sent = self.client.send(request).await;
        sent.map_err(|error| match error {
            kube::Error::Auth(_) => ApiError::new(
                ApiErrorKind::Unauthenticated,
                description,
                "no credential for the API server could be obtained",
            ),
            error => {
                let reason = crate::kubernetes::proxy::proxy_problem(&error)
                    .unwrap_or_else(|| "the API server cannot be reached".to_owned());
                ApiError::new(ApiErrorKind::Unavailable, description, reason)
            }
        })
    }
}

/// Namespace in a path; empty for paths of all namespaces.
fn tenant(url: &str) -> &str {
    let after = url.split_once("/namespaces/").map(|(_, after)| after);
    after
        .and_then(|after| after.split(['/', '?']).next())
        .unwrap_or_default()
}

/// Describes a request in messages, as `GET /api/v1/pods`. The query is left out, because it may have a long token.
pub(super) fn describe_request(method: &Method, url: &str) -> String {
    format!("{method} {}", url.split('?').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenant_of_a_call_is_its_namespace() {
        assert_eq!(
            tenant("/apis/batch/v1/namespaces/jobs/jobs/load?x=y"),
            "jobs"
        );
        assert_eq!(tenant("/api/v1/namespaces/jobs"), "jobs");
        assert_eq!(tenant("/api/v1/namespaces?limit=500"), "");
        assert_eq!(tenant("/api/v1/events?limit=500"), "");
    }
}
