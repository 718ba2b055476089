//! Settings of identity providers, as the file of `admin` has them. Fields that are not known are refused.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::Deserialize;
use thiserror::Error;

use super::document::{DEFAULT_STALE, MAX_STALE};
use super::jose::{ClaimPath, SignatureAlgorithm, TokenRules, TokenType};

/// Audience of tokens for the admin API, and the id of the client that has its roles.
pub const AUDIENCE: &str = "floe-secrets-admin";
/// Name of the provider that asks the API server.
pub const KUBERNETES: &str = "kubernetes";
/// Providers of one file.
pub const MAX_PROVIDERS: usize = 64;
/// Entries of a list in the settings of a provider.
pub const MAX_ENTRIES: usize = 64;
/// Characters of a provider's name.
pub const MAX_PROVIDER_NAME: usize = 63;

/// Identity providers of the admin API.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct IdentitySettings {
    pub kubernetes: KubernetesIdentitySettings,
    /// OIDC issuers, one for each realm. Tokens of others are rejected.
    #[schemars(length(max = 64))]
    pub providers: Vec<OidcSettings>,
}

/// Tokens of ServiceAccounts, reviewed by the API server.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct KubernetesIdentitySettings {
    pub enabled: bool,
}

impl Default for KubernetesIdentitySettings {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// Kind of an issuer: its defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum IssuerKind {
    /// A realm of Keycloak.
    Keycloak,
    /// Any issuer with a discovery document.
    Oidc,
}

/// One OIDC issuer, which is one realm.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OidcSettings {
    /// Name of the provider in records, and in the names of users and groups.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")
    )]
    pub name: String,
    #[serde(rename = "type")]
    pub kind: IssuerKind,
    /// Issuer, which `iss` of a token equals byte by byte.
    pub issuer: String,
    /// Discovery document, if it is not below the issuer, as behind an internal host name.
    pub discovery_url: Option<String>,
    /// Further origins that endpoints of the document may have.
    #[serde(default)]
    #[schemars(length(max = 8))]
    pub origins: Vec<String>,
    /// Names of the admin API: `aud` of a token must have one of them.
    #[serde(default = "default_audiences")]
    #[schemars(length(min = 1, max = 64))]
    pub audiences: Vec<String>,
    /// Mark of access tokens. Default: that of the type.
    pub token_type: Option<TokenType>,
    #[serde(default = "default_algorithms")]
    #[schemars(length(min = 1, max = 5))]
    pub algorithms: Vec<SignatureAlgorithm>,
    /// Clients that may obtain tokens. Empty: all of the issuer.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub clients: Vec<String>,
    /// Claim with the roles of our client. Default for Keycloak: `resource_access`, the first audience, `roles`.
    pub client_roles: Option<ClaimPath>,
    /// Claim with the roles of the realm. They do not count unless it is set.
    pub realm_roles: Option<ClaimPath>,
    /// Claim with the groups. They do not count unless it is set.
    pub groups: Option<ClaimPath>,
    /// Time for which keys are used after they expired, while the issuer cannot be reached. Default: 4h.
    #[schemars(with = "Option<String>")]
    pub stale_for: Option<SignedDuration>,
    /// CA certificates of the issuer. Default: those of the system.
    pub ca_file: Option<PathBuf>,
    /// Networks of link-local and metadata addresses that the issuer may be in.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub allowed_networks: Vec<String>,
    /// Client that this program is for the issuer: for introspection, refresh, password and registration.
    pub client: Option<OwnClientSettings>,
    /// Users log in by password through this program. Not recommended (RFC 9700, section 2.4).
    #[serde(default)]
    pub allow_password_grant: bool,
    /// Before changes, the issuer is asked whether the token is still active.
    #[serde(default)]
    pub introspect_changes: bool,
}

/// Client that this program is for an issuer. Its credential is read from the file for each login.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OwnClientSettings {
    pub id: String,
    /// Client secret.
    pub secret_file: Option<PathBuf>,
    /// Signed assertion, such as a projected ServiceAccount token whose audience is the issuer (RFC 7523).
    pub assertion_file: Option<PathBuf>,
}

