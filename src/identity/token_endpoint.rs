//! Token endpoint of an issuer (RFC 6749): the form of a grant, and the meaning of the response.
//!
//! The `error` of a response decides, not its status: issuers send several statuses for one error.

use std::fmt;
use std::time::Duration;

use http::StatusCode;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use thiserror::Error;

use super::types::IssuedToken;
use crate::http_client::{HttpClient, HttpError, HttpRequest, HttpResponse, HttpUrl};

/// Bytes of a token of a response.
pub const MAX_ISSUED_TOKEN: usize = 16 << 10;

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Proof of a client that it is the client.
#[derive(Clone, Copy, Debug)]
pub enum ClientAuthentication<'c> {
    /// Secret, in the header `Authorization`.
    Secret {
        id: &'c str,
        secret: &'c SecretString,
    },
    /// Token of a ServiceAccount, or another assertion (RFC 7523).
    Assertion {
        id: &'c str,
        assertion: &'c SecretString,
    },
}

/// Right by which a token is requested.
#[derive(Clone, Copy, Debug)]
pub enum TokenGrant<'g> {
    ClientCredentials {
        scope: Option<&'g str>,
    },
    RefreshToken {
        refresh_token: &'g SecretString,
    },
    Password {
        username: &'g str,
        password: &'g SecretString,
        scope: Option<&'g str>,
    },
}

/// Error of a token endpoint (RFC 6749, section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OauthError {
    InvalidRequest,
    /// Wrong client, or wrong secret.
    InvalidClient,
    /// Wrong password, or a refresh token that is no longer valid.
    InvalidGrant,
    /// The client may not use the grant. Keycloak sends it for a wrong secret, too.
    UnauthorizedClient,
    UnsupportedGrantType,
    InvalidScope,
    /// An error of another name.
    Other,
}

/// Reason why there is no token.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TokenEndpointError {
    #[error("{target}: the issuer refuses the login ({code}): {}", code.advice())]
    Refused { target: String, code: OauthError },
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("{target}: the response has no bearer token: check that the URL is the token endpoint")]
    NoToken { target: String },
}

impl OauthError {
    fn of_name(name: &str) -> Self {
        match name {
            "invalid_request" => Self::InvalidRequest,
            "invalid_client" => Self::InvalidClient,
            "invalid_grant" => Self::InvalidGrant,
            "unauthorized_client" => Self::UnauthorizedClient,
            "unsupported_grant_type" => Self::UnsupportedGrantType,
            "invalid_scope" => Self::InvalidScope,
            _ => Self::Other,
        }
    }

    fn advice(self) -> &'static str {
        match self {
            Self::InvalidRequest => "check the settings of the client at the issuer",
            Self::InvalidClient => "correct the id and the secret of the client",
            Self::InvalidGrant => "correct the password, or log in again",
            Self::UnauthorizedClient => {
                "correct the secret of the client, and allow it this kind of login at the issuer"
            }
            Self::UnsupportedGrantType => "allow this kind of login at the issuer",
            Self::InvalidScope => "assign the scopes to the client at the issuer",
            Self::Other => "look for the reason in the log of the issuer",
        }
    }
}

impl fmt::Display for OauthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::InvalidGrant => "invalid_grant",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::InvalidScope => "invalid_scope",
            Self::Other => "an error of its own",
        })
    }
}

#[derive(Deserialize)]
struct TokenResponse {
    access_token: String,
    token_type: String,
    expires_in: Option<u64>,
    refresh_token: Option<String>,
    scope: Option<String>,
}

#[derive(Deserialize)]
struct ErrorResponse {
    error: String,
}

/// Requests a token.
///
/// # Errors
///
/// The issuer refuses the request, does not respond, or responds without a usable token.
pub async fn request_token(
    client: &HttpClient,
    endpoint: &HttpUrl,
    authentication: ClientAuthentication<'_>,
    grant: TokenGrant<'_>,
) -> Result<IssuedToken, TokenEndpointError> {
    let request = authenticated_form(endpoint, authentication, grant.fields());
    let response = client.send(request).await?;
    read_token(&response, grant.scope())
}

