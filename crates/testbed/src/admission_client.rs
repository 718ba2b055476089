//! Client of the admission port that takes the place of the API server: it sends requests that no API server can be
//! made to send, and returns the bytes of the response.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::process::Folder;
use super::unique;
use super::webhook::SERVICE_HOST;
use super::webhook_process::WebhookProcess;

/// Response of the webhook.
#[derive(Debug, Clone)]
pub struct WebhookResponse {
    pub status: u16,
    pub headers: HeaderMap,
    /// Unchanged body.
    pub text: String,
}

impl WebhookResponse {
    /// Response in the `AdmissionReview`; panics if there is none.
    #[track_caller]
    pub fn response(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        let mut review: Value =
            serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text));
        review["response"].take()
    }

    /// Decoded patch; empty if there is none.
    pub fn patch(&self) -> String {
        use base64::Engine as _;
        let patch = self.response()["patch"]
            .as_str()
            .map(str::to_owned)
            .unwrap_or_default();
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(patch)
            .expect("the patch is base64");
        String::from_utf8(bytes).expect("the patch is text")
    }
}

/// Opens a TLS connection to an admission port whose certificate is signed by `ca`.
pub async fn connect_tls(address: SocketAddr, ca: &str) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca.as_bytes()).expect("the test's CA"))
        .expect("the test's CA");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config
        .expect("the provider's versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = TcpStream::connect(address).await?;
    let name = ServerName::try_from(SERVICE_HOST).expect("a name");
    TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await
}

/// Sends a request on a connection of its own, and reads the response.
pub async fn send_request(
    stream: TlsStream<TcpStream>,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> hyper::Result<WebhookResponse> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", SERVICE_HOST);
    let request = request.header("content-type", "application/json");
    let request = headers.iter().fold(request, |request, (name, value)| {
        request.header(*name, *value)
    });
    let request = request.body(Full::new(body.into())).expect("a request");
    let (head, body) = sender.send_request(request).await?.into_parts();
    let text = body.collect().await?.to_bytes();
    connection.abort();
    Ok(WebhookResponse {
        status: head.status.as_u16(),
        headers: head.headers,
        text: String::from_utf8_lossy(&text).into_owned(),
    })
}

impl WebhookProcess {
    /// Opens a TLS connection to the admission port.
    pub async fn connect_tls(&self) -> TlsStream<TcpStream> {
        let address = (Ipv4Addr::LOCALHOST, self.launch.port).into();
        connect_tls(address, &self.launch.ca)
            .await
            .expect("the webhook listens with a trusted certificate")
    }

    /// POSTs a body; `path` includes the query.
    pub async fn post(&self, path: &str, body: impl Into<Bytes>) -> WebhookResponse {
        self.request(Method::POST, path, body).await
    }

    /// Sends any request to the admission port, on a connection of its own.
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> WebhookResponse {
        self.request_with_headers(method, path, &[], body).await
    }

    /// Sends any request with more headers.
    pub async fn request_with_headers(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> WebhookResponse {
        send_request(self.connect_tls().await, method, path, headers, body)
            .await
            .expect("a response")
    }

    /// Sends a pod's review, as an API server does that waits for `timeout`.
    pub async fn admit(&self, pod: &Value, timeout: &str) -> WebhookResponse {
        self.post(
            &format!("/admit/pods?timeout={timeout}"),
            review(pod).to_string(),
        )
        .await
    }
}

/// Review of a pod's creation in the namespace `jobs`.
pub fn review(pod: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": unique("review"),
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": "jobs", "operation": "CREATE",
            "userInfo": {"username": "system:serviceaccount:jobs:loader"},
            "object": pod, "dryRun": false,
        },
    })
}

/// Pod with one container, `main`, and these annotations.
pub fn pod(annotations: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "job-", "annotations": annotations},
        "spec": {"containers": [{"name": "main", "image": "none"}]},
    })
}

/// Kubeconfig without credentials for this server.
pub fn kubeconfig_for(folder: &Folder, server: &str) -> PathBuf {
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "it",
        "clusters": [{"name": "it", "cluster": {"server": server, "insecure-skip-tls-verify": true}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        "users": [{"name": "it", "user": {}}],
    });
    folder.write(
        &format!("{}.kubeconfig", unique("other")),
        kubeconfig.to_string(),
    )
}
