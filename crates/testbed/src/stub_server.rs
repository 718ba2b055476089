//! Small admission webhook that responds as the test requires, and records its calls.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::pki::{Authority, CertificatePair};
use super::webhook::{SERVICE_HOST, Target, shipped_configuration};

/// Returns the `response` of an `AdmissionReview` for its `request`; the uid is added afterwards.
pub type Respond = dyn Fn(&Value) -> Value + Send + Sync;

/// Running server. Stopped on drop.
pub struct Stub {
    /// Port on 127.0.0.1.
    pub port: u16,
    ca: String,
    pair: CertificatePair,
    respond: Arc<Respond>,
    calls: Arc<Mutex<Vec<Call>>>,
    accepting: Option<JoinHandle<()>>,
}

/// Call by the API server.
#[derive(Debug, Clone)]
pub struct Call {
    /// Path of the URL, which identifies the entry of the configuration.
    pub path: String,
    /// `request` of the `AdmissionReview`.
    pub request: Value,
}

impl Call {
    /// Name of the object, or its `generateName`.
    pub fn object_name(&self) -> &str {
        let metadata = |object: &'static str, key: &'static str| {
            self.request[object]["metadata"][key].as_str()
        };
        metadata("object", "name")
            .or_else(|| metadata("object", "generateName"))
            .or_else(|| metadata("oldObject", "name"))
            .unwrap_or_default()
    }

    /// Operation and path, as in `CREATE /admit/pods`.
    pub fn summary(&self) -> String {
        format!(
            "{} {}",
            self.request["operation"].as_str().unwrap_or_default(),
            self.path
        )
    }
}

impl Stub {
    /// Starts a stub that allows everything.
    pub async fn start(authority: &Authority) -> Self {
        Self::start_with(authority, |_| json!({"allowed": true})).await
    }

    /// Starts a stub that responds with `respond`.
    pub async fn start_with(
        authority: &Authority,
        respond: impl Fn(&Value) -> Value + Send + Sync + 'static,
    ) -> Self {
        let pair = authority.server(&["127.0.0.1", "localhost", SERVICE_HOST]);
        let ca = authority.pem();
        let mut stub = Self {
            port: 0,
            ca,
            pair,
            respond: Arc::new(respond),
            calls: Arc::default(),
            accepting: None,
        };
        stub.restart().await;
        stub
    }

    /// Listens again after [`Stub::stop`], on the same port.
    pub async fn restart(&mut self) {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], self.port)))
            .await
            .expect("a port");
        self.port = listener
            .local_addr()
            .expect("a bound listener has an address")
            .port();
        let acceptor = TlsAcceptor::from(Arc::new(tls(&self.pair)));
        let (respond, calls) = (self.respond.clone(), self.calls.clone());
        self.accepting = Some(tokio::spawn(accept(listener, acceptor, respond, calls)));
    }

    /// Stops listening and closes every connection, as a crash would.
    pub async fn stop(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
            accepting.await.ok();
        }
    }

    /// All calls so far.
    pub fn calls(&self) -> Vec<Call> {
        self.calls
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Calls about the object of this name (or `generateName`), as [`Call::summary`].
    pub fn calls_about(&self, name: &str) -> Vec<String> {
        self.calls()
            .iter()
            .filter(|call| call.object_name() == name)
            .map(Call::summary)
            .collect()
    }

    /// Shipped configuration, with the URL of this server.
    pub fn url_configuration(&self) -> Value {
        Target::Url { port: self.port }.apply_to(shipped_configuration(), &self.ca)
    }

    /// Shipped configuration, with the Service that it names.
    pub fn service_configuration(&self) -> Value {
        Target::Service { port: self.port }.apply_to(shipped_configuration(), &self.ca)
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        if let Some(accepting) = &self.accepting {
            accepting.abort();
        }
    }
}

fn tls(pair: &CertificatePair) -> rustls::ServerConfig {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .ok();
    let cert =
        CertificateDer::from_pem_slice(pair.cert.as_bytes()).expect("a generated certificate");
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("a generated key");
    let builder = rustls::ServerConfig::builder().with_no_client_auth();
    builder
        .with_single_cert(vec![cert], key)
        .expect("a generated pair")
}

/// Accepts connections. Aborting this closes the connections too: they are in its set.
async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    respond: Arc<Respond>,
    calls: Arc<Mutex<Vec<Call>>>,
) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let (acceptor, respond, calls) = (acceptor.clone(), respond.clone(), calls.clone());
        connections.spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let service = hyper::service::service_fn(move |request| {
                handle(request, respond.clone(), calls.clone())
            });
            http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await
                .ok();
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn handle(
    request: Request<Incoming>,
    respond: Arc<Respond>,
    calls: Arc<Mutex<Vec<Call>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let body = request
        .into_body()
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    let mut review: Value = serde_json::from_slice(&body).unwrap_or_default();
    let request = review["request"].take();
    let mut response = respond(&request);
    response["uid"] = request["uid"].clone();
    calls
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(Call { path, request });
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
    Ok(Response::new(Full::new(Bytes::from(review.to_string()))))
}
