//! Provider on a scripted issuer: what only an issuer that misbehaves shows. `tests/keycloak` has the real one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::*;
use crate::http_client::test_server::{Reply, TestServer, response};
use crate::identity::conformance::{CANARY, ProviderFixture};
use crate::identity::document::FRESH;
use crate::identity::jose::SignatureAlgorithm;
use crate::identity::jose::test_support::{AUDIENCE, Issuer, NOW, claims, header};
use crate::identity::metrics::IssuerMetrics;
use crate::identity_conformance;
use crate::telemetry::logs::thread_log::ThreadLog;

/// Replies of the issuer to requests whose head contains a text.
type Script = Vec<(&'static str, &'static str, Value)>;

/// Issuer on loopback, and a provider for it.
struct Fixture {
    server: TestServer,
    provider: OidcProvider,
    is_away: Arc<AtomicBool>,
    _folder: tempfile::TempDir,
}

impl Fixture {
    async fn new() -> Self {
        Self::with(json!({"staleFor": "0s"}), Vec::new()).await
    }

    async fn with(more: Value, script: Script) -> Self {
        let is_away = Arc::new(AtomicBool::new(false));
        let port = Arc::new(Mutex::new(0));
        let (away, of_server) = (Arc::clone(&is_away), Arc::clone(&port));
        let reply = move |head: &str| {
            if away.load(Ordering::Relaxed) {
                return Reply::Cut(Vec::new());
            }
            let scripted = script.iter().find(|(text, ..)| head.contains(text));
            if let Some((_, status, body)) = scripted {
                return response(status, "", &body.to_string());
            }
            let issuer = format!("http://127.0.0.1:{}", of_server.lock().unwrap());
            let (status, body) = issuer_response(head, &issuer);
            response(status, "", &body.to_string())
        };
        let server = TestServer::start_with(None, reply).await;
        *port.lock().unwrap() = server.port;
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secret");
        std::fs::write(&secret, format!("{CANARY}-own")).unwrap();
        let mut settings = json!({
            "name": "main", "type": "keycloak",
            "issuer": format!("http://127.0.0.1:{}", server.port),
            "client": {"id": "own", "secretFile": secret},
        });
        for (name, value) in more.as_object().unwrap() {
            settings[name] = value.clone();
        }
        let environment = ProviderEnvironment {
            schemes: Schemes::HttpOnLoopback,
            proxy: None,
            clock: Clock::new(|| Timestamp::from_second(NOW).unwrap()),
            metrics: IssuerMetrics::default(),
        };
        let settings: OidcSettings = serde_json::from_value(settings).unwrap();
        Self {
            provider: OidcProvider::new(&settings, &environment).unwrap(),
            server,
            is_away,
            _folder: folder,
        }
    }

    fn token(&self, change: impl FnOnce(&mut Value)) -> BearerToken {
        let mut claims = claims();
        claims["iss"] = json!(self.provider.issuer());
        change(&mut claims);
        let token = Issuer::ours().sign(&header(SignatureAlgorithm::RS256), &claims);
        BearerToken::parse(&token).unwrap()
    }

    /// Paths of the requests so far.
    fn requests(&self) -> Vec<String> {
        let heads = self.server.heads();
        let path = |head: &String| head.split(' ').nth(1).unwrap().to_owned();
        heads.iter().map(path).collect()
    }
}

fn issuer_response(head: &str, issuer: &str) -> (&'static str, Value) {
    let path = head.split(' ').nth(1).unwrap_or_default();
    match path {
        "/certs" => ("200 OK", Issuer::ours().jwks()),
        // The client of this program is known; no other client, user or refresh token is.
        "/token" if !head.contains("grant_type=client_credentials") => (
            "400 Bad Request",
            json!({"error": "invalid_grant", "error_description": CANARY}),
        ),
        "/token" => (
            "401 Unauthorized",
            json!({"error": "invalid_client", "error_description": CANARY}),
        ),
        "/introspect" => ("200 OK", json!({"active": true})),
        _ => (
            "200 OK",
            json!({
                "issuer": issuer,
                "jwks_uri": format!("{issuer}/certs"),
                "token_endpoint": format!("{issuer}/token"),
                "introspection_endpoint": format!("{issuer}/introspect"),
                "registration_endpoint": format!("{issuer}/clients-registrations/openid-connect"),
            }),
        ),
    }
}

#[async_trait]
impl ProviderFixture for Fixture {
    fn provider(&self) -> &dyn IdentityProvider {
        &self.provider
    }

    async fn valid_token(&self) -> (BearerToken, String) {
        let subject = claims()["sub"].as_str().unwrap().to_owned();
        (self.token(|_| {}), subject)
    }

