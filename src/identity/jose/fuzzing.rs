//! Entry of the fuzz target: every reader that is given bytes before a signature is verified.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::Value;

use super::jwk::KeyMaterial;
use super::limits::{MAX_GROUPS, MAX_KEYS, MAX_ROLES, MAX_TEXT, MAX_TOKEN_BYTES};
use super::{ClaimPath, Jwks, KeyId, SignatureAlgorithm, TokenRules, TokenType, UnverifiedToken};
use crate::identity::types::AuthenticatedCaller;

const HEADER: &str = r#"{"alg":"RS256","kid":"a","typ":"JWT"}"#;
const ISSUER: &str = "https://i";
/// Time of day, which the kept inputs are valid at.
const NOW: i64 = 1_800_000_000;

pub(crate) fn read(data: &[u8]) {
    let Some((&selected, rest)) = data.split_first() else {
        return;
    };
    let token = |header: &[u8], claims: &[u8]| {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        format!("{}.{}.AAAA", encode(header), encode(claims))
    };
    match selected & 3 {
        0 => read_token(&String::from_utf8_lossy(rest), None),
        1 => read_header(rest, &token(rest, br#"{"iss":"https://i"}"#)),
        2 => read_token(&token(HEADER.as_bytes(), rest), Some(rest)),
        _ => read_keys(rest),
    }
}

fn read_header(header: &[u8], text: &str) {
    read_token(text, Some(header));
    if let Ok(token) = UnverifiedToken::parse(text) {
        let value: Value = serde_json::from_slice(header).expect("what we read is JSON");
        let id = value["kid"].as_str().and_then(KeyId::parse);
        assert_eq!(id, Some(token.header.key_id));
        assert_eq!(value["alg"], token.header.algorithm.as_str());
    }
}

fn read_token(text: &str, object: Option<&[u8]>) {
    let Ok(token) = UnverifiedToken::parse(text) else {
        return;
    };
    assert!(text.len() <= MAX_TOKEN_BYTES);
    assert_eq!(format!("{}.{}", token.signed, token.signature), text);
    if let Some(bytes) = object {
        let value: Value = serde_json::from_slice(bytes).expect("what we read is JSON");
        assert!(value.is_object());
    }
    for token_type in [
        TokenType::Keycloak,
        TokenType::AccessTokenJwt,
        TokenType::Untyped,
    ] {
        check(text, token_type);
    }
}

fn check(text: &str, token_type: TokenType) {
    let path = |names: &[&str]| ClaimPath::new(names.iter().copied()).ok();
    let rules = TokenRules {
        token_type,
        client_roles: path(&["resource_access", "a", "roles"]),
        realm_roles: path(&["realm_access", "roles"]),
        groups: path(&["groups"]),
        ..TokenRules::new(ISSUER, "a")
    };
    let (Ok(token), Ok(now)) = (UnverifiedToken::parse(text), Timestamp::from_second(NOW)) else {
        return;
    };
    if rules.check_header(&token.header, &token.claims).is_err() {
        return;
    }
    let Ok(caller) = rules.check_claims(&token.header, token.claims, now) else {
        return;
    };
    let AuthenticatedCaller {
        user_info,
        client_roles,
        realm_roles,
        ..
    } = caller;
    assert!(client_roles.len() <= MAX_ROLES && realm_roles.len() <= MAX_ROLES);
    assert!(user_info.groups.len() <= MAX_GROUPS);
    let texts = user_info.roles.iter().chain(&user_info.groups);
    for text in texts.chain([&user_info.subject]) {
        assert!((1..=MAX_TEXT).contains(&text.chars().count()));
        assert!(!text.contains(char::is_control));
    }
}

fn read_keys(bytes: &[u8]) {
    let Ok(jwks) = Jwks::parse(bytes, SignatureAlgorithm::ALL) else {
        return;
    };
    let skipped: usize = jwks.skipped().values().sum();
    let value: Value = serde_json::from_slice(bytes).expect("what we read is JSON");
    let entries = value["keys"].as_array().expect("a list of keys").len();
    assert_eq!(jwks.len() + skipped, entries);
    assert!(entries <= MAX_KEYS);
    for key in &jwks.keys {
        assert!(!key.algorithms.is_empty());
        let texts = match &key.material {
            KeyMaterial::Rsa { n, e } => vec![n, e],
            KeyMaterial::Ec { x, y } => vec![x, y],
            KeyMaterial::Ed25519 { x } => vec![x],
        };
        assert!(
            texts
                .iter()
                .all(|text| URL_SAFE_NO_PAD.decode(text).is_ok())
        );
    }
}
