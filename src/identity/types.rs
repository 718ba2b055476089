//! Types of the floe spec for identities, and what a provider knows of a caller beyond them.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use secrecy::SecretString;
use serde::Serialize;
use serde_json::{Map, Value};

use super::error::{IdentityError, TokenErrorCode};

/// `UserInfo` of the floe spec.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UserInfo {
    /// Id of the user at the issuer. Identity is issuer and subject, and nothing else.
    pub subject: String,
    /// Empty unless the issuer verified it.
    pub email: String,
    pub name: String,
    /// Roles that count here, each once. [`AuthenticatedCaller`] has them by origin.
    pub roles: Vec<String>,
    pub groups: Vec<String>,
    /// All claims of the token.
    pub claims: Map<String, Value>,
}

/// `TokenValidationResult` of the floe spec.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TokenValidationResult {
    pub valid: bool,
    pub user_info: Option<UserInfo>,
    /// Empty for a valid token, otherwise a [`TokenErrorCode`].
    pub error: &'static str,
    /// ISO 8601, or empty where it is not known.
    pub expires_at: String,
}

impl TokenValidationResult {
    /// Result for a valid token.
    #[must_use]
    pub fn valid(caller: AuthenticatedCaller) -> Self {
        Self {
            valid: true,
            error: "",
            expires_at: caller
                .expires_at
                .map(|at| at.to_string())
                .unwrap_or_default(),
            user_info: Some(caller.user_info),
        }
    }

    /// Result for a token that is not valid.
    #[must_use]
    pub fn invalid(error: TokenErrorCode) -> Self {
        Self {
            valid: false,
            user_info: None,
            error: error.as_str(),
            expires_at: String::new(),
        }
    }

    /// Result of a check by a provider.
    ///
    /// # Errors
    /// Nothing is known about the token.
    pub fn of(checked: Result<AuthenticatedCaller, IdentityError>) -> Result<Self, IdentityError> {
        match checked {
            Ok(caller) => Ok(Self::valid(caller)),
            Err(IdentityError::Unauthenticated { code }) => Ok(Self::invalid(code.public())),
            Err(error) => Err(error),
        }
    }
}

/// `OIDCConfig` of the floe spec. Endpoints that an issuer lacks are absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OidcConfig {
    pub issuer_url: String,
    pub discovery_url: String,
    pub jwks_uri: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization_endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub userinfo_endpoint: Option<String>,
}

/// Caller whose token is valid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthenticatedCaller {
    /// Issuer of the token, as it is configured.
    pub issuer: String,
    pub user_info: UserInfo,
    /// User name for display and records; never an identity.
    pub username: Option<String>,
    /// Roles of our own client.
    pub client_roles: Vec<String>,
    /// Roles of the realm.
    pub realm_roles: Vec<String>,
    /// Client that asked for the token (`azp` or `client_id`).
    pub authorized_party: Option<String>,
    /// Id of the token (`jti`), which is not the token.
    pub credential_id: Option<String>,
    pub expires_at: Option<Timestamp>,
    /// The issuer left out groups, because there are too many of them.
    pub has_omitted_groups: bool,
}

/// Credentials of a login: `authenticate` of the floe spec.
#[derive(Clone, Debug)]
pub enum LoginCredentials {
    ClientSecret {
        client_id: String,
        client_secret: SecretString,
    },
    /// Token of a ServiceAccount, or another assertion (RFC 7523).
    ClientAssertion {
        client_id: String,
        assertion: SecretString,
    },
    RefreshToken {
        refresh_token: SecretString,
    },
    /// Only where `allowPasswordGrant` is set.
    Password {
        username: String,
        password: SecretString,
    },
    /// Token of a ServiceAccount, by a `TokenRequest`.
    ServiceAccount {
        namespace: String,
        name: String,
    },
}

