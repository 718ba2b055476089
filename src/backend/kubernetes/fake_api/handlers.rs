//! Handlers of the fake API server: one per verb on Secrets, behind the scripted faults.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Bytes;
use axum::extract::{Path, Query, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::fault::ApiFault;
use super::responses::{self, json_response, shaped, status, wants_metadata};
use super::state::{FakeServer, InFlightRequest, RecordedRequest};

/// Records the request, then passes it on or applies its scripted fault.
pub(super) async fn inject_fault(
    State(server): State<Arc<FakeServer>>,
    request: Request,
    next: Next,
) -> Response {
    let in_flight = server.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
    server.max_in_flight.fetch_max(in_flight, Ordering::SeqCst);
    let _in_flight = InFlightRequest(Arc::clone(&server));
    let recorded = RecordedRequest::of(&request);
    let fault = {
        let mut state = server.state();
        let about = recorded
            .path
            .rsplit('/')
            .next()
            .and_then(|name| state.about.get(name))
            .copied();
        let scripted = recorded
            .path
            .contains("/secrets")
            .then(|| state.next.pop_front());
        state.requests.push(recorded);
        about.or(scripted.flatten()).or(state.always)
    };
    match fault {
        None => next.run(request).await,
        Some(ApiFault::Slow(delay)) => {
            sleep(delay).await;
            next.run(request).await
        }
        Some(ApiFault::NoResponse) => std::future::pending().await,
        Some(fault) => responses::fault(fault).expect("other faults have a response"),
    }
}

type ServerState = State<Arc<FakeServer>>;

pub(super) async fn read(
    State(server): ServerState,
    Path((namespace, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    match server.state().secrets.get(&(namespace, name)) {
        Some(secret) => json_response(StatusCode::OK, shaped(secret, &headers).to_string()),
        None => status(404, "NotFound", "secrets"),
    }
}

pub(super) async fn create(
    State(server): ServerState,
    Path(namespace): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Ok(secret) = serde_json::from_slice::<Value>(&body) else {
        return status(400, "BadRequest", "secrets");
    };
    let Some(name) = secret
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .map(ToOwned::to_owned)
    else {
        return status(422, "Invalid", "secrets");
    };
    let mut state = server.state();
    if !state.namespaces.contains(&namespace) {
        return status(404, "NotFound", "namespaces");
    }
    if state
        .secrets
        .contains_key(&(namespace.clone(), name.clone()))
    {
        return status(409, "AlreadyExists", "secrets");
    }
    let secret = state.store(&namespace, &name, secret);
    json_response(StatusCode::CREATED, shaped(&secret, &headers).to_string())
}

pub(super) async fn patch(
    State(server): ServerState,
    Path((namespace, name)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if headers
        .get(CONTENT_TYPE)
        .is_none_or(|content| content != "application/merge-patch+json")
    {
        return status(415, "UnsupportedMediaType", "secrets");
    }
    let Ok(patch) = serde_json::from_slice::<Value>(&body) else {
        return status(400, "BadRequest", "secrets");
    };
    let mut state = server.state();
    let Some(mut secret) = state
        .secrets
        .get(&(namespace.clone(), name.clone()))
        .cloned()
    else {
        return status(404, "NotFound", "secrets");
    };
    let version = "/metadata/resourceVersion";
    if patch
        .pointer(version)
        .is_some_and(|wanted| secret.pointer(version) != Some(wanted))
    {
        return status(409, "Conflict", "secrets");
    }
    json_patch::merge(&mut secret, &patch);
    let secret = state.store(&namespace, &name, secret);
    json_response(StatusCode::OK, shaped(&secret, &headers).to_string())
}

pub(super) async fn remove(
    State(server): ServerState,
    Path(key): Path<(String, String)>,
) -> Response {
    match server.state().secrets.remove(&key) {
        Some(_) => json_response(
            StatusCode::OK,
            json!({"kind": "Status", "status": "Success"}).to_string(),
        ),
        None => status(404, "NotFound", "secrets"),
    }
}

pub(super) async fn list(
    State(server): ServerState,
    Path(namespace): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let after = query
        .get("continue")
        .and_then(|token| URL_SAFE_NO_PAD.decode(token).ok());
    let after = after
        .and_then(|name| String::from_utf8(name).ok())
        .unwrap_or_default();
    let limit = query
        .get("limit")
        .and_then(|limit| limit.parse().ok())
        .unwrap_or(usize::MAX);
    let state = server.state();
    let page: Vec<_> = state
        .secrets
        .iter()
        .filter(|((of, name), _)| *of == namespace && *name > after)
        .take(limit)
        .collect();
    let continue_token = page
        .last()
        .filter(|_| page.len() == limit)
        .map(|((_, name), _)| URL_SAFE_NO_PAD.encode(name));
    let items: Vec<Value> = page
        .iter()
        .map(|(_, secret)| shaped(secret, &headers))
        .collect();
    let (kind, version) = if wants_metadata(&headers) {
        ("PartialObjectMetadataList", "meta.k8s.io/v1")
    } else {
        ("SecretList", "v1")
    };
    let list = json!({
        "kind": kind, "apiVersion": version, "metadata": {"continue": continue_token.unwrap_or_default()}, "items": items,
    });
    json_response(StatusCode::OK, list.to_string())
}
