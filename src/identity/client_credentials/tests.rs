use secrecy::ExposeSecret as _;

use super::super::discovery::test_support::{HOST, TestIssuer};
use super::*;
use crate::http_client::test_server::{Reply, response};
use crate::token_source::{TokenSource, TokenSourceError, TokenSourceSettings};

/// Issuer that gives a token for the secret `canary-2` or for the assertion `canary.jwt`.
fn reply(head: &str) -> Option<Reply> {
    if !head.starts_with("POST /token ") {
        return None;
    }
    // The client and its secret in base64.
    let by_secret = head.contains("authorization: Basic bWU6Y2FuYXJ5LTI=\r\n");
    let by_assertion = head.contains("client_id=me&client_assertion_type=urn%3Aietf%3Aparams")
        && head.ends_with("&client_assertion=canary.jwt");
    let is_right = head.contains("grant_type=client_credentials&scope=floe");
    Some(if is_right && (by_secret || by_assertion) {
        let body = r#"{"access_token":"canary-token","token_type":"Bearer","expires_in":300}"#;
        response("200 OK", "", body)
    } else {
        response("401 Unauthorized", "", r#"{"error":"invalid_client"}"#)
    })
}

fn source(issuer: &TestIssuer, is_secret: bool) -> (std::path::PathBuf, TokenSource) {
    let path = issuer.folder().join("credential");
    let file = CredentialFile::new(path.clone());
    let login = ClientCredentialsLogin {
        client: issuer.client.clone(),
        discovery: Arc::clone(&issuer.discovery),
        client_id: "me".to_owned(),
        credential: if is_secret {
            ClientCredential::Secret(file)
        } else {
            ClientCredential::Assertion(file)
        },
        scope: Some("floe".to_owned()),
    };
    assert!(!format!("{login:?}").contains("canary"));
    let settings = TokenSourceSettings::default();
    (
        path,
        TokenSource::new("Keycloak", Arc::new(login), settings),
    )
}

#[tokio::test]
async fn secret_that_changes_on_disk_is_used_for_the_next_login() {
    let issuer = TestIssuer::start(HOST, reply).await;
    let (path, source) = source(&issuer, true);
    let refused = async |text: &str| match source.token().await.unwrap_err() {
        TokenSourceError::Refused { reason, .. } => {
            assert!(
                reason.contains(text) && !reason.contains("canary"),
                "{reason}"
            );
        }
        error => panic!("{error:?}"),
    };
    refused("cannot be read").await;
    std::fs::write(&path, "canary-1\n").unwrap();
    // The file is looked at once a second.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    refused("invalid_client").await;
    assert_eq!(
        issuer.requests(),
        ["/.well-known/openid-configuration", "/token"]
    );
    std::fs::write(&path, "canary-2\n").unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let token = source.token().await.unwrap();
    assert_eq!(token.secret().expose_secret(), "canary-token");
    assert_eq!(
        source.token().await.unwrap().generation(),
        token.generation()
    );
    assert_eq!(issuer.requests().len(), 3);
}

#[tokio::test]
async fn assertion_is_sent_in_the_form() {
    let issuer = TestIssuer::start(HOST, reply).await;
    let (path, source) = source(&issuer, false);
    std::fs::write(&path, "canary.jwt").unwrap();
    let token = source.token().await.unwrap();
    assert_eq!(token.secret().expose_secret(), "canary-token");
    let heads = issuer.server.heads().concat();
    assert!(!heads.contains("authorization:"), "{heads}");
    assert!(
        issuer
            .requests()
            .iter()
            .all(|path| !path.contains("canary"))
    );
}

#[tokio::test]
async fn issuer_that_fails_is_unavailable() {
    let failing = |head: &str| {
        let overloaded = response("503 Overloaded", "retry-after: 7\r\n", "canary");
        head.starts_with("POST /token ").then_some(overloaded)
    };
    let issuer = TestIssuer::start(HOST, failing).await;
    let (path, source) = source(&issuer, true);
    std::fs::write(&path, "canary-2").unwrap();
    match source.token().await.unwrap_err() {
        TokenSourceError::Unavailable {
            reason, retry_in, ..
        } => {
            assert!(
                reason.contains("HTTP 503") && !reason.contains("canary"),
                "{reason}"
            );
            assert!(retry_in > Duration::from_secs(6), "{retry_in:?}");
        }
        error => panic!("{error:?}"),
    }
}
