//! Client of the API server whose connections go through a proxy.
//!
//! kube's own proxy support takes no credentials for SOCKS, and compares `NO_PROXY` with the proxy's address. This
//! module builds kube's stack on hyper-util's handshakes instead. TLS with the API server is inside the tunnel, so that
//! the proxy cannot read it. A proxy behind TLS is verified by the CA of the kubeconfig, as in kubectl.

use std::borrow::Cow;
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine as _;
use futures::future::{BoxFuture, FutureExt as _, TryFutureExt as _};
use http::{HeaderValue, Uri};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube::client::{Body, ClientBuilder, ConfigExt as _};
use kube::{Client, Config};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower::{BoxError, Service, ServiceBuilder};

use super::selection::{Protocol, Proxy};

/// Fraction (1/10) of the connect timeout that is left when the proxy's handshake times out, so that the error names
/// the proxy.
const HANDSHAKE_RESERVE: u32 = 10;

/// Connector to the proxy itself.
type ToProxy = HttpsConnector<HttpConnector>;

/// Error of a proxy that did not connect to the API server. It names the proxy without credentials.
#[derive(Debug, thiserror::Error)]
#[error("the proxy {proxy} {problem}")]
pub(crate) struct ProxyError {
    proxy: Arc<str>,
    /// Predicate of a sentence about the proxy.
    problem: Cow<'static, str>,
}

/// Builds a client whose connections go through this proxy.
pub(crate) fn client(config: Config, proxy: &Proxy) -> kube::Result<Client> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    let to_proxy = config.rustls_https_connector_with_connector(tcp)?;
    let proxied = ProxyConnector::new(proxy, to_proxy, config.connect_timeout);
    let mut connector =
        TimeoutConnector::new(config.rustls_https_connector_with_connector(proxied)?);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    connector.set_reset_reader_on_write(config.reset_reader_on_write);
    let http = HttpClient::builder(TokioExecutor::new()).build::<_, Body>(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(ClientBuilder::new(service, config.default_namespace).build())
}

/// Connects to the API server through a proxy. It has no `Debug`, because it has the credentials.
#[derive(Clone)]
struct ProxyConnector {
    proxy: Arc<str>,
    handshake: Handshake,
    handshake_timeout: Option<Duration>,
}

#[derive(Clone)]
enum Handshake {
    Connect(Tunnel<ToProxy>),
    Socks5(SocksV5<ToProxy>),
}

/// Errors of the handshakes, which hyper-util does not export by name.
type HttpConnectError = <Tunnel<ToProxy> as Service<Uri>>::Error;
type SocksError = <SocksV5<ToProxy> as Service<Uri>>::Error;

impl ProxyConnector {
    fn new(proxy: &Proxy, to_proxy: ToProxy, connect_timeout: Option<Duration>) -> Self {
        let Proxy {
            protocol,
            address,
            credentials,
        } = proxy;
        let scheme = if *protocol == Protocol::Https {
            "https"
        } else {
            "http"
        };
        let address_uri = Uri::builder()
            .scheme(scheme)
            .authority(address.as_str())
            .path_and_query("/")
            .build();
        // A parsed host and port are always a valid authority.
        let address_uri = address_uri.unwrap_or_default();
        let handshake = match (protocol, credentials) {
            (Protocol::Socks5, None) => Handshake::Socks5(SocksV5::new(address_uri, to_proxy)),
            (Protocol::Socks5, Some((user, password))) => Handshake::Socks5(
                SocksV5::new(address_uri, to_proxy).with_auth(user.clone(), password.clone()),
            ),
            (_, credentials) => {
                let tunnel = Tunnel::new(address_uri, to_proxy);
                Handshake::Connect(
                    match credentials
                        .as_ref()
                        .and_then(|(user, password)| basic_auth(user, password))
                    {
                        Some(header) => tunnel.with_auth(header),
                        None => tunnel,
                    },
                )
            }
        };
        let handshake_timeout =
            connect_timeout.map(|limit| limit.saturating_sub(limit / HANDSHAKE_RESERVE));
        Self {
            proxy: address.as_str().into(),
            handshake,
            handshake_timeout,
        }
    }
}

