//! Small collector of traces: OTLP over HTTP in protobuf, as the webhook sends it, and over gRPC, as the API server
//! does.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, Bytes};
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Map, Value};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::pki::Authority;
use super::{free_ports, wait_for};

const HTTP: &str = "/v1/traces";
const GRPC: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// Behavior of the collector when it receives a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CollectorMode {
    Accepts,
    /// Responds with 400, which exporters do not retry.
    Rejects,
    /// Reads the request, and never responds.
    Hangs,
}

/// Span and the resource that sent it.
#[derive(Debug, Clone)]
pub struct ReceivedSpan {
    pub name: String,
    /// Hexadecimal.
    pub trace_id: String,
    /// Hexadecimal.
    pub span_id: String,
    /// Hexadecimal; empty for a root span.
    pub parent_id: String,
    /// 2: server, 3: client.
    pub kind: i32,
    /// 2: error.
    pub status: i32,
    pub attributes: Map<String, Value>,
    /// Attributes of the sender.
    pub resource: Map<String, Value>,
}

impl ReceivedSpan {
    /// `service.name` of the sender.
    pub fn service(&self) -> &str {
        self.resource
            .get("service.name")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }
}

#[derive(Debug, Default)]
struct ReceivedRequests {
    spans: Vec<ReceivedSpan>,
    requests: usize,
    /// All requests, raw and decoded.
    text: String,
}

/// Running collector, in a thread of its own, so that tests of other runtimes can share it. Stopped on drop.
pub struct Collector {
    /// Port on 127.0.0.1.
    pub port: u16,
    https: bool,
    received: Arc<Mutex<ReceivedRequests>>,
    mode: Arc<Mutex<CollectorMode>>,
    stop: CancellationToken,
}

impl Collector {
    /// Starts a collector that accepts everything.
    pub fn start() -> Self {
        Self::on(free_ports::<1>()[0], None)
    }

    /// Starts a collector on this port.
    pub fn start_on(port: u16) -> Self {
        Self::on(port, None)
    }

    /// Starts a collector that is reached over TLS only.
    pub fn start_tls(authority: &Authority) -> Self {
        let pair = authority.server(&["127.0.0.1"]);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let cert =
            CertificateDer::from_pem_slice(pair.cert.as_bytes()).expect("a generated certificate");
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("a generated key");
        let builder = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions();
        let builder = builder
            .expect("the provider's versions")
            .with_no_client_auth();
        let config = builder
            .with_single_cert(vec![cert], key)
            .expect("a generated pair");
        Self::on(
            free_ports::<1>()[0],
            Some(TlsAcceptor::from(Arc::new(config))),
        )
    }

