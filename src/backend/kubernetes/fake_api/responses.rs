//! Responses of the fake API server.

use axum::body::{Body, Bytes};
use axum::http::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::fault::ApiFault;
use crate::backend::conformance::CANARY;

/// Response of a fault; `None` for faults that are not a response.
pub(super) fn fault(fault: ApiFault) -> Option<Response> {
    Some(match fault {
        ApiFault::Slow(_) | ApiFault::NoResponse => return None,
        ApiFault::Status(code) => status(code, "Scripted", "secrets"),
        ApiFault::TooManyRequests(seconds) => {
            let mut response = status(429, "TooManyRequests", "secrets");
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from(seconds));
            response
        }
        ApiFault::PageNotFound => page_not_found(),
        ApiFault::Garbage => format!("{CANARY} is not JSON").into_response(),
        ApiFault::Truncated => json_response(StatusCode::OK, half_a_secret()),
        ApiFault::BrokenOff => {
            let broken = futures::stream::iter([
                Ok(Bytes::from(half_a_secret())),
                Err(std::io::Error::other(CANARY)),
            ]);
            json_response(StatusCode::OK, Body::from_stream(broken))
        }
        ApiFault::OtherObject => {
            let other = json!({
                "apiVersion": "v1", "kind": "Secret",
                "metadata": {"name": CANARY, "namespace": "jobs"},
                "data": {"user": STANDARD.encode(CANARY)},
            });
            json_response(StatusCode::OK, other.to_string())
        }
        ApiFault::Endless => {
            let endless = futures::stream::repeat_with(|| {
                Ok::<_, std::io::Error>(Bytes::from_static(&[b' '; 8192]))
            });
            json_response(StatusCode::OK, Body::from_stream(endless))
        }
    })
}

pub(super) fn wants_metadata(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains("as=PartialObjectMetadata"))
}

pub(super) fn shaped(secret: &Value, headers: &HeaderMap) -> Value {
    if !wants_metadata(headers) {
        return secret.clone();
    }
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": secret.get("metadata")})
}

fn half_a_secret() -> String {
    let value = STANDARD.encode(CANARY);
    format!(
        r#"{{"kind":"Secret","apiVersion":"v1","metadata":{{"name":"{CANARY}"}},"data":{{"user":"{value}","password":"{value}"#
    )
}

pub(super) fn status(code: u16, reason: &str, kind: &str) -> Response {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": reason, "code": code,
        "message": format!("{kind} \"{CANARY}\": {reason}"),
        "details": {"kind": kind, "name": CANARY, "causes": [{"message": CANARY}]},
    });
    json_response(
        StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        body.to_string(),
    )
}

pub(super) fn page_not_found() -> Response {
    (
        StatusCode::NOT_FOUND,
        format!("404 page not found {CANARY}"),
    )
        .into_response()
}

pub(super) fn json_response(code: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = code;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