fn basic_auth(user: &str, password: &str) -> Option<HeaderValue> {
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    let mut header = HeaderValue::from_str(&format!("Basic {encoded}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}

impl Service<Uri> for ProxyConnector {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = ProxyError;
    type Future = BoxFuture<'static, Result<Self::Response, ProxyError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ProxyError>> {
        let proxy = &self.proxy;
        let failed = |problem| ProxyError {
            proxy: Arc::clone(proxy),
            problem,
        };
        match &mut self.handshake {
            Handshake::Connect(tunnel) => tunnel
                .poll_ready(context)
                .map_err(|error| failed(connect_problem(&error))),
            Handshake::Socks5(socks) => socks
                .poll_ready(context)
                .map_err(|error| failed(socks_problem(&error))),
        }
    }

    fn call(&mut self, server: Uri) -> Self::Future {
        let server = with_port(server);
        let connecting = match &mut self.handshake {
            Handshake::Connect(tunnel) => tunnel
                .call(server)
                .map_err(|error| connect_problem(&error))
                .boxed(),
            Handshake::Socks5(socks) => socks
                .call(server)
                .map_err(|error| socks_problem(&error))
                .boxed(),
        };
        let (proxy, handshake_timeout) = (Arc::clone(&self.proxy), self.handshake_timeout);
        async move {
            let connected = match handshake_timeout {
                Some(limit) => timeout(limit, connecting).await.unwrap_or_else(|_| {
                    Err(format!("did not connect to the API server within {limit:?}").into())
                }),
                None => connecting.await,
            };
            connected.map_err(|problem| ProxyError { proxy, problem })
        }
        .boxed()
    }
}

/// Adds port 80 to an `http` URI without a port, for which the handshakes would use 443.
fn with_port(server: Uri) -> Uri {
    let (Some("http"), Some(host), None) = (server.scheme_str(), server.host(), server.port())
    else {
        return server;
    };
    let authority = format!("{host}:80");
    let mut parts = server.into_parts();
    parts.authority = authority.parse().ok();
    Uri::from_parts(parts).unwrap_or_default()
}

const CREDENTIALS_PROBLEM: &str = "wants credentials, or refuses those it got. Write USER:PASSWORD@ before its host in proxy-url or HTTPS_PROXY";

fn connect_problem(error: &HttpConnectError) -> Cow<'static, str> {
    match error {
        HttpConnectError::ProxyAuthRequired => CREDENTIALS_PROBLEM.into(),
        HttpConnectError::ConnectFailed(error) => unreachable_problem(error.as_ref()),
        HttpConnectError::Io(error) => format!("broke the connection: {}", error.kind()).into(),
        HttpConnectError::TunnelUnexpectedEof => "closed the connection without an answer".into(),
        HttpConnectError::MissingHost
        | HttpConnectError::ProxyHeadersTooLong
        | HttpConnectError::TunnelUnsuccessful => {
            "does not connect to the API server: it is not allowed to, or cannot reach it".into()
        }
    }
}

fn socks_problem(error: &SocksError) -> Cow<'static, str> {
    match error {
        SocksError::Inner(error) => unreachable_problem(error.as_ref()),
        SocksError::Io(error) => format!("broke the connection: {}", error.kind()).into(),
        // The error is one of a few fixed texts of hyper-util.
        SocksError::V5(error) => {
            format!("does not connect to the API server: {error}. Credentials go before its host, as USER:PASSWORD@")
                .into()
        }
        _ => "does not speak SOCKS 5".into(),
    }
}