/// Tokens of a login. They are not shown.
#[derive(Clone)]
pub struct IssuedToken {
    pub access_token: SecretString,
    pub refresh_token: Option<SecretString>,
    /// Lifetime from the request on.
    pub expires_in: Option<Duration>,
}

impl fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedToken")
            .field("expires_in", &self.expires_in)
            .finish_non_exhaustive()
    }
}

/// Client that `create_client` registers. Everything else of it is fixed: PKCE with S256, no full scope, no mappers.
#[derive(Clone, Debug)]
pub struct NewClient {
    /// Realm of the client; `None` is the provider's own.
    pub realm: Option<String>,
    pub client_id: String,
    /// Secret that we made, and that is stored before the client exists.
    pub client_secret: SecretString,
    /// Exact URIs: https, or http of a loopback address.
    pub redirect_uris: Vec<String>,
    pub scopes: Vec<String>,
    /// Client credentials are allowed.
    pub service_account: bool,
}

/// Outcome of `create_client`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientOutcome {
    Created,
    /// The client has our secret already: an earlier request registered it.
    AlreadyCreated,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::identity::error::TokenRejection;

    fn caller() -> AuthenticatedCaller {
        AuthenticatedCaller {
            user_info: UserInfo {
                subject: "7c5c".to_owned(),
                roles: vec!["viewer".to_owned()],
                ..UserInfo::default()
            },
            expires_at: Timestamp::from_second(1_800_000_000).ok(),
            ..AuthenticatedCaller::default()
        }
    }

    #[test]
    fn results_have_the_fields_of_the_floe_spec() {
        let user = json!({
            "subject": "7c5c", "email": "", "name": "", "roles": ["viewer"], "groups": [], "claims": {},
        });
        let result = TokenValidationResult::valid(caller());
        let expected = json!({
            "valid": true, "user_info": user, "error": "", "expires_at": "2027-01-15T08:00:00Z",
        });
        assert_eq!(json!(result), expected);
        let result = TokenValidationResult::invalid(TokenErrorCode::NotYetValid);
        let expected = json!({
            "valid": false, "user_info": null, "error": "not yet valid", "expires_at": "",
        });
        assert_eq!(json!(result), expected);
    }

    #[test]
    fn rejected_token_is_a_result_and_an_outage_is_not() {
        let rejected = TokenValidationResult::of(Err(TokenRejection::TooLong.into()));
        assert_eq!(rejected.unwrap().error, "malformed");
        let outage = IdentityError::Unavailable {
            provider: "p".to_owned(),
            reason: "r".to_owned(),
            retry_after: None,
        };
        let result = TokenValidationResult::of(Err(outage.clone()));
        assert_eq!(result, Err(outage));
    }

    #[test]
    fn endpoints_that_an_issuer_lacks_are_absent() {
        let config = OidcConfig {
            issuer_url: "https://i".to_owned(),
            discovery_url: "https://i/d".to_owned(),
            jwks_uri: "https://i/k".to_owned(),
            authorization_endpoint: None,
            token_endpoint: Some("https://i/t".to_owned()),
            userinfo_endpoint: None,
        };
        let expected = json!({
            "issuer_url": "https://i", "discovery_url": "https://i/d", "jwks_uri": "https://i/k",
            "token_endpoint": "https://i/t",
        });
        assert_eq!(json!(config), expected);
    }

    #[test]
    fn row_80_credentials_are_not_shown() {
        let canary = || SecretString::from("canary");
        let credentials = LoginCredentials::ClientAssertion {
            client_id: "c".to_owned(),
            assertion: canary(),
        };
        let issued = IssuedToken {
            access_token: canary(),
            refresh_token: Some(canary()),
            expires_in: None,
        };
        let client = NewClient {
            realm: None,
            client_id: "c".to_owned(),
            client_secret: canary(),
            redirect_uris: Vec::new(),
            scopes: Vec::new(),
            service_account: true,
        };
        let shown = format!("{credentials:?} {issued:?} {client:?}");
        assert!(!shown.contains("canary"), "{shown}");
    }
}
