//! One exchange with the API server: send, read with a cap, and translate what came back.
//!
//! `kube::Client::send` is the only way out: `Api` and `Client::request` log bodies that they cannot parse,
//! and the bodies here are Secrets. For the same reason no text of an answer ever becomes a cause.

use std::error::Error;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header::RETRY_AFTER};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use kube::Client;
use kube::client::Body;

use super::wire;
use crate::backend::ErrorKind;
use crate::kubernetes::ApiErrorKind;
use crate::kubernetes::proxy::{self, carried};

/// The longest Retry-After that is believed; nobody here waits longer than a few seconds anyway.
const MAX_RETRY_AFTER: u64 = 3600;

/// The most of an error's body that is read: a `Status` is small.
const STATUS_LIMIT: usize = 64 * 1024;

/// A failed exchange, before it is known what was asked about.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) kind: ErrorKind,
    pub(super) retry_after: Option<Duration>,
    /// Words of this program.
    pub(super) cause: String,
}

impl Failure {
    pub(super) fn new(kind: ErrorKind, cause: impl Into<String>) -> Self {
        Self {
            kind,
            retry_after: None,
            cause: cause.into(),
        }
    }
}

/// Sends a request and answers the body of a success. At most `limit` bytes are read.
pub(super) async fn exchange(
    client: &Client,
    request: Request<Body>,
    limit: usize,
) -> Result<Bytes, Failure> {
    let response = client
        .send(request)
        .await
        .map_err(|error| no_answer(&error))?;
    let (parts, body) = response.into_parts();
    // Only these bodies can change what the answer means; hyper discards the others.
    let read = parts.status.is_success() || parts.status == StatusCode::NOT_FOUND;
    let limit = if parts.status.is_success() {
        limit
    } else {
        STATUS_LIMIT
    };
    let body = if read {
        collect(body, limit).await?
    } else {
        Bytes::new()
    };
    match verdict(parts.status, &parts.headers, &body) {
        Some(failure) => Err(failure),
        None => Ok(body),
    }
}

async fn collect(body: Body, limit: usize) -> Result<Bytes, Failure> {
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Failure::new(
            ErrorKind::Protocol,
            format!("the answer is longer than {limit} bytes"),
        )),
        Err(error) => Err(no_answer(error.as_ref())),
    }
}

/// The meaning of a response that is not a success.
pub(super) fn verdict(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Option<Failure> {
    let kind = match ApiErrorKind::from_status(status)? {
        // A 404 of a proxy or of a wrong address says nothing about the secret.
        ApiErrorKind::NotFound if !wire::is_not_found(body) => ErrorKind::Protocol,
        kind => kind.into(),
    };
    let retry_after = if kind.is_retryable() {
        retry_after(headers)
    } else {
        None
    };
    Some(Failure {
        kind,
        retry_after,
        cause: format!("the API server answered HTTP {}", status.as_u16()),
    })
}

/// The header in seconds, as the API server writes it. The date form, which a proxy may write, is ignored:
/// it would need a clock that agrees with the proxy's.
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

/// No answer, or half of one. The causes below are chosen from fixed words: an error of the transport may
/// quote the peer, and that of a credential plugin its output.
fn no_answer(error: &(dyn Error + 'static)) -> Failure {
    if let Some(fault) = proxy::fault(error) {
        return Failure::new(ErrorKind::Unavailable, fault);
    }
    let mut io_kind = None;
    let mut next = Some(error);
    while let Some(error) = next {
        if matches!(error.downcast_ref(), Some(kube::Error::Auth(_)))
            || error.is::<kube::client::AuthError>()
        {
            return Failure::new(
                ErrorKind::Unauthenticated,
                "no credential for the API server could be obtained",
            );
        }
        if let Some(tls) = carried(error) {
            return Failure::new(ErrorKind::Unavailable, tls_words(tls));
        }
        if let Some(io) = error.downcast_ref::<io::Error>() {
            io_kind = Some(io.kind());
        }
        next = error.source();
    }
    let words = match io_kind {
        Some(io::ErrorKind::TimedOut) => "the API server did not answer in time".to_owned(),
        Some(io::ErrorKind::ConnectionRefused) => "the API server refuses connections".to_owned(),
        Some(kind) => format!("no connection to the API server: {kind}"),
        None => "the connection to the API server broke".to_owned(),
    };
    Failure::new(ErrorKind::Unavailable, words)
}

/// The certificate mistakes that operators make, told apart; the rest would quote the peer's certificate.
fn tls_words(error: &rustls::Error) -> &'static str {
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
    fn statuses_have_one_meaning(#[case] status: u16, #[case] body: &str, #[case] kind: ErrorKind) {
        let failure = verdict(
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
    fn retry_after_is_read_where_it_can_matter(
        #[case] status: u16,
        #[case] header: &str,
        #[case] seconds: Option<u64>,
    ) {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, header.parse().unwrap())]);
        let failure = verdict(StatusCode::from_u16(status).unwrap(), &headers, b"").unwrap();
        assert_eq!(failure.retry_after, seconds.map(Duration::from_secs));
    }

    #[test]
    fn a_success_is_no_failure() {
        assert_eq!(
            verdict(StatusCode::OK, &HeaderMap::new(), b"anything"),
            None
        );
        assert_eq!(verdict(StatusCode::CREATED, &HeaderMap::new(), b""), None);
    }

    #[test]
    fn certificate_mistakes_are_named() {
        let unknown = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let failure = no_answer(&io::Error::new(io::ErrorKind::InvalidData, unknown));
        assert_eq!(failure.kind, ErrorKind::Unavailable);
        assert!(
            failure.cause.contains("not signed by the configured CA"),
            "{}",
            failure.cause
        );
    }
}
