//! Watches: changes line by line, for as long as the API server keeps the watch open.

use std::pin::Pin;
use std::time::Duration;

use http::Method;
use http_body_util::BodyExt;
use kube::client::Body;
use tokio::time::timeout;
use tracing::warn;

use super::error::status_error;
use super::objects::{CALL_TIMEOUT, OBJECT_LIMIT, ObjectApi, describe_request};
use super::{ApiError, ApiErrorKind};

/// Time for which the API server keeps a watch open.
const WATCH_TIMEOUT: Duration = Duration::from_secs(290);

/// Time without a byte after which a connection is dead. The API server sends a bookmark about every minute.
const IDLE_TIMEOUT: Duration = Duration::from_secs(150);

/// An open watch.
pub struct Watch {
    body: Pin<Box<Body>>,
    /// Request in messages.
    description: String,
    lines: LineBuffer,
}

/// Splits received data into lines.
#[derive(Default)]
struct LineBuffer {
    buffer: Vec<u8>,
    /// Length of the beginning of the buffer that has no end of a line.
    scanned: usize,
    /// Whether the present line is too long and is skipped.
    skipping: bool,
}

/// Implemented by hand because the buffer must not be logged.
impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch")
            .field("description", &self.description)
            .finish_non_exhaustive()
    }
}

impl ObjectApi {
    /// Watches the list at `path` from `resource_version` on.
    ///
    /// # Errors
    /// [`ApiErrorKind::Gone`] if that version is too old; the list has to be read again.
    pub async fn watch(
        &self,
        path: &str,
        query: &str,
        resource_version: &str,
    ) -> Result<Watch, ApiError> {
        let url = format!(
            "{path}?watch=1&allowWatchBookmarks=true&timeoutSeconds={}&resourceVersion={resource_version}&{query}",
            WATCH_TIMEOUT.as_secs()
        );
        let description = describe_request(&Method::GET, &url);
        let late = || ApiError::new(ApiErrorKind::Unavailable, &description, "no answer in time");
        let sent = timeout(
            CALL_TIMEOUT,
            self.send(Method::GET, &url, "application/json", None, &description),
        )
        .await;
        let response = sent.unwrap_or_else(|_| Err(late()))?;
        if !response.status().is_success() {
            return Err(status_error(&description, response.status(), b""));
        }
        Ok(Watch {
            body: Box::pin(response.into_body()),
            description,
            lines: LineBuffer::default(),
        })
    }
}

impl Watch {
    /// Returns the next line; `None` after the API server has closed the watch gracefully. A line that is too long is
    /// skipped, so that one large object does not end the watch of all others. Cancel safe.
    ///
    /// # Errors
    /// The connection broke, or was idle for too long.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, ApiError> {
        let failed = |description: &str, reason| {
            ApiError::new(ApiErrorKind::Unavailable, description, reason)
        };
        loop {
            if let Some(line) = self.lines.next(&self.description) {
                return Ok(Some(line));
            }
            match timeout(IDLE_TIMEOUT, self.body.frame()).await {
                Err(_) => return Err(failed(&self.description, "nothing was heard for too long")),
                Ok(None) => return Ok(None),
                Ok(Some(Err(_))) => return Err(failed(&self.description, "the connection broke")),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.lines.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }

    /// Returns the error of a watch that the API server ended with an error event; the list has to be read again.
    #[must_use]
    pub fn gone(&self) -> ApiError {
        ApiError::new(
            ApiErrorKind::Gone,
            &self.description,
            "the watch must begin anew",
        )
    }
}

impl LineBuffer {
    /// Takes a complete line of the watch of `path`, if there is one.
    fn next(&mut self, path: &str) -> Option<Vec<u8>> {
        loop {
            let unscanned = self.buffer.get(self.scanned..).unwrap_or_default();
            let end = unscanned
                .iter()
                .position(|byte| *byte == b'\n')
                .map(|end| self.scanned + end + 1);
            if end.unwrap_or(self.buffer.len()) > OBJECT_LIMIT
                && !std::mem::replace(&mut self.skipping, true)
            {
                warn!(
                    path,
                    limit = OBJECT_LIMIT,
                    "watch event is too large to read; skipped"
                );
            }
            let Some(end) = end else {
                if self.skipping {
                    self.buffer.clear();
                }
                self.scanned = self.buffer.len();
                return None;
            };
            let rest = self.buffer.split_off(end);
            let line = std::mem::replace(&mut self.buffer, rest);
            self.scanned = 0;
            if !std::mem::replace(&mut self.skipping, false) {
                return Some(line);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(pieces: &mut dyn Iterator<Item = &[u8]>) -> Vec<usize> {
        let mut lines = LineBuffer::default();
        let mut lengths = Vec::new();
        for piece in pieces {
            lines.buffer.extend_from_slice(piece);
            while let Some(line) = lines.next("/api/v1/events") {
                assert_eq!(line.last(), Some(&b'\n'));
                lengths.push(line.len());
            }
            assert!(
                lines.buffer.len() <= OBJECT_LIMIT,
                "a line that is too long is not kept"
            );
        }
        lengths
    }

    fn line(length: usize) -> Vec<u8> {
        let mut line = vec![b'x'; length - 1];
        line.push(b'\n');
        line
    }

    #[test]
    fn line_that_is_too_long_is_skipped_and_the_watch_continues() {
        let all = [
            line(5),
            line(OBJECT_LIMIT),
            line(OBJECT_LIMIT + 1),
            line(7),
            line(3 * OBJECT_LIMIT),
            line(9),
        ];
        let all = all.concat();
        let expected = [5, OBJECT_LIMIT, 7, 9];
        assert_eq!(lengths(&mut all.chunks(10_000)), expected);
        assert_eq!(
            lengths(&mut std::iter::once(all.as_slice())),
            expected,
            "the size of the pieces does not matter"
        );
        assert_eq!(
            lengths(&mut [line(3).as_slice(), b"no end"].into_iter()),
            [3]
        );
    }
}
