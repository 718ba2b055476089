//! Key sets: which keys are used.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rstest::rstest;
use serde_json::json;

use super::*;
use crate::identity::jose::limits::{MAX_KEY_SET_BYTES, MAX_KEYS};
use crate::identity::jose::test_support::base64url;
use crate::identity::jose::{JwksError, KeySet, SkippedKey};

/// Key set of a key and a good one, whose token must be accepted whatever the first key is.
fn beside(jwk: &Value) -> KeySet {
    let mut good = Issuer::ours().jwk(SignatureAlgorithm::ES256);
    good["kid"] = json!("good");
    let set = json!({"keys": [jwk, good]});
    let keys = KeySet::parse(set.to_string().as_bytes(), SignatureAlgorithm::ALL).unwrap();
    let mut header = header(SignatureAlgorithm::ES256);
    header["kid"] = json!("good");
    let token = Issuer::ours().sign_bytes(
        SignatureAlgorithm::ES256,
        header.to_string().as_bytes(),
        claims().to_string().as_bytes(),
    );
    assert_eq!(rules().verify(&token, &keys, now()).err(), None);
    keys
}

/// Reason why a key is not used; its token is rejected then.
fn skips(algorithm: SignatureAlgorithm, jwk: &Value) -> SkippedKey {
    let keys = beside(jwk);
    let token = Issuer::ours().sign_bytes(
        algorithm,
        header(algorithm).to_string().as_bytes(),
        claims().to_string().as_bytes(),
    );
    let result = rules().verify(&token, &keys, now());
    assert_eq!(result.err(), Some(TokenRejection::UnknownKey));
    assert_eq!(keys.len(), 1);
    let reasons: Vec<_> = keys.skipped().iter().collect();
    match reasons[..] {
        [(reason, 1)] => *reason,
        _ => panic!("{reasons:?}"),
    }
}

fn rsa(n: &[u8], e: &[u8]) -> Value {
    json!({"kty": "RSA", "kid": "rsa", "n": base64url(n), "e": base64url(e)})
}

fn parse(jwks: &Value) -> Result<KeySet, JwksError> {
    KeySet::parse(jwks.to_string().as_bytes(), SignatureAlgorithm::ALL)
}

/// Key with one member set, or removed by `null`.
fn changed(algorithm: SignatureAlgorithm, name: &str, value: Value) -> Value {
    let mut jwk = Issuer::ours().jwk(algorithm);
    set(&mut jwk, name, value);
    jwk
}

#[rstest]
#[case::bits_1024(128, 0x80, &[1, 0, 1], SkippedKey::RsaSize)]
#[case::bits_2047(256, 0x7f, &[1, 0, 1], SkippedKey::RsaSize)]
#[case::bits_8193(1_025, 0x01, &[1, 0, 1], SkippedKey::RsaSize)]
#[case::leading_zero(257, 0x00, &[1, 0, 1], SkippedKey::Malformed)]
#[case::exponent_1(256, 0x80, &[1], SkippedKey::RsaSize)]
#[case::exponent_even(256, 0x80, &[1, 0, 0], SkippedKey::RsaSize)]
#[case::exponent_zero(256, 0x80, &[0], SkippedKey::Malformed)]
#[case::exponent_long(256, 0x80, &[2, 0, 0, 0, 1], SkippedKey::RsaSize)]
#[case::exponent_huge(256, 0x80, &[1; 64], SkippedKey::RsaSize)]
fn row_35_weak_keys_are_skipped(
    #[case] bytes: usize,
    #[case] first: u8,
    #[case] exponent: &[u8],
    #[case] reason: SkippedKey,
) {
    let mut modulus = vec![0xff; bytes];
    modulus[0] = first;
    assert_eq!(
        skips(SignatureAlgorithm::RS256, &rsa(&modulus, exponent)),
        reason
    );
}

#[test]
fn row_35_sizes_at_the_limits_are_used() {
    for (bytes, exponent) in [
        (256, &[3][..]),
        (1_024, &[1, 0, 1]),
        (256, &[1, 0xff, 0xff, 0xff, 0xff]),
    ] {
        assert_eq!(
            beside(&rsa(&vec![0xff; bytes], exponent)).len(),
            2,
            "{bytes}"
        );
    }
}

