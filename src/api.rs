//! The API server for what is not on the request path: pages of metadata, single objects, watches and patches, as JSON.
//!
//! `kube::Client::send` is the only way out, as in the backend: nothing here logs a body. Whole objects other than
//! Secrets are read here; of Secrets only the metadata, and the one that this program keeps its own certificate in.

pub mod seen;
mod watch;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use kube::Client;
use kube::client::Body;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until, timeout};

pub use seen::Seen;
pub use watch::Watch;

/// How long one call may take: a page of a busy cluster's list takes seconds.
const CALL: Duration = Duration::from_secs(30);

/// The most that is read of one answer: a page of 500 objects, each with 60 kB of metadata.
const LIMIT: usize = 32 * 1024 * 1024;

/// What is kept of a refusal's message.
const MESSAGE: usize = 400;

/// What of an object is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Its metadata alone.
    Metadata,
    /// All of it.
    Whole,
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
        Self { kind, what: what.to_owned(), why: why.into() }
    }
}

/// At most so many calls in a second, over all that share it.
#[derive(Debug)]
pub struct Pace {
    gap: Duration,
    next: Mutex<Instant>,
}

impl Pace {
    /// `calls` in each second.
    #[must_use]
    pub fn per_second(calls: u32) -> Arc<Self> {
        Arc::new(Self { gap: Duration::from_secs(1) / calls.max(1), next: Mutex::new(Instant::now()) })
    }

    /// Waits for this call's turn.
    pub async fn turn(&self) {
        let turn = {
            let mut next = self.next.lock().await;
            let turn = (*next).max(Instant::now());
            *next = turn + self.gap;
            turn
        };
        sleep_until(turn).await;
    }
}

/// A page of a list.
#[derive(Debug)]
pub struct Page {
    /// The objects, each as it came.
    pub items: Vec<Box<RawValue>>,
    /// What the next page is asked for with.
    pub more: Option<String>,
    /// Where a watch that follows the list begins.
    pub resource_version: String,
}

/// The API server. Clones share their connections.
#[derive(Clone)]
pub struct ObjectApi {
    client: Client,
    pace: Option<Arc<Pace>>,
}

/// By hand: a client has no `Debug`, and holds credentials.
impl fmt::Debug for ObjectApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectApi").field("pace", &self.pace).finish_non_exhaustive()
    }
}

