//! Responses of the client.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, HeaderMap, HeaderName, RETRY_AFTER};
use serde::de::DeserializeOwned;

use super::error::HttpError;

/// Complete response. `Debug` shows the status alone.
pub struct HttpResponse {
    target: String,
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl std::fmt::Debug for HttpResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: HTTP {}", self.target, self.status.as_u16())
    }
}

impl HttpResponse {
    /// Reads the body, as long as it has at most `max_body` bytes.
    pub(super) async fn read(
        target: &str,
        mut response: reqwest::Response,
        max_body: usize,
    ) -> Result<Self, HttpError> {
        let too_large = || HttpError::TooLarge {
            target: target.to_owned(),
            limit: max_body,
        };
        let encoding = response.headers().get(CONTENT_ENCODING);
        if encoding.is_some_and(|encoding| encoding != "identity") {
            return Err(HttpError::Encoded {
                target: target.to_owned(),
            });
        }
        let fits = |length: u64| usize::try_from(length).is_ok_and(|length| length <= max_body);
        if response
            .content_length()
            .is_some_and(|length| !fits(length))
        {
            return Err(too_large());
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| HttpError::of_reqwest(target, &error))?
        {
            if body.len() + chunk.len() > max_body {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Self {
            target: target.to_owned(),
            status: response.status(),
            headers: std::mem::take(response.headers_mut()),
            body: body.freeze(),
        })
    }

    /// Response of a test.
    #[cfg(test)]
    pub(crate) fn scripted(target: &str, status: u16, headers: HeaderMap, body: &str) -> Self {
        Self {
            target: target.to_owned(),
            status: StatusCode::from_u16(status).unwrap(),
            headers,
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    /// Status, which may be any.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Body, which may contain credentials.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Header, if it is there and is text.
    #[must_use]
    pub fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Seconds of `Retry-After`. Dates are not read.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        let seconds = self.header(&RETRY_AFTER)?.trim();
        seconds.parse().ok().map(Duration::from_secs)
    }

    /// Seconds of `max-age` in `Cache-Control`.
    #[must_use]
    pub fn max_age(&self) -> Option<Duration> {
        let directives = self.header(&CACHE_CONTROL)?.split(',');
        let pairs = directives.filter_map(|directive| directive.trim().split_once('='));
        let mut ages = pairs.filter(|(name, _)| name.eq_ignore_ascii_case("max-age"));
        let (_, seconds) = ages.next()?;
        seconds
            .trim_matches('"')
            .parse()
            .ok()
            .map(Duration::from_secs)
    }

    /// The response itself, if its status is `expected`.
    ///
    /// # Errors
    ///
    /// The status is another.
    pub fn expect_status(self, expected: StatusCode) -> Result<Self, HttpError> {
        if self.status == expected {
            return Ok(self);
        }
        Err(self.status_error())
    }

    /// Error that names the status.
    #[must_use]
    pub fn status_error(&self) -> HttpError {
        HttpError::Status {
            target: self.target.clone(),
            status: self.status.as_u16(),
            retry_after: self.retry_after(),
        }
    }

    /// Body as JSON.
    ///
    /// # Errors
    ///
    /// The body is not JSON of this form.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, HttpError> {
        serde_json::from_slice(&self.body).map_err(|error| HttpError::NotJson {
            target: self.target.clone(),
            line: error.line(),
            column: error.column(),
        })
    }

    /// Method and URL that were requested, without the query.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }
}
