//! Check of a token: header, signature, claims, in this order.

use jiff::Timestamp;

use super::compact::UnverifiedToken;
use super::key_set::KeySet;
use super::rules::TokenRules;
use crate::identity::error::TokenRejection;
use crate::identity::types::AuthenticatedCaller;

impl TokenRules {
    /// Checks a token at a time of day, and returns its owner.
    ///
    /// # Errors
    /// The token is not valid. Only [`TokenRejection::UnknownKey`] is worth a new key set: issuer and algorithm are
    /// right then.
    pub fn verify(
        &self,
        token: &str,
        keys: &KeySet,
        now: Timestamp,
    ) -> Result<AuthenticatedCaller, TokenRejection> {
        self.verify_parsed(UnverifiedToken::parse(token)?, keys, now)
    }

    /// Checks a token whose issuer selected these rules.
    ///
    /// # Errors
    /// As [`Self::verify`].
    pub fn verify_parsed(
        &self,
        token: UnverifiedToken<'_>,
        keys: &KeySet,
        now: Timestamp,
    ) -> Result<AuthenticatedCaller, TokenRejection> {
        let UnverifiedToken {
            header,
            claims,
            signed,
            signature,
        } = token;
        self.check_header(&header, &claims)?;
        keys.verify(&header.key_id, header.algorithm, signed, signature)?;
        self.check_claims(&header, claims, now)
    }
}
