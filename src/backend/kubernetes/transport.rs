//! One exchange with the API server: send, read up to a limit, and classify the response.
//!
//! `kube::Client::send` is the only way out: `Api` and `Client::request` log bodies that they cannot parse, and the
//! bodies here are Secrets. For the same reason no text of a response becomes a cause.

use std::error::Error;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, RETRY_AFTER};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use kube::Client;
use kube::client::Body;

use super::decode;
use crate::backend::ErrorKind;
use crate::kubernetes::ApiErrorKind;
use crate::kubernetes::proxy::{self, find_in_chain};

/// Limit of a Retry-After, in seconds. No caller here waits longer than a few seconds.
const MAX_RETRY_AFTER: u64 = 3600;

/// Limit of the bytes that are read of the body of an error: a `Status` is small.
const MAX_STATUS_BYTES: usize = 64 * 1024;

/// Failed exchange, without the path of the request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ExchangeFailure {
    pub(super) kind: ErrorKind,
    pub(super) retry_after: Option<Duration>,
    /// Fixed text of this program.
    pub(super) cause: String,
}

impl ExchangeFailure {
    pub(super) fn new(kind: ErrorKind, cause: impl Into<String>) -> Self {
        Self {
            kind,
            retry_after: None,
            cause: cause.into(),
        }
    }
}

pub(super) fn request(
    method: Method,
    path: String,
    accept: &'static str,
    body: Body,
) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(path)
        .header(ACCEPT, accept)
        .body(body)
        .expect("paths are made of checked names")
}

/// Sends a request and returns the body of a success. At most `limit` bytes are read.
pub(super) async fn exchange(
    client: &Client,
    request: Request<Body>,
    limit: usize,
) -> Result<Bytes, ExchangeFailure> {
    let response = client
        .send(request)
        .await
        .map_err(|error| connection_failure(&error))?;
    let (parts, body) = response.into_parts();
    // Only these bodies can change the meaning of the response; hyper discards the others.
    let reads_body = parts.status.is_success() || parts.status == StatusCode::NOT_FOUND;
    let limit = if parts.status.is_success() {
        limit
    } else {
        MAX_STATUS_BYTES
    };
    let body = if reads_body {
        collect(body, limit).await?
    } else {
        Bytes::new()
    };
    match classify_response(parts.status, &parts.headers, &body) {
        Some(failure) => Err(failure),
        None => Ok(body),
    }
}

async fn collect(body: Body, limit: usize) -> Result<Bytes, ExchangeFailure> {
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ExchangeFailure::new(
            ErrorKind::Protocol,
            format!("the answer is longer than {limit} bytes"),
        )),
        Err(error) => Err(connection_failure(error.as_ref())),
    }
}

/// Classifies a response; `None` for a success.
pub(super) fn classify_response(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
) -> Option<ExchangeFailure> {
    let kind = match ApiErrorKind::from_status(status)? {
        // A 404 of a proxy or of a wrong address does not mean that the secret does not exist.
        ApiErrorKind::NotFound if !decode::is_not_found(body) => ErrorKind::Protocol,
        kind => kind.into(),
    };
    let retry_after = if kind.is_retryable() {
        retry_after(headers)
    } else {
        None
    };
    Some(ExchangeFailure {
        kind,
        retry_after,
        cause: format!("the API server answered HTTP {}", status.as_u16()),
    })
}

/// Retry-After in seconds, as the API server sends it. The date form, which a proxy may send, is ignored: it would need
/// a clock that agrees with that of the proxy.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds.min(MAX_RETRY_AFTER)))
}

/// Failure without a complete response. Its cause is one of the fixed texts below: an error of the transport may quote
/// the peer, and that of a credential plugin its output.
fn connection_failure(error: &(dyn Error + 'static)) -> ExchangeFailure {
    if let Some(fault) = proxy::proxy_problem(error) {
        return ExchangeFailure::new(ErrorKind::Unavailable, fault);
    }
    let mut io_kind = None;
    let mut next = Some(error);
    while let Some(error) = next {
        if matches!(error.downcast_ref(), Some(kube::Error::Auth(_)))
            || error.is::<kube::client::AuthError>()
        {
            return ExchangeFailure::new(
                ErrorKind::Unauthenticated,
                "no credential for the API server could be obtained",
            );
        }
        if let Some(tls) = find_in_chain(error) {
            return ExchangeFailure::new(ErrorKind::Unavailable, tls_cause(tls));
        }
        if let Some(io) = error.downcast_ref::<io::Error>() {
            io_kind = Some(io.kind());
        }
        next = error.source();
    }
    let cause = match io_kind {
        Some(io::ErrorKind::TimedOut) => "the API server did not answer in time".to_owned(),
        Some(io::ErrorKind::ConnectionRefused) => "the API server refuses connections".to_owned(),
        Some(kind) => format!("no connection to the API server: {kind}"),
        None => "the connection to the API server broke".to_owned(),
    };
    ExchangeFailure::new(ErrorKind::Unavailable, cause)
}

/// Cause of a TLS error. Certificate errors that operators cause have a text of their own; the text of other errors
/// would quote the certificate of the peer.
fn tls_cause(error: &rustls::Error) -> &'static str {
    use rustls::CertificateError as Bad;
    match error {
        rustls::Error::InvalidCertificate(Bad::UnknownIssuer) => {
            "the API server's certificate is not signed by the configured CA"
        }
        rustls::Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
            "the API server's certificate has expired"
        }
        rustls::Error::InvalidCertificate(
            Bad::NotValidForName | Bad::NotValidForNameContext { .. },
        ) => "the API server's certificate is for another name",
        rustls::Error::InvalidCertificate(_) => "the API server's certificate is not valid",
        rustls::Error::AlertReceived(_) => "the API server refused the TLS connection",
        _ => "no TLS connection to the API server",
    }
}

