use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

use futures::FutureExt as _;
use http::StatusCode;
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::test_server::{Reply, TestCa, TestServer, response, start_proxy};
use super::*;

/// Host of the certificates and URLs; its addresses are those of the test's lookup.
const HOST: &str = "id.test";

/// Lookup that returns these addresses, and the names that were looked up.
fn lookup(addresses: &[&str]) -> (HostLookup, Arc<Mutex<Vec<String>>>) {
    let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
    let names: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&names);
    let lookup: HostLookup = Arc::new(move |name| {
        seen.lock().unwrap().push(name);
        let addresses = addresses.clone();
        async move { Ok(addresses) }.boxed()
    });
    (lookup, names)
}

/// A server, and a client that trusts it and finds it by name.
struct Exchange {
    server: TestServer,
    client: HttpClient,
    _folder: tempfile::TempDir,
}

fn settings(ca: &TestCa) -> (HttpSettings, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.crt");
    std::fs::write(&path, ca.pem()).unwrap();
    let settings = HttpSettings {
        ca_file: Some(path),
        ..HttpSettings::default()
    };
    (settings, folder)
}

impl Exchange {
    async fn start(reply: Reply) -> Self {
        let ca = TestCa::new();
        let server = TestServer::start(Some(ca.acceptor(&[HOST], |_| {})), reply).await;
        let (settings, folder) = settings(&ca);
        let client = HttpClient::with_lookup(&settings, lookup(&["127.0.0.1"]).0).unwrap();
        Self {
            server,
            client,
            _folder: folder,
        }
    }

    fn url(&self) -> HttpUrl {
        let text = format!("https://{HOST}:{}/a?query=canary", self.server.port);
        HttpUrl::parse(&text, Schemes::Https).unwrap()
    }

    async fn get(&self) -> Result<HttpResponse, HttpError> {
        self.client.send(HttpRequest::get(self.url())).await
    }

    async fn error(&self) -> HttpError {
        checked(self.get().await.unwrap_err())
    }
}

/// The error, which names the target and nothing that was sent.
fn checked(error: HttpError) -> HttpError {
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("canary"), "{shown}");
    assert!(error.to_string().starts_with("GET http"), "{shown}");
    error
}

