//! Identity of callers: who a token belongs to.
//!
//! [`IdentityProvider`] is what the admin API knows of an issuer. [`jose`] checks tokens that an issuer signed, without
//! IO. [`discovery`] and [`keys`] fetch what an issuer publishes, and keep it as [`document`] says. [`oidc`] is the provider
//! for issuers such as Keycloak, [`kubernetes`] the one that lets the API server review tokens of ServiceAccounts, and
//! [`providers`] the table of all that the [`settings`] have.

#[cfg(feature = "cluster")]
pub mod client_credentials;
#[cfg(all(feature = "cluster", any(test, feature = "test-util")))]
pub mod conformance;
#[cfg(feature = "cluster")]
pub mod discovery;
#[cfg(feature = "cluster")]
pub mod document;
pub mod error;
pub mod jose;
#[cfg(feature = "cluster")]
pub mod keys;
#[cfg(feature = "cluster")]
pub mod kubernetes;
#[cfg(all(feature = "cluster", any(test, feature = "test-util")))]
pub mod memory;
#[cfg(feature = "cluster")]
pub mod metrics;
#[cfg(feature = "cluster")]
pub mod oidc;
#[cfg(feature = "cluster")]
pub mod provider;
#[cfg(feature = "cluster")]
pub mod providers;
#[cfg(feature = "cluster")]
pub mod settings;
#[cfg(feature = "cluster")]
pub mod token_endpoint;
pub mod types;

pub use error::{IdentityError, TokenErrorCode, TokenRejection};
#[cfg(feature = "cluster")]
pub use provider::IdentityProvider;
pub use types::{
    AuthenticatedCaller, ClientOutcome, IssuedToken, LoginCredentials, NewClient, OidcConfig,
    TokenValidationResult, UserInfo,
};
