//! Tokens that we accept, given to jsonwebtoken with all of its checks.

use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::identity::jose::test_support::{AUDIENCE, ISSUER};

/// Whether jsonwebtoken accepts a token, by its own clock.
fn is_accepted_by_jsonwebtoken(algorithm: SignatureAlgorithm, token: &str) -> bool {
    let jwk = serde_json::from_value(Issuer::ours().jwk(algorithm)).unwrap();
    let mut validation = Validation::new(match algorithm {
        SignatureAlgorithm::RS256 => Algorithm::RS256,
        SignatureAlgorithm::PS256 => Algorithm::PS256,
        SignatureAlgorithm::ES256 => Algorithm::ES256,
        SignatureAlgorithm::ES384 => Algorithm::ES384,
        SignatureAlgorithm::EdDsa => Algorithm::EdDSA,
    });
    // Its clock is later than ours by the time that both checks take.
    validation.leeway = 35;
    validation.validate_nbf = true;
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[AUDIENCE]);
    let key = DecodingKey::from_jwk(&jwk).unwrap();
    decode::<serde_json::Map<String, Value>>(token, &key, &validation).is_ok()
}

/// Values that a claim has in good tokens and in bad ones.
fn value(now: i64) -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(json!(true)),
        Just(json!(ISSUER)),
        Just(json!(AUDIENCE)),
        Just(json!([AUDIENCE])),
        Just(json!([AUDIENCE, 7])),
        Just(json!("x")),
        Just(json!({})),
        Just(json!([])),
        (-40_i64..40).prop_map(move |seconds| json!(now + seconds * 9)),
        Just(json!(now.to_string())),
        Just(json!(-1)),
        Just(json!(1e20)),
        any::<f64>().prop_map(|number| json!(number)),
    ]
}

fn change(now: i64) -> impl Strategy<Value = (bool, &'static str, Value)> {
    let names = prop::sample::select(vec![
        "iss", "aud", "sub", "exp", "nbf", "iat", "azp", "jti", "typ", "nonce", "scope", "kid",
        "alg", "crit", "cty", "x",
    ]);
    (any::<bool>(), names, value(now))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn accepted_token_is_accepted_by_jsonwebtoken(
        algorithm in prop::sample::select(SignatureAlgorithm::ALL),
        changes in prop::collection::vec(change(Timestamp::now().as_second()), 0..4),
        flipped in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let now = Timestamp::now();
        let (mut header, mut claims) = (header(algorithm), claims());
        claims["iat"] = json!(now.as_second() - 400);
        claims["exp"] = json!(now.as_second() + 300);
        for (is_header, name, value) in changes {
            set(if is_header { &mut header } else { &mut claims }, name, value);
        }
        let mut token = Issuer::ours().sign_bytes(
            algorithm,
            header.to_string().as_bytes(),
            claims.to_string().as_bytes(),
        );
        if let Some(index) = flipped {
            let at = index.index(token.len());
            let letter = if token.as_bytes()[at] == b'A' { "B" } else { "A" };
            token.replace_range(at..=at, letter);
        }
        let accepted = rules().verify(&token, &Issuer::ours().key_set(), now).is_ok();
        prop_assert!(!accepted || is_accepted_by_jsonwebtoken(algorithm, &token), "{header} {claims}");
        prop_assert!(!accepted || flipped.is_none());
    }
}

#[test]
fn tokens_without_changes_are_accepted_by_both() {
    let now = Timestamp::now();
    for algorithm in SignatureAlgorithm::ALL {
        let mut claims = claims();
        claims["iat"] = json!(now.as_second());
        claims["exp"] = json!(now.as_second() + 300);
        let token = Issuer::ours().sign_bytes(
            *algorithm,
            header(*algorithm).to_string().as_bytes(),
            claims.to_string().as_bytes(),
        );
        let accepted = rules().verify(&token, &Issuer::ours().key_set(), now);
        assert_eq!(accepted.err(), None);
        assert!(is_accepted_by_jsonwebtoken(*algorithm, &token));
    }
}
