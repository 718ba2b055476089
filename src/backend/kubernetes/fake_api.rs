//! A stand-in for the API server's Secrets, on loopback, with faults on demand: for tests.
//!
//! It speaks what a client of Secrets can notice: metadata-only answers, pages, merge patches with a
//! `resourceVersion`, `Status` errors. Every error and every spoilt answer carries [`CANARY`] wherever a real
//! one could carry a value, so that a test can look for it where it must not appear.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::sleep;

pub use crate::backend::conformance::{CANARY, leaks};

/// What the server does instead of its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiFault {
    /// A `Status` of this code.
    Status(u16),
    /// 429 with this Retry-After in seconds.
    TooManyRequests(u64),
    /// 404 from something that is not an API server.
    PageNotFound,
    /// 200 and no JSON.
    Garbage,
    /// 200 and half a Secret, as a whole answer.
    Truncated,
    /// 200 and half a Secret, then the connection breaks.
    BrokenOff,
    /// 200 and another Secret than was asked for.
    OtherObject,
    /// 200 and more bytes than anyone should read.
    Endless,
    /// The right answer, this much later.
    Slow(Duration),
    /// No answer.
    Never,
}

/// A request as the server saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// `GET`, …
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The header.
    pub accept: String,
    /// The header.
    pub user_agent: String,
}

/// The server; it stops when dropped.
#[derive(Debug)]
pub struct FakeApi {
    address: SocketAddr,
    server: Arc<Server>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Server {
    state: Mutex<Stored>,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
}

#[derive(Debug, Default)]
struct Stored {
    namespaces: BTreeSet<String>,
    secrets: BTreeMap<(String, String), Value>,
    version: u64,
    next: VecDeque<ApiFault>,
    always: Option<ApiFault>,
    about: BTreeMap<String, ApiFault>,
    seen: Vec<Seen>,
}

impl Drop for FakeApi {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FakeApi {
    /// Starts one with these namespaces.
    ///
    /// # Panics
    /// When loopback has no free port.
    pub async fn start(namespaces: &[&str]) -> Self {
        let server = Arc::new(Server::default());
        server
            .stored()
            .namespaces
            .extend(namespaces.iter().map(|&namespace| namespace.to_owned()));
        let secrets = "/api/v1/namespaces/{namespace}/secrets";
        let router = Router::new()
            .route(secrets, get(list).post(create))
            .route(
                &format!("{secrets}/{{name}}"),
                get(read).patch(patch).delete(remove),
            )
            .route("/readyz", get(async || "ok"))
            .fallback(async || page_not_found())
            .layer(from_fn_with_state(Arc::clone(&server), gate))
            .with_state(Arc::clone(&server));
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let task = tokio::spawn(async move {
            axum::serve(listener, router)
                .await
                .expect("serving on loopback does not fail");
        });
        Self {
            address,
            server,
            task,
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A client for it, as impatient as admission's.
    ///
    /// # Panics
    /// Never: the URL is valid.
    #[must_use]
    pub fn client(&self) -> Client {
        let mut config = Config::new(self.url().parse().expect("a loopback URL"));
        // Otherwise the platform's roots are loaded, and a minimal image has none.
        config.accept_invalid_certs = true;
        crate::kubernetes::client::client(config).expect("a configuration without credentials")
    }

    /// Stores a Secret as another program would.
    pub fn put(&self, namespace: &str, name: &str, data: &[(&str, &str)]) {
        let data: BTreeMap<&str, String> = data
            .iter()
            .map(|(key, value)| (*key, STANDARD.encode(value)))
            .collect();
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": {"name": name, "namespace": namespace},
            "data": data,
        });
        self.server.stored().store(namespace, name, secret);
    }

    /// The Secret as it is stored.
    #[must_use]
    pub fn stored(&self, namespace: &str, name: &str) -> Option<Value> {
        self.server
            .stored()
            .secrets
            .get(&(namespace.to_owned(), name.to_owned()))
            .cloned()
    }

    /// What the next request without an earlier script meets.
    pub fn next(&self, fault: ApiFault) {
        self.server.stored().next.push_back(fault);
    }

    /// What every request meets that [`Self::next`] does not script; `None` heals.
    pub fn always(&self, fault: Option<ApiFault>) {
        self.server.stored().always = fault;
    }

    /// What every request about the Secret of this name meets, in any namespace and before any other script.
    pub fn about(&self, name: &str, fault: ApiFault) {
        self.server.stored().about.insert(name.to_owned(), fault);
    }

    /// Deletes a Secret as another program would.
    pub fn delete(&self, namespace: &str, name: &str) {
        self.server
            .stored()
            .secrets
            .remove(&(namespace.to_owned(), name.to_owned()));
    }

    /// All requests so far.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.server.stored().seen.clone()
    }

    /// How many requests are being worked on.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.server.in_flight.load(Ordering::SeqCst)
    }

    /// How many it ever worked on at once.
    #[must_use]
    pub fn most_in_flight(&self) -> usize {
        self.server.most_in_flight.load(Ordering::SeqCst)
    }
}

impl Server {
    fn stored(&self) -> MutexGuard<'_, Stored> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stored {
    fn store(&mut self, namespace: &str, name: &str, mut secret: Value) -> Value {
        self.version += 1;
        if let Some(metadata) = secret.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("namespace".to_owned(), namespace.into());
            metadata.insert(
                "resourceVersion".to_owned(),
                self.version.to_string().into(),
            );
        }
        self.secrets
            .insert((namespace.to_owned(), name.to_owned()), secret.clone());
        secret
    }
}