/// Form that a client sends as itself.
pub(super) fn authenticated_form<'f>(
    endpoint: &HttpUrl,
    authentication: ClientAuthentication<'f>,
    mut fields: Vec<(&'static str, &'f str)>,
) -> HttpRequest {
    match authentication {
        ClientAuthentication::Secret { id, secret } => {
            HttpRequest::post_form(endpoint.clone(), &fields).with_client_secret(id, secret)
        }
        ClientAuthentication::Assertion { id, assertion } => {
            fields.extend([
                ("client_id", id),
                ("client_assertion_type", ASSERTION_TYPE),
                ("client_assertion", assertion.expose_secret()),
            ]);
            HttpRequest::post_form(endpoint.clone(), &fields)
        }
    }
}

impl<'g> TokenGrant<'g> {
    fn fields(self) -> Vec<(&'static str, &'g str)> {
        let mut fields = match self {
            Self::ClientCredentials { .. } => vec![("grant_type", "client_credentials")],
            Self::RefreshToken { refresh_token } => vec![
                ("grant_type", "refresh_token"),
                ("refresh_token", refresh_token.expose_secret()),
            ],
            Self::Password {
                username, password, ..
            } => vec![
                ("grant_type", "password"),
                ("username", username),
                ("password", password.expose_secret()),
            ],
        };
        fields.extend(self.scope().map(|scope| ("scope", scope)));
        fields
    }

    fn scope(self) -> Option<&'g str> {
        match self {
            Self::ClientCredentials { scope } | Self::Password { scope, .. } => scope,
            Self::RefreshToken { .. } => None,
        }
    }
}

