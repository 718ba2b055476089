//! Clients that a service account with `create-client` alone registers.

use floe_secrets_webhook::identity::oidc::OidcProvider;
use floe_secrets_webhook::identity::{
    ClientOutcome, IdentityError, IdentityProvider as _, LoginCredentials, NewClient,
    TokenRejection,
};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use testbed::keycloak::AUDIENCE;
use testbed::unique;

use super::fixture::{Fixture, bearer};

const SECRET: &str = "canary-secret-of-a-new-client-1234";

fn client(secret: &str) -> NewClient {
    NewClient {
        realm: None,
        client_id: "orders.pipeline".to_owned(),
        client_secret: SecretString::from(secret),
        redirect_uris: vec!["https://orders.example.com/callback".to_owned()],
        scopes: ["basic", "roles", AUDIENCE].map(str::to_owned).to_vec(),
        service_account: true,
    }
}

async fn reason(provider: &OidcProvider, client: &NewClient) -> String {
    match provider.create_client(client).await {
        Err(error @ IdentityError::Misconfigured { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
#[ignore = "needs Keycloak: make test-keycloak"]
async fn client_is_registered_once_with_what_is_allowed() {
    let fixture = Fixture::shared().await;
    let realm = fixture.keycloak.create_realm(&unique("registration")).await;
    let provider = fixture.provider(&realm, &json!({"client": fixture.own_client("registrar")}));
    let wanted = client(SECRET);
    let without_role = reason(&provider, &wanted).await;
    assert!(without_role.contains("create-client"), "{without_role}");
    realm.allow_registration().await;
    realm.allow_registered_scopes(&["basic"]).await;
    let policy = reason(&provider, &wanted).await;
    assert!(policy.contains("\"Allowed Client Scopes\""), "{policy}");
    realm
        .allow_registered_scopes(&["basic", "roles", AUDIENCE])
        .await;
    assert_eq!(
        provider.create_client(&wanted).await,
        Ok(ClientOutcome::Created)
    );
    assert_eq!(
        provider.create_client(&wanted).await,
        Ok(ClientOutcome::AlreadyCreated)
    );
    let other = reason(&provider, &client("canary-secret-of-somebody-else-12")).await;
    assert!(
        other.contains("another secret") && !other.contains("canary"),
        "{other}"
    );

    let id = realm.client("orders.pipeline").await;
    let stored = realm.object(&format!("/clients/{id}")).await;
    assert_eq!(stored["fullScopeAllowed"], false);
    assert_eq!(stored["attributes"]["pkce.code.challenge.method"], "S256");
    assert_eq!(
        stored["redirectUris"],
        json!(["https://orders.example.com/callback"])
    );
    assert_eq!(stored["directAccessGrantsEnabled"], false);
    assert_eq!(stored["implicitFlowEnabled"], false);
    assert!(stored.get("protocolMappers").is_none(), "{stored}");
    let login = LoginCredentials::ClientSecret {
        client_id: "orders.pipeline".to_owned(),
        client_secret: SecretString::from(SECRET),
    };
    let issued = provider.authenticate(&login).await.unwrap();
    let token = bearer(issued.access_token.expose_secret());
    let caller = provider.verify(&token).await.unwrap();
    assert_eq!(caller.authorized_party.as_deref(), Some("orders.pipeline"));
}

#[tokio::test]
#[ignore = "needs Keycloak: make test-keycloak"]
async fn registrar_may_do_nothing_else() {
    let fixture = Fixture::shared().await;
    let realm = fixture.keycloak.create_realm(&unique("registrar")).await;
    realm.allow_registration().await;
    let token = realm.client_token("registrar").await;
    let provider = fixture.provider(&realm, &json!({}));
    let rejected = provider.verify(&bearer(&token)).await.map(drop);
    assert_eq!(rejected, Err(TokenRejection::WrongAudience.into()));
    let path = format!("/admin/realms/{}/users", realm.name);
    let users = fixture
        .keycloak
        .call_as(&token, http::Method::GET, &path, None)
        .await;
    assert_eq!(users.status, 403, "{}", users.text);
}
