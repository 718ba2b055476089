//! A watch: changes line by line, for as long as the API server keeps it open.

use std::pin::Pin;
use std::time::Duration;

use http::Method;
use http_body_util::BodyExt;
use kube::client::Body;
use tokio::time::timeout;
use tracing::warn;

use super::error::refusal;
use super::objects::{CALL_TIMEOUT, OBJECT_LIMIT, ObjectApi, describe_request};
use super::{ApiError, ApiErrorKind};

/// How long the API server is asked to keep a watch open.
const OPEN: Duration = Duration::from_secs(290);

/// Silence that long means a dead connection: the API server sends a bookmark about every minute.
const SILENCE: Duration = Duration::from_secs(150);

/// A watch that is open.
pub struct Watch {
    body: Pin<Box<Body>>,
    what: String,
    lines: Lines,
}

/// Lines out of what arrives in pieces.
#[derive(Default)]
struct Lines {
    buffer: Vec<u8>,
    /// So much of the buffer holds no end of a line.
    scanned: usize,
    /// In a line that is too long, and has been given up.
    skipping: bool,
}

/// By hand: what is in the buffer is not for logs.
impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch")
            .field("what", &self.what)
            .finish_non_exhaustive()
    }
}

impl ObjectApi {
    /// Watches the list at `path` from `resource_version` on.
    ///
    /// # Errors
    /// [`ApiErrorKind::Gone`] when that version is too old: list anew.
    pub async fn watch(
        &self,
        path: &str,
        query: &str,
        resource_version: &str,
    ) -> Result<Watch, ApiError> {
        let url = format!(
            "{path}?watch=1&allowWatchBookmarks=true&timeoutSeconds={}&resourceVersion={resource_version}&{query}",
            OPEN.as_secs()
        );
        let what = describe_request(&Method::GET, &url);
        let late = || ApiError::new(ApiErrorKind::Unavailable, &what, "no answer in time");
        let sent = timeout(
            CALL_TIMEOUT,
            self.send(Method::GET, &url, "application/json", None, &what),
        )
        .await;
        let response = sent.unwrap_or_else(|_| Err(late()))?;
        if !response.status().is_success() {
            return Err(refusal(&what, response.status(), b""));
        }
        Ok(Watch {
            body: Box::pin(response.into_body()),
            what,
            lines: Lines::default(),
        })
    }
}

impl Watch {
    /// The next line; `None` when the API server has closed the watch in good order. A line that is too long is left
    /// out: whoever may write objects must not end the watch of all others.
    ///
    /// # Errors
    /// When the connection broke, or was silent for too long. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, ApiError> {
        let failed = |what: &str, why| ApiError::new(ApiErrorKind::Unavailable, what, why);
        loop {
            if let Some(line) = self.lines.next(&self.what) {
                return Ok(Some(line));
            }
            match timeout(SILENCE, self.body.frame()).await {
                Err(_) => return Err(failed(&self.what, "nothing was heard for too long")),
                Ok(None) => return Ok(None),
                Ok(Some(Err(_))) => return Err(failed(&self.what, "the connection broke")),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.lines.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }

    /// The error of a watch that the API server ended with one: begin anew.
    #[must_use]
    pub fn gone(&self) -> ApiError {
        ApiError::new(ApiErrorKind::Gone, &self.what, "the watch must begin anew")
    }
}

impl Lines {
    /// A whole line, if there is one, of the watch of `path`.
    fn next(&mut self, path: &str) -> Option<Vec<u8>> {
        loop {
            let unseen = self.buffer.get(self.scanned..).unwrap_or_default();
            let end = unseen
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
        let mut lines = Lines::default();
        let mut lengths = Vec::new();
        for piece in pieces {
            lines.buffer.extend_from_slice(piece);
            while let Some(line) = lines.next("/api/v1/events") {
                assert_eq!(line.last(), Some(&b'\n'));
                lengths.push(line.len());
            }
            assert!(
                lines.buffer.len() <= OBJECT_LIMIT,
                "what is too long is not kept"
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
    fn a_line_that_is_too_long_is_left_out_and_the_watch_goes_on() {
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
            "however it arrives"
        );
        assert_eq!(
            lengths(&mut [line(3).as_slice(), b"no end"].into_iter()),
            [3]
        );
    }
}
