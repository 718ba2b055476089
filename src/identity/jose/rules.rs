//! Rules of an issuer's tokens: issuer, audience, client, kind and times, and where roles and groups are.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::algorithm::SignatureAlgorithm;
use super::claim_path::ClaimPath;
use super::claims::{Claims, RegisteredClaims, audiences, display_text, text, time};
use super::header::JoseHeader;
use super::limits::{LEEWAY, MAX_GROUPS, MAX_LIFETIME, MAX_ROLES};
use super::token_type::TokenType;
use crate::identity::error::TokenRejection;
use crate::identity::types::{AuthenticatedCaller, UserInfo};

/// Rules that tokens of one issuer are checked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRules {
    /// Issuer, which `iss` equals byte by byte.
    pub issuer: String,
    /// Our names: `aud` must have one of them.
    pub audiences: Vec<String>,
    /// Algorithms that are allowed.
    pub algorithms: Vec<SignatureAlgorithm>,
    /// Mark of access tokens.
    pub token_type: TokenType,
    /// Clients that may obtain tokens for us. Empty: all of the issuer.
    pub clients: Vec<String>,
    /// Roles of our client.
    pub client_roles: Option<ClaimPath>,
    /// Roles of the realm.
    pub realm_roles: Option<ClaimPath>,
    pub groups: Option<ClaimPath>,
}

impl TokenRules {
    /// Rules for access tokens of an issuer that are meant for `audience`, without roles and groups.
    pub fn new(issuer: impl Into<String>, audience: impl Into<String>) -> Self {
        Self {
            issuer: issuer.into(),
            audiences: vec![audience.into()],
            algorithms: SignatureAlgorithm::DEFAULT.to_vec(),
            token_type: TokenType::default(),
            clients: Vec::new(),
            client_roles: None,
            realm_roles: None,
            groups: None,
        }
    }

    /// Checks what must be right before a signature is worth verifying, and a key worth fetching.
    pub(super) fn check_header(
        &self,
        header: &JoseHeader,
        claims: &Claims,
    ) -> Result<(), TokenRejection> {
        if claims.issuer() != self.issuer {
            return Err(TokenRejection::WrongIssuer);
        }
        if !self.algorithms.contains(&header.algorithm) {
            return Err(TokenRejection::WrongAlgorithm);
        }
        Ok(())
    }

    /// Checks the claims of a token, and returns its owner.
    pub(super) fn check_claims(
        &self,
        header: &JoseHeader,
        claims: Claims,
        now: Timestamp,
    ) -> Result<AuthenticatedCaller, TokenRejection> {
        let found = claims.registered();
        self.token_type
            .check(header.media_type, &found, &claims.members)?;
        let expires_at = check_times(&found, now)?;
        let subject = text(found.sub)?.ok_or(TokenRejection::MissingClaim)?;
        self.check_audience(&found)?;
        let authorized_party = self.check_client(&found)?;
        let credential_id = text(found.jti)?;
        let read = |path: &Option<ClaimPath>, max| match path {
            Some(path) => path.read(&claims.members, max),
            None => Ok(Vec::new()),
        };
        let client_roles = read(&self.client_roles, MAX_ROLES)?;
        let realm_roles = read(&self.realm_roles, MAX_ROLES)?;
        let has_omitted_groups = self.has_omitted_groups(&found);
        let groups = if has_omitted_groups {
            Vec::new()
        } else {
            read(&self.groups, MAX_GROUPS)?
        };
        let is_verified = found.email_verified == Some(&Value::Bool(true));
        let email = found.email.filter(|_| is_verified);
        Ok(AuthenticatedCaller {
            issuer: self.issuer.clone(),
            username: display_text(found.preferred_username),
            authorized_party: authorized_party.map(str::to_owned),
            credential_id: credential_id.map(str::to_owned),
            expires_at: Some(expires_at),
            has_omitted_groups,
            user_info: UserInfo {
                subject: subject.to_owned(),
                email: display_text(email).unwrap_or_default(),
                name: display_text(found.name).unwrap_or_default(),
                roles: union(&client_roles, &realm_roles),
                groups,
                claims: claims.members,
            },
            client_roles,
            realm_roles,
        })
    }

    fn check_audience(&self, claims: &RegisteredClaims<'_>) -> Result<(), TokenRejection> {
        let audiences = audiences(claims.aud)?;
        let is_ours = |audience: &Value| self.audiences.iter().any(|ours| audience == ours);
        if audiences.iter().any(is_ours) {
            Ok(())
        } else {
            Err(TokenRejection::WrongAudience)
        }
    }

    /// Client that asked for the token, if the token has one: by the claims of OIDC, RFC 9068, Entra ID v1 and Okta.
    fn check_client<'c>(
        &self,
        claims: &RegisteredClaims<'c>,
    ) -> Result<Option<&'c str>, TokenRejection> {
        let mut client = None;
        for claim in [claims.azp, claims.client_id, claims.appid, claims.cid] {
            let found = text(claim)?;
            client = client.or(found);
        }
        let is_allowed = |client: &str| self.clients.iter().any(|allowed| allowed == client);
        if self.clients.is_empty() || client.is_some_and(is_allowed) {
            Ok(client)
        } else {
            Err(TokenRejection::WrongClient)
        }
    }

    /// Entra ID leaves out groups that are too many, and names another place for them.
    fn has_omitted_groups(&self, claims: &RegisteredClaims<'_>) -> bool {
        self.groups.as_ref().is_some_and(|path| {
            let elsewhere = claims.claim_names.and_then(|names| names.get(path.claim()));
            elsewhere.is_some() || claims.has_groups == Some(&Value::Bool(true))
        })
    }
}

/// Roles of both origins, each once.
fn union(client_roles: &[String], realm_roles: &[String]) -> Vec<String> {
    let further = realm_roles
        .iter()
        .filter(|role| !client_roles.contains(role));
    client_roles.iter().chain(further).cloned().collect()
}

/// Checks the times of a token, and returns its end.
fn check_times(claims: &RegisteredClaims<'_>, now: Timestamp) -> Result<Timestamp, TokenRejection> {
    let leeway = SignedDuration::try_from(LEEWAY).unwrap_or_default();
    let lifetime = SignedDuration::try_from(MAX_LIFETIME).unwrap_or_default();
    let missing = TokenRejection::MissingClaim;
    let expires_at = time(claims.exp)?.ok_or(missing)?;
    let issued_at = time(claims.iat)?.ok_or(missing)?;
    if issued_at > expires_at {
        return Err(TokenRejection::InvalidClaim);
    }
    if expires_at.duration_since(issued_at) > lifetime {
        return Err(TokenRejection::LifetimeTooLong);
    }
    if now.duration_since(expires_at) > leeway {
        return Err(TokenRejection::Expired);
    }
    let not_before = time(claims.nbf)?.unwrap_or(issued_at);
    if issued_at.max(not_before).duration_since(now) > leeway {
        return Err(TokenRejection::NotYetValid);
    }
    Ok(expires_at)
}
