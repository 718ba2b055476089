//! Provider `kubernetes` on a real API server: tokens of ServiceAccounts, and how long they are accepted.

#![cfg(feature = "test-util")]

use std::time::{Duration, Instant};

use floe_secrets_webhook::identity::kubernetes::{
    BearerToken, KubernetesProvider, REVIEW_LIFETIME, TokenReviewer,
};
use floe_secrets_webhook::identity::settings::AUDIENCE;
use floe_secrets_webhook::identity::{IdentityError, IdentityProvider as _, TokenRejection};
use floe_secrets_webhook::kubernetes::ObjectApi;
use floe_secrets_webhook::plugin::{HealthState, PluginMetadata as _};
use http::Method;
use serde_json::{Value, json};
use testbed::control_plane::{ControlPlane, Options};
use testbed::manifests::pod;
use testbed::namespace::TestNamespace;
use testbed::objects::path;
use testbed::{unique, wait_for};

/// Namespace with the ServiceAccount `caller`, and a provider with the right to review tokens and no other.
struct Fixture<'c> {
    cp: &'c ControlPlane,
    namespace: TestNamespace,
    provider: KubernetesProvider,
}

impl<'c> Fixture<'c> {
    async fn new(cp: &'c ControlPlane) -> Self {
        let namespace = cp.namespace("identity").await;
        let admin = cp
            .service_account(&namespace.name, "admin", &json!([]))
            .await;
        cp.service_account(&namespace.name, "caller", &json!([]))
            .await;
        let rbac = "rbac.authorization.k8s.io";
        let binding = json!({
            "apiVersion": format!("{rbac}/v1"),
            "kind": "ClusterRoleBinding",
            "metadata": {"name": unique("identity")},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "system:auth-delegator"},
            "subjects": [{"kind": "ServiceAccount", "name": "admin", "namespace": namespace.name}],
        });
        cp.create(&binding).await.object();
        let api = ObjectApi::new(admin.client());
        let fixture = Self {
            cp,
            namespace,
            provider: KubernetesProvider::new(TokenReviewer::new(api, AUDIENCE)),
        };
        // The permission arrives a moment later.
        wait_for("the right to review tokens", || async {
            let status = fixture.provider.health_check(Duration::from_secs(5)).await;
            (status.state == HealthState::Healthy).then_some(())
        })
        .await;
        fixture
    }

    /// Token by `kubectl create token`.
    async fn token(&self, more: &[&str]) -> BearerToken {
        let namespace = self.namespace.name.as_str();
        let args = [&["-n", namespace, "create", "token", "caller"], more].concat();
        let output = self.cp.kubectl(&args, "").await.expect_success();
        BearerToken::parse(output.stdout.trim()).expect("a token")
    }

    async fn is_rejected(&self, token: &BearerToken) -> bool {
        let inactive = IdentityError::from(TokenRejection::Inactive);
        match self.provider.verify(token).await {
            Ok(_) => false,
            Err(error) => {
                assert_eq!(error, inactive);
                true
            }
        }
    }

    async fn delete(&self, object: &Value) {
        let deleted = self.cp.request(Method::DELETE, &path(object), None).await;
        assert!(deleted.is_accepted(), "{}", deleted.message());
    }
}

const OURS: &str = "--audience=floe-secrets-admin";

#[tokio::test]
async fn token_of_our_audience_has_its_service_account() {
    let fixture = Fixture::new(ControlPlane::shared().await).await;
    let token = fixture.token(&[OURS, "--duration=10m"]).await;
    let caller = fixture.provider.verify(&token).await.unwrap();
    let name = format!("system:serviceaccount:{}:caller", fixture.namespace.name);
    assert_eq!(caller.user_info.subject, name);
    let group = format!("system:serviceaccounts:{}", fixture.namespace.name);
    assert!(caller.user_info.groups.contains(&group));
    assert!(caller.issuer.starts_with("https://"), "{}", caller.issuer);
    let lifetime = caller
        .expires_at
        .unwrap()
        .duration_since(jiff::Timestamp::now());
    assert!((1..=600).contains(&lifetime.as_secs()), "{lifetime:?}");
    let result = fixture.provider.validate_token(&token).await.unwrap();
    assert!(result.valid && !result.expires_at.is_empty());
}

#[tokio::test]
async fn row_66_tokens_for_others_and_of_deleted_accounts_are_rejected() {
    let fixture = Fixture::new(ControlPlane::shared().await).await;
    assert!(
        fixture.is_rejected(&fixture.token(&[]).await).await,
        "the API server's audience"
    );
    let other = fixture.token(&["--audience=other"]).await;
    assert!(fixture.is_rejected(&other).await);
    let forged = BearerToken::parse("eyJhbGciOiJub25lIn0.eyJpc3MiOiJhIn0.x").unwrap();
    assert!(fixture.is_rejected(&forged).await);

    let token = fixture.token(&[OURS]).await;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "caller", "namespace": fixture.namespace.name}});
    fixture.delete(&account).await;
    // Not known here yet; the API server has not seen it either.
    wait_for("the deleted account is rejected", || async {
        fixture.is_rejected(&token).await.then_some(())
    })
    .await;
}

#[tokio::test]
async fn row_66_token_of_another_cluster_is_rejected() {
    let fixture = Fixture::new(ControlPlane::shared().await).await;
    let options = Options {
        controller_manager: false,
        ..Options::default()
    };
    let other = ControlPlane::start(options).await;
    let account = ["-n", "default", "create", "token", "default", OURS];
    let output = other.kubectl(&account, "").await.expect_success();
    let token = BearerToken::parse(output.stdout.trim()).unwrap();
    assert!(fixture.is_rejected(&token).await);
}

#[tokio::test]
async fn token_of_a_deleted_pod_is_rejected_after_twenty_seconds_at_most() {
    let fixture = Fixture::new(ControlPlane::shared().await).await;
    let mut runner = pod(&fixture.namespace.name, "runner", &json!({}));
    runner["spec"]["serviceAccountName"] = json!("caller");
    let runner = fixture.cp.create(&runner).await.object();
    let bound = [
        "--bound-object-kind",
        "Pod",
        "--bound-object-name",
        "runner",
    ];
    let token = fixture.token(&[&[OURS], &bound[..]].concat()).await;
    let caller = fixture.provider.verify(&token).await.unwrap();
    assert_eq!(caller.user_info.claims["pod"]["name"], "runner");

    fixture.delete(&runner).await;
    let deleted = Instant::now();
    while !fixture.is_rejected(&token).await {
        assert!(deleted.elapsed() < Duration::from_mins(1), "never rejected");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let accepted = deleted.elapsed();
    testbed::print_line(&format!(
        "token of a deleted pod: accepted for {accepted:.1?}"
    ));
    // Ours, the API server's, and a moment.
    assert!(
        accepted <= REVIEW_LIFETIME * 2 + Duration::from_secs(1),
        "{accepted:?}"
    );
}
