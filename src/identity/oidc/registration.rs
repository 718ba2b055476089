//! Registration of clients at Keycloak: what may be asked for, what is sent, and what the replies mean. Without IO.
//!
//! The registration endpoint is used, and not the admin API: a service account with the role `create-client` alone may
//! call it. Our secret is sent with the request, so nothing of the reply is needed.

use http::StatusCode;
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use serde_json::{Value, json};
use thiserror::Error;

use crate::http_client::{HttpUrl, InvalidUrl, Schemes};
use crate::identity::types::NewClient;

/// Characters of a client's id.
pub const MAX_CLIENT_ID: usize = 128;
/// Redirect URIs of a client.
pub const MAX_REDIRECT_URIS: usize = 16;
/// Scopes of a client.
pub const MAX_SCOPES: usize = 32;
/// Characters of a scope.
const MAX_SCOPE: usize = 128;

/// Reason why a client is not registered. Nothing has been sent.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidClient {
    #[error(
        "the client's id has to have 1 to {MAX_CLIENT_ID} characters of a-z, A-Z, 0-9, '.', '_' and '-'"
    )]
    ClientId,
    #[error("the client's secret has to have 16 to 256 visible characters of ASCII")]
    Secret,
    #[error("at most {MAX_REDIRECT_URIS} redirect URIs are allowed")]
    TooManyRedirectUris,
    #[error(
        "redirect URI {number}: {problem}: write the exact https URI, or http with a loopback address"
    )]
    RedirectUri { number: usize, problem: InvalidUrl },
    #[error("redirect URI {number}: '*' is not allowed: write the exact URI")]
    Wildcard { number: usize },
    #[error(
        "scopes: at most {MAX_SCOPES} names of a-z, A-Z, 0-9, '.', '_', ':', '/' and '-' are allowed"
    )]
    Scopes,
}

/// Meaning of a reply of the registration endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RegistrationReply {
    Created,
    /// There is a client with this id.
    Exists,
    /// The issuer does not register such a client; an operator has to act.
    Refused(String),
    /// The status decides.
    Other,
}

#[derive(Deserialize)]
struct RegistrationError {
    error: String,
    #[serde(default)]
    error_description: String,
}

/// Names of policies that an error of Keycloak may have. Others are not repeated.
const POLICIES: [&str; 5] = [
    "Allowed Client Scopes",
    "Allowed Protocol Mapper Types",
    "Allowed Registration Web Origins",
    "Max Clients Limit",
    "Trusted Hosts",
];

/// Body of a registration. Whatever could widen the client is fixed: PKCE, no full scope, no mappers.
///
/// # Errors
/// The client has an id, a URI or a scope that is not allowed.
pub fn registration_body(client: &NewClient) -> Result<Value, InvalidClient> {
    let is_name = |text: &str, max: usize, extra: &[u8]| {
        let is_allowed = |byte: u8| {
            byte.is_ascii_alphanumeric() || b"._-".contains(&byte) || extra.contains(&byte)
        };
        (1..=max).contains(&text.len()) && text.bytes().all(is_allowed)
    };
    if !is_name(&client.client_id, MAX_CLIENT_ID, b"") {
        return Err(InvalidClient::ClientId);
    }
    let secret = client.client_secret.expose_secret();
    if !(16..=256).contains(&secret.len()) || !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(InvalidClient::Secret);
    }
    if client.redirect_uris.len() > MAX_REDIRECT_URIS {
        return Err(InvalidClient::TooManyRedirectUris);
    }
    for (number, uri) in (1..).zip(&client.redirect_uris) {
        check_redirect_uri(number, uri)?;
    }
    let is_scope = |scope: &String| is_name(scope, MAX_SCOPE, b":/");
    if client.scopes.len() > MAX_SCOPES || !client.scopes.iter().all(is_scope) {
        return Err(InvalidClient::Scopes);
    }
    Ok(json!({
        "clientId": client.client_id,
        "secret": secret,
        "protocol": "openid-connect",
        "enabled": true,
        "publicClient": false,
        "bearerOnly": false,
        "consentRequired": false,
        "standardFlowEnabled": !client.redirect_uris.is_empty(),
        "implicitFlowEnabled": false,
        "directAccessGrantsEnabled": false,
        "serviceAccountsEnabled": client.service_account,
        "fullScopeAllowed": false,
        "redirectUris": client.redirect_uris,
        "webOrigins": [],
        "defaultClientScopes": client.scopes,
        "optionalClientScopes": [],
        "attributes": {
            "pkce.code.challenge.method": "S256",
            "access.token.header.type.rfc9068": "true",
        },
    }))
}

fn check_redirect_uri(number: usize, uri: &str) -> Result<(), InvalidClient> {
    let problem = |problem| InvalidClient::RedirectUri { number, problem };
    HttpUrl::parse(uri, Schemes::HttpOnLoopback).map_err(problem)?;
    if uri.contains('*') {
        return Err(InvalidClient::Wildcard { number });
    }
    Ok(())
}

