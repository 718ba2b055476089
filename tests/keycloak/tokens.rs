//! Tokens of each kind, rotated keys, and users that were disabled.

use std::time::Duration;

use floe_secrets_webhook::identity::keys::UNKNOWN_KEY_INTERVAL;
use floe_secrets_webhook::identity::{IdentityError, IdentityProvider as _, TokenRejection};
use futures::future::join_all;
use serde_json::json;
use testbed::keycloak::claims_of;
use testbed::{poll, unique};

use super::fixture::{Fixture, bearer, pass};

#[tokio::test]
#[ignore = "needs Keycloak: make test-keycloak"]
async fn other_tokens_of_the_issuer_are_rejected_each_with_its_code() {
    let fixture = Fixture::shared().await;
    let (first, second) = (&fixture.first, &fixture.second);
    let provider = fixture.provider(first, &json!({}));
    let alice = first.user_tokens("cli", "alice").await;
    for (token, code) in [
        (
            first.client_token("no-audience").await,
            TokenRejection::WrongAudience,
        ),
        (
            first.client_token("lightweight").await,
            TokenRejection::WrongAudience,
        ),
        (
            second.client_token("pipeline").await,
            TokenRejection::WrongIssuer,
        ),
        (alice.id.unwrap(), TokenRejection::WrongType),
        // Signed with a symmetric key of Keycloak's own.
        (alice.refresh.unwrap(), TokenRejection::WrongAlgorithm),
    ] {
        let token = bearer(&token);
        let rejected = provider.verify(&token).await;
        assert_eq!(
            rejected.map(drop),
            Err(IdentityError::Unauthenticated { code })
        );
        let result = provider.validate_token(&token).await.unwrap();
        assert!(!result.valid && result.user_info.is_none());
        assert_eq!(result.error, code.public().as_str());
    }
}

#[tokio::test]
#[ignore = "needs Keycloak: make test-keycloak"]
async fn client_that_is_not_listed_is_rejected() {
    let fixture = Fixture::shared().await;
    let token = bearer(&fixture.first.client_token("pipeline").await);
    let listed = fixture.provider(&fixture.first, &json!({"clients": ["pipeline"]}));
    assert!(listed.verify(&token).await.is_ok());
    let other = fixture.provider(&fixture.first, &json!({"clients": ["cli"]}));
    let rejected = other.verify(&token).await.map(drop);
    assert_eq!(rejected, Err(TokenRejection::WrongClient.into()));
}

#[tokio::test]
#[ignore = "needs Keycloak: make test-keycloak"]
async fn roles_of_another_client_never_count() {
    let fixture = Fixture::shared().await;
    let provider = fixture.provider(&fixture.first, &json!({"realmRoles": null}));
    let token = fixture.first.user_tokens("cli", "alice").await.access;
    let claims = claims_of(&token);
    assert_eq!(
        claims["resource_access"]["other"]["roles"],
        json!(["admin"])
    );
    let caller = provider.verify(&bearer(&token)).await.unwrap();
    assert_eq!(caller.user_info.roles, ["viewer"]);
}

#[tokio::test]
#[ignore = "needs Keycloak: make test-keycloak"]
async fn rotated_key_is_found_by_one_fetch() {
    let fixture = Fixture::shared().await;
    let realm = fixture.keycloak.create_realm(&unique("rotation")).await;
    let provider = fixture.provider(&realm, &json!({}));
    let old = bearer(&realm.client_token("pipeline").await);
    provider.verify(&old).await.unwrap();
    let path = format!("/realms/{}/protocol/openid-connect/certs", realm.name);
    let fetches = || fixture.keycloak.requests_for(&path);
    let first = poll(Duration::from_secs(10), || async {
        (fetches() == 1).then_some(())
    });
    assert!(first.await.is_some(), "{}", fetches());

    realm.rotate_keys(200).await;
    let new = bearer(&realm.client_token("pipeline").await);
    // Keys that were just fetched are not fetched again for a stranger's key id.
    let early = provider.verify(&new).await.map(drop);
    assert_eq!(early, Err(TokenRejection::UnknownKey.into()));
    pass(UNKNOWN_KEY_INTERVAL).await;
    let healed = join_all((0..50).map(|_| provider.verify(&new))).await;
    assert!(healed.iter().all(Result::is_ok), "{healed:?}");
    assert!(
        provider.verify(&old).await.is_ok(),
        "the key before is still published"
    );
    // The log is written a moment later.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(fetches(), 2);
}

#[tokio::test]
#[ignore = "needs Keycloak: make test-keycloak"]
async fn row_58_disabled_user_is_found_by_introspection() {
    let fixture = Fixture::shared().await;
    let realm = &fixture.first;
    let name = unique("bob");
    let id = realm.create_user(&name).await;
    let token = bearer(&realm.user_tokens("cli", &name).await.access);
    let introspecting = json!({"client": fixture.our_client(), "introspectChanges": true});
    let provider = fixture.provider(realm, &introspecting);
    let caller = provider.verify_for_change(&token).await.unwrap();
    assert_eq!(caller.user_info.subject, id);

    realm.disable_user(&id).await;
    assert!(provider.verify(&token).await.is_ok(), "until it expires");
    let inactive = provider.verify_for_change(&token).await.map(drop);
    assert_eq!(inactive, Err(TokenRejection::Inactive.into()));
    let plain = fixture.provider(realm, &json!({}));
    assert!(plain.verify_for_change(&token).await.is_ok());
}

#[tokio::test]
#[ignore = "needs Keycloak: make test-keycloak"]
async fn wrong_secret_of_this_program_is_not_the_callers_fault() {
    let fixture = Fixture::shared().await;
    let token = bearer(&fixture.first.client_token("pipeline").await);
    let mut client = fixture.our_client();
    client["secretFile"] = json!(fixture.keycloak.ca_file());
    let settings = json!({"client": client, "introspectChanges": true});
    let provider = fixture.provider(&fixture.first, &settings);
    let error = provider.verify_for_change(&token).await.unwrap_err();
    assert!(
        matches!(error, IdentityError::Misconfigured { .. }),
        "{error:?}"
    );
    assert!(!error.to_string().contains("CERTIFICATE"), "{error}");
}