    async fn take_issuer_away(&self) -> bool {
        self.is_away.store(true, Ordering::Relaxed);
        tokio::time::pause();
        tokio::time::advance(FRESH).await;
        tokio::time::resume();
        true
    }
}

identity_conformance!(oidc_provider, Fixture::new());

#[tokio::test]
async fn token_that_is_no_token_of_the_issuer_causes_no_request() {
    let fixture = Fixture::new().await;
    for (token, code) in [
        (
            BearerToken::parse("a.b.c").unwrap(),
            TokenRejection::Malformed,
        ),
        (
            fixture.token(|claims| claims["iss"] = json!("https://other.example")),
            TokenRejection::WrongIssuer,
        ),
    ] {
        assert_eq!(
            fixture.provider.verify(&token).await.map(drop),
            Err(code.into())
        );
    }
    assert!(fixture.requests().is_empty(), "{:?}", fixture.requests());
    let caller = fixture
        .provider
        .verify(&fixture.token(|_| {}))
        .await
        .unwrap();
    assert_eq!(caller.client_roles, ["viewer", "editor"]);
    assert!(caller.realm_roles.is_empty() && caller.user_info.groups.is_empty());
    assert_eq!(
        fixture.requests(),
        ["/.well-known/openid-configuration", "/certs"]
    );
}

#[tokio::test]
async fn omitted_groups_are_reported_once() {
    let log = ThreadLog::start("warn").unwrap();
    let fixture = Fixture::with(json!({"groups": ["groups"]}), Vec::new()).await;
    let token = fixture.token(|claims| claims["_claim_names"] = json!({"groups": "src1"}));
    for _ in 0..2 {
        let caller = fixture.provider.verify(&token).await.unwrap();
        assert!(caller.has_omitted_groups && caller.user_info.groups.is_empty());
    }
    assert_eq!(log.lines_with("leaves groups out").len(), 1);
}

#[tokio::test]
async fn row_51_realm_of_another_name_causes_no_request() {
    let fixture = Fixture::new().await;
    let long = "x".repeat(300);
    for realm in [
        "..",
        "a/b",
        "a%2fb",
        "a?x",
        "a#",
        "@evil",
        "ü",
        "other",
        long.as_str(),
    ] {
        let refused = fixture.provider.get_oidc_config(Some(realm)).await;
        assert!(
            matches!(refused, Err(IdentityError::Unsupported { .. })),
            "{realm}"
        );
    }
    assert!(fixture.requests().is_empty());
    let config = fixture
        .provider
        .get_oidc_config(Some("main"))
        .await
        .unwrap();
    assert_eq!(config.issuer_url, fixture.provider.issuer());
    assert_eq!(config.userinfo_endpoint, None);
}

async fn introspect(status: &'static str, body: Value) -> Result<(), IdentityError> {
    let script = vec![("/introspect", status, body)];
    let fixture = Fixture::with(json!({"introspectChanges": true}), script).await;
    let checked = fixture
        .provider
        .verify_for_change(&fixture.token(|_| {}))
        .await;
    let shown = format!("{checked:?}");
    assert!(!shown.contains(CANARY), "{shown}");
    checked.map(drop)
}

#[tokio::test]
async fn introspection_decides_before_a_change() {
    let subject = claims()["sub"].clone();
    let inactive = Err(TokenRejection::Inactive.into());
    for (body, expected) in [
        (json!({"active": true, "sub": subject}), Ok(())),
        (json!({"active": true}), Ok(())),
        (json!({"active": false}), inactive.clone()),
        (json!({"active": true, "sub": "somebody-else"}), inactive),
    ] {
        assert_eq!(introspect("200 OK", body).await, expected);
    }
    let own = introspect("401 Unauthorized", json!({"error": "invalid_client"})).await;
    assert!(
        matches!(own, Err(IdentityError::Misconfigured { .. })),
        "{own:?}"
    );
    for status in ["503 Service Unavailable", "429 Too Many Requests"] {
        let away = introspect(status, json!({"error": CANARY})).await;
        assert!(
            matches!(away, Err(IdentityError::Unavailable { .. })),
            "{away:?}"
        );
    }
    let other = introspect("200 OK", json!({"active": "yes"})).await;
    assert!(
        matches!(other, Err(IdentityError::Misconfigured { .. })),
        "{other:?}"
    );
}