/// Reason why the proxy itself cannot be reached.
fn unreachable_problem(error: &(dyn Error + 'static)) -> Cow<'static, str> {
    let mut kind = None;
    let mut next = Some(error);
    while let Some(error) = next {
        if find_in_chain::<rustls::Error>(error).is_some() {
            return "speaks no TLS, or shows a certificate that the kubeconfig's certificate-authority does not verify"
                .into();
        }
        kind = error.downcast_ref().map(io::Error::kind).or(kind);
        next = error.source();
    }
    kind.map_or_else(
        || "cannot be reached".into(),
        |kind| format!("cannot be reached: {kind}").into(),
    )
}

/// Message of the [`ProxyError`] in the chain of a failed request, if there is one.
pub(crate) fn proxy_problem(error: &(dyn Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(proxy) = find_in_chain::<ProxyError>(error) {
            return Some(proxy.to_string());
        }
        next = error.source();
    }
    None
}

/// Returns the error as this type. It may be inside of an `io::Error`, whose `source()` skips it.
pub(crate) fn find_in_chain<'a, E: Error + 'static>(
    error: &'a (dyn Error + 'static),
) -> Option<&'a E> {
    if let Some(found) = error.downcast_ref() {
        return Some(found);
    }
    let inner: &(dyn Error + 'static) = error.downcast_ref::<io::Error>()?.get_ref()?;
    find_in_chain(inner)
}

#[cfg(test)]
mod tests {
    use http::Request;
    use rstest::rstest;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;
    use crate::kubernetes::proxy::proxy_problem;

    /// Error of a request through a proxy that responds with these bytes, or does not respond.
    async fn failure(scheme: &str, response: Option<&'static [u8]>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let proxy = Proxy::parse(&format!("{scheme}://user:CANARY@{address}")).unwrap();
        let served = tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                if let Some(response) = response {
                    stream.write_all(response).await.unwrap();
                }
                held.push(stream);
            }
        });
        let mut config = Config::new("https://kubernetes.example.com:6443".parse().unwrap());
        config.connect_timeout = Some(Duration::from_millis(500));
        let client = client(config, &proxy).unwrap();
        let error = client.send(Request::new(Body::empty())).await.unwrap_err();
        served.abort();
        assert!(
            !format!("{error} {error:?}").contains("CANARY"),
            "{error:?}"
        );
        proxy_problem(&error)
            .unwrap_or_else(|| panic!("{error:?}"))
            .replace(&address.to_string(), "HERE")
    }

    #[rstest]
    #[case(
        "http",
        None,
        "the proxy HERE did not connect to the API server within 450ms"
    )]
    #[case(
        "socks5",
        None,
        "the proxy HERE did not connect to the API server within 450ms"
    )]
    #[case("http", Some(&b"HTTP/1.1 407 x\r\n\r\n"[..]), "the proxy HERE wants credentials, or refuses those it got. ")]
    #[case("http", Some(&b"HTTP/1.1 403 CANARY\r\n\r\n"[..]), "the proxy HERE does not connect to the API server: it is ")]
    #[case("http", Some(&b"SSH-2.0-CANARY\r\n"[..]), "the proxy HERE does not connect to the API server: it is ")]
    #[case("socks5", Some(&b"HTTP/1.1 400 CANARY\r\n\r\n"[..]), "the proxy HERE does not speak SOCKS 5")]
    #[case("socks5", Some(&b"\x05\x02\x01\x01"[..]), "the proxy HERE does not connect to the API server: credentials not ")]
    #[case("https", Some(&b"HTTP/1.1 400 CANARY\r\n\r\n"[..]), "the proxy HERE speaks no TLS, or shows ")]
    #[tokio::test]
    async fn proxy_error_names_the_proxy_and_the_problem(
        #[case] scheme: &str,
        #[case] response: Option<&'static [u8]>,
        #[case] sentence: &str,
    ) {
        let failure = failure(scheme, response).await;
        assert!(failure.starts_with(sentence), "{failure}");
    }

    #[tokio::test]
    async fn unreachable_proxy_is_named() {
        let address = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        let config = Config::new("https://kubernetes.example.com:6443".parse().unwrap());
        for scheme in ["http", "https", "socks5"] {
            let proxy = Proxy::parse(&format!("{scheme}://{address}")).unwrap();
            let error = client(config.clone(), &proxy)
                .unwrap()
                .send(Request::new(Body::empty()))
                .await
                .unwrap_err();
            let sentence = format!("the proxy {address} cannot be reached: connection refused");
            assert_eq!(proxy_problem(&error), Some(sentence), "{scheme}");
        }
    }

    #[test]
    fn default_port_is_that_of_the_scheme() {
        for (server, port) in [
            ("http://a/b", Some(80)),
            ("http://a:81", Some(81)),
            ("https://a", None),
        ] {
            assert_eq!(
                with_port(server.parse().unwrap()).port_u16(),
                port,
                "{server}"
            );
        }
    }
}
