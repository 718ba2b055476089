//! Logins by client secret, password and refresh token; the configuration of a realm.

use floe_secrets_webhook::identity::{
    IdentityError, IdentityProvider as _, LoginCredentials, TokenRejection,
};
use floe_secrets_webhook::token_source::{TokenSource, TokenSourceSettings};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use testbed::keycloak::{CLIENT_SECRET, PASSWORD};

use super::fixture::{Fixture, bearer};

fn by_secret(client_id: &str, secret: &str) -> LoginCredentials {
    LoginCredentials::ClientSecret {
        client_id: client_id.to_owned(),
        client_secret: SecretString::from(secret),
    }
}

fn by_password(password: &str) -> LoginCredentials {
    LoginCredentials::Password {
        username: "alice".to_owned(),
        password: SecretString::from(password),
    }
}

fn invalid<T>() -> Result<T, IdentityError> {
    Err(TokenRejection::InvalidCredentials.into())
}

#[tokio::test]
#[ignore = "needs Keycloak: make test-keycloak"]
async fn client_secret_gives_a_token_that_is_valid_here() {
    let fixture = Fixture::shared().await;
    let provider = fixture.provider(&fixture.first, &json!({}));
    let login = by_secret("pipeline", CLIENT_SECRET);
    let issued = provider.authenticate(&login).await.unwrap();
    assert_eq!(issued.expires_in.map(|time| time.as_secs()), Some(300));
    let token = bearer(issued.access_token.expose_secret());
    let caller = provider.verify(&token).await.unwrap();
    assert_eq!(caller.issuer, fixture.first.issuer());
    assert_eq!(caller.authorized_party.as_deref(), Some("pipeline"));
    assert!(caller.credential_id.is_some() && caller.client_roles.is_empty());
    let result = provider.validate_token(&token).await.unwrap();
    assert!(result.valid && result.error.is_empty(), "{result:?}");
    assert_eq!(result.expires_at, caller.expires_at.unwrap().to_string());

    let wrong = provider
        .authenticate(&by_secret("pipeline", "canary"))
        .await;
    assert_eq!(wrong.map(|_| ()), invalid());
    let absent = provider
        .authenticate(&by_secret("nobody", CLIENT_SECRET))
        .await;
    assert_eq!(absent.map(|_| ()), invalid());
}

#[tokio::test]
#[ignore = "needs Keycloak: make test-keycloak"]
async fn password_logs_in_only_where_the_settings_allow_it() {
    let fixture = Fixture::shared().await;
    let client = fixture.own_client("cli");
    let strict = fixture.provider(&fixture.first, &json!({"client": client}));
    let refused = strict.authenticate(&by_password(PASSWORD)).await;
    assert!(
        matches!(refused, Err(IdentityError::Unsupported { .. })),
        "{refused:?}"
    );

    let settings = json!({"client": client, "allowPasswordGrant": true});
    let provider = fixture.provider(&fixture.first, &settings);
    let issued = provider.authenticate(&by_password(PASSWORD)).await.unwrap();
    let token = bearer(issued.access_token.expose_secret());
    let caller = provider.verify(&token).await.unwrap();
    assert_eq!(caller.username.as_deref(), Some("alice"));
    assert_eq!(
        caller.client_roles,
        ["viewer"],
        "not those of another client"
    );
    assert!(caller.realm_roles.contains(&"engineer".to_owned()));
    let info = provider.get_user_info(&token).await.unwrap();
    assert_eq!(info.email, "alice@example.com");
    assert_eq!(
        (info.name.as_str(), info.groups),
        ("alice Example", vec!["/data".to_owned()])
    );

    let wrong = provider.authenticate(&by_password("canary")).await;
    assert_eq!(wrong.map(|_| ()), invalid());

    let refresh_token = issued.refresh_token.unwrap();
    let refresh = LoginCredentials::RefreshToken { refresh_token };
    let again = provider.authenticate(&refresh).await.unwrap();
    let token = bearer(again.access_token.expose_secret());
    assert_eq!(
        provider.verify(&token).await.unwrap().user_info.subject,
        caller.user_info.subject
    );
    let refresh_token = SecretString::from("canary");
    let dead = provider
        .authenticate(&LoginCredentials::RefreshToken { refresh_token })
        .await;
    assert_eq!(dead.map(|_| ()), invalid());
}

#[tokio::test]
#[ignore = "needs Keycloak: make test-keycloak"]
async fn own_client_has_a_source_of_tokens() {
    let fixture = Fixture::shared().await;
    let settings = json!({"client": fixture.own_client("pipeline")});
    let provider = fixture.provider(&fixture.first, &settings);
    let login = std::sync::Arc::new(provider.own_login().unwrap());
    let source = TokenSource::new("keycloak", login, TokenSourceSettings::default());
    let token = source.token().await.unwrap();
    let caller = provider
        .verify(&bearer(token.secret().expose_secret()))
        .await;
    assert_eq!(
        caller.unwrap().authorized_party.as_deref(),
        Some("pipeline")
    );
}

#[tokio::test]
#[ignore = "needs Keycloak: make test-keycloak"]
async fn configuration_has_all_endpoints_of_the_realm_and_of_no_other() {
    let fixture = Fixture::shared().await;
    let provider = fixture.provider(&fixture.first, &json!({}));
    let config = provider.get_oidc_config(None).await.unwrap();
    let issuer = fixture.first.issuer();
    assert_eq!(config.issuer_url, issuer);
    assert_eq!(
        config.discovery_url,
        format!("{issuer}/.well-known/openid-configuration")
    );
    for endpoint in [
        Some(config.jwks_uri),
        config.authorization_endpoint,
        config.token_endpoint,
        config.userinfo_endpoint,
    ] {
        let endpoint = endpoint.expect("an endpoint");
        assert!(
            endpoint.starts_with(&format!("{issuer}/protocol/openid-connect/")),
            "{endpoint}"
        );
    }
    assert!(provider.get_oidc_config(Some("first")).await.is_ok());
    for realm in ["second", "..", "a/b", "@evil"] {
        let other = provider.get_oidc_config(Some(realm)).await;
        assert!(
            matches!(other, Err(IdentityError::Unsupported { .. })),
            "{realm}"
        );
    }
}