#[tokio::test]
async fn login_that_is_not_possible_is_not_a_wrong_credential() {
    let login = async |status, error: &str| {
        let script = vec![(
            "/token",
            status,
            json!({"error": error, "error_description": CANARY}),
        )];
        let fixture = Fixture::with(json!({}), script).await;
        let credentials = LoginCredentials::ClientSecret {
            client_id: "a".to_owned(),
            client_secret: SecretString::from(CANARY),
        };
        let error = fixture
            .provider
            .authenticate(&credentials)
            .await
            .unwrap_err();
        assert!(!format!("{error} {error:?}").contains(CANARY), "{error}");
        error
    };
    for error in ["invalid_client", "invalid_grant", "unauthorized_client"] {
        let refused = login("401 Unauthorized", error).await;
        assert_eq!(refused, TokenRejection::InvalidCredentials.into());
    }
    for error in ["invalid_scope", "unsupported_grant_type", "invalid_request"] {
        let refused = login("400 Bad Request", error).await;
        assert!(
            matches!(refused, IdentityError::Misconfigured { .. }),
            "{refused:?}"
        );
    }
    let away = login("502 Bad Gateway", "x").await;
    assert!(
        matches!(away, IdentityError::Unavailable { .. }),
        "{away:?}"
    );
}

#[tokio::test]
async fn wrong_secret_of_this_program_is_not_a_wrong_password() {
    for (error, is_of_caller) in [("invalid_grant", true), ("unauthorized_client", false)] {
        let script = vec![("/token", "401 Unauthorized", json!({"error": error}))];
        let fixture = Fixture::with(json!({"allowPasswordGrant": true}), script).await;
        let credentials = LoginCredentials::Password {
            username: "alice".to_owned(),
            password: SecretString::from(CANARY),
        };
        match fixture.provider.authenticate(&credentials).await {
            Err(IdentityError::Unauthenticated { .. }) => assert!(is_of_caller),
            Err(IdentityError::Misconfigured { .. }) => assert!(!is_of_caller),
            other => panic!("{other:?}"),
        }
    }
}

fn new_client() -> NewClient {
    NewClient {
        realm: None,
        client_id: "orders".to_owned(),
        client_secret: SecretString::from(format!("{CANARY}-of-the-new-client")),
        redirect_uris: Vec::new(),
        scopes: vec![AUDIENCE.to_owned()],
        service_account: true,
    }
}

async fn register(script: Script) -> (Result<ClientOutcome, IdentityError>, Vec<String>) {
    let mut all = script;
    let token = json!({"access_token": "a.b.c", "token_type": "Bearer", "expires_in": 60});
    all.push(("/token", "200 OK", token));
    let fixture = Fixture::with(json!({}), all).await;
    let outcome = fixture.provider.create_client(&new_client()).await;
    assert!(!format!("{outcome:?}").contains(CANARY), "{outcome:?}");
    (outcome, fixture.server.heads())
}

#[tokio::test]
async fn client_is_registered_by_a_login_of_this_program() {
    let reply = json!({"registration_access_token": CANARY, "secret": CANARY});
    let (outcome, heads) = register(vec![("/default", "201 Created", reply)]).await;
    assert_eq!(outcome, Ok(ClientOutcome::Created));
    let request = heads.last().unwrap();
    assert!(
        request.starts_with("POST /clients-registrations/default "),
        "{request}"
    );
    assert!(request.contains("authorization: Bearer a.b.c"), "{request}");
    assert!(request.contains(r#""fullScopeAllowed":false"#), "{request}");
}

#[tokio::test]
async fn client_that_exists_is_ours_if_it_has_our_secret() {
    let taken = || {
        let body = json!({"error": "invalid_client_metadata", "error_description": "Client Identifier in use"});
        ("/default", "400 Bad Request", body)
    };
    let (outcome, heads) = register(vec![taken()]).await;
    assert_eq!(outcome, Ok(ClientOutcome::AlreadyCreated));
    assert!(heads.last().unwrap().starts_with("POST /introspect "));
    let unauthorized = (
        "/introspect",
        "401 Unauthorized",
        json!({"error": "invalid_client"}),
    );
    let (outcome, _) = register(vec![taken(), unauthorized]).await;
    let error = outcome.unwrap_err().to_string();
    assert!(error.contains("another secret"), "{error}");
    let away = ("/introspect", "503 Service Unavailable", json!({}));
    let (outcome, _) = register(vec![taken(), away]).await;
    assert!(
        matches!(outcome, Err(IdentityError::Unavailable { .. })),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn issuer_without_registration_has_no_clients() {
    let fixture = Fixture::with(json!({"type": "oidc"}), Vec::new()).await;
    let refused = fixture.provider.create_client(&new_client()).await;
    assert!(
        matches!(refused, Err(IdentityError::Unsupported { .. })),
        "{refused:?}"
    );
    assert!(fixture.requests().is_empty());
}
