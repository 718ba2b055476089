//! Requests of the client.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName};
use http::{HeaderValue, Method};
use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;

use super::limits::{EXCHANGE_TIMEOUT, MAX_BODY};
use super::url::HttpUrl;

/// Request that expects JSON. `Debug` shows neither headers nor body.
pub struct HttpRequest {
    method: Method,
    pub(super) url: HttpUrl,
    headers: HeaderMap,
    body: Option<Bytes>,
    pub(super) timeout: Duration,
    pub(super) max_body: usize,
}

impl std::fmt::Debug for HttpRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.target())
    }
}

impl HttpRequest {
    /// Request without a body, with the limits of the room.
    #[must_use]
    pub fn new(method: Method, url: HttpUrl) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]),
            body: None,
            timeout: EXCHANGE_TIMEOUT,
            max_body: MAX_BODY,
        }
    }

    /// GET.
    #[must_use]
    pub fn get(url: HttpUrl) -> Self {
        Self::new(Method::GET, url)
    }

    /// POST of a form.
    #[must_use]
    pub fn post_form(url: HttpUrl, fields: &[(&str, &str)]) -> Self {
        let mut request = Self::new(Method::POST, url);
        request.set_body(
            "application/x-www-form-urlencoded",
            encode_form(fields).into(),
        );
        request
    }

    /// Sends JSON.
    #[must_use]
    pub fn with_json(mut self, value: &Value) -> Self {
        self.set_body("application/json", value.to_string().into());
        self
    }

    /// Sends a bearer token. A token that a header cannot have is not sent, and the server refuses the request.
    #[must_use]
    pub fn with_bearer(self, token: &SecretString) -> Self {
        self.with_authorization(&format!("Bearer {}", token.expose_secret()))
    }

    /// Sends the id and the secret of a client, each encoded as in a form (RFC 6749, section 2.3.1).
    #[must_use]
    pub fn with_client_secret(self, id: &str, secret: &SecretString) -> Self {
        let pair = format!(
            "{}:{}",
            encode_text(id),
            encode_text(secret.expose_secret())
        );
        self.with_authorization(&format!("Basic {}", STANDARD.encode(pair)))
    }

    /// Sends a header that has no credential.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Sets the time limit of the exchange.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the limit of bytes of the response's body.
    #[must_use]
    pub fn with_max_body(mut self, max_body: usize) -> Self {
        self.max_body = max_body;
        self
    }

    fn with_authorization(mut self, value: &str) -> Self {
        if let Ok(mut value) = HeaderValue::from_str(value) {
            value.set_sensitive(true);
            self.headers.insert(AUTHORIZATION, value);
        }
        self
    }

    fn set_body(&mut self, content_type: &'static str, body: Bytes) {
        self.headers
            .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        self.body = Some(body);
    }

    /// Method and URL, without the query.
    pub(super) fn target(&self) -> String {
        format!("{} {}", self.method, self.url.without_query())
    }

    pub(super) fn into_reqwest(self) -> reqwest::Request {
        let mut request = reqwest::Request::new(self.method, self.url.into_inner());
        *request.headers_mut() = self.headers;
        *request.body_mut() = self.body.map(Into::into);
        request
    }
}

fn encode_form(fields: &[(&str, &str)]) -> String {
    let fields = fields
        .iter()
        .map(|(name, value)| format!("{}={}", encode_text(name), encode_text(value)));
    fields.collect::<Vec<_>>().join("&")
}

/// Encodes a text as a form does, by the encoder of URLs.
fn encode_text(text: &str) -> String {
    let mut url = Url::parse("https://localhost/").expect("a constant");
    url.query_pairs_mut().append_key_only(text);
    url.query().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::url::Schemes;
    use super::*;

    fn url() -> HttpUrl {
        HttpUrl::parse("https://a/token?canary=1", Schemes::Https).unwrap()
    }

    #[test]
    fn credentials_are_encoded_and_never_shown() {
        let secret = SecretString::from("canary: +/é&=");
        let request = HttpRequest::get(url()).with_client_secret("a:b c", &secret);
        let value = request.headers[AUTHORIZATION].to_str().unwrap();
        let pair = STANDARD.decode(value.strip_prefix("Basic ").unwrap());
        let pair = String::from_utf8(pair.unwrap()).unwrap();
        assert_eq!(pair, "a%3Ab+c:canary%3A+%2B%2F%C3%A9%26%3D");
        let bearer = HttpRequest::get(url()).with_bearer(&SecretString::from("canary"));
        assert_eq!(bearer.headers[AUTHORIZATION], "Bearer canary");
        for request in [request, bearer] {
            let shown = format!("{request:?} {:?}", request.headers);
            assert!(!shown.contains("canary"), "{shown}");
        }
        let none = HttpRequest::get(url()).with_bearer(&SecretString::from("a\nb"));
        assert!(!none.headers.contains_key(AUTHORIZATION));
    }

    #[test]
    fn forms_are_encoded() {
        assert_eq!(
            encode_form(&[("a", "1 2"), ("b&", "é=")]),
            "a=1+2&b%26=%C3%A9%3D"
        );
        assert_eq!(encode_form(&[]), "");
        let request = HttpRequest::post_form(url(), &[("a", "b")]);
        assert_eq!(
            request.headers[CONTENT_TYPE],
            "application/x-www-form-urlencoded"
        );
        assert_eq!(request.target(), "POST https://a/token");
    }
}
