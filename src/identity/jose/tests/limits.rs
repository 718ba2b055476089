//! Sizes and counts of tokens, and what is shown of them.

use serde_json::json;

use super::*;
use crate::identity::jose::UnverifiedToken;
use crate::identity::jose::limits::{
    MAX_AUDIENCES, MAX_GROUPS, MAX_HEADER_BYTES, MAX_ROLES, MAX_TEXT, MAX_TOKEN_BYTES,
};
use crate::identity::jose::test_support::AUDIENCE;

#[test]
fn row_29_tokens_are_limited_in_length() {
    // Three bytes of a claim are four of the token.
    let token = |filler: usize| with_claim("x", json!("x".repeat(filler)));
    let empty = token(0).len();
    let filler = (MAX_TOKEN_BYTES - empty) / 4 * 3;
    let longest = token(filler);
    assert!(longest.len() > MAX_TOKEN_BYTES - 4);
    assert_eq!(verify(&longest).err(), None);
    let longer = token(filler + 6);
    assert!((MAX_TOKEN_BYTES + 1..MAX_TOKEN_BYTES + 8).contains(&longer.len()));
    assert_eq!(rejects(&longer), TokenRejection::TooLong);
    assert_eq!(rejects(&token(1 << 20)), TokenRejection::TooLong);
    assert_eq!(rejects(&"é".repeat(1 << 20)), TokenRejection::TooLong);
    let token = with_header("x", json!("x".repeat(MAX_HEADER_BYTES)));
    assert_eq!(rejects(&token), TokenRejection::TooLong);
}

#[test]
fn row_31_lists_are_limited() {
    let list = |count: usize| {
        let mut entries: Vec<String> = (0..count).map(|n| n.to_string()).collect();
        entries.insert(0, AUDIENCE.to_owned());
        entries.truncate(count);
        json!(entries)
    };
    for (count, reason) in [
        (MAX_AUDIENCES, None),
        (MAX_AUDIENCES + 1, Some(TokenRejection::TooManyValues)),
    ] {
        assert_eq!(verify(&with_claim("aud", list(count))).err(), reason);
    }
    let roles = |count| json!({ "roles": list(count) });
    for (name, longest, longer) in [
        ("groups", list(MAX_GROUPS), list(MAX_GROUPS + 1)),
        ("realm_access", roles(MAX_ROLES), roles(MAX_ROLES + 1)),
        (
            "resource_access",
            json!({ AUDIENCE: roles(MAX_ROLES) }),
            json!({ AUDIENCE: roles(MAX_ROLES + 1) }),
        ),
    ] {
        assert_eq!(verify(&with_claim(name, longest)).err(), None, "{name}");
        let token = with_claim(name, longer);
        assert_eq!(rejects(&token), TokenRejection::TooManyValues, "{name}");
    }
    for name in ["aud", "groups"] {
        assert_eq!(
            rejects(&with_claim(name, list(100_000))),
            TokenRejection::TooLong
        );
    }
    for (length, reason) in [
        (MAX_TEXT, None),
        (MAX_TEXT + 1, Some(TokenRejection::InvalidClaim)),
    ] {
        for name in ["sub", "azp", "jti"] {
            let token = with_claim(name, json!("é".repeat(length)));
            assert_eq!(verify(&token).err(), reason, "{name}");
        }
        let token = with_claim("groups", json!(["é".repeat(length)]));
        assert_eq!(verify(&token).err(), reason);
    }
}

#[test]
fn row_80_tokens_are_not_shown() {
    let token = with_claim("x", json!("canary"));
    let parsed = UnverifiedToken::parse(&token).unwrap();
    assert_eq!(format!("{parsed:?}"), "UnverifiedToken { .. }");
    let caller = verify(&token).unwrap();
    let (_, signature) = token.rsplit_once('.').unwrap();
    assert!(!format!("{caller:?}").contains(signature));
    for reason in TokenRejection::ALL {
        assert!(!format!("{reason} {reason:?}").contains("canary"));
    }
    assert_eq!(
        format!("{:?}", Issuer::ours().key_set()),
        "KeySet { keys: 5, skipped: {} }"
    );
}
