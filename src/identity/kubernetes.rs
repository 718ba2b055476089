//! Tokens of ServiceAccounts, reviewed by the API server (TokenReview).
//!
//! A token is in memory while a request is handled, and in the body of the review. It is in no log line, no error and no
//! `Debug` output.

mod provider;
mod review_cache;
mod service_account;
#[cfg(test)]
pub(crate) mod test_support;
mod token;

use std::time::Duration;

use secrecy::ExposeSecret as _;
use serde::Deserialize;
use serde_json::json;
use thiserror::Error;
use tokio::time::timeout;

pub use self::provider::KubernetesProvider;
pub use self::review_cache::{MAX_REVIEWS, MAX_RUNNING_REVIEWS, REVIEW_LIFETIME};
pub use self::service_account::{InvalidServiceAccount, ServiceAccountName};
pub use self::token::{BearerToken, InvalidBearer, MAX_TOKEN};
use crate::kubernetes::{ObjectApi, parse};

/// Time limit of a review.
pub const REVIEW_TIMEOUT: Duration = Duration::from_secs(5);

const PATH: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

/// Reviews tokens of one audience.
#[derive(Clone, Debug)]
pub struct TokenReviewer {
    api: ObjectApi,
    audience: &'static str,
}

/// Identity that the API server vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReviewedToken {
    pub username: String,
    pub uid: String,
    pub groups: Vec<String>,
    /// Absent for users that are not ServiceAccounts.
    pub service_account: Option<ServiceAccountName>,
    /// Pod that the token is bound to.
    pub pod: Option<BoundPod>,
    /// Id of the credential, which is not the credential. Absent before Kubernetes 1.32.
    pub credential_id: Option<String>,
}

/// Pod that a token is bound to. The API server rejects the token when the pod is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundPod {
    pub name: String,
    pub uid: String,
}

/// Reason why the owner of a token is not known.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReviewError {
    #[error(
        "the token is not valid, has expired, or is not of the audience \"{audience}\": mount a ServiceAccount token of that audience"
    )]
    Unauthenticated { audience: &'static str },
    #[error("the token cannot be checked at the moment: {reason}. Retry")]
    Unavailable { reason: String },
}

