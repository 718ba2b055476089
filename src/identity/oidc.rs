//! Provider for OIDC issuers, such as a realm of Keycloak.
//!
//! Tokens are checked here, with the issuer's keys: no request for a token. The issuer is asked for keys and endpoints
//! now and then, for a login, and before changes if the settings want that (introspection).

mod endpoints;
mod environment;
mod own_client;
mod registration;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use schemars::schema_for;
use secrecy::ExposeSecret as _;
use serde_json::Value;
use tokio::task::AbortHandle;
use tokio::time::timeout;

pub use self::endpoints::REGISTRATION_TIMEOUT;
use self::endpoints::{ClientOwner, CredentialEndpoints};
pub use self::environment::{InvalidProvider, ProviderEnvironment};
use self::own_client::OwnClient;
pub use self::registration::{
    InvalidClient, MAX_CLIENT_ID, MAX_REDIRECT_URIS, MAX_SCOPES, registration_body,
};
use super::client_credentials::ClientCredentialsLogin;
use super::discovery::{DiscoveryCache, DiscoveryRules, IssuerEndpoints, discovered_key_fetcher};
use super::document::DocumentState;
use super::error::{IdentityError, TokenRejection};
use super::jose::{TokenRules, UnverifiedToken};
use super::keys::KeyCache;
use super::kubernetes::BearerToken;
use super::provider::IdentityProvider;
use super::settings::{IssuerKind, OidcSettings};
use super::token_endpoint::{ClientAuthentication, TokenGrant};
use super::types::{
    AuthenticatedCaller, ClientOutcome, IssuedToken, LoginCredentials, NewClient, OidcConfig,
};
use crate::clock::Clock;
use crate::http_client::{AddressPolicy, HttpClient, HttpSettings, HttpUrl, Schemes};
use crate::plugin::{HealthState, HealthStatus, PluginInfo, PluginMetadata};

/// Provider for one issuer.
pub struct OidcProvider {
    name: String,
    kind: IssuerKind,
    rules: TokenRules,
    discovery: Arc<DiscoveryCache>,
    keys: Arc<KeyCache>,
    http: HttpClient,
    schemes: Schemes,
    client: Option<OwnClient>,
    allow_password_grant: bool,
    introspect_changes: bool,
    clock: Clock,
    is_omission_reported: AtomicBool,
    /// Task that keeps the keys fresh.
    keeper: Mutex<Option<AbortHandle>>,
}

impl fmt::Debug for OidcProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OidcProvider")
            .field("name", &self.name)
            .field("issuer", &self.rules.issuer)
            .finish_non_exhaustive()
    }
}

impl OidcProvider {
    /// Creates a provider, which sends no request yet. Reads the file of CA certificates, blocking.
    ///
    /// # Errors
    /// The settings are wrong, or a file cannot be read.
    pub fn new(
        settings: &OidcSettings,
        environment: &ProviderEnvironment,
    ) -> Result<Self, InvalidProvider> {
        settings.validate()?;
        let name = || settings.name.clone();
        let http = http_client(settings, environment)?;
        let discovery = DiscoveryRules::new(
            &settings.issuer,
            settings.discovery_url.as_deref(),
            &settings.origins,
            environment.schemes,
        );
        let discovery = discovery.map_err(|source| InvalidProvider::Issuer {
            name: name(),
            source,
        })?;
        let stale = settings.stale_time();
        let discovery = Arc::new(DiscoveryCache::with_metrics(
            &settings.name,
            discovery,
            http.clone(),
            stale,
            environment.metrics.clone(),
        ));
        let fetcher = discovered_key_fetcher(
            Arc::clone(&discovery),
            settings.algorithms.as_slice().into(),
        );
        Ok(Self {
            keys: Arc::new(KeyCache::with_metrics(
                &settings.name,
                stale,
                environment.metrics.clone(),
                fetcher,
            )),
            rules: settings.token_rules(),
            name: name(),
            kind: settings.kind,
            discovery,
            http,
            schemes: environment.schemes,
            client: settings.client.as_ref().map(OwnClient::new),
            allow_password_grant: settings.allow_password_grant,
            introspect_changes: settings.introspect_changes,
            clock: environment.clock.clone(),
            is_omission_reported: AtomicBool::new(false),
            keeper: Mutex::default(),
        })
    }

