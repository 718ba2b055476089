//! Trait of identity providers: `IdentityPlugin` of the floe spec.

use async_trait::async_trait;

use super::error::IdentityError;
use super::kubernetes::BearerToken;
use super::types::{
    AuthenticatedCaller, ClientOutcome, IssuedToken, LoginCredentials, NewClient, OidcConfig,
    TokenValidationResult, UserInfo,
};
use crate::plugin::PluginMetadata;

/// Provider of identities: an OIDC issuer, or the API server.
///
/// # Contract
/// - `verify` of a token that the provider does not accept: [`IdentityError::Unauthenticated`], with the reason.
/// - An issuer that cannot be reached: [`IdentityError::Unavailable`], never `Unauthenticated`.
/// - `authenticate` with wrong credentials: [`IdentityError::Unauthenticated`]; the spec returns `None`.
/// - An operation that the issuer does not have: [`IdentityError::Unsupported`], without a request.
/// - No error, in `Display` or `Debug`, contains a token, credentials, or text that the issuer sent.
#[async_trait]
pub trait IdentityProvider: PluginMetadata {
    /// Finds out who a token belongs to.
    async fn verify(&self, token: &BearerToken) -> Result<AuthenticatedCaller, IdentityError>;

    /// Finds out who a token belongs to before something is changed. The issuer may be asked whether the token is still
    /// active, if the settings want that; one that cannot be asked is [`IdentityError::Unavailable`].
    async fn verify_for_change(
        &self,
        token: &BearerToken,
    ) -> Result<AuthenticatedCaller, IdentityError> {
        self.verify(token).await
    }

    /// Checks a token: `validate_token` of the floe spec. A token that is not valid is a result, not an error.
    async fn validate_token(
        &self,
        token: &BearerToken,
    ) -> Result<TokenValidationResult, IdentityError> {
        TokenValidationResult::of(self.verify(token).await)
    }

    /// Returns the user that a token belongs to.
    async fn get_user_info(&self, token: &BearerToken) -> Result<UserInfo, IdentityError> {
        self.verify(token).await.map(|caller| caller.user_info)
    }

    /// Logs in, and returns tokens.
    async fn authenticate(
        &self,
        credentials: &LoginCredentials,
    ) -> Result<IssuedToken, IdentityError> {
        let _ = credentials;
        Err(self.unsupported("authenticate"))
    }

    /// Endpoints of a realm; `None` is the provider's own.
    async fn get_oidc_config(&self, realm: Option<&str>) -> Result<OidcConfig, IdentityError> {
        let _ = realm;
        Err(self.unsupported("get_oidc_config"))
    }

    /// Registers a client.
    async fn create_client(&self, client: &NewClient) -> Result<ClientOutcome, IdentityError> {
        let _ = client;
        Err(self.unsupported("create_client"))
    }

    /// Error of an operation that this provider does not have.
    fn unsupported(&self, operation: &'static str) -> IdentityError {
        IdentityError::Unsupported {
            provider: self.metadata().name,
            operation,
        }
    }
}