    fn on(port: u16, tls: Option<TlsAcceptor>) -> Self {
        let collector = Self {
            port,
            https: tls.is_some(),
            received: Arc::default(),
            mode: Arc::new(Mutex::new(CollectorMode::Accepts)),
            stop: CancellationToken::new(),
        };
        let (received, mode, stop) = (
            collector.received.clone(),
            collector.mode.clone(),
            collector.stop.clone(),
        );
        let (bound, is_bound) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async move {
                let listener =
                    TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await;
                bound.send(()).ok();
                let accepting = accept(listener.expect("a free port"), tls, received, mode);
                stop.run_until_cancelled(accepting).await;
            });
        });
        is_bound.recv().expect("the collector starts");
        collector
    }

    /// Value of the webhook's `--otlp-endpoint`.
    pub fn endpoint(&self) -> String {
        format!(
            "{}://127.0.0.1:{}",
            if self.https { "https" } else { "http" },
            self.port
        )
    }

    /// Sets the behavior from now on.
    pub fn set_mode(&self, mode: CollectorMode) {
        *lock(&self.mode) = mode;
    }

    /// All spans of `service` so far.
    pub fn spans(&self, service: &str) -> Vec<ReceivedSpan> {
        lock(&self.received)
            .spans
            .iter()
            .filter(|span| span.service() == service)
            .cloned()
            .collect()
    }

    /// Number of requests so far.
    pub fn requests(&self) -> usize {
        lock(&self.received).requests
    }

    /// All that was received: headers, bodies as text, and the decoded spans.
    pub fn text(&self) -> String {
        lock(&self.received).text.clone()
    }

    /// Waits for a span of `service`.
    pub async fn span(
        &self,
        service: &str,
        matches: impl Fn(&ReceivedSpan) -> bool,
    ) -> ReceivedSpan {
        wait_for("a span at the collector", || async {
            self.spans(service).into_iter().find(&matches)
        })
        .await
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    received: Arc<Mutex<ReceivedRequests>>,
    mode: Arc<Mutex<CollectorMode>>,
) -> Infallible {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let (tls, received, mode) = (tls.clone(), received.clone(), mode.clone());
        connections.spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                handle(request, received.clone(), mode.clone())
            });
            let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            match tls {
                None => server
                    .serve_connection(TokioIo::new(stream), service)
                    .await
                    .ok(),
                Some(tls) => {
                    let Ok(stream) = tls.accept(stream).await else {
                        return;
                    };
                    server
                        .serve_connection(TokioIo::new(stream), service)
                        .await
                        .ok()
                }
            };
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn handle(
    request: Request<Incoming>,
    received: Arc<Mutex<ReceivedRequests>>,
    mode: Arc<Mutex<CollectorMode>>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    lock(&received).requests += 1;
    let mode = *lock(&mode);
    let grpc = parts.uri.path() == GRPC;
    let status = match mode {
        CollectorMode::Hangs => std::future::pending().await,
        CollectorMode::Rejects => 400,
        CollectorMode::Accepts if grpc || parts.uri.path() == HTTP => {
            // gRPC: one byte for compression, four for the length, and the message.
            let message = if grpc {
                body.slice(5.min(body.len())..)
            } else {
                body
            };
            let compressed =
                grpc && !message.is_empty() && parts.headers.contains_key("grpc-encoding");
            if compressed {
                415
            } else {
                record(&received, &parts.headers, &message)
            }
        }
        CollectorMode::Accepts => 404,
    };
    let response = Response::builder().status(if grpc { 200 } else { status });
    Ok(if grpc {
        let trailers = HeaderMap::from_iter([(
            http::HeaderName::from_static("grpc-status"),
            http::HeaderValue::from(if status == 200 { 0 } else { 3 }),
        )]);
        let frames = [
            Ok(Frame::data(Bytes::from_static(&[0; 5]))),
            Ok(Frame::trailers(trailers)),
        ];
        let body = StreamBody::new(futures::stream::iter(frames)).boxed();
        response
            .header("content-type", "application/grpc")
            .body(body)
            .expect("a response")
    } else {
        response
            .header("content-type", "application/x-protobuf")
            .body(Full::default().boxed())
            .expect("a response")
    })
}

fn record(received: &Mutex<ReceivedRequests>, headers: &HeaderMap, message: &Bytes) -> u16 {
    let Ok(request) = ExportTraceServiceRequest::decode(message.clone().reader().into_inner())
    else {
        return 400;
    };
    let mut received = lock(received);
    let bytes = String::from_utf8_lossy(message);
    received.text.extend([
        &format!("{headers:?}\n"),
        &*bytes,
        &format!("\n{request:?}\n"),
    ]);
    for resource_spans in request.resource_spans {
        let resource = attributes(
            resource_spans
                .resource
                .map(|resource| resource.attributes)
                .unwrap_or_default(),
        );
        for span in resource_spans
            .scope_spans
            .into_iter()
            .flat_map(|scope| scope.spans)
        {
            received.spans.push(received_span(span, resource.clone()));
        }
    }
    200
}

fn received_span(span: Span, resource: Map<String, Value>) -> ReceivedSpan {
    let hexadecimal = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<Vec<_>>()
            .concat()
    };
    ReceivedSpan {
        name: span.name,
        trace_id: hexadecimal(&span.trace_id),
        span_id: hexadecimal(&span.span_id),
        parent_id: hexadecimal(&span.parent_span_id),
        kind: span.kind,
        status: span.status.map(|status| status.code).unwrap_or_default(),
        attributes: attributes(span.attributes),
        resource,
    }
}

fn attributes(list: Vec<KeyValue>) -> Map<String, Value> {
    list.into_iter()
        .map(|KeyValue { key, value, .. }| (key, json_value(value)))
        .collect()
}

fn json_value(value: Option<AnyValue>) -> Value {
    match value.and_then(|value| value.value) {
        Some(any_value::Value::StringValue(text)) => text.into(),
        Some(any_value::Value::BoolValue(flag)) => flag.into(),
        Some(any_value::Value::IntValue(number)) => number.into(),
        Some(any_value::Value::DoubleValue(number)) => number.into(),
        // The webhook sends no other types.
        _ => Value::Null,
    }
}
