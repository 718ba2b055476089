//! Lists in pages whose size adapts to the size of the objects.
//!
//! Authors decide how large objects are. A page that is too large is requested again with half as many objects. An
//! object that is too large by itself is skipped, and its name is kept.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::sleep;
use tracing::warn;

use super::{ApiError, ApiErrorKind, ObjectApi, Page, Representation, parse};

/// Limit of restarts of a list whose snapshot is gone.
const MAX_RESTARTS: usize = 5;

/// Pause before a restart.
const RESTART_INTERVAL: Duration = Duration::from_secs(1);

/// A list that is being read.
#[derive(Debug)]
pub struct Pages<'a> {
    api: &'a ObjectApi,
    path: &'a str,
    query: &'a str,
    representation: Representation,
    /// Limit of objects in a page.
    max_limit: usize,
    limit: usize,
    continue_token: Option<String>,
    restarts: usize,
    ended: bool,
    skipped: Vec<String>,
}

impl ObjectApi {
    /// Lists the objects at `path` in pages of at most `max_limit` objects.
    #[must_use]
    pub fn pages<'a>(
        &'a self,
        path: &'a str,
        query: &'a str,
        representation: Representation,
        max_limit: usize,
    ) -> Pages<'a> {
        Pages {
            api: self,
            path,
            query,
            representation,
            max_limit,
            limit: max_limit,
            continue_token: None,
            restarts: 0,
            ended: false,
            skipped: Vec::new(),
        }
    }
}

