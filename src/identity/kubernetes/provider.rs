//! Provider for tokens of ServiceAccounts: the API server reviews them.
//!
//! A token has to be of the audience of the admin API. One of the API server's own audience is not accepted: this program
//! would become a place that collects credentials of the cluster.

use std::time::Duration;

use async_trait::async_trait;
use secrecy::ExposeSecret as _;
use serde_json::{Map, Value, json};

use super::review_cache::ReviewCache;
use super::{BearerToken, ReviewError, ReviewedToken, TokenReviewer};
use crate::identity::error::{IdentityError, TokenRejection};
use crate::identity::jose::UnverifiedToken;
use crate::identity::provider::IdentityProvider;
use crate::identity::settings::KUBERNETES;
use crate::identity::types::{AuthenticatedCaller, UserInfo};
use crate::plugin::{HealthState, HealthStatus, PluginInfo, PluginMetadata};

/// Token that no API server accepts, for health checks.
const PROBE: &str = "health.check.none";

/// Provider that asks the API server.
#[derive(Clone, Debug)]
pub struct KubernetesProvider {
    reviews: ReviewCache,
}

impl KubernetesProvider {
    /// Creates a provider over a reviewer of the audience of the admin API.
    #[must_use]
    pub fn new(reviewer: TokenReviewer) -> Self {
        Self {
            reviews: ReviewCache::new(reviewer),
        }
    }
}

#[async_trait]
impl PluginMetadata for KubernetesProvider {
    fn metadata(&self) -> PluginInfo {
        PluginInfo::new(
            KUBERNETES,
            "Tokens of ServiceAccounts, reviewed by the API server",
        )
    }

    async fn health_check(&self, limit: Duration) -> HealthStatus {
        let Ok(probe) = BearerToken::parse(PROBE) else {
            return HealthStatus::new(HealthState::Unhealthy, "no review is possible");
        };
        let (state, message) = match tokio::time::timeout(limit, self.reviews.review(&probe)).await
        {
            Ok(Ok(_) | Err(ReviewError::Unauthenticated { .. })) => {
                (HealthState::Healthy, "the API server reviews tokens")
            }
            Ok(Err(ReviewError::Unavailable { .. })) => (
                HealthState::Unhealthy,
                "the API server does not review tokens: check the right to create TokenReviews",
            ),
            Err(_) => (
                HealthState::Unhealthy,
                "the API server did not answer in time",
            ),
        };
        HealthStatus::new(state, message)
    }
}

#[async_trait]
impl IdentityProvider for KubernetesProvider {
    async fn verify(&self, token: &BearerToken) -> Result<AuthenticatedCaller, IdentityError> {
        match self.reviews.review(token).await {
            Ok(reviewed) => Ok(caller(&reviewed, token)),
            Err(ReviewError::Unauthenticated { .. }) => Err(TokenRejection::Inactive.into()),
            Err(error @ ReviewError::Unavailable { .. }) => Err(IdentityError::Unavailable {
                provider: KUBERNETES.to_owned(),
                reason: error.to_string(),
                retry_after: None,
            }),
        }
    }
}