/// Token in a response. A response with fewer scopes than requested has none.
fn read_token(
    response: &HttpResponse,
    scope: Option<&str>,
) -> Result<IssuedToken, TokenEndpointError> {
    let target = || response.target().to_owned();
    if response.status() != StatusCode::OK {
        let is_of_client = response.status().is_client_error()
            && response.status() != StatusCode::TOO_MANY_REQUESTS;
        return Err(match response.json::<ErrorResponse>() {
            Ok(ErrorResponse { error }) if is_of_client => TokenEndpointError::Refused {
                target: target(),
                code: OauthError::of_name(&error),
            },
            _ => response.status_error().into(),
        });
    }
    let no_token = || TokenEndpointError::NoToken { target: target() };
    let read: TokenResponse = response.json().map_err(|_| no_token())?;
    let is_usable = |token: &String| {
        (1..=MAX_ISSUED_TOKEN).contains(&token.len())
            && token.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let are_usable = is_usable(&read.access_token)
        && read.refresh_token.as_ref().is_none_or(is_usable)
        && read.token_type.eq_ignore_ascii_case("bearer");
    if !are_usable {
        return Err(no_token());
    }
    // A response without scopes has those of the request (section 5.1).
    if let (Some(requested), Some(granted)) = (scope, &read.scope) {
        let is_granted = |scope: &str| granted.split(' ').any(|granted| granted == scope);
        if !requested.split(' ').all(is_granted) {
            return Err(TokenEndpointError::Refused {
                target: target(),
                code: OauthError::InvalidScope,
            });
        }
    }
    Ok(IssuedToken {
        access_token: read.access_token.into(),
        refresh_token: read.refresh_token.map(Into::into),
        expires_in: read.expires_in.map(Duration::from_secs),
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::http_client::Schemes;

    fn read(
        status: u16,
        body: &str,
        scope: Option<&str>,
    ) -> Result<IssuedToken, TokenEndpointError> {
        let mut headers = HeaderMap::new();
        headers.insert(http::header::RETRY_AFTER, 9.into());
        let target = "POST https://id.example.com/token";
        let response = HttpResponse::scripted(target, status, headers, body);
        let read = read_token(&response, scope);
        let shown = format!("{read:?}");
        assert!(!shown.contains("canary"), "{shown}");
        read
    }

    #[test]
    fn token_is_read_with_its_lifetime() {
        let body = r#"{"access_token":"canary.a","token_type":"bearer","expires_in":300,
            "refresh_token":"canary.r","scope":"a b","not-before-policy":0}"#;
        let token = read(200, body, Some("b a")).unwrap();
        assert_eq!(token.access_token.expose_secret(), "canary.a");
        assert_eq!(token.refresh_token.unwrap().expose_secret(), "canary.r");
        assert_eq!(token.expires_in, Some(Duration::from_mins(5)));
        let body = r#"{"access_token":"canary","token_type":"Bearer"}"#;
        let token = read(200, body, Some("a")).unwrap();
        assert!(token.expires_in.is_none() && token.refresh_token.is_none());
        let body = r#"{"access_token":"canary","token_type":"Bearer","scope":"a"}"#;
        let error = read(200, body, Some("a b")).unwrap_err().to_string();
        assert!(error.contains("invalid_scope"), "{error}");
    }

    #[test]
    fn error_decides_and_not_the_status() {
        for (status, name, code) in [
            (400, "invalid_grant", OauthError::InvalidGrant),
            (401, "invalid_grant", OauthError::InvalidGrant),
            (401, "invalid_client", OauthError::InvalidClient),
            (401, "unauthorized_client", OauthError::UnauthorizedClient),
            (400, "unauthorized_client", OauthError::UnauthorizedClient),
            (403, "canary", OauthError::Other),
        ] {
            let body = format!(r#"{{"error":"{name}","error_description":"canary"}}"#);
            match read(status, &body, None).unwrap_err() {
                TokenEndpointError::Refused { code: read, .. } => assert_eq!(read, code),
                error => panic!("{error}"),
            }
        }
        for (status, body) in [
            (503, r#"{"error":"invalid_client"}"#),
            (429, r#"{"error":"invalid_client"}"#),
            (400, "<html>canary</html>"),
            (302, ""),
        ] {
            match read(status, body, None).unwrap_err() {
                TokenEndpointError::Http(error) => {
                    assert_eq!(error.retry_after(), Some(Duration::from_secs(9)));
                }
                error => panic!("{error}"),
            }
        }
    }

    #[test]
    fn response_without_a_bearer_token_is_an_error() {
        let long = format!(
            r#"{{"access_token":"{}","token_type":"Bearer"}}"#,
            "x".repeat(MAX_ISSUED_TOKEN + 1)
        );
        for body in [
            "",
            "[]",
            "{}",
            r#"{"access_token":"canary"}"#,
            r#"{"access_token":"canary","token_type":"DPoP"}"#,
            r#"{"access_token":"","token_type":"Bearer"}"#,
            r#"{"access_token":"canary x","token_type":"Bearer"}"#,
            r#"{"access_token":"canary\n","token_type":"Bearer"}"#,
            r#"{"access_token":"canary","token_type":"Bearer","expires_in":"300"}"#,
            r#"{"access_token":"canary","token_type":"Bearer","expires_in":-1}"#,
            &long,
        ] {
            let error = read(200, body, None).unwrap_err();
            assert!(
                matches!(error, TokenEndpointError::NoToken { .. }),
                "{body}"
            );
        }
    }

    #[test]
    fn grants_are_forms_without_credentials_in_the_url() {
        let url = HttpUrl::parse("https://id.example.com/token", Schemes::Https).unwrap();
        let canary = SecretString::from("canary");
        let authentication = ClientAuthentication::Assertion {
            id: "me",
            assertion: &canary,
        };
        for grant in [
            TokenGrant::ClientCredentials { scope: Some("a b") },
            TokenGrant::RefreshToken {
                refresh_token: &canary,
            },
            TokenGrant::Password {
                username: "alice",
                password: &canary,
                scope: None,
            },
        ] {
            let request = authenticated_form(&url, authentication, grant.fields());
            let shown = format!("{request:?} {authentication:?} {grant:?}");
            assert!(!shown.contains("canary"), "{shown}");
            let names: Vec<_> = grant.fields().iter().map(|(name, _)| *name).collect();
            assert_eq!(names.contains(&"scope"), grant.scope().is_some());
            assert_eq!(names[0], "grant_type");
        }
    }
}
