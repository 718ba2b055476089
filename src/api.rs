//! The API server for what is not on the request path: pages of metadata, single objects, watches and patches, as JSON.
//!
//! `kube::Client::send` is the only way out, as in the backend: nothing here logs a body. Whole objects other than
//! Secrets are read here; of Secrets only the metadata, and the one that this program keeps its own certificate in.

mod pages;
mod rate_limiter;
pub mod seen;
mod selector;
mod watch;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use kube::Client;
use kube::client::Body;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::time::timeout;

pub use pages::Pages;
pub use rate_limiter::RateLimiter;
pub use seen::Lookup;
pub use selector::{InvalidSelector, Selector};
pub use watch::Watch;

/// How long one call may take: a page of a busy cluster's list takes seconds.
const CALL: Duration = Duration::from_secs(30);

/// The most that is read of one page of a list. A page is in memory twice while it arrives; two at once have to fit
/// into the controller's 128 MiB several times over.
pub(crate) const PAGE_LIMIT: usize = 8 * 1024 * 1024;

/// The most that is read of one object, or of one line of a watch. The API server stores at most 1.5 MiB of an object,
/// and writes few of them longer than that.
pub(crate) const OBJECT_LIMIT: usize = 2 * 1024 * 1024;

/// What is kept of a refusal's message.
const MESSAGE: usize = 400;

/// What of an object is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Representation {
    /// Its metadata alone.
    Metadata,
    /// All of it.
    Full,
}

/// A failed call, by what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiErrorKind {
    /// 404.
    NotFound,
    /// 401 or 403.
    Forbidden,
    /// 409: somebody else wrote, or it exists already.
    Conflict,
    /// 410: the list or watch must begin anew.
    Gone,
    /// The answer is longer than what is read of one: a page of [`PAGE_LIMIT`], an object of [`OBJECT_LIMIT`].
    TooLong,
    /// 429, 5xx, no connection or no answer in time.
    Unavailable,
    /// Anything else, or an answer that cannot be read.
    Refused,
}

/// A failed call: what was asked for, and why there is no answer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{what}: {why}")]
pub struct ApiError {
    /// What it means.
    pub kind: ApiErrorKind,
    what: String,
    why: String,
}

impl ApiError {
    fn new(kind: ApiErrorKind, what: &str, why: impl Into<String>) -> Self {
        Self {
            kind,
            what: what.to_owned(),
            why: why.into(),
        }
    }
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
        let List { metadata, items } = read(path, &body)?;
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
        let what = what(&method, url);
        let exchange = async {
            let response = self.send(method, url, accept, body, &what).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), limit).collect().await;
            let body = body
                .map_err(|error| broken(&what, error.as_ref()))?
                .to_bytes();
            if status.is_success() {
                Ok(body)
            } else {
                Err(refusal(&what, status, &body))
            }
        };
        let late = || ApiError::new(ApiErrorKind::Unavailable, &what, "no answer in time");
        timeout(CALL, exchange)
            .await
            .unwrap_or_else(|_| Err(late()))
    }

    async fn send(
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
            ApiError::new(ApiErrorKind::Refused, what, "that is no path of an object")
        })?;
        let sent = self.client.send(request).await;
        sent.map_err(|error| match error {
            kube::Error::Auth(_) => ApiError::new(
                ApiErrorKind::Forbidden,
                what,
                "no credential for the API server could be obtained",
            ),
            error => {
                let why = crate::proxy::fault(&error)
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

/// Why an answer could not be read to its end.
fn broken(what: &str, error: &(dyn std::error::Error + 'static)) -> ApiError {
    if error.is::<LengthLimitError>() {
        ApiError::new(ApiErrorKind::TooLong, what, "the answer is too long")
    } else {
        ApiError::new(ApiErrorKind::Unavailable, what, "the answer broke off")
    }
}

/// `GET /api/v1/pods`, for sentences: tokens of lists say nothing to a person.
fn what(method: &Method, url: &str) -> String {
    format!("{method} {}", url.split('?').next().unwrap_or_default())
}

/// What a refusal means.
fn refusal(what: &str, status: StatusCode, body: &[u8]) -> ApiError {
    #[derive(Deserialize)]
    struct Status {
        message: String,
    }
    let kind = match status.as_u16() {
        401 | 403 => ApiErrorKind::Forbidden,
        404 => ApiErrorKind::NotFound,
        409 => ApiErrorKind::Conflict,
        410 => ApiErrorKind::Gone,
        408 | 429 | 500..=599 => ApiErrorKind::Unavailable,
        _ => ApiErrorKind::Refused,
    };
    // Who may not do what: the API server says it best, and no value is in it.
    let said = serde_json::from_slice::<Status>(body)
        .ok()
        .filter(|_| kind == ApiErrorKind::Forbidden);
    let why = match said {
        Some(Status { message }) => message.chars().take(MESSAGE).collect(),
        None => format!("the API server answered HTTP {}", status.as_u16()),
    };
    ApiError::new(kind, what, why)
}

/// Reads an answer; `serde_json`'s own words would quote it.
pub(crate) fn read<'a, T: Deserialize<'a>>(what: &str, body: &'a [u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|_| {
        ApiError::new(
            ApiErrorKind::Refused,
            what,
            "the answer is not what was asked for",
        )
    })
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

    #[test]
    fn a_refusal_names_what_was_asked_for() {
        let body = br#"{"kind":"Status","message":"pods is forbidden: User \"u\" cannot list"}"#;
        let error = refusal("GET /api/v1/pods", StatusCode::FORBIDDEN, body);
        assert_eq!(
            error.to_string(),
            "GET /api/v1/pods: pods is forbidden: User \"u\" cannot list"
        );
        let gone = refusal("GET /api/v1/pods", StatusCode::GONE, b"{}");
        assert_eq!(gone.kind, ApiErrorKind::Gone);
    }
}
