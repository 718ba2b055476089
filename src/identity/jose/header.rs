//! Header of a signed token (RFC 7515, section 4).

use serde_json::{Map, Value};

use super::algorithm::SignatureAlgorithm;
use super::json::parse_object;
use super::key_id::KeyId;
use super::token_type::MediaType;
use crate::identity::error::TokenRejection;

/// Parameters that change how a token is to be read: critical extensions, payloads that are not encoded, nested tokens,
/// encryption, compression. None of them is supported. Parameters that name keys (`jku`, `jwk`, `x5u`, `x5c`) are
/// ignored: keys are only those that the issuer publishes.
const UNSUPPORTED: [&str; 5] = ["crit", "b64", "cty", "enc", "zip"];

/// Registered parameters that are texts. They decide nothing here, but a header with another type is not one.
const TEXTS: [&str; 6] = ["jku", "x5u", "x5t", "x5t#S256", "url", "nonce"];

/// Header parameters that count.
pub(super) struct JoseHeader {
    pub algorithm: SignatureAlgorithm,
    pub key_id: KeyId,
    pub media_type: MediaType,
}

impl JoseHeader {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, TokenRejection> {
        let members = parse_object(bytes, 4).ok_or(TokenRejection::Malformed)?;
        if UNSUPPORTED.iter().any(|name| members.contains_key(*name)) {
            return Err(TokenRejection::UnsupportedHeader);
        }
        let is_other = |name: &&str| members.get(*name).is_some_and(|value| !value.is_string());
        if TEXTS.iter().any(is_other) {
            return Err(TokenRejection::Malformed);
        }
        let algorithm = text(&members, "alg").and_then(SignatureAlgorithm::from_name);
        let key_id = text(&members, "kid").and_then(KeyId::parse);
        let media_type = match members.get("typ") {
            None => MediaType::Absent,
            Some(Value::String(name)) => MediaType::from_name(name),
            Some(_) => return Err(TokenRejection::Malformed),
        };
        Ok(Self {
            algorithm: algorithm.ok_or(TokenRejection::WrongAlgorithm)?,
            key_id: key_id.ok_or(TokenRejection::InvalidKeyId)?,
            media_type,
        })
    }
}

fn text<'m>(members: &'m Map<String, Value>, name: &str) -> Option<&'m str> {
    members.get(name).and_then(Value::as_str)
}