    /// Issuer whose tokens belong to this provider.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.rules.issuer
    }

    /// Fetches the keys now, for an operator who knows that one of them must no longer be used.
    ///
    /// # Errors
    /// They cannot be fetched; the old ones remain.
    pub async fn refresh_keys(&self) -> Result<(), IdentityError> {
        self.keys.refresh().await.map(drop)
    }

    /// Login of the client that this program is for the issuer, for a [`crate::token_source::TokenSource`].
    ///
    /// # Errors
    /// The settings have no such client.
    pub fn own_login(&self) -> Result<ClientCredentialsLogin, IdentityError> {
        let client = self.own_client("a login of this program")?;
        Ok(client.login(&self.discovery, &self.http))
    }

    async fn verify_by_keys(&self, token: &str) -> Result<AuthenticatedCaller, IdentityError> {
        let unverified = UnverifiedToken::parse(token)?;
        if unverified.issuer() != self.rules.issuer {
            return Err(TokenRejection::WrongIssuer.into());
        }
        let seen = self.keys.keys().await?;
        let now = self.clock.now();
        match self.rules.verify_parsed(unverified, &seen.keys, now) {
            Err(TokenRejection::UnknownKey) => {}
            checked => return Ok(checked?),
        }
        let newer = self.keys.newer_keys(&seen).await?;
        let newer = newer.ok_or(TokenRejection::UnknownKey)?;
        Ok(self.rules.verify(token, &newer.keys, now)?)
    }

    async fn endpoints(&self) -> Result<CredentialEndpoints, IdentityError> {
        Ok(CredentialEndpoints {
            provider: self.name.clone(),
            http: self.http.clone(),
            endpoints: self.discovery.endpoints().await?,
        })
    }

    async fn login_by_own_client(
        &self,
        purpose: &str,
        grant: TokenGrant<'_>,
    ) -> Result<IssuedToken, IdentityError> {
        let proof = self.own_client(purpose)?.proof(&self.name).await?;
        let endpoints = self.endpoints().await?;
        endpoints
            .login(ClientOwner::Program, proof.authentication(), grant)
            .await
    }

    fn own_client(&self, purpose: &str) -> Result<&OwnClient, IdentityError> {
        self.client
            .as_ref()
            .ok_or_else(|| self.misconfigured(format!("{purpose} needs the setting \"client\"")))
    }

    fn misconfigured(&self, reason: String) -> IdentityError {
        IdentityError::Misconfigured {
            provider: self.name.clone(),
            reason,
        }
    }

    /// URL at which Keycloak registers clients in its own format, without mappers.
    fn registration_url(&self, endpoints: &IssuerEndpoints) -> Result<HttpUrl, IdentityError> {
        let url = endpoints.registration.as_ref().map(HttpUrl::as_str);
        let url = url.and_then(|url| url.strip_suffix("/openid-connect"));
        let url = url.and_then(|url| HttpUrl::parse(&format!("{url}/default"), self.schemes).ok());
        url.ok_or_else(|| {
            self.misconfigured(
                "its discovery document has no registration endpoint of Keycloak".to_owned(),
            )
        })
    }
}

#[async_trait]
impl PluginMetadata for OidcProvider {
    fn metadata(&self) -> PluginInfo {
        let description = match self.kind {
            IssuerKind::Keycloak => "Access tokens of a realm of Keycloak",
            IssuerKind::Oidc => "Access tokens of an OIDC issuer",
        };
        PluginInfo::new(&self.name, description)
    }

    fn config_schema(&self) -> Option<Value> {
        Some(schema_for!(OidcSettings).to_value())
    }

    async fn health_check(&self, limit: Duration) -> HealthStatus {
        let (state, message) = match timeout(limit, self.keys.keys()).await {
            Ok(Ok(_)) if self.keys.state() == DocumentState::Fresh => (
                HealthState::Healthy,
                "the keys of the issuer are fresh".to_owned(),
            ),
            Ok(Ok(_)) => (
                HealthState::Degraded,
                "the issuer cannot be reached, and its last keys are used".to_owned(),
            ),
            Ok(Err(error)) => (HealthState::Unhealthy, error.to_string()),
            Err(_) => (
                HealthState::Unhealthy,
                "the issuer did not respond in time".to_owned(),
            ),
        };
        HealthStatus::new(state, message)
    }

    async fn startup(&self) {
        let keys = Arc::clone(&self.keys);
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        if keeper.is_none() {
            let task = tokio::spawn(async move { keys.keep_fresh().await });
            *keeper = Some(task.abort_handle());
        }
    }

    async fn shutdown(&self) {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(keeper) = keeper.take() {
            keeper.abort();
        }
    }
}

