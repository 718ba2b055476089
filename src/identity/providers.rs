//! Table of the identity providers, by name and by issuer.
//!
//! The issuer that a token names only selects a provider of this table; it never becomes a URL. Tokens of no configured
//! issuer go to the API server, which knows its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use secrecy::ExposeSecret as _;

use super::error::{IdentityError, TokenRejection};
use super::jose::UnverifiedToken;
use super::kubernetes::BearerToken;
use super::oidc::{InvalidProvider, OidcProvider, ProviderEnvironment};
use super::provider::IdentityProvider;
use super::settings::{IdentitySettings, KUBERNETES};
use super::types::AuthenticatedCaller;

/// All identity providers.
#[derive(Clone, Default)]
pub struct IdentityProviders {
    by_name: BTreeMap<String, Arc<dyn IdentityProvider>>,
    /// Name of the provider of each issuer.
    by_issuer: BTreeMap<String, String>,
}

/// Caller, and the provider that vouches for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentifiedCaller {
    /// Name of the provider: the realm.
    pub provider: String,
    pub caller: AuthenticatedCaller,
}

impl std::fmt::Debug for IdentityProviders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.by_name.keys()).finish()
    }
}

impl IdentityProviders {
    /// Providers of the settings. `kubernetes` is the one that asks the API server, if it is enabled. Reads files of CA
    /// certificates, blocking.
    ///
    /// # Errors
    /// The settings are wrong, or a file cannot be read.
    pub fn new(
        settings: &IdentitySettings,
        kubernetes: Option<Arc<dyn IdentityProvider>>,
        environment: &ProviderEnvironment,
    ) -> Result<Self, InvalidProvider> {
        settings.validate()?;
        let mut table = Self::default();
        if let Some(provider) = kubernetes.filter(|_| settings.kubernetes.enabled) {
            table.by_name.insert(KUBERNETES.to_owned(), provider);
        }
        for settings in &settings.providers {
            let provider = OidcProvider::new(settings, environment)?;
            table.insert(&settings.name, &settings.issuer, Arc::new(provider));
        }
        Ok(table)
    }

    /// Adds the provider of an issuer.
    pub fn insert(&mut self, name: &str, issuer: &str, provider: Arc<dyn IdentityProvider>) {
        self.by_issuer.insert(issuer.to_owned(), name.to_owned());
        self.by_name.insert(name.to_owned(), provider);
    }

    /// Provider with this name, which is that of its realm. `None` for every other text, without a request.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<dyn IdentityProvider>> {
        self.by_name.get(name)
    }

    /// Names and providers.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Arc<dyn IdentityProvider>)> {
        let entries = self.by_name.iter();
        entries.map(|(name, provider)| (name.as_str(), provider))
    }

    /// Finds out who a token belongs to.
    ///
    /// # Errors
    /// The token is not valid, or nothing is known about it.
    pub async fn verify(&self, token: &BearerToken) -> Result<IdentifiedCaller, IdentityError> {
        let (name, provider) = self.provider_of(token)?;
        let caller = provider.verify(token).await?;
        Ok(IdentifiedCaller {
            provider: name.to_owned(),
            caller,
        })
    }

    /// Finds out who a token belongs to before something is changed.
    ///
    /// # Errors
    /// The token is not valid or no longer active, or nothing is known about it.
    pub async fn verify_for_change(
        &self,
        token: &BearerToken,
    ) -> Result<IdentifiedCaller, IdentityError> {
        let (name, provider) = self.provider_of(token)?;
        let caller = provider.verify_for_change(token).await?;
        Ok(IdentifiedCaller {
            provider: name.to_owned(),
            caller,
        })
    }

    fn provider_of(
        &self,
        token: &BearerToken,
    ) -> Result<(&str, &Arc<dyn IdentityProvider>), IdentityError> {
        let unverified = UnverifiedToken::parse(token.expose_secret());
        let name = match &unverified {
            Ok(token) => self.by_issuer.get(token.issuer()).map(String::as_str),
            Err(_) => None,
        };
        let provider = self.by_name.get_key_value(name.unwrap_or(KUBERNETES));
        match (provider, unverified) {
            (Some((name, provider)), _) => Ok((name.as_str(), provider)),
            (None, Err(rejection)) => Err(rejection.into()),
            (None, Ok(_)) => Err(TokenRejection::WrongIssuer.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::jose::SignatureAlgorithm;
    use super::super::jose::test_support::{ISSUER, Issuer, claims, header};
    use super::super::memory::MemoryProvider;
    use super::*;

    fn token(issuer: &str) -> BearerToken {
        let mut claims = claims();
        claims["iss"] = serde_json::json!(issuer);
        let token = Issuer::ours().sign(&header(SignatureAlgorithm::RS256), &claims);
        BearerToken::parse(&token).unwrap()
    }

    /// Provider that knows one token.
    fn provider(name: &str, token: &BearerToken) -> Arc<MemoryProvider> {
        let provider = MemoryProvider::new(name);
        let mut caller = AuthenticatedCaller::default();
        name.clone_into(&mut caller.user_info.subject);
        provider.add_token(token.expose_secret(), caller);
        Arc::new(provider)
    }

    #[tokio::test]
    async fn issuer_of_the_token_selects_the_provider() {
        let (ours, cluster) = (token(ISSUER), token("https://kubernetes.default.svc"));
        let mut table = IdentityProviders::default();
        table.insert("main", ISSUER, provider("main", &ours));
        assert_eq!(table.verify(&ours).await.unwrap().provider, "main");
        let unknown = table.verify(&cluster).await;
        assert_eq!(unknown, Err(TokenRejection::WrongIssuer.into()));
        let junk = BearerToken::parse("junk").unwrap();
        assert_eq!(
            table.verify(&junk).await,
            Err(TokenRejection::Malformed.into())
        );

        table
            .by_name
            .insert(KUBERNETES.to_owned(), provider(KUBERNETES, &cluster));
        let identified = table.verify(&cluster).await.unwrap();
        assert_eq!(identified.provider, KUBERNETES);
        let changing = table.verify_for_change(&cluster).await.unwrap();
        assert_eq!(changing, identified);
        // The API server never sees the token of a configured issuer.
        let other = token(&format!("{ISSUER}/"));
        assert!(table.verify(&other).await.is_err());
        assert_eq!(
            table.verify(&ours).await.unwrap().caller.user_info.subject,
            "main"
        );
    }

    #[test]
    fn row_51_realm_is_a_name_of_the_table() {
        let mut table = IdentityProviders::default();
        table.insert("main", ISSUER, provider("main", &token(ISSUER)));
        assert!(table.get("main").is_some());
        let long = "x".repeat(300);
        for name in ["", "..", "Main", "main/", "a%2fb", "@evil", ISSUER, &long] {
            assert!(table.get(name).is_none(), "{name}");
        }
        assert_eq!(
            table.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            ["main"]
        );
        assert_eq!(format!("{table:?}"), r#"["main"]"#);
    }
}
