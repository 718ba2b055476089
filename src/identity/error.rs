//! Errors of identity providers, and the closed list of reasons to reject a token.

use std::fmt;
use std::time::Duration;

use thiserror::Error;

/// Declares codes: each with its text, and the reason that a caller of the admin API may see.
macro_rules! rejections {
    ($($(#[$meta:meta])* $code:ident = $text:literal, $public:ident;)*) => {
        /// Reason to reject a token, as records of the audit trail and logs have it. A caller without a valid token is
        /// not told which: [`TokenRejection::public`] has the words for those who may ask.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum TokenRejection { $($(#[$meta])* $code,)* }

        impl TokenRejection {
            /// All reasons.
            pub const ALL: &[Self] = &[$(Self::$code),*];

            /// Text in records and logs.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$code => $text,)* }
            }

            /// Error of a `TokenValidationResult`.
            #[must_use]
            pub fn public(self) -> TokenErrorCode {
                match self { $(Self::$code => TokenErrorCode::$public,)* }
            }
        }
    };
}

rejections! {
    /// Three parts of strict base64url with a header and claims that can be read: something else.
    Malformed = "malformed", Malformed;
    /// Longer than the limit, which is checked before anything is decoded.
    TooLong = "too_long", Malformed;
    /// More entries, or longer texts, than the limits.
    TooManyValues = "too_many_values", Malformed;
    /// No `kid`, or one that no key can have.
    InvalidKeyId = "invalid_key_id", Malformed;
    /// A header parameter that the issuer declares critical, or that changes how the token is to be read.
    UnsupportedHeader = "unsupported_header", Malformed;
    /// A claim that must be there is not, such as `sub`. Lightweight access tokens of Keycloak lack claims.
    MissingClaim = "missing_claim", Malformed;
    /// A claim has another type, or a value that it cannot have.
    InvalidClaim = "invalid_claim", Malformed;
    /// `exp` is further from `iat` than any access token lives.
    LifetimeTooLong = "lifetime_too_long", Malformed;
    Expired = "expired", Expired;
    /// `nbf` or `iat` is in the future.
    NotYetValid = "not_yet_valid", NotYetValid;
    WrongIssuer = "wrong_issuer", WrongIssuer;
    /// The audience is absent, or another.
    WrongAudience = "wrong_audience", WrongAudience;
    /// The client that asked for the token is not one of those that are allowed.
    WrongClient = "wrong_client", WrongAudience;
    /// ID, refresh, offline or logout token, or a token of another kind.
    WrongType = "wrong_type", WrongType;
    /// The token is bound to a proof that was not sent (`DPoP`, mTLS).
    SenderBound = "sender_bound", WrongType;
    /// The algorithm is not allowed for the issuer, or is not the key's.
    WrongAlgorithm = "wrong_algorithm", BadSignature;
    BadSignature = "bad_signature", BadSignature;
    /// The issuer's key set has no usable key with this `kid`.
    UnknownKey = "unknown_key", UnknownKey;
    /// The issuer does not accept the token, without a reason: TokenReview, introspection.
    Inactive = "inactive", Inactive;
    /// Login failed: wrong client secret, password or refresh token.
    InvalidCredentials = "invalid_credentials", InvalidCredentials;
}

impl fmt::Display for TokenRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Error of a `TokenValidationResult`: the closed list that the admin API documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TokenErrorCode {
    Expired,
    NotYetValid,
    WrongIssuer,
    WrongAudience,
    WrongType,
    BadSignature,
    UnknownKey,
    Malformed,
    /// The issuer gives no reason.
    Inactive,
    /// Of logins alone; no token has it.
    InvalidCredentials,
}

impl TokenErrorCode {
    /// Text of the `error` of a `TokenValidationResult`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::NotYetValid => "not yet valid",
            Self::WrongIssuer => "wrong issuer",
            Self::WrongAudience => "wrong audience",
            Self::WrongType => "wrong type",
            Self::BadSignature => "bad signature",
            Self::UnknownKey => "unknown key",
            Self::Malformed => "malformed",
            Self::Inactive => "inactive",
            Self::InvalidCredentials => "invalid credentials",
        }
    }
}

impl fmt::Display for TokenErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Error of an identity provider. No variant has text of a token, of credentials, or of what an issuer sent.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum IdentityError {
    /// The token or the credentials are wrong. Sending the same again does not help.
    #[error("not authenticated ({code}): obtain a new token from the issuer")]
    Unauthenticated { code: TokenRejection },
    /// Nothing is known about the token, because the issuer cannot be asked.
    #[error("identity provider \"{provider}\" is not available: {reason}. Retry")]
    Unavailable {
        provider: String,
        reason: String,
        retry_after: Option<Duration>,
    },
    /// The settings of this program, or of the issuer, are wrong. An operator has to act.
    #[error("identity provider \"{provider}\" is misconfigured: {reason}")]
    Misconfigured { provider: String, reason: String },
    /// The provider has no such operation.
    #[error("identity provider \"{provider}\" does not support {operation}: use another provider")]
    Unsupported {
        provider: String,
        operation: &'static str,
    },
}

impl From<TokenRejection> for IdentityError {
    fn from(code: TokenRejection) -> Self {
        Self::Unauthenticated { code }
    }
}
