//! State of the fake API server: Secrets, scripted faults, recorded requests.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::Request;
use axum::http::header::{ACCEPT, USER_AGENT};
use serde_json::Value;

use super::fault::ApiFault;

/// Request that the server received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedRequest {
    /// HTTP method, such as `GET`.
    pub method: String,
    /// Path and query of the URL.
    pub path: String,
    /// Value of the `Accept` header.
    pub accept: String,
    /// Value of the `User-Agent` header.
    pub user_agent: String,
}

impl RecordedRequest {
    pub(super) fn of(request: &Request) -> Self {
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

#[derive(Debug, Default)]
pub(super) struct FakeServer {
    pub(super) state: Mutex<FakeState>,
    pub(super) in_flight: AtomicUsize,
    pub(super) max_in_flight: AtomicUsize,
}

impl FakeServer {
    pub(super) fn state(&self) -> MutexGuard<'_, FakeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
pub(super) struct FakeState {
    pub(super) namespaces: BTreeSet<String>,
    pub(super) secrets: BTreeMap<(String, String), Value>,
    version: u64,
    pub(super) next: VecDeque<ApiFault>,
    pub(super) always: Option<ApiFault>,
    pub(super) about: BTreeMap<String, ApiFault>,
    pub(super) requests: Vec<RecordedRequest>,
}

impl FakeState {
    pub(super) fn store(&mut self, namespace: &str, name: &str, mut secret: Value) -> Value {
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

/// Request that is under way, until its response is sent or its client leaves.
pub(super) struct InFlightRequest(pub(super) Arc<FakeServer>);

impl Drop for InFlightRequest {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}