/// Caller of a reviewed token. The API server vouches for everything but the issuer and the end of the token, which are
/// those of the token itself.
fn caller(reviewed: &ReviewedToken, token: &BearerToken) -> AuthenticatedCaller {
    let token = UnverifiedToken::parse(token.expose_secret()).ok();
    let mut claims = Map::new();
    claims.insert("uid".to_owned(), json!(reviewed.uid));
    if let Some(pod) = &reviewed.pod {
        let pod = json!({"name": pod.name, "uid": pod.uid});
        claims.insert("pod".to_owned(), pod);
    }
    let issuer = token.as_ref().map(UnverifiedToken::issuer);
    if let Some(account) = &reviewed.service_account {
        let account: Value = json!({"namespace": account.namespace, "name": account.name});
        claims.insert("serviceaccount".to_owned(), account);
    }
    AuthenticatedCaller {
        issuer: issuer.unwrap_or(KUBERNETES).to_owned(),
        username: Some(reviewed.username.clone()),
        credential_id: reviewed.credential_id.clone(),
        expires_at: token.as_ref().and_then(UnverifiedToken::expires_at),
        user_info: UserInfo {
            subject: reviewed.username.clone(),
            groups: reviewed.groups.clone(),
            claims,
            ..UserInfo::default()
        },
        ..AuthenticatedCaller::default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use async_trait::async_trait;
    use futures::future::join_all;
    use tokio::time::advance;

    use super::super::review_cache::{MAX_RUNNING_REVIEWS, REVIEW_LIFETIME};
    use super::super::test_support::{authenticated, scripted};
    use super::*;
    use crate::identity::conformance::{CANARY, ProviderFixture};
    use crate::identity_conformance;

    /// Token that the API server accepts.
    const VALID: &str = "canary-7d1f.valid.token";

    /// Provider, and the number of reviews that the API server got.
    fn provider(
        script: impl Fn(usize, &Value) -> (u16, Value) + Send + Sync + 'static,
    ) -> (KubernetesProvider, Arc<AtomicUsize>) {
        let reviews = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&reviews);
        let (api, _) = scripted(Arc::new(move |review| {
            script(counter.fetch_add(1, Ordering::Relaxed), review)
        }));
        let provider = KubernetesProvider::new(TokenReviewer::new(api, "floe"));
        (provider, reviews)
    }

    fn token(text: &str) -> BearerToken {
        BearerToken::parse(text).unwrap()
    }

    fn is_unavailable(error: &IdentityError) -> bool {
        matches!(error, IdentityError::Unavailable { .. })
    }

    #[tokio::test(start_paused = true)]
    async fn verdict_is_used_for_ten_seconds_by_all_callers() {
        let (provider, reviews) = provider(|number, _| match number {
            0 => (201, authenticated("floe:ci", "ci-1", "u-1")),
            _ => (201, json!({"status": {"authenticated": false}})),
        });
        let token = token("canary.token.a");
        let callers = join_all((0..100).map(|_| provider.verify(&token))).await;
        let caller = callers.into_iter().map(Result::unwrap).next_back().unwrap();
        assert_eq!(caller.user_info.subject, "system:serviceaccount:floe:ci");
        assert_eq!(caller.user_info.claims["pod"]["name"], "ci-1");
        assert_eq!(caller.issuer, KUBERNETES);
        advance(REVIEW_LIFETIME.saturating_sub(Duration::from_millis(1))).await;
        assert!(provider.verify(&token).await.is_ok());
        assert_eq!(reviews.load(Ordering::Relaxed), 1);
        advance(Duration::from_millis(1)).await;
        let inactive = IdentityError::from(TokenRejection::Inactive);
        assert_eq!(provider.verify(&token).await, Err(inactive.clone()));
        assert_eq!(provider.verify(&token).await, Err(inactive));
        assert_eq!(reviews.load(Ordering::Relaxed), 2);
        let shown = format!("{provider:?} {caller:?}");
        assert!(!shown.contains("canary"), "{shown}");
    }

    #[tokio::test(start_paused = true)]
    async fn row_67_token_of_another_audience_is_rejected() {
        let (provider, _) = provider(|_, _| {
            let mut other = authenticated("floe:ci", "ci-1", "u-1");
            other["status"]["audiences"] = json!(["https://kubernetes.default.svc"]);
            (201, other)
        });
        let rejected = provider.verify(&token("a.b.c")).await;
        assert_eq!(rejected, Err(TokenRejection::Inactive.into()));
        let result = provider.validate_token(&token("a.b.c")).await.unwrap();
        assert!(!result.valid && result.error == "inactive");
    }

    #[tokio::test(start_paused = true)]
    async fn row_66_token_that_the_api_server_rejects_is_rejected() {
        // A deleted pod, another cluster, forged claims: the API server gives the same answer to each.
        let rejected = json!({"status": {"error": "[invalid bearer token, canary]"}});
        let (provider, _) = provider(move |_, _| (201, rejected.clone()));
        let error = provider.verify(&token("a.b.c")).await.unwrap_err();
        assert_eq!(error, TokenRejection::Inactive.into());
        assert!(!error.to_string().contains("canary"));
    }

    #[tokio::test(start_paused = true)]
    async fn row_68_api_server_without_a_verdict_is_asked_again() {
        let (provider, reviews) = provider(|number, _| match number {
            0 => (429, json!({"message": "too many requests"})),
            1 => (0, json!({})),
            _ => (201, authenticated("floe:ci", "ci-1", "u-1")),
        });
        let token = token("a.b.c");
        for _ in 0..2 {
            let error = provider.verify(&token).await.unwrap_err();
            assert!(is_unavailable(&error), "{error:?}");
        }
        assert!(provider.verify(&token).await.is_ok());
        assert_eq!(reviews.load(Ordering::Relaxed), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn caller_that_leaves_does_not_end_the_review() {
        let (provider, reviews) = provider(|_, _| (201, authenticated("floe:ci", "c", "u")));
        let token = token("a.b.c");
        {
            let leaving = provider.verify(&token);
            futures::pin_mut!(leaving);
            assert!(futures::poll!(leaving.as_mut()).is_pending());
        }
        assert!(provider.verify(&token).await.is_ok());
        assert_eq!(reviews.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn running_reviews_are_limited() {
        let (provider, reviews) = provider(|_, _| (0, json!({})));
        let tokens: Vec<_> = (0..=MAX_RUNNING_REVIEWS)
            .map(|number| token(&format!("a.b.{number}")))
            .collect();
        let results = join_all(tokens.iter().map(|token| provider.verify(token))).await;
        let refused = |result: &Result<_, IdentityError>| matches!(result, Err(error) if error.to_string().contains("other tokens"));
        assert_eq!(results.iter().filter(|result| refused(result)).count(), 1);
        assert_eq!(reviews.load(Ordering::Relaxed), MAX_RUNNING_REVIEWS);
        assert!(
            results
                .iter()
                .all(|result| matches!(result, Err(error) if is_unavailable(error)))
        );
    }

    /// API server that accepts one token until it is away.
    struct Fixture {
        provider: KubernetesProvider,
        is_away: Arc<AtomicBool>,
    }

    fn fixture() -> Fixture {
        let is_away = Arc::new(AtomicBool::new(false));
        let away = Arc::clone(&is_away);
        let (provider, _) = provider(move |_, review| {
            if away.load(Ordering::Relaxed) {
                return (503, json!({"message": CANARY}));
            }
            if review["spec"]["token"] == VALID {
                return (201, authenticated("floe:ci", "ci-1", "u-1"));
            }
            (201, json!({"status": {"error": CANARY}}))
        });
        Fixture { provider, is_away }
    }

    #[async_trait]
    impl ProviderFixture for Fixture {
        fn provider(&self) -> &dyn IdentityProvider {
            &self.provider
        }

        async fn valid_token(&self) -> (BearerToken, String) {
            (token(VALID), "system:serviceaccount:floe:ci".to_owned())
        }

        async fn take_issuer_away(&self) -> bool {
            self.is_away.store(true, Ordering::Relaxed);
            tokio::time::pause();
            advance(REVIEW_LIFETIME).await;
            tokio::time::resume();
            true
        }
    }

    identity_conformance!(kubernetes_provider, std::future::ready(fixture()));

    #[tokio::test]
    async fn health_is_that_of_reviews() {
        let (healthy, _) = provider(|_, _| (201, json!({"status": {"authenticated": false}})));
        let limit = Duration::from_secs(1);
        assert_eq!(
            healthy.health_check(limit).await.state,
            HealthState::Healthy
        );
        let (forbidden, _) = provider(|_, _| (403, json!({"message": "forbidden"})));
        let status = forbidden.health_check(limit).await;
        assert_eq!(status.state, HealthState::Unhealthy);
        assert_eq!(healthy.metadata().name, KUBERNETES);
    }
}
