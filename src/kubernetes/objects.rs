//! The API server for what is not on the request path: pages of metadata, single objects, watches and patches, as JSON.
//!
//! `kube::Client::send` is the only way out, as in the backend: nothing here logs a body. Whole objects other than
//! Secrets are read here; of Secrets only the metadata, and the one that this program keeps its own certificate in.

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
use super::error::{ApiError, ApiErrorKind, incomplete, parse, refusal};

/// How long one call may take: a page of a busy cluster's list takes seconds.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// The most that is read of one page of a list. A page is in memory twice while it arrives; two at once have to fit
/// into the controller's 128 MiB several times over.
pub(crate) const PAGE_LIMIT: usize = 8 * 1024 * 1024;

/// The most that is read of one object, or of one line of a watch. The API server stores at most 1.5 MiB of an object,
/// and writes few of them longer than that.
pub(crate) const OBJECT_LIMIT: usize = 2 * 1024 * 1024;

/// What of an object is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Representation {
    /// Its metadata alone.
    Metadata,
    /// All of it.
    Full,
}

/// A page of a list.
#[derive(Debug)]
pub struct Page {
    /// The objects, each as it came: parts of the one answer, which lives as long as any of them.
    pub items: Vec<Bytes>,
    /// What the next page is asked for with.
    pub more: Option<String>,
    /// Where a watch that follows the list begins.
    pub resource_version: String,
}

/// The API server. Clones share their connections.
#[derive(Clone)]
pub struct ObjectApi {
    client: Client,
    limiter: Option<Arc<RateLimiter>>,
}

/// By hand: a client has no `Debug`, and holds credentials.
impl fmt::Debug for ObjectApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectApi")
            .field("limiter", &self.limiter)
            .finish_non_exhaustive()
    }
}

impl ObjectApi {
    /// The API server behind a patient client.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self {
            client,
            limiter: None,
        }
    }

    /// A clone whose calls take turns; calls about one namespace count as one tenant.
    #[must_use]
    pub fn rate_limited(&self, limiter: &Arc<RateLimiter>) -> Self {
        Self {
            client: self.client.clone(),
            limiter: Some(Arc::clone(limiter)),
        }
    }

    /// The client, for typed calls.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// One object; `None` when it does not exist.
    ///
    /// # Errors
    /// Whatever else stands between.
    pub async fn get(&self, path: &str, form: Representation) -> Result<Option<Bytes>, ApiError> {
        let accept = match form {
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

    /// One page of the list at `path`; `query` holds no `limit` and no `continue`.
    ///
    /// # Errors
    /// [`ApiErrorKind::Gone`] when the list has to begin anew; [`ApiErrorKind::NotFound`] when there is no such kind;
    /// [`ApiErrorKind::TooLong`] when the page has to be smaller.
    pub async fn page(
        &self,
        path: &str,
        query: &str,
        form: Representation,
        limit: usize,
        more: Option<&str>,
    ) -> Result<Page, ApiError> {
        #[derive(Deserialize)]
        struct List<'a> {
            metadata: ListMetadata,
            #[serde(borrow, default)]
            items: Option<Vec<&'a RawValue>>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct ListMetadata {
            #[serde(rename = "continue", default)]
            more: Option<String>,
            #[serde(default)]
            resource_version: Option<String>,
        }
        let accept = match form {
            Representation::Metadata => {
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
            }
            Representation::Full => "application/json",
        };
        let mut url = format!("{path}?limit={limit}");
        for part in [
            query.to_owned(),
            more.map(|token| format!("continue={token}"))
                .unwrap_or_default(),
        ] {
            if !part.is_empty() {
                url = format!("{url}&{part}");
            }
        }
        let body = self
            .call(Method::GET, &url, accept, None, PAGE_LIMIT)
            .await?;
        let List { metadata, items } = parse(path, &body)?;
        let items = items.unwrap_or_default();
        Ok(Page {
            items: items
                .into_iter()
                .map(|item| body.slice_ref(item.get().as_bytes()))
                .collect(),
            more: metadata.more.filter(|more| !more.is_empty()),
            resource_version: metadata.resource_version.unwrap_or_default(),
        })
    }

    /// Creates an object.
    ///
    /// # Errors
    /// [`ApiErrorKind::Conflict`] when it exists.
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

    /// Merges `change` into an object; only metadata come back.
    ///
    /// # Errors
    /// [`ApiErrorKind::Conflict`] when the object is another one than the change says.
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

    /// Makes an object's fields what `object` says, as `manager`, by server-side apply; whoever else set them loses them.
    /// With `metadata.uid` in it, an object that is not there (or another of the same name) is a conflict.
    ///
    /// # Errors
    /// [`ApiErrorKind::Conflict`] as said.
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
        let what = describe_request(&method, url);
        let exchange = async {
            let response = self.send(method, url, accept, body, &what).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), limit).collect().await;
            let body = body
                .map_err(|error| incomplete(&what, error.as_ref()))?
                .to_bytes();
            if status.is_success() {
                Ok(body)
            } else {
                Err(refusal(&what, status, &body))
            }
        };
        let late = || ApiError::new(ApiErrorKind::Unavailable, &what, "no response in time");
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
        what: &str,
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
                what,
                "the path is not a valid URI",
            )
        })?;
        let sent = self.client.send(request).await;
        sent.map_err(|error| match error {
            kube::Error::Auth(_) => ApiError::new(
                ApiErrorKind::Unauthenticated,
                what,
                "no credential for the API server could be obtained",
            ),
            error => {
                let why = crate::kubernetes::proxy::fault(&error)
                    .unwrap_or_else(|| "the API server cannot be reached".to_owned());
                ApiError::new(ApiErrorKind::Unavailable, what, why)
            }
        })
    }
}

/// The namespace that a path is about; nothing where it is about all.
fn tenant(url: &str) -> &str {
    let after = url.split_once("/namespaces/").map(|(_, after)| after);
    after
        .and_then(|after| after.split(['/', '?']).next())
        .unwrap_or_default()
}

/// `GET /api/v1/pods`, for sentences: tokens of lists say nothing to a person.
pub(super) fn describe_request(method: &Method, url: &str) -> String {
    format!("{method} {}", url.split('?').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tenant_of_a_call_is_its_namespace() {
        assert_eq!(
            tenant("/apis/batch/v1/namespaces/jobs/jobs/load?x=y"),
            "jobs"
        );
        assert_eq!(tenant("/api/v1/namespaces/jobs"), "jobs");
        assert_eq!(tenant("/api/v1/namespaces?limit=500"), "");
        assert_eq!(tenant("/api/v1/events?limit=500"), "");
    }
}