#[tokio::test]
async fn response_has_status_headers_and_json() {
    let headers = "cache-control: no-cache, max-age=\"600\"\r\nretry-after: 7\r\n";
    let exchange = Exchange::start(response("418 Teapot", headers, r#"{"a":1}"#)).await;
    let response = exchange.get().await.unwrap();
    assert_eq!(response.status(), StatusCode::IM_A_TEAPOT);
    assert_eq!(response.json::<Value>().unwrap(), json!({"a": 1}));
    assert_eq!(response.max_age(), Some(Duration::from_mins(10)));
    assert_eq!(response.retry_after(), Some(Duration::from_secs(7)));
    let error = response.expect_status(StatusCode::OK).unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
    assert!(checked(error).to_string().contains("HTTP 418"));
    let head = exchange.server.heads().concat();
    assert!(
        head.starts_with("GET /a?query=canary HTTP/1.1\r\n"),
        "{head}"
    );
    for line in [
        "accept: application/json\r\n",
        "accept-encoding: identity\r\n",
    ] {
        assert!(head.contains(line), "{head}");
    }
    assert!(
        head.contains(&format!("user-agent: {USER_AGENT}\r\n")),
        "{head}"
    );
}

#[tokio::test]
async fn form_and_credentials_are_sent() {
    let exchange = Exchange::start(response("200 OK", "", "{}")).await;
    let form = HttpRequest::post_form(exchange.url(), &[("grant_type", "client_credentials")]);
    let secret = SecretString::from("canary");
    let form = form.with_client_secret("me", &secret);
    exchange.client.send(form).await.unwrap();
    let json = HttpRequest::new(http::Method::PUT, exchange.url());
    let json = json.with_json(&json!({"a": 1})).with_bearer(&secret);
    exchange.client.send(json).await.unwrap();
    let heads = exchange.server.heads();
    assert!(
        heads[0].contains("authorization: Basic bWU6Y2FuYXJ5\r\n"),
        "{}",
        heads[0]
    );
    assert!(heads[0].ends_with("\r\n\r\ngrant_type=client_credentials"));
    assert!(
        heads[1].contains("authorization: Bearer canary\r\n"),
        "{}",
        heads[1]
    );
    assert!(heads[1].starts_with("PUT ") && heads[1].ends_with("\r\n\r\n{\"a\":1}"));
    assert!(!heads[1].contains("cookie"));
}

#[tokio::test]
async fn row_48_redirect_is_not_followed() {
    let other = Exchange::start(response("200 OK", "", "{}")).await;
    for target in ["https://169.254.169.254/latest", &other.url().to_string()] {
        let headers = format!("location: {target}\r\nset-cookie: a=canary\r\n");
        let exchange = Exchange::start(response("301 Moved", &headers, "")).await;
        let response = exchange.get().await.unwrap();
        assert_eq!(response.status().as_u16(), 301);
        let error = response.expect_status(StatusCode::OK).unwrap_err();
        assert!(matches!(
            checked(error),
            HttpError::Status { status: 301, .. }
        ));
        assert_eq!(exchange.server.heads().len(), 1);
    }
    assert!(other.server.heads().is_empty());
}

#[tokio::test]
async fn row_48_slow_response_is_cut() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n".to_vec();
    let slow = Reply::Drip([head, vec![b' '; 100]].concat(), Duration::from_millis(200));
    let limit = Duration::from_millis(600);
    for reply in [Reply::Hang, slow] {
        let exchange = Exchange::start(reply).await;
        let began = Instant::now();
        let request = HttpRequest::get(exchange.url()).with_timeout(limit);
        let error = checked(exchange.client.send(request).await.unwrap_err());
        assert!(matches!(error, HttpError::Timeout { .. }), "{error}");
        assert!(began.elapsed() < limit * 10, "{:?}", began.elapsed());
    }
}

#[tokio::test]
async fn row_48_large_response_is_cut() {
    let declared = response("200 OK", "", &" ".repeat(MAX_BODY + 1));
    let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n100000\r\n".to_vec();
    let until_close = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    for reply in [declared, Reply::Endless(head), Reply::Endless(until_close)] {
        let exchange = Exchange::start(reply).await;
        let error = exchange.error().await;
        assert!(
            matches!(
                error,
                HttpError::TooLarge {
                    limit: MAX_BODY,
                    ..
                }
            ),
            "{error}"
        );
    }
    let exact = Exchange::start(response("200 OK", "", &" ".repeat(MAX_BODY))).await;
    assert_eq!(exact.get().await.unwrap().body().len(), MAX_BODY);
    let request = HttpRequest::get(exact.url()).with_max_body(10);
    let error = checked(exact.client.send(request).await.unwrap_err());
    assert!(
        matches!(error, HttpError::TooLarge { limit: 10, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn row_48_endless_head_is_cut() {
    let exchange = Exchange::start(Reply::Endless(b"HTTP/1.1 200 OK\r\na: b".to_vec())).await;
    let error = exchange.error().await;
    assert!(matches!(error, HttpError::Broken { .. }), "{error}");
}

#[tokio::test]
async fn row_48_compressed_response_and_html_are_refused() {
    let exchange =
        Exchange::start(response("200 OK", "content-encoding: gzip\r\n", "canary")).await;
    assert!(matches!(exchange.error().await, HttpError::Encoded { .. }));
    let exchange = Exchange::start(response("200 OK", "", "<html>canary</html>")).await;
    let error = exchange.get().await.unwrap().json::<Value>().unwrap_err();
    assert!(matches!(
        checked(error),
        HttpError::NotJson {
            line: 1,
            column: 1,
            ..
        }
    ));
}

#[tokio::test]
async fn connection_that_ends_is_an_error() {
    let cut = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\ncana".to_vec();
    let other = b"SSH-2.0-canary\r\n".to_vec();
    for bytes in [cut, other, Vec::new()] {
        let exchange = Exchange::start(Reply::Cut(bytes)).await;
        let error = exchange.error().await;
        assert!(matches!(error, HttpError::Broken { .. }), "{error}");
    }
}

#[tokio::test]
async fn host_without_a_listener_is_unreachable() {
    let mut exchange = Exchange::start(Reply::Hang).await;
    let url = exchange.url();
    exchange.server.stop().await;
    let error = exchange.client.send(HttpRequest::get(url)).await;
    let error = checked(error.unwrap_err());
    assert!(matches!(error, HttpError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn row_52_certificates_are_verified() {
    let (ca, foreign) = (TestCa::new(), TestCa::named("another CA"));
    let expired = ca.acceptor(&[HOST], |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    for (acceptor, reason) in [
        (foreign.acceptor(&[HOST], |_| {}), "UnknownIssuer"),
        (ca.acceptor(&["other.test"], |_| {}), "not valid for name"),
        (expired, "expired"),
    ] {
        let server = TestServer::start(Some(acceptor), response("200 OK", "", "{}")).await;
        let (settings, _folder) = settings(&ca);
        let client = HttpClient::with_lookup(&settings, lookup(&["127.0.0.1"]).0).unwrap();
        let url = format!("https://{HOST}:{}/", server.port);
        let url = HttpUrl::parse(&url, Schemes::Https).unwrap();
        let error = checked(client.send(HttpRequest::get(url)).await.unwrap_err());
        assert!(matches!(error, HttpError::Tls { .. }), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
        assert!(server.heads().is_empty());
    }
    // A server that knows no newer protocol than TLS 1.1 responds with this alert, "protocol version".
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_u8().await.unwrap();
        stream.write_all(&[21, 3, 1, 0, 2, 2, 70]).await.unwrap();
        std::future::pending::<()>().await;
    });
    let (settings, _folder) = settings(&ca);
    let client = HttpClient::with_lookup(&settings, lookup(&["127.0.0.1"]).0).unwrap();
    let url = HttpUrl::parse(&format!("https://{HOST}:{port}/"), Schemes::Https).unwrap();
    let error = checked(client.send(HttpRequest::get(url)).await.unwrap_err());
    assert!(matches!(error, HttpError::Tls { .. }), "{error}");
}

#[tokio::test]
async fn row_53_name_with_a_refused_address_is_not_connected_to() {
    let exchange = Exchange::start(response("200 OK", "", "{}")).await;
    let (settings, _folder) = settings(&TestCa::new());
    for (addresses, refused) in [
        (vec!["169.254.169.254"], "169.254.169.254"),
        (vec!["127.0.0.1", "fe80::1"], "fe80::1"),
        (vec!["::ffff:169.254.169.254"], "::ffff:169.254.169.254"),
        (vec!["0.0.0.0"], "0.0.0.0"),
        (vec!["fd00:ec2::254"], "fd00:ec2::254"),
    ] {
        let (lookup, names) = lookup(&addresses);
        let client = HttpClient::with_lookup(&settings, lookup).unwrap();
        let error = client.send(HttpRequest::get(exchange.url())).await;
        match checked(error.unwrap_err()) {
            HttpError::RefusedAddress { address, .. } => assert_eq!(address.to_string(), refused),
            error => panic!("{error}"),
        }
        assert_eq!(*names.lock().unwrap(), [HOST]);
    }
    let (none, _) = lookup(&[]);
    let client = HttpClient::with_lookup(&settings, none).unwrap();
    let error = client.send(HttpRequest::get(exchange.url())).await;
    assert!(matches!(
        checked(error.unwrap_err()),
        HttpError::Unresolved { .. }
    ));
    assert!(exchange.server.heads().is_empty());
}

#[tokio::test]
async fn row_53_refused_address_in_a_url_is_not_connected_to() {
    let (lookup, names) = lookup(&["127.0.0.1"]);
    let (settings, _folder) = settings(&TestCa::new());
    let client = HttpClient::with_lookup(&settings, lookup).unwrap();
    for host in [
        "169.254.169.254",
        "[::ffff:a9fe:a9fe]",
        "[fe80::1]",
        "[::]",
        "0.0.0.0",
        "[fd00:ec2::254]",
    ] {
        let url = HttpUrl::parse(&format!("https://{host}/"), Schemes::Https).unwrap();
        let error = client.send(HttpRequest::get(url)).await.unwrap_err();
        assert!(
            matches!(checked(error), HttpError::RefusedAddress { .. }),
            "{host}"
        );
    }
    assert!(names.lock().unwrap().is_empty());
}

#[tokio::test]
async fn allowed_network_is_connected_to() {
    let exchange = Exchange::start(response("200 OK", "", "{}")).await;
    let (mut settings, _folder) = settings(&TestCa::new());
    settings.addresses = AddressPolicy::allowing(["169.254.0.0/16"]).unwrap();
    // Nobody has this address here: what counts is that the client tries.
    let client = HttpClient::with_lookup(&settings, lookup(&["169.254.254.254"]).0).unwrap();
    let error = checked(
        client
            .send(HttpRequest::get(exchange.url()))
            .await
            .unwrap_err(),
    );
    assert!(
        matches!(
            error,
            HttpError::Unreachable { .. } | HttpError::Timeout { .. }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn plain_http_is_for_loopback() {
    let server = TestServer::start(None, response("200 OK", "", "{}")).await;
    let (settings, _folder) = settings(&TestCa::new());
    let client = HttpClient::with_lookup(&settings, lookup(&[]).0).unwrap();
    let url = format!("http://127.0.0.1:{}/", server.port);
    let url = HttpUrl::parse(&url, Schemes::HttpOnLoopback).unwrap();
    let response = client.send(HttpRequest::get(url)).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn proxy_resolves_names_and_exceptions_bypass_it() {
    let ca = TestCa::new();
    let server = TestServer::start(
        Some(ca.acceptor(&[HOST], |_| {})),
        response("200 OK", "", "{}"),
    )
    .await;
    let (proxy, heads) = start_proxy(server.port).await;
    let url = HttpUrl::parse(&format!("https://{HOST}:{}/", server.port), Schemes::Https).unwrap();
    for (exceptions, tunnels) in [("", 1), (HOST, 0)] {
        heads.lock().unwrap().clear();
        let (mut settings, _folder) = settings(&ca);
        settings.proxy = OutboundProxy::of_variables(|name| match name {
            "HTTPS_PROXY" => Some(format!("http://user:pass@127.0.0.1:{proxy}")),
            "NO_PROXY" => Some(exceptions.to_owned()),
            _ => None,
        });
        let (lookup, names) = lookup(&["127.0.0.1"]);
        let client = HttpClient::with_lookup(&settings, lookup).unwrap();
        client.send(HttpRequest::get(url.clone())).await.unwrap();
        let heads = heads.lock().unwrap().clone();
        assert_eq!(heads.len(), tunnels, "{heads:?}");
        assert_eq!(names.lock().unwrap().len(), 1 - tunnels);
        for head in heads {
            let target = format!("CONNECT {HOST}:{} HTTP/1.1\r\n", server.port);
            assert!(head.starts_with(&target), "{head}");
            assert!(
                head.to_lowercase()
                    .contains("proxy-authorization: basic dxnlcjpwyxnz"),
                "{head}"
            );
        }
    }
    assert_eq!(server.heads().len(), 2);
}

#[tokio::test]
async fn ca_file_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.crt");
    let settings = HttpSettings {
        ca_file: Some(path.clone()),
        ..HttpSettings::default()
    };
    let error = HttpClient::new(&settings).unwrap_err();
    assert!(
        matches!(error, InvalidHttpSettings::ReadCa { .. }),
        "{error}"
    );
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let mixed = format!("{}{garbage}", TestCa::new().pem());
    let large = "#".repeat(usize::try_from(MAX_CA_FILE).unwrap() + 1);
    for content in ["", "text", garbage, &mixed, &large] {
        std::fs::write(&path, content).unwrap();
        let Err(error) = HttpClient::new(&settings) else {
            panic!("accepts {content:.40}");
        };
        assert!(!error.to_string().is_empty());
    }
}

#[test]
fn docs_contain_the_limits_of_the_client() {
    let docs = include_str!("../../docs/IDENTITY.md");
    let number = |size: usize| u64::try_from(size).unwrap();
    for (limit, value) in [
        (
            "Seconds until a connection is established",
            CONNECT_TIMEOUT.as_secs(),
        ),
        ("Seconds of an exchange", EXCHANGE_TIMEOUT.as_secs()),
        ("KiB of a response", number(MAX_BODY >> 10)),
        ("Characters of a URL", number(MAX_URL)),
        (
            "Characters of `HTTPS_PROXY`, and of `NO_PROXY`",
            number(MAX_PROXY),
        ),
        (
            "Networks that the settings may allow",
            number(MAX_ALLOWED_NETWORKS),
        ),
        ("Addresses of a name that are tried", number(MAX_ADDRESSES)),
        ("KiB of a file of CA certificates", MAX_CA_FILE >> 10),
        ("Idle connections to a host", number(MAX_IDLE)),
        (
            "Seconds until an idle connection is closed",
            IDLE_TIMEOUT.as_secs(),
        ),
    ] {
        let row = format!("| {limit} | {value} |");
        assert!(docs.contains(&row), "docs/IDENTITY.md has no row {row:?}");
    }
}