/// Meaning of a reply.
pub(super) fn read_reply(status: StatusCode, body: &[u8]) -> RegistrationReply {
    if status == StatusCode::CREATED {
        return RegistrationReply::Created;
    }
    let Ok(error) = serde_json::from_slice::<RegistrationError>(body) else {
        return RegistrationReply::Other;
    };
    let described = |text: &str| error.error_description.contains(text);
    match (status, error.error.as_str()) {
        (StatusCode::BAD_REQUEST, "invalid_client_metadata")
            if described("already") || described("in use") =>
        {
            RegistrationReply::Exists
        }
        (StatusCode::BAD_REQUEST, "invalid_client_metadata" | "invalid_redirect_uri") => {
            RegistrationReply::Refused(
                "the issuer refuses the client's data: check its redirect URIs".to_owned(),
            )
        }
        (StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED, "insufficient_scope") => {
            let policy = POLICIES.iter().find(|policy| described(policy));
            RegistrationReply::Refused(match policy {
                Some(policy) => format!(
                    "the realm's policy \"{policy}\" for authenticated registration does not allow this client: add its scopes to the policy"
                ),
                None => "the realm does not let the client of this program register clients: give its service account the role create-client of realm-management"
                    .to_owned(),
            })
        }
        _ => RegistrationReply::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> NewClient {
        NewClient {
            realm: None,
            client_id: "orders.pipeline".to_owned(),
            client_secret: "canary-secret-of-32-characters--".into(),
            redirect_uris: vec!["https://orders.example.com/callback".to_owned()],
            scopes: vec!["floe-secrets-admin".to_owned()],
            service_account: true,
        }
    }

    #[test]
    fn body_fixes_whatever_could_widen_the_client() {
        let body = registration_body(&client()).unwrap();
        assert_eq!(body["fullScopeAllowed"], false);
        assert_eq!(body["attributes"]["pkce.code.challenge.method"], "S256");
        assert_eq!(body["implicitFlowEnabled"], false);
        assert_eq!(body["directAccessGrantsEnabled"], false);
        assert_eq!(body["defaultClientScopes"], json!(["floe-secrets-admin"]));
        assert!(body.get("protocolMappers").is_none());
        let machine = NewClient {
            redirect_uris: Vec::new(),
            ..client()
        };
        assert_eq!(
            registration_body(&machine).unwrap()["standardFlowEnabled"],
            false
        );
    }

    #[test]
    fn row_78_hostile_clients_are_refused_before_a_request() {
        let refused = |change: &dyn Fn(&mut NewClient)| {
            let mut client = client();
            change(&mut client);
            registration_body(&client).unwrap_err()
        };
        for id in [
            "",
            "a/b",
            "../x",
            "a b",
            "a\n",
            "é",
            &"x".repeat(MAX_CLIENT_ID + 1),
        ] {
            let error = refused(&|client| id.clone_into(&mut client.client_id));
            assert_eq!(error, InvalidClient::ClientId, "{id}");
        }
        for uri in [
            "http://orders.example.com/callback",
            "https://u:p@orders.example.com/",
            "https://orders.example.com/#a",
            "https://orders.example.com/../x",
            "javascript:alert(1)",
            "custom:/callback",
            "/callback",
            "+",
        ] {
            let error = refused(&|client| client.redirect_uris = vec![uri.to_owned()]);
            assert!(
                matches!(error, InvalidClient::RedirectUri { number: 1, .. }),
                "{uri}: {error:?}"
            );
        }
        for uri in ["https://orders.example.com/*", "https://*.example.com/a"] {
            let error = refused(&|client| client.redirect_uris = vec![uri.to_owned()]);
            let is_refused = matches!(
                error,
                InvalidClient::Wildcard { .. } | InvalidClient::RedirectUri { .. }
            );
            assert!(is_refused, "{uri}: {error:?}");
        }
        let error = refused(&|client| {
            client.redirect_uris = vec!["https://a/".to_owned(); MAX_REDIRECT_URIS + 1];
        });
        assert_eq!(error, InvalidClient::TooManyRedirectUris);
        for scope in ["", "a b", "a\"", &"x".repeat(MAX_SCOPE + 1)] {
            let error = refused(&|client| client.scopes = vec![scope.to_owned()]);
            assert_eq!(error, InvalidClient::Scopes, "{scope}");
        }
        let error = refused(&|client| client.client_secret = "short".into());
        assert_eq!(error, InvalidClient::Secret);
        let mut local = client();
        local.redirect_uris = vec!["http://127.0.0.1:8400/callback".to_owned()];
        assert!(registration_body(&local).is_ok());
    }

    #[test]
    fn replies_have_a_meaning_and_no_text_of_the_issuer() {
        let read = |status: u16, error: &str, description: &str| {
            let body = json!({"error": error, "error_description": description}).to_string();
            read_reply(StatusCode::from_u16(status).unwrap(), body.as_bytes())
        };
        let created = read_reply(StatusCode::CREATED, b"{\"secret\":\"canary\"}");
        assert_eq!(created, RegistrationReply::Created);
        let exists = read(400, "invalid_client_metadata", "Client Identifier in use");
        assert_eq!(exists, RegistrationReply::Exists);
        let policy = "Policy 'Allowed Client Scopes' rejected request to client-registration service. Details: canary";
        let RegistrationReply::Refused(reason) = read(403, "insufficient_scope", policy) else {
            panic!("not refused");
        };
        assert!(reason.contains("\"Allowed Client Scopes\"") && !reason.contains("canary"));
        let RegistrationReply::Refused(reason) = read(403, "insufficient_scope", "Forbidden")
        else {
            panic!("not refused");
        };
        assert!(reason.contains("create-client"), "{reason}");
        assert_eq!(
            read_reply(StatusCode::BAD_GATEWAY, b"<html>"),
            RegistrationReply::Other
        );
    }
}