#[derive(Deserialize)]
struct TokenReviewResponse {
    #[serde(default)]
    status: TokenReviewStatus,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TokenReviewStatus {
    authenticated: bool,
    audiences: Vec<String>,
    user: ReviewedUser,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ReviewedUser {
    username: String,
    uid: String,
    groups: Vec<String>,
    extra: std::collections::BTreeMap<String, Vec<String>>,
}

impl TokenReviewer {
    /// Creates a reviewer over a client of [`crate::kubernetes::connect_for_long_calls`].
    #[must_use]
    pub fn new(api: ObjectApi, audience: &'static str) -> Self {
        Self { api, audience }
    }

    /// Finds out who a token belongs to, within [`REVIEW_TIMEOUT`].
    ///
    /// # Errors
    ///
    /// The API server does not accept the token for the audience, or it does not respond.
    pub async fn review(&self, token: &BearerToken) -> Result<ReviewedToken, ReviewError> {
        let unavailable = |reason: String| ReviewError::Unavailable { reason };
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token.expose_secret(), "audiences": [self.audience]},
        });
        let response = timeout(REVIEW_TIMEOUT, self.api.review(PATH, &review)).await;
        let late = |_| unavailable(format!("POST {PATH}: no response in time"));
        let response = response.map_err(late)?;
        let response = response.map_err(|error| unavailable(error.to_string()))?;
        let review: TokenReviewResponse =
            parse(PATH, &response).map_err(|error| unavailable(error.to_string()))?;
        self.accept(review.status)
            .ok_or(ReviewError::Unauthenticated {
                audience: self.audience,
            })
    }

    /// Identity of an authenticated token. An API server that does not know audiences returns none, and the token could
    /// be of any.
    fn accept(&self, status: TokenReviewStatus) -> Option<ReviewedToken> {
        let TokenReviewStatus {
            authenticated,
            audiences,
            user,
        } = status;
        if !authenticated || !audiences.iter().any(|audience| audience == self.audience) {
            return None;
        }
        let extra = |name: &str| {
            let values = user
                .extra
                .get(&format!("authentication.kubernetes.io/{name}"));
            match values.map(Vec::as_slice) {
                Some([value]) if !value.is_empty() => Some(value.clone()),
                _ => None,
            }
        };
        let pod = extra("pod-name").zip(extra("pod-uid"));
        Some(ReviewedToken {
            service_account: ServiceAccountName::of_username(&user.username),
            pod: pod.map(|(name, uid)| BoundPod { name, uid }),
            credential_id: extra("credential-id"),
            username: user.username,
            uid: user.uid,
            groups: user.groups,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::Value;

    use super::test_support::{authenticated, scripted};
    use super::*;

    const TOKEN: &str = "canary.token.x";

    async fn review(status: u16, body: Value) -> Result<ReviewedToken, ReviewError> {
        let (api, received) = scripted(Arc::new(move |_| (status, body.clone())));
        let token = BearerToken::parse(TOKEN).unwrap();
        let result = TokenReviewer::new(api, "floe").review(&token).await;
        let received = received.lock().unwrap();
        let spec = json!({"token": TOKEN, "audiences": ["floe"]});
        assert_eq!(received.first().map(|review| &review["spec"]), Some(&spec));
        if let Err(error) = &result {
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("canary"), "{shown}");
        }
        result
    }

    #[tokio::test]
    async fn token_of_a_pod_has_its_service_account_and_pod() {
        let reviewed = review(201, authenticated("floe:webhook", "webhook-1", "u-1")).await;
        let expected = ReviewedToken {
            username: "system:serviceaccount:floe:webhook".to_owned(),
            uid: "sa-uid".to_owned(),
            groups: vec!["system:serviceaccounts".to_owned()],
            service_account: Some("floe/webhook".parse().unwrap()),
            pod: Some(BoundPod {
                name: "webhook-1".to_owned(),
                uid: "u-1".to_owned(),
            }),
            credential_id: Some("JTI=1".to_owned()),
        };
        assert_eq!(reviewed, Ok(expected));
    }

    #[tokio::test]
    async fn other_status_is_not_authenticated() {
        let unauthenticated = Err(ReviewError::Unauthenticated { audience: "floe" });
        let mut other = authenticated("floe:webhook", "p", "u");
        other["status"]["audiences"] = json!(["https://kubernetes.default.svc"]);
        assert_eq!(review(201, other.clone()).await, unauthenticated);
        other["status"]["audiences"].take();
        let mut unaware = other.clone();
        unaware["status"]
            .as_object_mut()
            .unwrap()
            .remove("audiences");
        assert_eq!(review(201, unaware).await, unauthenticated);
        let refused = json!({"status": {"error": format!("[invalid {TOKEN}]")}});
        assert_eq!(review(201, refused).await, unauthenticated);
        assert_eq!(
            review(201, json!({"spec": {"token": TOKEN}})).await,
            unauthenticated
        );
    }

    #[tokio::test(start_paused = true)]
    async fn review_without_a_result_is_unavailable() {
        let reason = async |status, body| match review(status, body).await {
            Err(ReviewError::Unavailable { reason }) => reason,
            other => panic!("{other:?}"),
        };
        let forbidden = json!({"message": "tokenreviews is forbidden: User \"u\" cannot create"});
        assert!(reason(403, forbidden).await.contains("cannot create"));
        let failed = json!({"message": TOKEN});
        assert!(reason(500, failed).await.ends_with("HTTP 500"));
        assert!(reason(201, json!(TOKEN)).await.contains("not an object"));
        let began = tokio::time::Instant::now();
        assert!(reason(0, json!({})).await.contains("no response in time"));
        assert_eq!(began.elapsed(), REVIEW_TIMEOUT);
    }

    #[tokio::test]
    async fn token_that_is_bound_to_no_pod_has_none() {
        let mut unbound = authenticated("floe:webhook", "p", "u");
        unbound["status"]["user"]["extra"] = json!({});
        let reviewed = review(201, unbound).await.unwrap();
        assert_eq!((reviewed.pod, reviewed.credential_id), (None, None));
        let person = json!({"status": {"authenticated": true, "audiences": ["floe"],
            "user": {"username": "alice"}}});
        assert_eq!(review(201, person).await.unwrap().service_account, None);
    }
}
