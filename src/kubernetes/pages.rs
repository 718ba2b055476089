//! A list, page by page, in pages that are as small as they must be.
//!
//! The size of objects is decided by those who may write them. A page that is too large is asked for again with half as many
//! objects; one object that is too large by itself is left out, and named.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::sleep;
use tracing::warn;

use super::{ApiError, ApiErrorKind, ObjectApi, Page, Representation, parse};

/// How often a list whose snapshot is gone is begun anew.
const RESTARTS: usize = 5;

/// The pause before that.
const PAUSE: Duration = Duration::from_secs(1);

/// A list that is being read.
#[derive(Debug)]
pub struct Pages<'a> {
    api: &'a ObjectApi,
    path: &'a str,
    query: &'a str,
    form: Representation,
    /// The most objects in a page.
    most: usize,
    limit: usize,
    more: Option<String>,
    restarts: usize,
    ended: bool,
    skipped: Vec<String>,
}

impl ObjectApi {
    /// The list at `path`, in pages of at most `most` objects.
    #[must_use]
    pub fn pages<'a>(
        &'a self,
        path: &'a str,
        query: &'a str,
        form: Representation,
        most: usize,
    ) -> Pages<'a> {
        Pages {
            api: self,
            path,
            query,
            form,
            most,
            limit: most,
            more: None,
            restarts: 0,
            ended: false,
            skipped: Vec::new(),
        }
    }
}

