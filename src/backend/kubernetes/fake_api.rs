//! Fake API server for Secrets on loopback, with scripted faults, for tests.
//!
//! It implements what a client of Secrets can notice: metadata-only responses, pages, merge patches with a
//! `resourceVersion`, `Status` errors. Every error and every damaged response has [`CANARY`] wherever a real one could
//! have a value, so that a test can check that it does not appear elsewhere.

mod fault;
mod handlers;
mod responses;
mod state;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use self::handlers::{create, inject_fault, list, patch, read, remove};
use self::state::FakeServer;

pub use crate::backend::conformance::{CANARY, leaks};
pub use fault::ApiFault;
pub use state::RecordedRequest;

/// Fake API server; it stops when dropped.
#[derive(Debug)]
pub struct FakeApi {
    address: SocketAddr,
    server: Arc<FakeServer>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for FakeApi {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FakeApi {
    /// Starts a server with these namespaces.
    ///
    /// # Panics
    /// If loopback has no free port.
    pub async fn start(namespaces: &[&str]) -> Self {
        let server = Arc::new(FakeServer::default());
        server
            .state()
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
            .fallback(async || responses::page_not_found())
            .layer(from_fn_with_state(Arc::clone(&server), inject_fault))
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

    /// URL of the server.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Client for the server, with the timeouts of admission.
    ///
    /// # Panics
    /// Never: the URL is valid.
    #[must_use]
    pub fn client(&self) -> Client {
        let mut config = Config::new(self.url().parse().expect("a loopback URL"));
        // Without this the root certificates of the platform are loaded, and a minimal image has none.
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
        self.server.state().store(namespace, name, secret);
    }

    /// Returns the stored Secret.
    #[must_use]
    pub fn stored(&self, namespace: &str, name: &str) -> Option<Value> {
        self.server
            .state()
            .secrets
            .get(&(namespace.to_owned(), name.to_owned()))
            .cloned()
    }

    /// Scripts a fault for the next request for Secrets that has none yet. Other requests, such as those of a start,
    /// take none: their order is not certain.
    pub fn next(&self, fault: ApiFault) {
        self.server.state().next.push_back(fault);
    }

    /// Sets the fault of every request that [`Self::next`] does not script; `None` ends it.
    pub fn always(&self, fault: Option<ApiFault>) {
        self.server.state().always = fault;
    }

    /// Sets the fault of every request for Secrets of this name, in any namespace. It precedes all other faults.
    pub fn about(&self, name: &str, fault: ApiFault) {
        self.server.state().about.insert(name.to_owned(), fault);
    }

    /// Deletes a Secret as another program would.
    pub fn delete(&self, namespace: &str, name: &str) {
        self.server
            .state()
            .secrets
            .remove(&(namespace.to_owned(), name.to_owned()));
    }

    /// Requests so far.
    #[must_use]
    pub fn seen(&self) -> Vec<RecordedRequest> {
        self.server.state().requests.clone()
    }

    /// Number of requests that are under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.server.in_flight.load(Ordering::SeqCst)
    }

    /// Greatest number of requests that were under way at the same time.
    #[must_use]
    pub fn max_in_flight(&self) -> usize {
        self.server.max_in_flight.load(Ordering::SeqCst)
    }
}