fn default_audiences() -> Vec<String> {
    vec![AUDIENCE.to_owned()]
}

fn default_algorithms() -> Vec<SignatureAlgorithm> {
    SignatureAlgorithm::DEFAULT.to_vec()
}

/// Reason why the settings of identity providers are wrong.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidIdentitySettings {
    #[error("identity.providers: at most {MAX_PROVIDERS} are allowed")]
    TooManyProviders,
    #[error(
        "identity.providers: {name:?} is not a name: write 1 to {MAX_PROVIDER_NAME} lower-case letters, digits and hyphens, and not \"{KUBERNETES}\""
    )]
    Name { name: String },
    #[error("identity.providers: the name {name:?} is there twice: names are unique")]
    SameName { name: String },
    #[error(
        "identity.providers: the issuer of {name:?} is that of another provider: a token belongs to one provider"
    )]
    SameIssuer { name: String },
    #[error("identity.providers: {field} of {name:?}: {problem}")]
    Field {
        name: String,
        field: &'static str,
        problem: &'static str,
    },
}

impl IdentitySettings {
    /// Checks what the types do not.
    ///
    /// # Errors
    /// A name or an issuer is there twice, or a field is wrong.
    pub fn validate(&self) -> Result<(), InvalidIdentitySettings> {
        if self.providers.len() > MAX_PROVIDERS {
            return Err(InvalidIdentitySettings::TooManyProviders);
        }
        let (mut names, mut issuers) = (BTreeSet::new(), BTreeSet::new());
        for provider in &self.providers {
            provider.validate()?;
            let name = provider.name.clone();
            if !names.insert(&provider.name) {
                return Err(InvalidIdentitySettings::SameName { name });
            }
            if !issuers.insert(&provider.issuer) {
                return Err(InvalidIdentitySettings::SameIssuer { name });
            }
        }
        Ok(())
    }
}

impl OidcSettings {
    /// Checks what the types do not. URLs are checked where they are parsed.
    ///
    /// # Errors
    /// A field is wrong.
    pub fn validate(&self) -> Result<(), InvalidIdentitySettings> {
        if !is_provider_name(&self.name) {
            let name = self.name.chars().take(MAX_PROVIDER_NAME).collect();
            return Err(InvalidIdentitySettings::Name { name });
        }
        self.problem().map_or(Ok(()), |(field, problem)| {
            Err(InvalidIdentitySettings::Field {
                name: self.name.clone(),
                field,
                problem,
            })
        })
    }

    fn problem(&self) -> Option<(&'static str, &'static str)> {
        let count = "at most 64 entries are allowed";
        let names = "1 to 64 names are wanted, none of them empty";
        let is_list = |list: &[String]| {
            list.len() <= MAX_ENTRIES && list.iter().all(|entry| !entry.is_empty())
        };
        if self.audiences.is_empty() || !is_list(&self.audiences) {
            return Some(("audiences", names));
        }
        if self.algorithms.is_empty() {
            return Some(("algorithms", "at least one is wanted, such as RS256"));
        }
        if !is_list(&self.clients) {
            return Some(("clients", names));
        }
        if self.allowed_networks.len() > MAX_ENTRIES {
            return Some(("allowedNetworks", count));
        }
        if self.stale_for.is_some() && self.stale().is_none() {
            return Some(("staleFor", "it has to be from 0s to 24h"));
        }
        let client = self.client.as_ref();
        if client.is_some_and(|client| client.id.is_empty()) {
            return Some(("client.id", "the id is empty"));
        }
        if client
            .is_some_and(|client| client.secret_file.is_some() == client.assertion_file.is_some())
        {
            return Some(("client", "set either secretFile or assertionFile"));
        }
        let needs_client = self.introspect_changes || self.allow_password_grant;
        (needs_client && client.is_none()).then_some((
            "client",
            "introspectChanges and allowPasswordGrant need a client of this program",
        ))
    }

