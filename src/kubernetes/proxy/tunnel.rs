//! A client of the API server whose connections go through a proxy.
//!
//! kube's own takes no credentials for SOCKS, and compares `NO_PROXY` with the proxy's address; so this is its stack
//! on hyper-util's handshakes. The TLS with the API server is inside the tunnel, and the proxy sees none of it. A proxy
//! behind TLS is verified by the CA of the kubeconfig, as by kubectl.

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

/// The part of the time for a connection that is left when the proxy counts as silent, so that the message names it.
const SPARE: u32 = 10;

/// The connector to the proxy itself.
type ToProxy = HttpsConnector<HttpConnector>;

/// A proxy that did not connect us to the API server. It names the proxy without its credentials.
#[derive(Debug, thiserror::Error)]
#[error("the proxy {proxy} {fault}")]
pub(crate) struct ProxyError {
    proxy: Arc<str>,
    fault: Cow<'static, str>,
}

/// Makes a client whose connections go through this proxy.
pub(crate) fn client(config: Config, proxy: &Proxy) -> kube::Result<Client> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    let to_proxy = config.rustls_https_connector_with_connector(tcp)?;
    let through = Through::new(proxy, to_proxy, config.connect_timeout);
    let mut connector =
        TimeoutConnector::new(config.rustls_https_connector_with_connector(through)?);
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

/// Connects to the API server through a proxy. No `Debug`: it has the credentials.
#[derive(Clone)]
struct Through {
    proxy: Arc<str>,
    handshake: Handshake,
    within: Option<Duration>,
}

#[derive(Clone)]
enum Handshake {
    Connect(Tunnel<ToProxy>),
    Socks5(SocksV5<ToProxy>),
}

/// The errors of the handshakes, which hyper-util does not name.
type ConnectFault = <Tunnel<ToProxy> as Service<Uri>>::Error;
type SocksFault = <SocksV5<ToProxy> as Service<Uri>>::Error;

impl Through {
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
        // A host and a port are one part of a URI, whatever they are.
        let at = Uri::builder()
            .scheme(scheme)
            .authority(address.as_str())
            .path_and_query("/")
            .build();
        let at = at.unwrap_or_default();
        let handshake = match (protocol, credentials) {
            (Protocol::Socks5, None) => Handshake::Socks5(SocksV5::new(at, to_proxy)),
            (Protocol::Socks5, Some((user, password))) => Handshake::Socks5(
                SocksV5::new(at, to_proxy).with_auth(user.clone(), password.clone()),
            ),
            (_, credentials) => {
                let tunnel = Tunnel::new(at, to_proxy);
                Handshake::Connect(
                    match credentials
                        .as_ref()
                        .and_then(|(user, word)| basic(user, word))
                    {
                        Some(header) => tunnel.with_auth(header),
                        None => tunnel,
                    },
                )
            }
        };
        let within = connect_timeout.map(|within| within.saturating_sub(within / SPARE));
        Self {
            proxy: address.as_str().into(),
            handshake,
            within,
        }
    }
}

