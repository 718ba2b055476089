//! Login of this program at an issuer, by client credentials, for a [`crate::token_source::TokenSource`].

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::discovery::DiscoveryCache;
use super::token_endpoint::{ClientAuthentication, TokenEndpointError, TokenGrant, request_token};
use crate::http_client::HttpClient;
use crate::telemetry::error_chain::ErrorChain;
use crate::token_source::{CredentialFile, LoginError, ObtainedToken, TokenLogin};

/// Lifetime of a token whose issuer does not say how long it lives.
pub const DEFAULT_LIFETIME: Duration = Duration::from_mins(1);

/// Credential of a client.
#[derive(Clone, Debug)]
pub enum ClientCredential {
    /// Client secret in a file.
    Secret(CredentialFile),
    /// Token of the program's ServiceAccount, whose audience is the issuer.
    Assertion(CredentialFile),
}

impl ClientCredential {
    fn file(&self) -> &CredentialFile {
        match self {
            Self::Secret(file) | Self::Assertion(file) => file,
        }
    }
}

/// Login of one client at one issuer.
#[derive(Debug)]
pub struct ClientCredentialsLogin {
    pub client: HttpClient,
    pub discovery: Arc<DiscoveryCache>,
    pub client_id: String,
    pub credential: ClientCredential,
    /// Scopes, separated by blanks.
    pub scope: Option<String>,
}

#[async_trait]
impl TokenLogin for ClientCredentialsLogin {
    async fn login(&self) -> Result<ObtainedToken, LoginError> {
        let file = self.credential.file();
        // A file that is missing or empty may be written later: the login rests until then.
        let credential = file.read().await.map_err(|error| LoginError::Refused {
            reason: ErrorChain(&error).to_string(),
        })?;
        let unavailable = |reason: String, retry_after| LoginError::Unavailable {
            reason,
            retry_after,
        };
        let endpoints = self.discovery.endpoints().await;
        let endpoints = endpoints.map_err(|error| unavailable(error.to_string(), None))?;
        let endpoint = endpoints
            .token
            .as_ref()
            .ok_or_else(|| LoginError::Refused {
                reason: "the issuer has no token endpoint of an origin that the settings list"
                    .to_owned(),
            })?;
        let id = self.client_id.as_str();
        let authentication = match &self.credential {
            ClientCredential::Secret(_) => ClientAuthentication::Secret {
                id,
                secret: &credential,
            },
            ClientCredential::Assertion(_) => ClientAuthentication::Assertion {
                id,
                assertion: &credential,
            },
        };
        let grant = TokenGrant::ClientCredentials {
            scope: self.scope.as_deref(),
        };
        let issued = request_token(&self.client, endpoint, authentication, grant).await;
        let issued = issued.map_err(|error| match error {
            TokenEndpointError::Refused { .. } => LoginError::Refused {
                reason: error.to_string(),
            },
            TokenEndpointError::Http(http) => unavailable(http.to_string(), http.retry_after()),
            TokenEndpointError::NoToken { .. } => unavailable(error.to_string(), None),
        })?;
        Ok(ObtainedToken {
            token: issued.access_token,
            lifetime: issued.expires_in.unwrap_or(DEFAULT_LIFETIME),
        })
    }

    async fn credential_version(&self) -> u64 {
        self.credential.file().version().await
    }
}