impl Pages<'_> {
    /// The next page; `None` after the last one. A list whose snapshot is gone begins anew, so that objects may come
    /// twice.
    ///
    /// # Errors
    /// When a page cannot be read for another reason than its length.
    pub async fn next(&mut self) -> Result<Option<Page>, ApiError> {
        while !self.ended {
            match self
                .api
                .page(
                    self.path,
                    self.query,
                    self.form,
                    self.limit,
                    self.more.as_deref(),
                )
                .await
            {
                Ok(page) => {
                    self.limit = (self.limit * 2).min(self.most);
                    self.go_on(page.more.clone());
                    return Ok(Some(page));
                }
                Err(error) if error.kind == ApiErrorKind::TooLong && self.limit > 1 => {
                    self.limit /= 2;
                }
                Err(error) if error.kind == ApiErrorKind::TooLong => self.skip(error).await?,
                Err(error) if error.kind == ApiErrorKind::Gone && self.restarts < RESTARTS => {
                    sleep(PAUSE).await;
                    self.restarts += 1;
                    self.more = None;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// The objects that were left out since this was last asked, each too large by itself: `NAMESPACE/NAME`.
    #[must_use]
    pub fn skipped(&mut self) -> Vec<String> {
        std::mem::take(&mut self.skipped)
    }

    fn go_on(&mut self, more: Option<String>) {
        self.ended = more.is_none();
        self.more = more;
    }

    /// Leaves out the one object that is next: its metadata tell its name, and come with the way to what follows.
    async fn skip(&mut self, error: ApiError) -> Result<(), ApiError> {
        #[derive(Deserialize)]
        struct Object {
            metadata: Metadata,
        }
        #[derive(Deserialize)]
        struct Metadata {
            name: String,
            #[serde(default)]
            namespace: String,
        }
        if self.form == Representation::Metadata {
            return Err(error);
        }
        let page = self
            .api
            .page(
                self.path,
                self.query,
                Representation::Metadata,
                1,
                self.more.as_deref(),
            )
            .await?;
        for item in &page.items {
            let Object {
                metadata: Metadata { name, namespace },
            } = parse(self.path, item)?;
            self.skipped.push(format!("{namespace}/{name}"));
            warn!(
                path = self.path,
                namespace, name, "object is too large to read; skipped"
            );
        }
        self.go_on(page.more);
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

    /// An API server with a list of objects of these sizes, of which metadata are small; what it was asked for.
    fn serving(sizes: Vec<usize>) -> (ObjectApi, Arc<Mutex<Vec<String>>>) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let answer = tower::service_fn(move |request: http::Request<Body>| {
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
            let whole = !request.headers()["accept"]
                .to_str()
                .unwrap()
                .contains("PartialObjectMetadata");
            log.lock().unwrap().push(format!(
                "{}{from}+{limit}",
                if whole { "" } else { "meta " }
            ));
            let end = (from + limit).min(sizes.len());
            let item = |number: usize| {
                let filler = if whole {
                    "x".repeat(sizes[number])
                } else {
                    String::new()
                };
                json!({"metadata": {"name": format!("o{number}"), "namespace": "ns"}, "filler": filler})
            };
            let more = if end < sizes.len() {
                end.to_string()
            } else {
                String::new()
            };
            let items: Vec<_> = (from..end).map(item).collect();
            let body =
                json!({"metadata": {"resourceVersion": "7", "continue": more}, "items": items})
                    .to_string();
            async move { Ok::<_, tower::BoxError>(http::Response::new(Body::from(body.into_bytes()))) }
        });
        (ObjectApi::new(kube::Client::new(answer, "default")), asked)
    }

    /// How many objects came, how many were left out, and what was asked for.
    async fn listed(sizes: Vec<usize>, most: usize) -> (usize, usize, Vec<String>) {
        let (api, asked) = serving(sizes);
        let mut pages = api.pages("/api/v1/events", "", Representation::Full, most);
        let mut objects = 0;
        while let Some(page) = pages.next().await.unwrap() {
            objects += page.items.len();
        }
        let asked = asked.lock().unwrap().clone();
        (objects, pages.skipped().len(), asked)
    }

    #[tokio::test]
    async fn pages_that_are_too_large_are_halved_and_grow_again() {
        let third = PAGE_LIMIT / 3;
        let sizes = vec![third, third, third, third, 1, 1, 1, 1, 1, 1];
        let (objects, skipped, asked) = listed(sizes, 4).await;
        assert_eq!((objects, skipped), (10, 0));
        assert_eq!(asked, ["0+4", "0+2", "2+4", "6+4"]);
    }

    #[tokio::test]
    async fn an_object_that_is_too_large_by_itself_is_left_out() {
        let (objects, skipped, asked) = listed(vec![1, PAGE_LIMIT, 1, 1], 2).await;
        assert_eq!((objects, skipped), (3, 1));
        assert_eq!(
            asked,
            ["0+2", "0+1", "1+2", "1+1", "meta 1+1", "2+1", "3+2"]
        );
        let (objects, skipped, _) = listed(vec![PAGE_LIMIT], 500).await;
        assert_eq!((objects, skipped), (0, 1));
    }

    #[tokio::test]
    async fn a_page_just_below_the_limit_is_read() {
        let around = json!({"metadata": {"resourceVersion": "7", "continue": ""}, "items":
            [{"metadata": {"name": "o0", "namespace": "ns"}, "filler": ""}]})
        .to_string()
        .len();
        let (objects, skipped, _) = listed(vec![PAGE_LIMIT - around], 1).await;
        assert_eq!((objects, skipped), (1, 0));
        let (objects, skipped, _) = listed(vec![PAGE_LIMIT - around + 1], 1).await;
        assert_eq!((objects, skipped), (0, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_whose_snapshot_is_gone_begins_anew_after_a_pause_and_not_for_ever() {
        let asked = Arc::new(Mutex::new(0));
        let log = Arc::clone(&asked);
        let answer = tower::service_fn(move |_: http::Request<Body>| {
            *log.lock().unwrap() += 1;
            let response = http::Response::builder()
                .status(410)
                .body(Body::from(b"{}".to_vec()));
            async move { Ok::<_, tower::BoxError>(response.unwrap()) }
        });
        let api = ObjectApi::new(kube::Client::new(answer, "default"));
        let began = tokio::time::Instant::now();
        let error = api
            .pages("/api/v1/events", "", Representation::Full, 1)
            .next()
            .await
            .unwrap_err();
        assert_eq!(
            (error.kind, *asked.lock().unwrap()),
            (ApiErrorKind::Gone, 1 + RESTARTS)
        );
        assert_eq!(began.elapsed(), PAUSE * 5);
    }
}
