//! Connection to the collector: one at a time, HTTP/1.1 over TLS, without redirects.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use super::credentials::Credentials;
use super::failure::ShippingFailure;
use super::settings::ShippingSettings;
use super::url::CollectorUrl;
use crate::audit::delivery::{MAX_RESPONSE, MEDIA_TYPE, PATH, Receipt, RejectedBatch};

/// Time limit of finding the collector's address and of connecting to it.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Time limit of the TLS handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Time limit from sending a batch to the end of the response, a commit of the store included.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Limit of the buffer of a connection in bytes: the head of a response.
const BUFFER_BYTES: usize = 16 << 10;

/// Response of the collector to a batch.
#[derive(Debug)]
pub(super) enum CollectorResponse {
    Stored(Receipt),
    Rejected(RejectedBatch),
}

/// Client of one collector.
pub(super) struct CollectorClient {
    url: CollectorUrl,
    credentials: Credentials,
    connection: Option<CollectorConnection>,
}

struct CollectorConnection {
    sender: SendRequest<Full<Bytes>>,
    /// Task that drives the connection.
    _driver: AbortOnDropHandle<()>,
}

impl CollectorClient {
    pub(super) fn new(settings: ShippingSettings) -> Self {
        Self {
            url: settings.collector,
            credentials: Credentials::new(settings.ca, settings.token),
            connection: None,
        }
    }

    /// Closes the connection, so that the next batch gets another one.
    pub(super) fn disconnect(&mut self) {
        self.connection = None;
    }

    /// Sends a batch, over the present connection or a new one.
    pub(super) async fn send(&mut self, body: Bytes) -> Result<CollectorResponse, ShippingFailure> {
        let connection = self.connection.take();
        let connection = connection.filter(|connection| !connection.sender.is_closed());
        let connection = if self.credentials.are_due() || connection.is_none() {
            let is_other_ca = self.credentials.read().await?;
            connection.filter(|_| !is_other_ca)
        } else {
            connection
        };
        let mut connection = match connection {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let (_, authorization) = self.credentials.current().ok_or(no_credentials())?;
        let exchanged = exchange(&mut connection.sender, &self.url, authorization, body);
        let response = timeout(RESPONSE_TIMEOUT, exchanged)
            .await
            .map_err(|_| ShippingFailure::Timeout("the response of the collector"))??;
        self.connection = Some(connection);
        Ok(response)
    }

    async fn connect(&self) -> Result<CollectorConnection, ShippingFailure> {
        let (config, _) = self.credentials.current().ok_or(no_credentials())?;
        let stream = timeout(
            CONNECT_TIMEOUT,
            TcpStream::connect((self.url.host(), self.url.port())),
        )
        .await
        .map_err(|_| ShippingFailure::Timeout("connecting to the collector"))?
        .map_err(ShippingFailure::Connection)?;
        // A batch is written at once, and waits for nothing.
        stream
            .set_nodelay(true)
            .map_err(ShippingFailure::Connection)?;
        let handshake = TlsConnector::from(config).connect(self.url.server_name(), stream);
        let stream = timeout(HANDSHAKE_TIMEOUT, handshake)
            .await
            .map_err(|_| ShippingFailure::Timeout("the TLS handshake with the collector"))?
            .map_err(handshake_failure)?;
        let (sender, driver) = http1::Builder::new()
            .max_buf_size(BUFFER_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(ShippingFailure::Exchange)?;
        let driver = tokio::spawn(async move {
            // The request that fails with it reports the error.
            let _ = driver.await;
        });
        Ok(CollectorConnection {
            sender,
            _driver: AbortOnDropHandle::new(driver),
        })
    }
}

fn no_credentials() -> ShippingFailure {
    ShippingFailure::Timeout("reading the token and the CA")
}

fn handshake_failure(error: io::Error) -> ShippingFailure {
    let is_tls = error
        .get_ref()
        .is_some_and(<dyn std::error::Error + Send + Sync>::is::<rustls::Error>);
    if is_tls {
        ShippingFailure::Tls(error)
    } else {
        ShippingFailure::Connection(error)
    }
}

async fn exchange(
    sender: &mut SendRequest<Full<Bytes>>,
    url: &CollectorUrl,
    authorization: HeaderValue,
    body: Bytes,
) -> Result<CollectorResponse, ShippingFailure> {
    let request = Request::post(PATH)
        .header(HOST, url.authority())
        .header(AUTHORIZATION, authorization)
        .header(CONTENT_TYPE, MEDIA_TYPE)
        .header(ACCEPT, "application/json")
        .body(Full::new(body))
        .map_err(|_| ShippingFailure::InvalidResponse)?;
    sender.ready().await.map_err(ShippingFailure::Exchange)?;
    let response = sender.send_request(request).await;
    let (head, body) = response.map_err(ShippingFailure::Exchange)?.into_parts();
    let body = Limited::new(body, MAX_RESPONSE).collect().await;
    let body = body.map_err(|error| match error.downcast::<hyper::Error>() {
        Ok(error) => ShippingFailure::Exchange(*error),
        Err(_) => ShippingFailure::InvalidResponse,
    })?;
    let body = body.to_bytes();
    if head.status == StatusCode::OK {
        return parsed(&body).map(CollectorResponse::Stored);
    }
    match parsed::<RejectedBatch>(&body) {
        Ok(rejected) if rejected.reason.status() == head.status.as_u16() => {
            Ok(CollectorResponse::Rejected(rejected))
        }
        _ => Err(ShippingFailure::Status(head.status.as_u16())),
    }
}

fn parsed<T: DeserializeOwned>(body: &[u8]) -> Result<T, ShippingFailure> {
    serde_json::from_slice(body).map_err(|_| ShippingFailure::InvalidResponse)
}
