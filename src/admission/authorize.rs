//! Authorization: whether a pod may use the secrets that its annotations ask for, and whether the response may contain
//! their key names.

use std::fmt;

use async_trait::async_trait;
use tokio::time::Instant;

use super::error::{AdmissionError, ForbiddenSecret};
use injection::{InjectionRequest, InvalidAnnotation, KeyChoice};

/// Request to use secrets.
#[derive(Debug)]
pub struct SecretUse<'r> {
    pub namespace: &'r str,
    /// ServiceAccount of the pod.
    pub service_account: &'r str,
    pub request: &'r InjectionRequest,
    /// Time limit of the decision.
    pub deadline: Instant,
}

/// Decides whether a pod may use secrets.
#[async_trait]
pub trait Authorizer: fmt::Debug + Send + Sync + 'static {
    /// Secrets of the request that may not be used; empty if all of them may.
    ///
    /// # Errors
    /// [`AdmissionError::Backend`] if the decision could not be made; the pod is not admitted then.
    async fn forbidden(
        &self,
        secrets: &SecretUse<'_>,
    ) -> Result<Vec<ForbiddenSecret>, AdmissionError>;
}

/// Allows everything: anybody who may create a pod in a namespace can mount each of its Secrets anyway.
#[derive(Clone, Copy, Debug)]
pub struct AllowAll;

#[async_trait]
impl Authorizer for AllowAll {
    async fn forbidden(&self, _: &SecretUse<'_>) -> Result<Vec<ForbiddenSecret>, AdmissionError> {
        Ok(Vec::new())
    }
}

/// Rejects `name/*` if the response must not disclose key names, because the expansion has the names of all keys.
///
/// # Errors
/// [`AdmissionError::Annotations`], with the settings by which an operator restricts access to the port.
pub(super) fn check_disclosure(
    request: &InjectionRequest,
    discloses: bool,
) -> Result<(), AdmissionError> {
    if discloses {
        return Ok(());
    }
    let all_keys = request
        .variables
        .iter()
        .filter(|variable| variable.reference.key == KeyChoice::All);
    let mistakes: Vec<InvalidAnnotation> = all_keys
        .map(|variable| InvalidAnnotation {
            site: variable.site.clone(),
            problem: format!(
                "\"{}\" takes every key of the secret, and this installation tells key names to nobody because it cannot tell the API server from other callers; name the keys, or let the platform operator set tls.clientCA, networkPolicy.podCIDRs or networkPolicy.admission.from",
                variable.reference
            ),
            unsupported: true,
        })
        .collect();
    if mistakes.is_empty() {
        Ok(())
    } else {
        Err(AdmissionError::Annotations(mistakes))
    }
}
