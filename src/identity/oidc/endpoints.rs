//! Requests to an issuer that have credentials: logins, introspection, registration of clients.
//!
//! Descriptions of errors are not repeated: they may have what was sent.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::Value;

use super::registration::{RegistrationReply, read_reply};
use crate::http_client::{HttpClient, HttpError, HttpRequest, HttpResponse, HttpUrl};
use crate::identity::discovery::IssuerEndpoints;
use crate::identity::error::{IdentityError, TokenRejection};
use crate::identity::kubernetes::BearerToken;
use crate::identity::token_endpoint::{
    ClientAuthentication, OauthError, TokenEndpointError, TokenGrant, authenticated_form,
    request_token,
};
use crate::identity::types::{ClientOutcome, IssuedToken, NewClient};

/// Time limit of a registration: Keycloak writes to its database.
pub const REGISTRATION_TIMEOUT: Duration = Duration::from_secs(5);

/// Endpoints of an issuer, for one operation.
pub(super) struct CredentialEndpoints {
    pub provider: String,
    pub http: HttpClient,
    pub endpoints: Arc<IssuerEndpoints>,
}

/// Owner of the credential of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientOwner {
    /// The caller who logs in: a credential that is refused is theirs.
    Caller,
    /// This program: an operator has to act.
    Program,
}

#[derive(Deserialize)]
struct IntrospectionResponse {
    active: bool,
    sub: Option<String>,
}

impl CredentialEndpoints {
    /// Obtains tokens.
    pub(super) async fn login(
        &self,
        owner: ClientOwner,
        authentication: ClientAuthentication<'_>,
        grant: TokenGrant<'_>,
    ) -> Result<IssuedToken, IdentityError> {
        let url = self.url("token", self.endpoints.token.as_ref())?;
        let issued = request_token(&self.http, url, authentication, grant).await;
        issued.map_err(|error| match error {
            TokenEndpointError::Refused { code, .. } if is_of_caller(code, owner) => {
                TokenRejection::InvalidCredentials.into()
            }
            TokenEndpointError::Http(error) => self.by_status(&error),
            error => self.misconfigured(error.to_string()),
        })
    }

    /// Asks whether the token of a subject is still active.
    pub(super) async fn introspect(
        &self,
        authentication: ClientAuthentication<'_>,
        token: &BearerToken,
        subject: &str,
    ) -> Result<(), IdentityError> {
        let url = self.url("introspection", self.endpoints.introspection.as_ref())?;
        let fields = vec![("token", token.expose_secret())];
        let response = self
            .send(authenticated_form(url, authentication, fields))
            .await?;
        match response.status() {
            StatusCode::OK => {}
            // The credentials are those of this program, and not the caller's.
            StatusCode::UNAUTHORIZED | StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN => {
                return Err(self.misconfigured(format!(
                    "{}: the client of this program is refused: correct its id and its credential",
                    response.target()
                )));
            }
            _ => return Err(self.by_status(&response.status_error())),
        }
        let found: IntrospectionResponse = response
            .json()
            .map_err(|error| self.misconfigured(error.to_string()))?;
        let is_same = found.sub.as_deref().is_none_or(|found| found == subject);
        if found.active && is_same {
            Ok(())
        } else {
            Err(TokenRejection::Inactive.into())
        }
    }

    /// Registers a client. One that exists is ours if it has our secret.
    pub(super) async fn register(
        &self,
        url: HttpUrl,
        bearer: &SecretString,
        client: &NewClient,
        body: &Value,
    ) -> Result<ClientOutcome, IdentityError> {
        let request = HttpRequest::new(Method::POST, url)
            .with_json(body)
            .with_bearer(bearer)
            .with_timeout(REGISTRATION_TIMEOUT);
        let response = self.send(request).await?;
        // The registration access token in the reply could read and change the client for ever. It is not read.
        match read_reply(response.status(), response.body()) {
            RegistrationReply::Created => Ok(ClientOutcome::Created),
            RegistrationReply::Exists if self.is_ours(client).await? => {
                Ok(ClientOutcome::AlreadyCreated)
            }
            RegistrationReply::Exists => Err(self.misconfigured(
                "a client with this id exists, and has another secret: choose another id"
                    .to_owned(),
            )),
            RegistrationReply::Refused(reason) => Err(self.misconfigured(reason)),
            RegistrationReply::Other => Err(self.by_status(&response.status_error())),
        }
    }

    /// Whether a client has our secret: it authenticates at the introspection endpoint, with any token. The token
    /// endpoint gives the same answer to a right and to a wrong secret of a client that may not log in.
    async fn is_ours(&self, client: &NewClient) -> Result<bool, IdentityError> {
        let url = self.url("introspection", self.endpoints.introspection.as_ref())?;
        let authentication = ClientAuthentication::Secret {
            id: &client.client_id,
            secret: &client.client_secret,
        };
        let request = authenticated_form(url, authentication, vec![("token", "none")]);
        let response = self.send(request).await?;
        match response.status() {
            StatusCode::OK => Ok(true),
            StatusCode::UNAUTHORIZED => Ok(false),
            _ => Err(self.by_status(&response.status_error())),
        }
    }

    fn url<'u>(&self, name: &str, url: Option<&'u HttpUrl>) -> Result<&'u HttpUrl, IdentityError> {
        url.ok_or_else(|| {
            self.misconfigured(format!(
                "its discovery document has no {name} endpoint of an origin that the settings list"
            ))
        })
    }

    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, IdentityError> {
        let sent = self.http.send(request).await;
        sent.map_err(|error| self.unavailable(&error))
    }

    /// Error of a response without a meaning of its own.
    fn by_status(&self, error: &HttpError) -> IdentityError {
        match error {
            HttpError::Status {
                status: 400..=407 | 409..=428 | 430..=499,
                ..
            } => self.misconfigured(error.to_string()),
            _ => self.unavailable(error),
        }
    }

    fn unavailable(&self, error: &HttpError) -> IdentityError {
        IdentityError::Unavailable {
            provider: self.provider.clone(),
            reason: error.to_string(),
            retry_after: error.retry_after(),
        }
    }

    fn misconfigured(&self, reason: String) -> IdentityError {
        IdentityError::Misconfigured {
            provider: self.provider.clone(),
            reason,
        }
    }
}

/// Whether whoever logs in sent wrong credentials. `unauthorized_client` of Keycloak is a wrong secret, or a grant that is
/// not enabled.
fn is_of_caller(code: OauthError, owner: ClientOwner) -> bool {
    match code {
        OauthError::InvalidGrant => true,
        OauthError::InvalidClient | OauthError::UnauthorizedClient => owner == ClientOwner::Caller,
        _ => false,
    }
}
