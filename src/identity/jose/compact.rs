//! Compact serialization of signed tokens: three parts of base64url.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;

use super::claims::{Claims, time};
use super::header::JoseHeader;
use super::limits::{MAX_HEADER_BYTES, MAX_TOKEN_BYTES};
use crate::identity::error::TokenRejection;

/// Token whose parts could be read. Nothing of it is true yet: its issuer only selects the rules that it is checked
/// with.
pub struct UnverifiedToken<'t> {
    pub(super) header: JoseHeader,
    pub(super) claims: Claims,
    /// Header and claims as they were signed.
    pub(super) signed: &'t str,
    /// In base64url that is not read yet.
    pub(super) signature: &'t str,
}

impl<'t> UnverifiedToken<'t> {
    /// Reads a token.
    ///
    /// # Errors
    /// The token is too long, its parts cannot be read, or its header asks for something that is not supported.
    pub fn parse(token: &'t str) -> Result<Self, TokenRejection> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenRejection::TooLong);
        }
        let malformed = TokenRejection::Malformed;
        let (signed, signature) = token.rsplit_once('.').ok_or(malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(malformed)?;
        if header.len() > MAX_HEADER_BYTES {
            return Err(TokenRejection::TooLong);
        }
        let header = decode(header).ok_or(malformed)?;
        let payload = decode(payload).ok_or(malformed)?;
        let header = JoseHeader::parse(&header)?;
        if signature.is_empty() {
            return Err(malformed);
        }
        Ok(Self {
            header,
            claims: Claims::parse(&payload)?,
            signed,
            signature,
        })
    }

    /// Time until which the token says that it is valid.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        time(self.claims.members.get("exp")).ok().flatten()
    }

    /// Issuer that the token names.
    #[must_use]
    pub fn issuer(&self) -> &str {
        self.claims.issuer()
    }
}

impl fmt::Debug for UnverifiedToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnverifiedToken").finish_non_exhaustive()
    }
}

/// Bytes of strict base64url: no padding, no other characters, no bits that are left over, not empty.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    (!bytes.is_empty()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64url_is_strict() {
        assert_eq!(decode("-_8").as_deref(), Some([0xfb, 0xff].as_slice()));
        for text in [
            "", "A", "AA==", "-_8=", "+/8", "AB", "AAB", " AA", "AA\n", "A.A",
        ] {
            assert_eq!(decode(text), None, "{text:?}");
        }
    }
}