    /// Time for which expired keys are used; `None` if the setting is out of its limits.
    fn stale(&self) -> Option<Duration> {
        match self.stale_for {
            None => Some(DEFAULT_STALE),
            Some(time) => Duration::try_from(time)
                .ok()
                .filter(|time| *time <= MAX_STALE),
        }
    }

    /// Time for which expired keys are used while the issuer cannot be reached.
    #[must_use]
    pub fn stale_time(&self) -> Duration {
        self.stale().unwrap_or(MAX_STALE)
    }

    /// Rules for tokens of this issuer.
    #[must_use]
    pub fn token_rules(&self) -> TokenRules {
        TokenRules {
            issuer: self.issuer.clone(),
            audiences: self.audiences.clone(),
            algorithms: self.algorithms.clone(),
            token_type: self.effective_token_type(),
            clients: self.clients.clone(),
            client_roles: self.effective_client_roles(),
            realm_roles: self.realm_roles.clone(),
            groups: self.groups.clone(),
        }
    }

    /// Mark of access tokens.
    #[must_use]
    pub fn effective_token_type(&self) -> TokenType {
        self.token_type.unwrap_or(match self.kind {
            IssuerKind::Keycloak => TokenType::Keycloak,
            IssuerKind::Oidc => TokenType::AccessTokenJwt,
        })
    }

    /// Claim with the roles of our client.
    #[must_use]
    pub fn effective_client_roles(&self) -> Option<ClaimPath> {
        let of_keycloak = || {
            let audience = self.audiences.first()?;
            ClaimPath::new(["resource_access", audience, "roles"]).ok()
        };
        match (&self.client_roles, self.kind) {
            (Some(path), _) => Some(path.clone()),
            (None, IssuerKind::Keycloak) => of_keycloak(),
            (None, IssuerKind::Oidc) => None,
        }
    }
}

