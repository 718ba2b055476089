//! Keycloak that is stopped: what is known is used for a while, and then nothing is known. A caller is never rejected for
//! an outage.

use std::time::Duration;

use floe_secrets_webhook::identity::document::FRESH;
use floe_secrets_webhook::identity::{IdentityError, IdentityProvider as _, LoginCredentials};
use floe_secrets_webhook::plugin::{HealthState, PluginMetadata as _};
use secrecy::SecretString;
use serde_json::json;
use testbed::keycloak::CLIENT_SECRET;
use testbed::wait_for;

use super::fixture::{Fixture, bearer, pass};

const STALE: Duration = Duration::from_hours(1);
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);

fn is_unavailable<T>(result: &Result<T, IdentityError>) -> bool {
    matches!(result, Err(IdentityError::Unavailable { .. }))
}

#[tokio::test]
#[ignore = "needs Keycloak: make test-keycloak"]
async fn stopped_issuer_is_bridged_and_then_unavailable() {
    let fixture = Fixture::exclusive().await;
    let (realm, keycloak) = (&fixture.first, fixture.keycloak);
    let settings =
        json!({"staleFor": "1h", "client": fixture.our_client(), "introspectChanges": true});
    let provider = fixture.provider(realm, &settings);
    let unused = fixture.provider(realm, &json!({}));
    let token = bearer(&realm.client_token("pipeline").await);
    provider.verify_for_change(&token).await.unwrap();
    assert_eq!(
        provider.health_check(HEALTH_TIMEOUT).await.state,
        HealthState::Healthy
    );

    keycloak.stop().await;
    assert!(provider.verify(&token).await.is_ok(), "keys are fresh");
    assert!(is_unavailable(&provider.verify_for_change(&token).await));
    assert!(
        is_unavailable(&unused.verify(&token).await),
        "nothing was ever known"
    );
    let login = LoginCredentials::ClientSecret {
        client_id: "pipeline".to_owned(),
        client_secret: SecretString::from(CLIENT_SECRET),
    };
    assert!(is_unavailable(&provider.authenticate(&login).await));
    pass(FRESH).await;
    assert!(provider.verify(&token).await.is_ok(), "keys are stale");
    assert_eq!(
        provider.health_check(HEALTH_TIMEOUT).await.state,
        HealthState::Degraded
    );
    pass(STALE).await;
    let expired = provider.verify(&token).await;
    assert!(is_unavailable(&expired), "{expired:?}");
    assert_eq!(
        provider.health_check(HEALTH_TIMEOUT).await.state,
        HealthState::Unhealthy
    );

    keycloak.start().await;
    let token = bearer(&realm.client_token("pipeline").await);
    wait_for("the issuer is asked again", || async {
        provider.verify(&token).await.ok()
    })
    .await;
    assert_eq!(
        provider.health_check(HEALTH_TIMEOUT).await.state,
        HealthState::Healthy
    );
}