impl Drop for OidcProvider {
    fn drop(&mut self) {
        let keeper = self.keeper.get_mut();
        if let Some(keeper) = keeper.unwrap_or_else(PoisonError::into_inner).take() {
            keeper.abort();
        }
    }
}

#[async_trait]
impl IdentityProvider for OidcProvider {
    async fn verify(&self, token: &BearerToken) -> Result<AuthenticatedCaller, IdentityError> {
        let caller = self.verify_by_keys(token.expose_secret()).await?;
        if caller.has_omitted_groups && !self.is_omission_reported.swap(true, Ordering::Relaxed) {
            let provider = self.name.as_str();
            tracing::warn!(provider, "an issuer leaves groups out of a token");
        }
        Ok(caller)
    }

    async fn verify_for_change(
        &self,
        token: &BearerToken,
    ) -> Result<AuthenticatedCaller, IdentityError> {
        let caller = self.verify(token).await?;
        if self.introspect_changes {
            let proof = self.own_client("introspection")?.proof(&self.name).await?;
            let subject = &caller.user_info.subject;
            let endpoints = self.endpoints().await?;
            endpoints
                .introspect(proof.authentication(), token, subject)
                .await?;
        }
        Ok(caller)
    }

    async fn authenticate(
        &self,
        credentials: &LoginCredentials,
    ) -> Result<IssuedToken, IdentityError> {
        let by_client = TokenGrant::ClientCredentials { scope: None };
        match credentials {
            LoginCredentials::ClientSecret {
                client_id: id,
                client_secret: secret,
            } => {
                let authentication = ClientAuthentication::Secret { id, secret };
                self.endpoints()
                    .await?
                    .login(ClientOwner::Caller, authentication, by_client)
                    .await
            }
            LoginCredentials::ClientAssertion {
                client_id: id,
                assertion,
            } => {
                let authentication = ClientAuthentication::Assertion { id, assertion };
                self.endpoints()
                    .await?
                    .login(ClientOwner::Caller, authentication, by_client)
                    .await
            }
            LoginCredentials::RefreshToken { refresh_token } => {
                let grant = TokenGrant::RefreshToken { refresh_token };
                self.login_by_own_client("a login by refresh token", grant)
                    .await
            }
            LoginCredentials::Password { username, password } => {
                if !self.allow_password_grant {
                    return Err(self.unsupported("login by password (allowPasswordGrant)"));
                }
                let grant = TokenGrant::Password {
                    username,
                    password,
                    scope: None,
                };
                self.login_by_own_client("a login by password", grant).await
            }
            LoginCredentials::ServiceAccount { .. } => {
                Err(self.unsupported("login by ServiceAccount"))
            }
        }
    }

    async fn get_oidc_config(&self, realm: Option<&str>) -> Result<OidcConfig, IdentityError> {
        // A realm is looked up in the table of providers; no name of a realm becomes part of a URL.
        if realm.is_some_and(|realm| realm != self.name) {
            return Err(self.unsupported("get_oidc_config of another realm"));
        }
        Ok(self.discovery.endpoints().await?.to_config())
    }

    async fn create_client(&self, client: &NewClient) -> Result<ClientOutcome, IdentityError> {
        if self.kind != IssuerKind::Keycloak {
            return Err(self.unsupported("create_client"));
        }
        let body =
            registration_body(client).map_err(|error| self.misconfigured(error.to_string()))?;
        let endpoints = self.endpoints().await?;
        let url = self.registration_url(&endpoints.endpoints)?;
        let proof = self.own_client("create_client")?.proof(&self.name).await?;
        let grant = TokenGrant::ClientCredentials { scope: None };
        let login = endpoints
            .login(ClientOwner::Program, proof.authentication(), grant)
            .await?;
        endpoints
            .register(url, &login.access_token, client, &body)
            .await
    }
}

/// Client of HTTP for the issuer.
fn http_client(
    settings: &OidcSettings,
    environment: &ProviderEnvironment,
) -> Result<HttpClient, InvalidProvider> {
    let name = || settings.name.clone();
    let networks = settings.allowed_networks.iter().map(String::as_str);
    let addresses = AddressPolicy::allowing(networks).map_err(|source| {
        let name = name();
        InvalidProvider::Network { name, source }
    })?;
    let http = HttpSettings {
        ca_file: settings.ca_file.clone(),
        addresses,
        proxy: environment.proxy.clone(),
    };
    HttpClient::new(&http).map_err(|source| InvalidProvider::Http {
        name: name(),
        source,
    })
}

#[cfg(test)]
mod tests;