impl From<ApiErrorKind> for ErrorKind {
    fn from(kind: ApiErrorKind) -> Self {
        match kind {
            ApiErrorKind::NotFound => Self::NotFound,
            ApiErrorKind::Unauthenticated => Self::Unauthenticated,
            ApiErrorKind::Forbidden => Self::PermissionDenied,
            ApiErrorKind::Conflict => Self::Conflict,
            ApiErrorKind::Invalid => Self::Invalid,
            ApiErrorKind::RateLimited => Self::RateLimited,
            // Gone: the snapshot of a list has expired; a new list succeeds.
            ApiErrorKind::Unavailable | ApiErrorKind::Gone => Self::Unavailable,
            ApiErrorKind::TooLong | ApiErrorKind::Unexpected => Self::Protocol,
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const NOT_FOUND: &str =
        r#"{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}"#;

    #[rstest]
    #[case(400, "", ErrorKind::Invalid)]
    #[case(401, "", ErrorKind::Unauthenticated)]
    #[case(403, "", ErrorKind::PermissionDenied)]
    #[case(404, NOT_FOUND, ErrorKind::NotFound)]
    #[case(404, "404 page not found", ErrorKind::Protocol)]
    #[case(404, "", ErrorKind::Protocol)]
    #[case(404, r#"{"kind":"Status","reason":"Forbidden"}"#, ErrorKind::Protocol)]
    #[case(404, r#"{"kind":"Secret","reason":"NotFound"}"#, ErrorKind::Protocol)]
    #[case(405, "", ErrorKind::Protocol)]
    #[case(406, "", ErrorKind::Protocol)]
    #[case(409, "", ErrorKind::Conflict)]
    #[case(410, "", ErrorKind::Unavailable)]
    #[case(422, "", ErrorKind::Invalid)]
    #[case(429, "", ErrorKind::RateLimited)]
    #[case(500, NOT_FOUND, ErrorKind::Unavailable)]
    #[case(503, "", ErrorKind::Unavailable)]
    #[case(504, "", ErrorKind::Unavailable)]
    #[case(302, "", ErrorKind::Protocol)]
    fn status_codes_have_one_meaning(
        #[case] status: u16,
        #[case] body: &str,
        #[case] kind: ErrorKind,
    ) {
        let failure = classify_response(
            StatusCode::from_u16(status).unwrap(),
            &HeaderMap::new(),
            body.as_bytes(),
        )
        .unwrap();
        assert_eq!(failure.kind, kind);
    }

    #[rstest]
    #[case(429, "3", Some(3))]
    #[case(503, "1", Some(1))]
    #[case(429, "99999999999", Some(MAX_RETRY_AFTER))]
    #[case(429, "Fri, 31 Dec 1999 23:59:59 GMT", None)]
    #[case(429, "-1", None)]
    #[case(403, "3", None)]
    fn retry_after_is_read_from_retryable_responses(
        #[case] status: u16,
        #[case] header: &str,
        #[case] seconds: Option<u64>,
    ) {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, header.parse().unwrap())]);
        let failure =
            classify_response(StatusCode::from_u16(status).unwrap(), &headers, b"").unwrap();
        assert_eq!(failure.retry_after, seconds.map(Duration::from_secs));
    }

    #[test]
    fn success_is_not_a_failure() {
        assert_eq!(
            classify_response(StatusCode::OK, &HeaderMap::new(), b"anything"),
            None
        );
        assert_eq!(
            classify_response(StatusCode::CREATED, &HeaderMap::new(), b""),
            None
        );
    }

    #[test]
    fn certificate_errors_have_their_own_causes() {
        let unknown = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let failure = connection_failure(&io::Error::new(io::ErrorKind::InvalidData, unknown));
        assert_eq!(failure.kind, ErrorKind::Unavailable);
        assert!(
            failure.cause.contains("not signed by the configured CA"),
            "{}",
            failure.cause
        );
    }
}
