//! Parts of this program that providers use, and reasons why a provider cannot be created.

use thiserror::Error;

use crate::clock::Clock;
use crate::http_client::{InvalidHttpSettings, InvalidNetwork, OutboundProxy, Schemes};
use crate::identity::discovery::InvalidIssuer;
use crate::identity::metrics::IssuerMetrics;
use crate::identity::settings::InvalidIdentitySettings;

/// Reason why a provider cannot be created.
#[derive(Debug, Error)]
pub enum InvalidProvider {
    #[error(transparent)]
    Settings(#[from] InvalidIdentitySettings),
    #[error("identity.providers: {name:?}: {source}")]
    Issuer {
        name: String,
        #[source]
        source: InvalidIssuer,
    },
    #[error("identity.providers: {name:?}: allowedNetworks: {source}")]
    Network {
        name: String,
        #[source]
        source: InvalidNetwork,
    },
    #[error("identity.providers: {name:?}: {source}")]
    Http {
        name: String,
        #[source]
        source: InvalidHttpSettings,
    },
}

/// Parts of this program that providers use.
#[derive(Clone, Debug)]
pub struct ProviderEnvironment {
    /// `https` alone, unless an issuer is developed on this machine.
    pub schemes: Schemes,
    /// Proxy on the way to issuers.
    pub proxy: Option<OutboundProxy>,
    pub clock: Clock,
    pub metrics: IssuerMetrics,
}
