//! Claims of a token (RFC 7519, section 4), with the types that they must have.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::json::parse_object;
use super::limits::{MAX_AUDIENCES, MAX_TEXT};
use crate::identity::error::TokenRejection;
use crate::telemetry::characters::is_obeyed;

/// Claims of a token of Keycloak, with some room.
const USUAL_CLAIMS: usize = 28;

/// Claims as they were read.
pub(super) struct Claims {
    pub members: Map<String, Value>,
}

impl Claims {
    /// Reads an object that names its issuer.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, TokenRejection> {
        let members = parse_object(bytes, USUAL_CLAIMS).ok_or(TokenRejection::Malformed)?;
        match members.get("iss") {
            None => Err(TokenRejection::MissingClaim),
            Some(Value::String(_)) => Ok(Self { members }),
            Some(_) => Err(TokenRejection::InvalidClaim),
        }
    }

    pub(super) fn issuer(&self) -> &str {
        let issuer = self.members.get("iss").and_then(Value::as_str);
        issuer.unwrap_or_default()
    }

    /// Finds the claims that rules read.
    pub(super) fn registered(&self) -> RegisteredClaims<'_> {
        let mut found = RegisteredClaims::default();
        for (name, value) in &self.members {
            let claim = match name.as_str() {
                "typ" => &mut found.typ,
                "cnf" => &mut found.cnf,
                "exp" => &mut found.exp,
                "iat" => &mut found.iat,
                "nbf" => &mut found.nbf,
                "sub" => &mut found.sub,
                "aud" => &mut found.aud,
                "jti" => &mut found.jti,
                "azp" => &mut found.azp,
                "client_id" => &mut found.client_id,
                "appid" => &mut found.appid,
                "cid" => &mut found.cid,
                "name" => &mut found.name,
                "preferred_username" => &mut found.preferred_username,
                "email" => &mut found.email,
                "email_verified" => &mut found.email_verified,
                "_claim_names" => &mut found.claim_names,
                "hasgroups" => &mut found.has_groups,
                _ => continue,
            };
            *claim = Some(value);
        }
        found
    }
}

/// Claims that rules read. They are found in one pass, because lookups by name would cost more than the other checks.
#[derive(Default)]
pub(super) struct RegisteredClaims<'c> {
    pub typ: Option<&'c Value>,
    pub cnf: Option<&'c Value>,
    pub exp: Option<&'c Value>,
    pub iat: Option<&'c Value>,
    pub nbf: Option<&'c Value>,
    pub sub: Option<&'c Value>,
    pub aud: Option<&'c Value>,
    pub jti: Option<&'c Value>,
    pub azp: Option<&'c Value>,
    pub client_id: Option<&'c Value>,
    pub appid: Option<&'c Value>,
    pub cid: Option<&'c Value>,
    pub name: Option<&'c Value>,
    pub preferred_username: Option<&'c Value>,
    pub email: Option<&'c Value>,
    pub email_verified: Option<&'c Value>,
    pub claim_names: Option<&'c Value>,
    pub has_groups: Option<&'c Value>,
}

/// Text of a claim, if the claim is there.
pub(super) fn text(claim: Option<&Value>) -> Result<Option<&str>, TokenRejection> {
    match claim {
        None => Ok(None),
        Some(Value::String(text)) if is_identity_text(text) => Ok(Some(text)),
        Some(_) => Err(TokenRejection::InvalidClaim),
    }
}

/// Text of a claim that is shown, and decides nothing. One that cannot be shown is absent.
pub(super) fn display_text(claim: Option<&Value>) -> Option<String> {
    text(claim).ok().flatten().map(str::to_owned)
}

/// Time of a claim in whole seconds, if the claim is there.
pub(super) fn time(claim: Option<&Value>) -> Result<Option<Timestamp>, TokenRejection> {
    let Some(value) = claim else {
        return Ok(None);
    };
    let seconds = value.as_i64().filter(|seconds| *seconds > 0);
    let time = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map(Some).ok_or(TokenRejection::InvalidClaim)
}