/// Whether a text can be the name of a provider: it becomes a part of user names, with `:` around it.
fn is_provider_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=MAX_PROVIDER_NAME).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text != KUBERNETES
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn provider(more: &Value) -> Result<OidcSettings, String> {
        let mut settings = json!({
            "name": "main", "type": "keycloak", "issuer": "https://id.example.com/realms/main",
        });
        for (name, value) in more.as_object().unwrap() {
            settings[name] = value.clone();
        }
        let settings: OidcSettings =
            serde_json::from_value(settings).map_err(|error| error.to_string())?;
        settings.validate().map_err(|error| error.to_string())?;
        Ok(settings)
    }

    #[test]
    fn defaults_are_those_of_the_type() {
        let keycloak = provider(&json!({})).unwrap();
        assert_eq!(keycloak.audiences, [AUDIENCE]);
        assert_eq!(keycloak.effective_token_type(), TokenType::Keycloak);
        let roles = ClaimPath::new(["resource_access", AUDIENCE, "roles"]).unwrap();
        assert_eq!(keycloak.effective_client_roles(), Some(roles));
        assert_eq!(keycloak.stale_time(), DEFAULT_STALE);
        assert!(!keycloak.allow_password_grant && !keycloak.introspect_changes);
        let other = provider(&json!({"type": "oidc", "staleFor": "30m"})).unwrap();
        assert_eq!(other.effective_token_type(), TokenType::AccessTokenJwt);
        assert_eq!(other.effective_client_roles(), None);
        assert_eq!(other.stale_time(), Duration::from_mins(30));
        let paths = json!({"clientRoles": ["roles"], "groups": ["groups"], "tokenType": "untyped"});
        let untyped = provider(&paths).unwrap();
        assert_eq!(untyped.effective_token_type(), TokenType::Untyped);
        assert_eq!(
            untyped.effective_client_roles(),
            ClaimPath::new(["roles"]).ok()
        );
    }

    #[test]
    fn wrong_fields_are_refused_with_their_name() {
        for (more, expected) in [
            (json!({"verifySsl": false}), "unknown field"),
            (json!({"type": "saml"}), "unknown variant"),
            (json!({"algorithms": ["HS256"]}), "unknown variant"),
            (json!({"clientRoles": []}), "claim path"),
            (json!({"name": "a:b"}), "is not a name"),
            (json!({"name": "kubernetes"}), "is not a name"),
            (json!({"audiences": []}), "audiences"),
            (json!({"algorithms": []}), "algorithms"),
            (json!({"clients": [""]}), "clients"),
            (json!({"staleFor": "25h"}), "staleFor"),
            (json!({"staleFor": "-1s"}), "staleFor"),
            (json!({"client": {"id": "a"}}), "secretFile"),
            (
                json!({"client": {"id": "", "secretFile": "/s"}}),
                "client.id",
            ),
            (
                json!({"client": {"id": "a", "secretFile": "/s", "assertionFile": "/t"}}),
                "secretFile",
            ),
            (json!({"introspectChanges": true}), "need a client"),
            (json!({"allowPasswordGrant": true}), "need a client"),
        ] {
            let error = provider(&more).map(|_| ()).unwrap_err();
            assert!(error.contains(expected), "{more}: {error}");
        }
    }

    #[test]
    fn providers_differ_in_name_and_issuer() {
        let settings = |first: &Value, second: &Value| {
            let settings = IdentitySettings {
                providers: [first, second].map(|more| provider(more).unwrap()).to_vec(),
                ..IdentitySettings::default()
            };
            settings.validate()
        };
        let second = json!({"name": "second", "issuer": "https://id.example.com/realms/second"});
        assert_eq!(settings(&json!({}), &second), Ok(()));
        let name = json!({"issuer": "https://id.example.com/realms/second"});
        assert!(matches!(
            settings(&json!({}), &name),
            Err(InvalidIdentitySettings::SameName { .. })
        ));
        let issuer = json!({"name": "second"});
        assert!(matches!(
            settings(&json!({}), &issuer),
            Err(InvalidIdentitySettings::SameIssuer { .. })
        ));
        assert!(IdentitySettings::default().kubernetes.enabled);
    }

    #[test]
    fn docs_contain_the_fields_and_the_limits() {
        use super::super::kubernetes::{MAX_REVIEWS, MAX_RUNNING_REVIEWS, REVIEW_LIFETIME};
        use super::super::oidc::{
            MAX_CLIENT_ID, MAX_REDIRECT_URIS, MAX_SCOPES, REGISTRATION_TIMEOUT,
        };
        let docs = include_str!("../../docs/IDENTITY.md");
        let schema = schemars::schema_for!(OidcSettings).to_value();
        for field in schema["properties"].as_object().unwrap().keys() {
            let row = format!("| `{field}` |");
            assert!(docs.contains(&row), "docs/IDENTITY.md has no row {row:?}");
        }
        let number = |number: usize| u64::try_from(number).unwrap();
        for (limit, value) in [
            ("Providers", number(MAX_PROVIDERS)),
            ("Characters of a provider's name", number(MAX_PROVIDER_NAME)),
            (
                "Entries of a list in the settings of a provider",
                number(MAX_ENTRIES),
            ),
            (
                "Seconds for which a verdict of the API server is used",
                REVIEW_LIFETIME.as_secs(),
            ),
            ("Verdicts of the API server that are kept", MAX_REVIEWS),
            (
                "Reviews by the API server at the same time",
                number(MAX_RUNNING_REVIEWS),
            ),
            (
                "Characters of the id of a client that is registered",
                number(MAX_CLIENT_ID),
            ),
            (
                "Redirect URIs of a client that is registered",
                number(MAX_REDIRECT_URIS),
            ),
            ("Scopes of a client that is registered", number(MAX_SCOPES)),
            ("Seconds of a registration", REGISTRATION_TIMEOUT.as_secs()),
        ] {
            let row = format!("| {limit} | {value} |");
            assert!(docs.contains(&row), "docs/IDENTITY.md has no row {row:?}");
        }
    }
}
