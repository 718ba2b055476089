//! Endpoints and keys of an issuer on real sockets, with TLS.

use std::sync::Mutex;

use serde_json::json;

use super::super::discovery::discovered_key_fetcher;
use super::super::discovery::test_support::{HOST, TestIssuer};
use super::super::jose::SignatureAlgorithm;
use super::super::keys::KeyCache;
use super::*;
use crate::http_client::test_server::{Reply, response};

/// Key set with the key of RFC 7515, appendix A.3.
fn key_set() -> String {
    let key = json!({"kty": "EC", "crv": "P-256", "kid": "key-1", "use": "sig",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"});
    json!({"keys": [key]}).to_string()
}

/// Replies of an issuer, which tests replace. `None` is that of an issuer that works.
#[derive(Default)]
struct Script {
    discovery: Option<Reply>,
    keys: Option<Reply>,
}

/// Issuer, and the keys of a provider for it.
struct Issuer {
    at: TestIssuer,
    script: Arc<Mutex<Script>>,
    keys: KeyCache,
}

impl Issuer {
    /// Starts an issuer whose certificate is for `host`.
    async fn start(host: &str) -> Self {
        let script: Arc<Mutex<Script>> = Arc::default();
        let scripted = Arc::clone(&script);
        let reply = move |head: &str| {
            let script = scripted.lock().unwrap();
            if head.starts_with("GET /.well-known/openid-configuration ") {
                return script.discovery.clone();
            }
            let no_cache = "cache-control: no-cache\r\n";
            let keys = script.keys.clone();
            Some(keys.unwrap_or_else(|| response("200 OK", no_cache, &key_set())))
        };
        let at = TestIssuer::start(host, reply).await;
        let algorithms = Arc::from([SignatureAlgorithm::ES256]);
        let fetch = discovered_key_fetcher(Arc::clone(&at.discovery), algorithms);
        Self {
            keys: KeyCache::new("main", DEFAULT_STALE, fetch),
            at,
            script,
        }
    }
}

/// Text of the error, which is one of an issuer that is away, or of one that is wrong.
fn reason(error: &IdentityError, is_misconfigured: bool) -> String {
    match error {
        IdentityError::Unavailable { reason, .. } if !is_misconfigured => reason.clone(),
        IdentityError::Misconfigured { reason, .. } if is_misconfigured => reason.clone(),
        error => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn keys_are_fetched_from_where_the_discovery_document_says() {
    let issuer = Issuer::start(HOST).await;
    let keys = issuer.keys.keys().await.unwrap();
    assert_eq!(keys.keys.len(), 1);
    assert!(issuer.keys.newer_keys(&keys).await.unwrap().is_none());
    issuer.keys.refresh().await.unwrap();
    let config = issuer.at.discovery.endpoints().await.unwrap().to_config();
    assert_eq!(config.jwks_uri, format!("{}/certs", issuer.at.issuer()));
    let expected = ["/.well-known/openid-configuration", "/certs", "/certs"];
    assert_eq!(issuer.at.requests(), expected);
}

#[tokio::test]
async fn row_48_failed_fetch_keeps_the_keys() {
    let headers = "location: https://169.254.169.254/latest\r\n";
    for (reply, text, is_misconfigured) in [
        (response("301 Moved", headers, ""), "HTTP 301", false),
        (response("500 Failed", "", &key_set()), "HTTP 500", false),
        (
            response("200 OK", "content-encoding: gzip\r\n", "x"),
            "compressed",
            false,
        ),
        (
            response("200 OK", "", &" ".repeat(10 << 20)),
            "more than 65536 bytes",
            false,
        ),
        (
            response("200 OK", "", "<html></html>"),
            "not a JSON object",
            true,
        ),
        (
            response("200 OK", "", r#"{"keys":[]}"#),
            "no key that can be used",
            true,
        ),
    ] {
        let issuer = Issuer::start(HOST).await;
        issuer.keys.keys().await.unwrap();
        issuer.script.lock().unwrap().keys = Some(reply);
        let error = issuer.keys.refresh().await.unwrap_err();
        let reason = reason(&error, is_misconfigured);
        assert!(reason.contains(text), "{reason}");
        assert_eq!(issuer.keys.keys().await.unwrap().keys.len(), 1, "{text}");
        assert_eq!(issuer.keys.state(), DocumentState::Fresh);
    }
}

#[tokio::test]
async fn row_48_key_set_that_hangs_or_drips_ends_within_the_limit() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n".to_vec();
    let drip = Reply::Drip([head, vec![b' '; 5000]].concat(), Duration::from_millis(50));
    for reply in [Reply::Hang, drip] {
        let issuer = Issuer::start(HOST).await;
        issuer.keys.keys().await.unwrap();
        issuer.script.lock().unwrap().keys = Some(reply);
        let began = Instant::now();
        let error = issuer.keys.refresh().await.unwrap_err();
        let reason = reason(&error, false);
        assert!(reason.contains("did not arrive within 2s"), "{reason}");
        assert!(issuer.keys.keys().await.is_ok());
        // The fetch itself ends a second later.
        while issuer
            .keys
            .refresh()
            .await
            .is_err_and(|error| error.to_string().contains("did not arrive"))
        {}
        assert!(
            began.elapsed() < Duration::from_secs(8),
            "{:?}",
            began.elapsed()
        );
    }
}

#[tokio::test]
async fn row_49_issuer_with_a_wrong_discovery_document_is_not_used() {
    let other = json!({"issuer": "https://other.test", "jwks_uri": "https://other.test/certs"});
    let other = response("200 OK", "", &other.to_string());
    let redirect = response("302 Found", "location: https://other.test/\r\n", "");
    for (reply, text, is_misconfigured) in [
        (other, "its issuer is not", true),
        (redirect, "HTTP 302", false),
    ] {
        let issuer = Issuer::start(HOST).await;
        issuer.script.lock().unwrap().discovery = Some(reply);
        let error = issuer.keys.keys().await.unwrap_err();
        let reason = reason(&error, is_misconfigured);
        assert!(reason.contains(text), "{reason}");
        assert_eq!(issuer.at.requests(), ["/.well-known/openid-configuration"]);
    }
}

#[tokio::test]
async fn row_52_issuer_with_a_wrong_certificate_is_unavailable() {
    let issuer = Issuer::start("other.test").await;
    let error = issuer.keys.keys().await.unwrap_err();
    let reason = reason(&error, false);
    assert!(reason.contains("TLS failed"), "{reason}");
    assert!(issuer.at.requests().is_empty());
}