/// Audiences of a token: one text, or a list of texts. Empty if there is none.
pub(super) fn audiences(claim: Option<&Value>) -> Result<&[Value], TokenRejection> {
    let entries = match claim {
        None => &[],
        Some(Value::Array(entries)) => entries.as_slice(),
        Some(value) => std::slice::from_ref(value),
    };
    if entries.len() > MAX_AUDIENCES {
        return Err(TokenRejection::TooManyValues);
    }
    let is_text = |entry: &Value| entry.as_str().is_some_and(is_identity_text);
    if entries.iter().all(is_text) {
        Ok(entries)
    } else {
        Err(TokenRejection::InvalidClaim)
    }
}

/// Names and identifiers have 1 to [`MAX_TEXT`] characters, none of which a terminal or a log viewer would obey or hide:
/// two users never look the same.
pub(super) fn is_identity_text(text: &str) -> bool {
    // Most texts are ASCII.
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return (1..=MAX_TEXT).contains(&text.len());
    }
    // No character has more than 4 bytes, so that long texts are not counted.
    !text.is_empty()
        && text.len() <= MAX_TEXT * 4
        && text.chars().count() <= MAX_TEXT
        && !text.chars().any(is_obeyed)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn issuer_is_a_text() {
        let parse = |text: &str| Claims::parse(text.as_bytes()).err();
        assert_eq!(parse(r#"{"iss":"i"}"#), None);
        assert_eq!(parse("{}"), Some(TokenRejection::MissingClaim));
        assert_eq!(
            parse(r#"{"iss":["i"]}"#),
            Some(TokenRejection::InvalidClaim)
        );
        assert_eq!(parse("[]"), Some(TokenRejection::Malformed));
    }

    #[test]
    fn identity_texts_are_visible_and_limited() {
        for text in [
            "a",
            "service-account-é",
            "f:1:alice smith",
            &"é".repeat(MAX_TEXT),
        ] {
            assert!(is_identity_text(text), "{text}");
        }
        for text in [
            "",
            "a\0",
            "a\n",
            "a\u{85}",
            "a\u{202e}b",
            "a\u{200b}",
            "\u{feff}a",
            &"é".repeat(MAX_TEXT + 1),
            &"x".repeat(100_000),
        ] {
            assert!(!is_identity_text(text), "{text:?}");
        }
    }

    #[test]
    fn times_are_whole_seconds() {
        let time = |value: Value| time(Some(&value));
        let second = Timestamp::from_second(1_700_000_000).unwrap();
        assert_eq!(time(json!(1_700_000_000)), Ok(Some(second)));
        assert_eq!(super::time(None), Ok(None));
        for value in [
            json!(0),
            json!(-1),
            json!("1700000000"),
            json!(null),
            json!(true),
            json!([1_700_000_000]),
            json!(1.5),
            json!(1e308),
            json!(9_000_000_000_000_000_000_u64),
            json!(u64::MAX),
        ] {
            assert_eq!(
                time(value.clone()),
                Err(TokenRejection::InvalidClaim),
                "{value}"
            );
        }
    }

    #[test]
    fn audiences_are_texts() {
        let audiences = |value: Value| super::audiences(Some(&value)).map(<[Value]>::len);
        assert_eq!(audiences(json!("a")), Ok(1));
        assert_eq!(audiences(json!([])), Ok(0));
        assert_eq!(
            audiences(json!(vec!["a"; MAX_AUDIENCES])),
            Ok(MAX_AUDIENCES)
        );
        let longer = json!(vec!["a"; MAX_AUDIENCES + 1]);
        assert_eq!(audiences(longer), Err(TokenRejection::TooManyValues));
        for value in [
            json!({"a": 1}),
            json!(null),
            json!(["a", 7]),
            json!([["a"]]),
            json!(""),
        ] {
            assert_eq!(
                audiences(value.clone()),
                Err(TokenRejection::InvalidClaim),
                "{value}"
            );
        }
    }
}