/// A request under way, until its answer is sent or its client is gone.
struct Flight(Arc<Server>);

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Seen {
    fn of(request: &Request) -> Self {
        let text = |name| {
            let value = request
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        Self {
            method: request.method().to_string(),
            path: request.uri().to_string(),
            accept: text(ACCEPT),
            user_agent: text(USER_AGENT),
        }
    }
}

/// Notes the request, then answers it or does what is scripted.
async fn gate(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    let in_flight = server.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
    server.most_in_flight.fetch_max(in_flight, Ordering::SeqCst);
    let _flight = Flight(Arc::clone(&server));
    let seen = Seen::of(&request);
    let fault = {
        let mut stored = server.stored();
        let about = seen
            .path
            .rsplit('/')
            .next()
            .and_then(|name| stored.about.get(name))
            .copied();
        stored.seen.push(seen);
        about.or_else(|| stored.next.pop_front()).or(stored.always)
    };
    match fault {
        None => next.run(request).await,
        Some(ApiFault::Slow(pause)) => {
            sleep(pause).await;
            next.run(request).await
        }
        Some(ApiFault::Never) => std::future::pending().await,
        Some(ApiFault::Status(code)) => status(code, "Scripted", "secrets"),
        Some(ApiFault::TooManyRequests(seconds)) => {
            let mut response = status(429, "TooManyRequests", "secrets");
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from(seconds));
            response
        }
        Some(ApiFault::PageNotFound) => page_not_found(),
        Some(ApiFault::Garbage) => format!("{CANARY} is no JSON").into_response(),
        Some(ApiFault::Truncated) => json_response(StatusCode::OK, half_a_secret()),
        Some(ApiFault::BrokenOff) => {
            let broken = futures::stream::iter([
                Ok(Bytes::from(half_a_secret())),
                Err(std::io::Error::other(CANARY)),
            ]);
            json_response(StatusCode::OK, Body::from_stream(broken))
        }
        Some(ApiFault::OtherObject) => {
            let other = json!({
                "apiVersion": "v1", "kind": "Secret",
                "metadata": {"name": CANARY, "namespace": "jobs"},
                "data": {"user": STANDARD.encode(CANARY)},
            });
            json_response(StatusCode::OK, other.to_string())
        }
        Some(ApiFault::Endless) => {
            let endless = futures::stream::repeat_with(|| {
                Ok::<_, std::io::Error>(Bytes::from_static(&[b' '; 8192]))
            });
            json_response(StatusCode::OK, Body::from_stream(endless))
        }
    }
}

type In = State<Arc<Server>>;

async fn read(
    State(server): In,
    Path((namespace, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    match server.stored().secrets.get(&(namespace, name)) {
        Some(secret) => json_response(StatusCode::OK, shaped(secret, &headers).to_string()),
        None => status(404, "NotFound", "secrets"),
    }
}

async fn remove(State(server): In, Path(key): Path<(String, String)>) -> Response {
    match server.stored().secrets.remove(&key) {
        Some(_) => json_response(
            StatusCode::OK,
            json!({"kind": "Status", "status": "Success"}).to_string(),
        ),
        None => status(404, "NotFound", "secrets"),
    }
}

async fn create(
    State(server): In,
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
    let mut stored = server.stored();
    if !stored.namespaces.contains(&namespace) {
        return status(404, "NotFound", "namespaces");
    }
    if stored
        .secrets
        .contains_key(&(namespace.clone(), name.clone()))
    {
        return status(409, "AlreadyExists", "secrets");
    }
    let secret = stored.store(&namespace, &name, secret);
    json_response(StatusCode::CREATED, shaped(&secret, &headers).to_string())
}

async fn patch(
    State(server): In,
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
    let mut stored = server.stored();
    let Some(mut secret) = stored
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
    let secret = stored.store(&namespace, &name, secret);
    json_response(StatusCode::OK, shaped(&secret, &headers).to_string())
}

async fn list(
    State(server): In,
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
    let stored = server.stored();
    let rest: Vec<_> = stored
        .secrets
        .iter()
        .filter(|((of, name), _)| *of == namespace && *name > after)
        .take(limit)
        .collect();
    let more = rest
        .last()
        .filter(|_| rest.len() == limit)
        .map(|((_, name), _)| URL_SAFE_NO_PAD.encode(name));
    let items: Vec<Value> = rest
        .iter()
        .map(|(_, secret)| shaped(secret, &headers))
        .collect();
    let (kind, version) = if wants_metadata(&headers) {
        ("PartialObjectMetadataList", "meta.k8s.io/v1")
    } else {
        ("SecretList", "v1")
    };
    let list = json!({
        "kind": kind, "apiVersion": version, "metadata": {"continue": more.unwrap_or_default()}, "items": items,
    });
    json_response(StatusCode::OK, list.to_string())
}

// === answers ===

fn wants_metadata(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains("as=PartialObjectMetadata"))
}

fn shaped(secret: &Value, headers: &HeaderMap) -> Value {
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

fn status(code: u16, reason: &str, kind: &str) -> Response {
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

fn page_not_found() -> Response {
    (
        StatusCode::NOT_FOUND,
        format!("404 page not found {CANARY}"),
    )
        .into_response()
}

fn json_response(code: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = code;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
