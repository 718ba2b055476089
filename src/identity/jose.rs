//! Tokens that an issuer signed (RFC 7515, 7517, 7519), read strictly and without IO.
//!
//! [`TokenRules`] has what the settings of an issuer allow, [`KeySet`] the keys that the issuer published, and
//! [`TokenRules::verify`] checks one token. Whatever is not understood is rejected: a member that is there twice, another
//! type, another spelling. `tests/identity/matrix.tsv` lists the attacks that are tested.

mod algorithm;
mod claim_path;
mod claims;
mod compact;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod header;
mod json;
mod jwk;
mod key_id;
#[cfg(feature = "cluster")]
mod key_set;
pub mod limits;
mod rules;
#[cfg(test)]
pub(crate) mod test_support;
#[cfg(test)]
mod tests;
mod token_type;
#[cfg(feature = "cluster")]
mod verify;

pub use algorithm::SignatureAlgorithm;
pub use claim_path::{ClaimPath, InvalidClaimPath};
pub use compact::UnverifiedToken;
pub use jwk::{Jwks, JwksError, SkippedKey};
pub use key_id::KeyId;
#[cfg(feature = "cluster")]
pub use key_set::KeySet;
pub use rules::TokenRules;
pub use token_type::TokenType;
