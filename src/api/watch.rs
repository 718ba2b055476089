//! A watch: changes line by line, for as long as the API server keeps it open.

use std::pin::Pin;
use std::time::Duration;

use http::Method;
use http_body_util::BodyExt;
use kube::client::Body;
use tokio::time::timeout;

use super::{ApiError, ApiErrorKind, LIMIT, ObjectApi, refusal, what};

/// How long the API server is asked to keep a watch open.
const OPEN: Duration = Duration::from_secs(290);

/// Silence that long means a dead connection: the API server sends a bookmark about every minute.
const SILENCE: Duration = Duration::from_secs(150);

/// A watch that is open.
pub struct Watch {
    body: Pin<Box<Body>>,
    what: String,
    buffer: Vec<u8>,
}

/// By hand: what is in the buffer is not for logs.
impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("what", &self.what).finish_non_exhaustive()
    }
}

impl ObjectApi {
    /// Watches the list at `path` from `resource_version` on.
    ///
    /// # Errors
    /// [`ApiErrorKind::Gone`] when that version is too old: list anew.
    pub async fn watch(&self, path: &str, query: &str, resource_version: &str) -> Result<Watch, ApiError> {
        let url = format!(
            "{path}?watch=1&allowWatchBookmarks=true&timeoutSeconds={}&resourceVersion={resource_version}&{query}",
            OPEN.as_secs()
        );
        let what = what(&Method::GET, &url);
        let late = || ApiError::new(ApiErrorKind::Unavailable, &what, "no answer in time");
        let sent = timeout(super::CALL, self.send(Method::GET, &url, "application/json", None, &what)).await;
        let response = sent.unwrap_or_else(|_| Err(late()))?;
        if !response.status().is_success() {
            return Err(refusal(&what, response.status(), b""));
        }
        Ok(Watch { body: Box::pin(response.into_body()), what, buffer: Vec::new() })
    }
}

impl Watch {
    /// The next line; `None` when the API server has closed the watch in good order.
    ///
    /// # Errors
    /// When the connection broke, or was silent for too long. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, ApiError> {
        let failed = |why| ApiError::new(ApiErrorKind::Unavailable, &self.what, why);
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let rest = self.buffer.split_off(end + 1);
                return Ok(Some(std::mem::replace(&mut self.buffer, rest)));
            }
            if self.buffer.len() > LIMIT {
                return Err(failed("a line is too long"));
            }
            match timeout(SILENCE, self.body.frame()).await {
                Err(_) => return Err(failed("nothing was heard for too long")),
                Ok(None) => return Ok(None),
                Ok(Some(Err(_))) => return Err(failed("the connection broke")),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}

impl Watch {
    /// The error of a watch that the API server ended with one: begin anew.
    #[must_use]
    pub fn gone(&self) -> ApiError {
        ApiError::new(ApiErrorKind::Gone, &self.what, "the watch must begin anew")
    }
}