#[test]
fn row_37_points_are_on_their_curve() {
    for (algorithm, length) in [
        (SignatureAlgorithm::ES256, 32),
        (SignatureAlgorithm::ES384, 48),
    ] {
        let coordinates = [vec![1; length], vec![0; length], vec![0xff; length]];
        for bytes in &coordinates {
            let jwk = changed(algorithm, "y", json!(base64url(bytes)));
            assert_eq!(skips(algorithm, &jwk), SkippedKey::Malformed);
        }
        for bytes in [length - 1, length + 1, 1] {
            let jwk = changed(algorithm, "x", json!(base64url(vec![1; bytes])));
            assert_eq!(skips(algorithm, &jwk), SkippedKey::Malformed);
        }
        for text in ["", "AA==", "é"] {
            assert_eq!(
                skips(algorithm, &changed(algorithm, "x", json!(text))),
                SkippedKey::Malformed
            );
        }
        assert_eq!(
            skips(algorithm, &changed(algorithm, "y", Value::Null)),
            SkippedKey::Malformed
        );
    }
    // The point is right, but its coordinates are cut at another byte.
    let mut jwk = Issuer::ours().jwk(SignatureAlgorithm::ES256);
    let bytes = |name: &str| {
        let text = jwk[name].as_str().unwrap();
        URL_SAFE_NO_PAD.decode(text).unwrap()
    };
    let point = [bytes("x"), bytes("y")].concat();
    jwk["x"] = json!(base64url(&point[..31]));
    jwk["y"] = json!(base64url(&point[31..]));
    assert_eq!(
        skips(SignatureAlgorithm::ES256, &jwk),
        SkippedKey::Malformed
    );
    for bytes in [31, 33, 1] {
        let jwk = changed(
            SignatureAlgorithm::EdDsa,
            "x",
            json!(base64url(vec![1; bytes])),
        );
        assert_eq!(
            skips(SignatureAlgorithm::EdDsa, &jwk),
            SkippedKey::Malformed
        );
    }
    // The curve of the key and the algorithm of the token differ.
    let mut header = header(SignatureAlgorithm::ES384);
    header["kid"] = json!("p256");
    let token = Issuer::ours().sign_bytes(
        SignatureAlgorithm::ES384,
        header.to_string().as_bytes(),
        claims().to_string().as_bytes(),
    );
    assert_eq!(rejects(&token), TokenRejection::WrongAlgorithm);
    let jwk = changed(SignatureAlgorithm::ES256, "crv", json!("P-384"));
    assert_eq!(
        skips(SignatureAlgorithm::ES256, &jwk),
        SkippedKey::Unsupported
    );
}

#[rstest]
#[case::encryption("use", json!("enc"))]
#[case::letter_case("use", json!("SIG"))]
#[case::other("use", json!(7))]
#[case::operations("key_ops", json!(["encrypt"]))]
#[case::sign_alone("key_ops", json!(["sign"]))]
#[case::no_operation("key_ops", json!([]))]
#[case::text("key_ops", json!("verify"))]
fn row_39_keys_for_other_uses_are_skipped(#[case] name: &str, #[case] value: Value) {
    let jwk = changed(SignatureAlgorithm::RS256, name, value);
    assert_eq!(
        skips(SignatureAlgorithm::RS256, &jwk),
        SkippedKey::NotForSignatures
    );
}

#[test]
fn row_39_keys_for_signatures_are_used() {
    for (name, value) in [("use", Value::Null), ("key_ops", json!(["verify", "sign"]))] {
        assert_eq!(
            beside(&changed(SignatureAlgorithm::RS256, name, value)).len(),
            2
        );
    }
}

#[test]
fn row_40_secret_keys_are_skipped_and_reported() {
    for name in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
        for algorithm in [SignatureAlgorithm::RS256, SignatureAlgorithm::ES384] {
            let jwk = changed(algorithm, name, json!("AQ"));
            assert_eq!(skips(algorithm, &jwk), SkippedKey::Secret);
            assert!(beside(&jwk).has_published_secrets());
        }
    }
    for symmetric in [
        json!({"kty": "oct", "kid": "rsa", "k": "AQ", "alg": "HS256"}),
        json!({"kty": "oct", "kid": "rsa"}),
    ] {
        let reason = skips(SignatureAlgorithm::RS256, &symmetric);
        assert_eq!(reason, SkippedKey::Secret);
    }
    assert!(!Issuer::ours().key_set().has_published_secrets());
}

