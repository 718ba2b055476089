//! Kinds of tokens, and how issuers mark an access token.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::claims::RegisteredClaims;
use crate::identity::error::TokenRejection;

/// Mark of access tokens, which other tokens of the issuer lack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TokenType {
    /// Keycloak: `typ` is `Bearer` in the claims, or `at+jwt` in the header.
    #[serde(rename = "keycloak")]
    Keycloak,
    /// RFC 9068: `typ` is `at+jwt` in the header.
    #[default]
    #[serde(rename = "at+jwt")]
    AccessTokenJwt,
    /// Issuers that mark nothing, such as Okta and Entra ID: nothing of an ID token is there, and a scope or a client
    /// is.
    #[serde(rename = "untyped")]
    Untyped,
}

/// `typ` of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MediaType {
    Absent,
    Jwt,
    AccessTokenJwt,
    Other,
}

/// Claims of ID tokens and logout tokens, which no access token has.
const OTHER_TOKENS: [&str; 5] = ["nonce", "at_hash", "c_hash", "s_hash", "events"];

/// Claims of access tokens. `azp` is not one of them, because ID tokens have it, too.
const ACCESS_TOKENS: [&str; 6] = ["scope", "scp", "client_id", "cid", "appid", "azpacr"];

impl MediaType {
    /// Media types are compared without case, and `application/` may be left out (RFC 7515, section 4.1.9).
    pub(super) fn from_name(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        match name.strip_prefix("application/").unwrap_or(&name) {
            "jwt" => Self::Jwt,
            "at+jwt" => Self::AccessTokenJwt,
            _ => Self::Other,
        }
    }
}

impl TokenType {
    /// Checks that a token is an access token that its bearer may use.
    pub(super) fn check(
        self,
        media_type: MediaType,
        claims: &RegisteredClaims<'_>,
        members: &Map<String, Value>,
    ) -> Result<(), TokenRejection> {
        let kind = match claims.typ {
            None => None,
            Some(Value::String(kind)) => Some(kind.as_str()),
            Some(_) => return Err(TokenRejection::WrongType),
        };
        if kind == Some("DPoP") || claims.cnf.is_some() {
            return Err(TokenRejection::SenderBound);
        }
        let has_any = |names: &[&str]| names.iter().any(|name| members.contains_key(*name));
        let is_access_token = matches!(kind, None | Some("Bearer"))
            && match (self, media_type) {
                (Self::Keycloak | Self::AccessTokenJwt, MediaType::AccessTokenJwt) => true,
                (Self::Keycloak, MediaType::Jwt) => kind.is_some(),
                (_, MediaType::Other)
                | (Self::Keycloak, MediaType::Absent)
                | (Self::AccessTokenJwt, _) => false,
                (Self::Untyped, _) => !has_any(&OTHER_TOKENS) && has_any(&ACCESS_TOKENS),
            };
        if is_access_token {
            Ok(())
        } else {
            Err(TokenRejection::WrongType)
        }
    }
}