fn basic(user: &str, password: &str) -> Option<HeaderValue> {
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    let mut header = HeaderValue::from_str(&format!("Basic {encoded}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}

impl Service<Uri> for Through {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = ProxyError;
    type Future = BoxFuture<'static, Result<Self::Response, ProxyError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ProxyError>> {
        let proxy = &self.proxy;
        let failed = |fault| ProxyError {
            proxy: Arc::clone(proxy),
            fault,
        };
        match &mut self.handshake {
            Handshake::Connect(tunnel) => tunnel
                .poll_ready(context)
                .map_err(|error| failed(connect_fault(&error))),
            Handshake::Socks5(socks) => socks
                .poll_ready(context)
                .map_err(|error| failed(socks_fault(&error))),
        }
    }

    fn call(&mut self, server: Uri) -> Self::Future {
        let server = with_port(server);
        let connecting = match &mut self.handshake {
            Handshake::Connect(tunnel) => tunnel
                .call(server)
                .map_err(|error| connect_fault(&error))
                .boxed(),
            Handshake::Socks5(socks) => socks
                .call(server)
                .map_err(|error| socks_fault(&error))
                .boxed(),
        };
        let (proxy, within) = (Arc::clone(&self.proxy), self.within);
        async move {
            let connected = match within {
                Some(within) => timeout(within, connecting).await.unwrap_or_else(|_| {
                    Err(format!("did not connect to the API server within {within:?}").into())
                }),
                None => connecting.await,
            };
            connected.map_err(|fault| ProxyError { proxy, fault })
        }
        .boxed()
    }
}

/// The handshakes take 443 for the port that is not named.
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

const CREDENTIALS: &str = "wants credentials, or refuses those it got. Write USER:PASSWORD@ before its host in proxy-url or HTTPS_PROXY";

fn connect_fault(error: &ConnectFault) -> Cow<'static, str> {
    match error {
        ConnectFault::ProxyAuthRequired => CREDENTIALS.into(),
        ConnectFault::ConnectFailed(error) => unreachable_fault(error.as_ref()),
        ConnectFault::Io(error) => format!("broke the connection: {}", error.kind()).into(),
        ConnectFault::TunnelUnexpectedEof => "closed the connection without an answer".into(),
        ConnectFault::MissingHost
        | ConnectFault::ProxyHeadersTooLong
        | ConnectFault::TunnelUnsuccessful => {
            "does not connect to the API server: it is not allowed to, or cannot reach it".into()
        }
    }
}

fn socks_fault(error: &SocksFault) -> Cow<'static, str> {
    match error {
        SocksFault::Inner(error) => unreachable_fault(error.as_ref()),
        SocksFault::Io(error) => format!("broke the connection: {}", error.kind()).into(),
        // Fixed words of hyper-util's.
        SocksFault::V5(error) => {
            format!("does not connect to the API server: {error}. Credentials go before its host, as USER:PASSWORD@")
                .into()
        }
        _ => "does not speak SOCKS 5".into(),
    }
}

/// Why there is no connection to the proxy itself.
fn unreachable_fault(error: &(dyn Error + 'static)) -> Cow<'static, str> {
    let mut kind = None;
    let mut next = Some(error);
    while let Some(error) = next {
        if carried::<rustls::Error>(error).is_some() {
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

/// What a proxy did instead of connecting us, where that is why a request failed. Words of this program.
pub(crate) fn fault(error: &(dyn Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(proxy) = carried::<ProxyError>(error) {
            return Some(proxy.to_string());
        }
        next = error.source();
    }
    None
}

/// The error of this type in an error, also where an `io::Error` carries it: `source()` steps over that one.
pub(crate) fn carried<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    if let Some(found) = error.downcast_ref() {
        return Some(found);
    }
    let inner: &(dyn Error + 'static) = error.downcast_ref::<io::Error>()?.get_ref()?;
    carried(inner)
}

#[cfg(test)]
mod tests {
    use http::Request;
    use rstest::rstest;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;
    use crate::kubernetes::proxy::fault;

    /// What a request through a proxy comes to that answers with these bytes, or stays silent.
    async fn failure(scheme: &str, answer: Option<&'static [u8]>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let proxy = Proxy::parse(&format!("{scheme}://user:CANARY@{address}")).unwrap();
        let served = tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                if let Some(answer) = answer {
                    stream.write_all(answer).await.unwrap();
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
        fault(&error)
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
    async fn failures_name_the_proxy(
        #[case] scheme: &str,
        #[case] answer: Option<&'static [u8]>,
        #[case] sentence: &str,
    ) {
        let failure = failure(scheme, answer).await;
        assert!(failure.starts_with(sentence), "{failure}");
    }

    #[tokio::test]
    async fn proxy_that_is_not_there_is_named() {
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
            assert_eq!(fault(&error), Some(sentence), "{scheme}");
        }
    }

    #[test]
    fn ports_that_are_not_named_are_those_of_the_scheme() {
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
