//! Provider in memory, for tests: tokens are texts that a test declares.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use secrecy::{ExposeSecret as _, SecretString};

use super::error::{IdentityError, TokenRejection};
use super::kubernetes::BearerToken;
use super::provider::IdentityProvider;
use super::types::{
    AuthenticatedCaller, ClientOutcome, IssuedToken, LoginCredentials, NewClient, OidcConfig,
};
use crate::plugin::{HealthState, HealthStatus, PluginInfo, PluginMetadata};

/// Lifetime of tokens of logins.
const LIFETIME: Duration = Duration::from_mins(5);

/// Provider whose tokens, clients and availability a test sets.
#[derive(Debug)]
pub struct MemoryProvider {
    name: String,
    state: Mutex<MemoryIdentities>,
}

#[derive(Debug, Default)]
struct MemoryIdentities {
    callers: Vec<(SecretString, AuthenticatedCaller)>,
    clients: BTreeMap<String, SecretString>,
    is_away: bool,
    logins: u64,
}

impl MemoryProvider {
    /// Provider without tokens and clients.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            state: Mutex::default(),
        }
    }

    /// Makes a token valid.
    pub fn add_token(&self, token: &str, caller: AuthenticatedCaller) {
        self.state().callers.push((token.into(), caller));
    }

    /// Makes the issuer unreachable, or reachable again.
    pub fn set_away(&self, is_away: bool) {
        self.state().is_away = is_away;
    }

    fn state(&self) -> MutexGuard<'_, MemoryIdentities> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// State, if the issuer is reachable.
    fn reach(&self) -> Result<MutexGuard<'_, MemoryIdentities>, IdentityError> {
        let state = self.state();
        if state.is_away {
            return Err(IdentityError::Unavailable {
                provider: self.name.clone(),
                reason: "the issuer is away".to_owned(),
                retry_after: None,
            });
        }
        Ok(state)
    }
}

#[async_trait]
impl PluginMetadata for MemoryProvider {
    fn metadata(&self) -> PluginInfo {
        PluginInfo::new(&self.name, "Identities in memory, for tests.")
    }

    async fn health_check(&self, _timeout: Duration) -> HealthStatus {
        if self.state().is_away {
            HealthStatus::new(HealthState::Unhealthy, "the issuer is away")
        } else {
            HealthStatus::new(HealthState::Healthy, "the issuer is there")
        }
    }
}

#[async_trait]
impl IdentityProvider for MemoryProvider {
    async fn verify(&self, token: &BearerToken) -> Result<AuthenticatedCaller, IdentityError> {
        let state = self.reach()?;
        let is_equal = |known: &SecretString| known.expose_secret() == token.expose_secret();
        let known = state.callers.iter().find(|(known, _)| is_equal(known));
        let caller = known.map(|(_, caller)| caller.clone());
        caller.ok_or(IdentityError::from(TokenRejection::Malformed))
    }

    async fn authenticate(
        &self,
        credentials: &LoginCredentials,
    ) -> Result<IssuedToken, IdentityError> {
        let LoginCredentials::ClientSecret {
            client_id,
            client_secret,
        } = credentials
        else {
            return Err(self.unsupported("this kind of login"));
        };
        let mut state = self.reach()?;
        let known = state.clients.get(client_id);
        if known.is_none_or(|known| known.expose_secret() != client_secret.expose_secret()) {
            return Err(TokenRejection::InvalidCredentials.into());
        }
        state.logins += 1;
        let token = format!("{}-{}", self.name, state.logins);
        let mut caller = AuthenticatedCaller {
            issuer: self.name.clone(),
            authorized_party: Some(client_id.clone()),
            ..AuthenticatedCaller::default()
        };
        caller.user_info.subject.clone_from(client_id);
        state.callers.push((token.as_str().into(), caller));
        Ok(IssuedToken {
            access_token: token.into(),
            refresh_token: None,
            expires_in: Some(LIFETIME),
        })
    }

    async fn get_oidc_config(&self, realm: Option<&str>) -> Result<OidcConfig, IdentityError> {
        let _state = self.reach()?;
        if realm.is_some_and(|realm| realm != self.name) {
            return Err(IdentityError::Misconfigured {
                provider: self.name.clone(),
                reason: "no such realm".to_owned(),
            });
        }
        let url = |path: &str| format!("https://memory.invalid/{}{path}", self.name);
        Ok(OidcConfig {
            issuer_url: url(""),
            discovery_url: url("/.well-known/openid-configuration"),
            jwks_uri: url("/keys"),
            authorization_endpoint: None,
            token_endpoint: Some(url("/token")),
            userinfo_endpoint: None,
        })
    }

    async fn create_client(&self, client: &NewClient) -> Result<ClientOutcome, IdentityError> {
        let mut state = self.reach()?;
        let secret = client.client_secret.expose_secret();
        match state.clients.get(&client.client_id) {
            Some(known) if known.expose_secret() == secret => Ok(ClientOutcome::AlreadyCreated),
            Some(_) => Err(IdentityError::Misconfigured {
                provider: self.name.clone(),
                reason: "a client with this id exists, and has another secret".to_owned(),
            }),
            None => {
                let id = client.client_id.clone();
                state.clients.insert(id, client.client_secret.clone());
                Ok(ClientOutcome::Created)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;
    use crate::identity::conformance::{CANARY, ProviderFixture};
    use crate::identity_conformance;

    struct MemoryFixture(MemoryProvider);

    fn token() -> String {
        format!("{CANARY}-alice")
    }

    impl MemoryFixture {
        fn new() -> Self {
            let provider = MemoryProvider::new("memory");
            let mut caller = AuthenticatedCaller {
                issuer: "memory".to_owned(),
                ..AuthenticatedCaller::default()
            };
            "alice".clone_into(&mut caller.user_info.subject);
            provider.add_token(&token(), caller);
            Self(provider)
        }
    }

    #[async_trait]
    impl ProviderFixture for MemoryFixture {
        fn provider(&self) -> &dyn IdentityProvider {
            &self.0
        }

        async fn valid_token(&self) -> (BearerToken, String) {
            (BearerToken::parse(&token()).unwrap(), "alice".to_owned())
        }

        async fn take_issuer_away(&self) -> bool {
            self.0.set_away(true);
            true
        }
    }

    identity_conformance!(memory_provider, ready(MemoryFixture::new()));

    #[tokio::test]
    async fn client_is_created_once_and_logs_in() {
        let provider = MemoryProvider::new("memory");
        let client = |secret: &str| NewClient {
            realm: None,
            client_id: "ci".to_owned(),
            client_secret: secret.into(),
            redirect_uris: Vec::new(),
            scopes: Vec::new(),
            service_account: true,
        };
        let create = async |secret: &str| provider.create_client(&client(secret)).await;
        assert_eq!(create("a").await, Ok(ClientOutcome::Created));
        assert_eq!(create("a").await, Ok(ClientOutcome::AlreadyCreated));
        assert!(create("b").await.is_err());
        let credentials = LoginCredentials::ClientSecret {
            client_id: "ci".to_owned(),
            client_secret: "a".into(),
        };
        let issued = provider.authenticate(&credentials).await.unwrap();
        let token = BearerToken::parse(issued.access_token.expose_secret()).unwrap();
        let caller = provider.verify(&token).await.unwrap();
        assert_eq!(caller.user_info.subject, "ci");
    }
}