impl ObjectApi {
    /// The API server behind a patient client.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client, pace: None }
    }

    /// The same, whose calls take turns.
    #[must_use]
    pub fn paced(&self, pace: &Arc<Pace>) -> Self {
        Self { client: self.client.clone(), pace: Some(Arc::clone(pace)) }
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
    pub async fn get(&self, path: &str, form: Form) -> Result<Option<Bytes>, ApiError> {
        let accept = match form {
            Form::Metadata => "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
            Form::Whole => "application/json",
        };
        match self.call(Method::GET, path, accept, None).await {
            Ok(body) => Ok(Some(body)),
            Err(error) if error.kind == ApiErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// One page of the list at `path`; `query` holds no `limit` and no `continue`.
    ///
    /// # Errors
    /// [`ApiErrorKind::Gone`] when the list has to begin anew; [`ApiErrorKind::NotFound`] when there is no such kind.
    pub async fn page(
        &self,
        path: &str,
        query: &str,
        form: Form,
        limit: usize,
        more: Option<&str>,
    ) -> Result<Page, ApiError> {
        #[derive(Deserialize)]
        struct List {
            metadata: ListMetadata,
            #[serde(default)]
            items: Option<Vec<Box<RawValue>>>,
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
            Form::Metadata => "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
            Form::Whole => "application/json",
        };
        let mut url = format!("{path}?limit={limit}");
        for part in [query.to_owned(), more.map(|token| format!("continue={token}")).unwrap_or_default()] {
            if !part.is_empty() {
                url = format!("{url}&{part}");
            }
        }
        let body = self.call(Method::GET, &url, accept, None).await?;
        let List { metadata, items } = read(path, &body)?;
        Ok(Page {
            items: items.unwrap_or_default(),
            more: metadata.more.filter(|more| !more.is_empty()),
            resource_version: metadata.resource_version.unwrap_or_default(),
        })
    }

    /// Creates an object.
    ///
    /// # Errors
    /// [`ApiErrorKind::Conflict`] when it exists.
    pub async fn create(&self, path: &str, object: &Value) -> Result<(), ApiError> {
        self.call(Method::POST, path, "application/json", Some(("application/json", object))).await.map(drop)
    }

    /// Merges `change` into an object; only metadata come back.
    ///
    /// # Errors
    /// [`ApiErrorKind::Conflict`] when the object is another one than the change says.
    pub async fn merge(&self, path: &str, change: &Value) -> Result<(), ApiError> {
        let accept = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
        self.call(Method::PATCH, path, accept, Some(("application/merge-patch+json", change))).await.map(drop)
    }

    /// Makes an object's fields what `object` says, as `manager`, by server-side apply; whoever else set them loses them.
    /// With `metadata.uid` in it, an object that is not there (or another of the same name) is a conflict.
    ///
    /// # Errors
    /// [`ApiErrorKind::Conflict`] as said.
    pub async fn apply(&self, path: &str, manager: &str, object: &Value) -> Result<(), ApiError> {
        let url = format!("{path}?fieldManager={manager}&force=true");
        let accept = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
        self.call(Method::PATCH, &url, accept, Some(("application/apply-patch+yaml", object))).await.map(drop)
    }

    async fn call(
        &self,
        method: Method,
        url: &str,
        accept: &'static str,
        body: Option<(&'static str, &Value)>,
    ) -> Result<Bytes, ApiError> {
        if let Some(pace) = &self.pace {
            pace.turn().await;
        }
        let what = what(&method, url);
        let exchange = async {
            let response = self.send(method, url, accept, body, &what).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), LIMIT).collect().await;
            let body = body
                .map_err(|_| ApiError::new(ApiErrorKind::Unavailable, &what, "the answer broke off or is too long"))?
                .to_bytes();
            if status.is_success() { Ok(body) } else { Err(refusal(&what, status, &body)) }
        };
        let late = || ApiError::new(ApiErrorKind::Unavailable, &what, "no answer in time");
        timeout(CALL, exchange).await.unwrap_or_else(|_| Err(late()))
    }

    async fn send(
        &self,
        method: Method,
        url: &str,
        accept: &'static str,
        body: Option<(&'static str, &Value)>,
        what: &str,
    ) -> Result<http::Response<Body>, ApiError> {
        let mut request = Request::builder().method(method).uri(url).header(ACCEPT, accept);
        if let (Some((content, _)), Some(headers)) = (body, request.headers_mut()) {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content));
        }
        let body = body.map_or_else(Body::empty, |(_, object)| Body::from(object.to_string().into_bytes()));
        let request = request
            .body(body)
            .map_err(|_| ApiError::new(ApiErrorKind::Refused, what, "that is no path of an object"))?;
        let sent = self.client.send(request).await;
        sent.map_err(|error| match error {
            kube::Error::Auth(_) => {
                ApiError::new(ApiErrorKind::Forbidden, what, "no credential for the API server could be obtained")
            }
            _ => ApiError::new(ApiErrorKind::Unavailable, what, "the API server cannot be reached"),
        })
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
    let said = serde_json::from_slice::<Status>(body).ok().filter(|_| kind == ApiErrorKind::Forbidden);
    let why = match said {
        Some(Status { message }) => message.chars().take(MESSAGE).collect(),
        None => format!("the API server answered HTTP {}", status.as_u16()),
    };
    ApiError::new(kind, what, why)
}

/// Reads an answer; `serde_json`'s own words would quote it.
pub(crate) fn read<'a, T: Deserialize<'a>>(what: &str, body: &'a [u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body)
        .map_err(|_| ApiError::new(ApiErrorKind::Refused, what, "the answer is not what was asked for"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn calls_take_turns() {
        let pace = Pace::per_second(50);
        let began = Instant::now();
        futures::future::join_all((0..101).map(|_| pace.turn())).await;
        assert_eq!(began.elapsed(), Duration::from_secs(2));
        tokio::time::sleep(Duration::from_secs(5)).await;
        let idle = Instant::now();
        pace.turn().await;
        assert_eq!(idle.elapsed(), Duration::ZERO, "nobody waits after a pause, and turns are not saved up");
        pace.turn().await;
        assert_eq!(idle.elapsed(), Duration::from_millis(20));
    }

    #[test]
    fn a_refusal_names_what_was_asked_for() {
        let body = br#"{"kind":"Status","message":"pods is forbidden: User \"u\" cannot list"}"#;
        let error = refusal("GET /api/v1/pods", StatusCode::FORBIDDEN, body);
        assert_eq!(error.to_string(), "GET /api/v1/pods: pods is forbidden: User \"u\" cannot list");
        let gone = refusal("GET /api/v1/pods", StatusCode::GONE, b"{}");
        assert_eq!(gone.kind, ApiErrorKind::Gone);
    }
}