#[rstest]
#[case::post_quantum(json!({"kty": "AKP", "kid": "rsa", "alg": "ML-DSA-65", "pub": "AQ"}))]
#[case::koblitz(json!({"kty": "EC", "crv": "secp256k1", "kid": "rsa", "x": "AQ", "y": "AQ"}))]
#[case::p521(json!({"kty": "EC", "crv": "P-521", "kid": "rsa", "x": "AQ", "y": "AQ"}))]
#[case::ed448(json!({"kty": "OKP", "crv": "Ed448", "kid": "rsa", "x": "AQ"}))]
#[case::x25519(json!({"kty": "OKP", "crv": "X25519", "kid": "rsa", "x": "AQ"}))]
#[case::kind(json!({"kty": "rsa", "kid": "rsa", "n": "AQ", "e": "AQAB"}))]
#[case::algorithm(json!({"kty": "RSA", "kid": "rsa", "alg": "RS1", "n": "AQ", "e": "AQAB"}))]
#[case::encryption(json!({"kty": "RSA", "kid": "rsa", "alg": "RSA-OAEP", "n": "AQ", "e": "AQAB"}))]
fn row_41_unknown_keys_are_skipped(#[case] jwk: Value) {
    assert_eq!(
        skips(SignatureAlgorithm::RS256, &jwk),
        SkippedKey::Unsupported
    );
}

#[test]
fn row_41_entries_that_are_not_keys_are_skipped() {
    for jwk in [
        json!(7),
        json!(null),
        json!("x"),
        json!([]),
        json!({}),
        json!({"kty": 7}),
    ] {
        assert_eq!(
            skips(SignatureAlgorithm::RS256, &jwk),
            SkippedKey::Malformed
        );
    }
    for id in [
        Value::Null,
        json!(""),
        json!(7),
        json!("a b"),
        json!("k".repeat(129)),
    ] {
        let jwk = changed(SignatureAlgorithm::RS256, "kid", id);
        assert_eq!(
            skips(SignatureAlgorithm::RS256, &jwk),
            SkippedKey::InvalidKeyId
        );
    }
}

#[test]
fn keys_with_the_same_id_are_not_used() {
    let jwk = Issuer::ours().jwk(SignatureAlgorithm::RS256);
    let other = Issuer::attacker().jwk(SignatureAlgorithm::RS256);
    let mut curve = Issuer::ours().jwk(SignatureAlgorithm::ES256);
    curve["kid"] = json!("rsa");
    let keys = parse(&json!({"keys": [jwk, other, curve]})).unwrap();
    assert_eq!(keys.len(), 1);
    assert_eq!(keys.skipped().get(&SkippedKey::Duplicate), Some(&2));
    // Two kinds of keys may share an id.
    let keys = parse(&json!({"keys": [jwk, curve]})).unwrap();
    assert_eq!(keys.len(), 2);
    let token = Issuer::ours().sign(&header(SignatureAlgorithm::RS256), &claims());
    assert_eq!(rules().verify(&token, &keys, now()).err(), None);
}

#[test]
fn key_set_is_limited_and_has_a_usable_key() {
    let jwk = |id: usize| {
        let mut jwk = Issuer::ours().jwk(SignatureAlgorithm::EdDsa);
        jwk["kid"] = json!(id.to_string());
        jwk
    };
    let keys = |count: usize| (0..count).map(jwk).collect::<Vec<_>>();
    assert_eq!(
        parse(&json!({ "keys": keys(MAX_KEYS) })).unwrap().len(),
        MAX_KEYS
    );
    let error = |jwks: &Value| parse(jwks).err().unwrap();
    assert_eq!(
        error(&json!({ "keys": keys(MAX_KEYS + 1) })),
        JwksError::TooLarge
    );
    let padded = |length: usize| json!({"keys": keys(1), "x": "x".repeat(length)});
    let room = MAX_KEY_SET_BYTES - padded(0).to_string().len();
    assert!(parse(&padded(room)).is_ok());
    assert_eq!(error(&padded(room + 1)), JwksError::TooLarge);
    for jwks in [
        json!([]),
        json!({}),
        json!({"keys": {}}),
        json!({"keys": null}),
        json!("x"),
    ] {
        assert_eq!(error(&jwks), JwksError::Malformed);
    }
    assert_eq!(
        KeySet::parse(b"<html>", SignatureAlgorithm::ALL).err(),
        Some(JwksError::Malformed)
    );
    let twice = format!(r#"{{"keys":[],"keys":[{}]}}"#, jwk(1));
    assert_eq!(
        KeySet::parse(twice.as_bytes(), SignatureAlgorithm::ALL).err(),
        Some(JwksError::Malformed)
    );
    for jwks in [json!({"keys": []}), json!({"keys": [{"kty": "AKP"}]})] {
        assert_eq!(error(&jwks), JwksError::NoUsableKey);
    }
    let set = json!({ "keys": keys(1) }).to_string();
    let allowed = KeySet::parse(set.as_bytes(), SignatureAlgorithm::DEFAULT);
    assert_eq!(allowed.err(), Some(JwksError::NoUsableKey));
}