impl Pages<'_> {
    /// Reads the next page; `None` after the last one. A list whose snapshot is gone restarts, so that objects may
    /// occur twice.
    ///
    /// # Errors
    /// A page cannot be read for another reason than its length.
    pub async fn next(&mut self) -> Result<Option<Page>, ApiError> {
        while !self.ended {
            match self
                .api
                .page(
                    self.path,
                    self.query,
                    self.representation,
                    self.limit,
                    self.continue_token.as_deref(),
                )
                .await
            {
                Ok(page) => {
                    self.limit = (self.limit * 2).min(self.max_limit);
                    self.advance(page.continue_token.clone());
                    return Ok(Some(page));
                }
                Err(error) if error.kind == ApiErrorKind::TooLong && self.limit > 1 => {
                    self.limit /= 2;
                }
                Err(error) if error.kind == ApiErrorKind::TooLong => self.skip(error).await?,
                Err(error) if error.kind == ApiErrorKind::Gone && self.restarts < MAX_RESTARTS => {
                    sleep(RESTART_INTERVAL).await;
                    self.restarts += 1;
                    self.continue_token = None;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Takes the objects that were skipped since the last call because they are too large: `NAMESPACE/NAME`.
    #[must_use]
    pub fn skipped(&mut self) -> Vec<String> {
        std::mem::take(&mut self.skipped)
    }

    fn advance(&mut self, continue_token: Option<String>) {
        self.ended = continue_token.is_none();
        self.continue_token = continue_token;
    }

    /// Skips the next object. A page with its metadata only has its name, and the token for the objects that follow.
    async fn skip(&mut self, error: ApiError) -> Result<(), ApiError> {
        #[derive(Deserialize)]
        struct SkippedObject {
            metadata: SkippedMetadata,
        }
        #[derive(Deserialize)]
        struct SkippedMetadata {
            name: String,
            #[serde(default)]
            namespace: String,
        }
        if self.representation == Representation::Metadata {
            return Err(error);
        }
        let page = self
            .api
            .page(
                self.path,
                self.query,
                Representation::Metadata,
                1,
                self.continue_token.as_deref(),
            )
            .await?;
        for item in &page.items {
            let SkippedObject {
                metadata: SkippedMetadata { name, namespace },
            } = parse(self.path, item)?;
            self.skipped.push(format!("{namespace}/{name}"));
            warn!(
                path = self.path,
                namespace, name, "object is too large to read; skipped"
            );
        }
        self.advance(page.continue_token);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use kube::client::Body;
    use serde_json::json;

    use super::*;
    use crate::kubernetes::objects::PAGE_LIMIT;

    /// An API server with a list of objects of these sizes with small metadata, and the requests that it received.
    fn api_with_objects(sizes: Vec<usize>) -> (ObjectApi, Arc<Mutex<Vec<String>>>) {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&requests);
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let query = request.uri().query().unwrap_or_default();
            let parameter = |name: &str| {
                query
                    .split('&')
                    .find_map(|pair| pair.strip_prefix(name)?.parse().ok())
            };
            let (limit, from): (usize, usize) = (
                parameter("limit=").unwrap(),
                parameter("continue=").unwrap_or(0),
            );
            let full = !request.headers()["accept"]
                .to_str()
                .unwrap()
                .contains("PartialObjectMetadata");
            log.lock()
                .unwrap()
                .push(format!("{}{from}+{limit}", if full { "" } else { "meta " }));
            let end = (from + limit).min(sizes.len());
            let item = |number: usize| {
                let filler = if full {
                    "x".repeat(sizes[number])
                } else {
                    String::new()
                };
                json!({"metadata": {"name": format!("o{number}"), "namespace": "ns"}, "filler": filler})
            };
            let continue_token = if end < sizes.len() {
                end.to_string()
            } else {
                String::new()
            };
            let items: Vec<_> = (from..end).map(item).collect();
            let body =
                json!({"metadata": {"resourceVersion": "7", "continue": continue_token}, "items": items})
                    .to_string();
            async move { Ok::<_, tower::BoxError>(http::Response::new(Body::from(body.into_bytes()))) }
        });
        (
            ObjectApi::new(kube::Client::new(service, "default")),
            requests,
        )
    }

    /// Numbers of objects that were read and skipped, and the requests.
    async fn list(sizes: Vec<usize>, max_limit: usize) -> (usize, usize, Vec<String>) {
        let (api, requests) = api_with_objects(sizes);
        let mut pages = api.pages("/api/v1/events", "", Representation::Full, max_limit);
        let mut objects = 0;
        while let Some(page) = pages.next().await.unwrap() {
            objects += page.items.len();
        }
        let requests = requests.lock().unwrap().clone();
        (objects, pages.skipped().len(), requests)
    }

    #[tokio::test]
    async fn page_size_is_halved_when_too_large_and_grows_again() {
        let third = PAGE_LIMIT / 3;
        let sizes = vec![third, third, third, third, 1, 1, 1, 1, 1, 1];
        let (objects, skipped, requests) = list(sizes, 4).await;
        assert_eq!((objects, skipped), (10, 0));
        assert_eq!(requests, ["0+4", "0+2", "2+4", "6+4"]);
    }

    #[tokio::test]
    async fn object_that_is_too_large_by_itself_is_skipped() {
        let (objects, skipped, requests) = list(vec![1, PAGE_LIMIT, 1, 1], 2).await;
        assert_eq!((objects, skipped), (3, 1));
        assert_eq!(
            requests,
            ["0+2", "0+1", "1+2", "1+1", "meta 1+1", "2+1", "3+2"]
        );
        let (objects, skipped, _) = list(vec![PAGE_LIMIT], 500).await;
        assert_eq!((objects, skipped), (0, 1));
    }

    #[tokio::test]
    async fn page_just_below_the_limit_is_read() {
        let overhead = json!({"metadata": {"resourceVersion": "7", "continue": ""}, "items":
            [{"metadata": {"name": "o0", "namespace": "ns"}, "filler": ""}]})
        .to_string()
        .len();
        let (objects, skipped, _) = list(vec![PAGE_LIMIT - overhead], 1).await;
        assert_eq!((objects, skipped), (1, 0));
        let (objects, skipped, _) = list(vec![PAGE_LIMIT - overhead + 1], 1).await;
        assert_eq!((objects, skipped), (0, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn list_whose_snapshot_is_gone_restarts_a_few_times() {
        let requests = Arc::new(Mutex::new(0));
        let log = Arc::clone(&requests);
        let service = tower::service_fn(move |_: http::Request<Body>| {
            *log.lock().unwrap() += 1;
            let response = http::Response::builder()
                .status(410)
                .body(Body::from(b"{}".to_vec()));
            async move { Ok::<_, tower::BoxError>(response.unwrap()) }
        });
        let api = ObjectApi::new(kube::Client::new(service, "default"));
        let began = tokio::time::Instant::now();
        let error = api
            .pages("/api/v1/events", "", Representation::Full, 1)
            .next()
            .await
            .unwrap_err();
        assert_eq!(
            (error.kind, *requests.lock().unwrap()),
            (ApiErrorKind::Gone, 1 + MAX_RESTARTS)
        );
        assert_eq!(began.elapsed(), RESTART_INTERVAL * 5);
    }
}
