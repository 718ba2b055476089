//! Claims: times, issuer, audience, client, roles, texts.

use rstest::rstest;
use serde_json::json;

use super::*;
use crate::identity::jose::test_support::{AUDIENCE, ISSUER, NOW};

const DAY: i64 = 24 * 3_600;

#[test]
fn row_11_expired_tokens_are_accepted_for_the_leeway_alone() {
    let expired = |seconds: i64| {
        verify(&with_claims([
            ("exp", json!(NOW - seconds)),
            ("iat", json!(NOW - seconds - 60)),
        ]))
    };
    for seconds in [-1, 0, 20, 30] {
        assert_eq!(expired(seconds).err(), None, "{seconds}");
    }
    for seconds in [31, 300, DAY] {
        assert_eq!(
            expired(seconds).err(),
            Some(TokenRejection::Expired),
            "{seconds}"
        );
    }
}

#[rstest]
#[case::missing(Value::Null, TokenRejection::MissingClaim)]
#[case::text(json!("1800000300"), TokenRejection::InvalidClaim)]
#[case::negative(json!(-1), TokenRejection::InvalidClaim)]
#[case::zero(json!(0), TokenRejection::InvalidClaim)]
#[case::fraction(json!(1_800_000_300.5), TokenRejection::InvalidClaim)]
#[case::huge_float(json!(1e308), TokenRejection::InvalidClaim)]
#[case::huge(json!(9_000_000_000_000_000_000_u64), TokenRejection::InvalidClaim)]
#[case::list(json!([NOW + 300]), TokenRejection::InvalidClaim)]
#[case::far(json!(NOW + DAY + 1), TokenRejection::LifetimeTooLong)]
#[case::year_9999(json!(253_402_207_200_i64), TokenRejection::LifetimeTooLong)]
fn row_12_end_is_a_near_time(#[case] exp: Value, #[case] reason: TokenRejection) {
    assert_eq!(rejects(&with_claim("exp", exp)), reason);
}

#[test]
fn row_12_longest_lifetime_is_accepted() {
    assert_eq!(verify(&with_claim("exp", json!(NOW + DAY))).err(), None);
}

#[test]
fn row_13_tokens_that_are_not_valid_yet_are_rejected() {
    for (nbf, reason) in [
        (json!(NOW + 3_600), Some(TokenRejection::NotYetValid)),
        (json!(NOW + 31), Some(TokenRejection::NotYetValid)),
        (json!(NOW + 30), None),
        (json!(NOW - 3_600), None),
        (json!("1800000000"), Some(TokenRejection::InvalidClaim)),
        (json!(1.5), Some(TokenRejection::InvalidClaim)),
        (json!(true), Some(TokenRejection::InvalidClaim)),
    ] {
        assert_eq!(
            verify(&with_claim("nbf", nbf.clone())).err(),
            reason,
            "{nbf}"
        );
    }
}

#[test]
fn row_14_tokens_of_the_future_are_rejected() {
    for (iat, reason) in [
        (Value::Null, Some(TokenRejection::MissingClaim)),
        (json!("1800000000"), Some(TokenRejection::InvalidClaim)),
        (json!(NOW + 301), Some(TokenRejection::InvalidClaim)),
        (json!(NOW + 31), Some(TokenRejection::NotYetValid)),
        (json!(NOW + 30), None),
    ] {
        assert_eq!(
            verify(&with_claim("iat", iat.clone())).err(),
            reason,
            "{iat}"
        );
    }
    let later = with_claims([("iat", json!(NOW + 3_600)), ("exp", json!(NOW + 3_900))]);
    assert_eq!(rejects(&later), TokenRejection::NotYetValid);
    let earlier = with_claims([("iat", json!(NOW + 31)), ("nbf", json!(NOW - 60))]);
    assert_eq!(rejects(&earlier), TokenRejection::NotYetValid);
}

#[rstest]
#[case::slash("https://id.example/realms/floe/")]
#[case::letter_case("https://ID.example/realms/floe")]
#[case::port("https://id.example:443/realms/floe")]
#[case::encoded("https://id.example/realms/flo%65")]
#[case::scheme("http://id.example/realms/floe")]
#[case::prefix("https://id.example/realms/floe2")]
#[case::empty("")]
#[case::space("https://id.example/realms/floe ")]
fn row_16_issuer_is_equal_byte_by_byte(#[case] issuer: &str) {
    assert_eq!(
        rejects(&with_claim("iss", json!(issuer))),
        TokenRejection::WrongIssuer
    );
}

#[test]
fn row_16_issuer_is_a_text() {
    assert_eq!(
        rejects(&with_claim("iss", Value::Null)),
        TokenRejection::MissingClaim
    );
    for issuer in [json!([ISSUER]), json!({"a": ISSUER}), json!(7)] {
        assert_eq!(
            rejects(&with_claim("iss", issuer)),
            TokenRejection::InvalidClaim
        );
    }
}

#[test]
fn row_17_realms_are_not_interchangeable() {
    let (ours, other) = (Issuer::ours(), Issuer::attacker());
    let mut claims = claims();
    claims["iss"] = json!("https://id.example/realms/other");
    let token = other.sign(&header(SignatureAlgorithm::RS256), &claims);
    let mut rules_of_other = rules();
    rules_of_other.issuer = "https://id.example/realms/other".to_owned();
    let accepted = rules_of_other.verify(&token, &other.key_set(), now());
    assert_eq!(accepted.err(), None);
    assert_eq!(rejects(&token), TokenRejection::WrongIssuer);
    // The issuer of one and the key of the other.
    let mixed = other.sign(&header(SignatureAlgorithm::RS256), &super::claims());
    assert_eq!(rejects(&mixed), TokenRejection::BadSignature);
    let mixed = ours.sign(&header(SignatureAlgorithm::RS256), &claims);
    let result = rules_of_other.verify(&mixed, &other.key_set(), now());
    assert_eq!(result.err(), Some(TokenRejection::BadSignature));
}

#[rstest]
#[case::missing(Value::Null, TokenRejection::WrongAudience)]
#[case::account(json!("account"), TokenRejection::WrongAudience)]
#[case::none(json!([]), TokenRejection::WrongAudience)]
#[case::object(json!({AUDIENCE: 1}), TokenRejection::InvalidClaim)]
#[case::number_beside(json!([AUDIENCE, 7]), TokenRejection::InvalidClaim)]
#[case::nested(json!([[AUDIENCE]]), TokenRejection::InvalidClaim)]
#[case::number(json!(7), TokenRejection::InvalidClaim)]
fn row_19_audience_has_our_name(#[case] aud: Value, #[case] reason: TokenRejection) {
    assert_eq!(rejects(&with_claim("aud", aud)), reason);
}

#[rstest]
#[case::suffix("floe-secrets-admin-evil")]
#[case::prefix("floe-secrets")]
#[case::words("floe-secrets-admin other")]
#[case::comma("floe-secrets-admin,other")]
#[case::letter_case("Floe-secrets-admin")]
#[case::url("https://floe-secrets-admin")]
#[case::wildcard("*")]
fn row_20_audience_is_equal(#[case] aud: &str) {
    assert_eq!(
        rejects(&with_claim("aud", json!(aud))),
        TokenRejection::WrongAudience
    );
    assert_eq!(
        rejects(&with_claim("aud", json!([aud]))),
        TokenRejection::WrongAudience
    );
}

#[test]
fn row_21_client_is_allowed() {
    let mut rules = rules();
    rules.clients = vec!["floe-cli".to_owned(), "ci".to_owned()];
    let verify = |token: &str| rules.verify(token, &Issuer::ours().key_set(), now()).err();
    assert_eq!(verify(&with_claim("azp", json!("ci"))), None);
    let by_id = with_claims([("azp", Value::Null), ("client_id", json!("ci"))]);
    assert_eq!(verify(&by_id), None);
    for client in [json!("other"), json!("floe-cli2"), Value::Null] {
        let token = with_claim("azp", client);
        assert_eq!(verify(&token), Some(TokenRejection::WrongClient));
    }
    // The first claim counts: a second one does not help.
    let both = with_claims([("azp", json!("other")), ("client_id", json!("ci"))]);
    assert_eq!(verify(&both), Some(TokenRejection::WrongClient));
    for client in [json!(["floe-cli"]), json!(7), json!("")] {
        let token = with_claim("azp", client);
        assert_eq!(verify(&token), Some(TokenRejection::InvalidClaim));
    }
}

#[test]
fn row_33_texts_that_deceive_readers_are_rejected() {
    for text in [
        "",
        "a\0",
        "a\nb",
        "a\u{202e}b",
        "a\u{200b}b",
        "\u{feff}a",
        "a\u{7f}",
    ] {
        for name in ["sub", "azp", "jti", "client_id"] {
            let token = with_claim(name, json!(text));
            assert_eq!(
                rejects(&token),
                TokenRejection::InvalidClaim,
                "{name} {text:?}"
            );
        }
        for name in ["groups", "aud"] {
            let token = with_claim(name, json!([AUDIENCE, text]));
            assert_eq!(
                rejects(&token),
                TokenRejection::InvalidClaim,
                "{name} {text:?}"
            );
        }
    }
    assert_eq!(
        rejects(&with_claim("sub", Value::Null)),
        TokenRejection::MissingClaim
    );
    for subject in [json!(7), json!(["a"]), json!({"a": 1}), json!(true)] {
        assert_eq!(
            rejects(&with_claim("sub", subject)),
            TokenRejection::InvalidClaim
        );
    }
    let sign = |claims: &[u8]| {
        let header = header(SignatureAlgorithm::RS256).to_string();
        Issuer::ours().sign_bytes(SignatureAlgorithm::RS256, header.as_bytes(), claims)
    };
    let text = claims().to_string();
    for subject in [
        &br#""sub":"\ud83d""#[..],
        b"\"sub\":\"\xff\"",
        b"\"sub\":\"\0\"",
    ] {
        let (before, after) = text
            .split_once(r#""sub":"7c5c9a3e-4f0b-4a51-9b3e-0a1b2c3d4e5f""#)
            .unwrap();
        let claims = [before.as_bytes(), subject, after.as_bytes()].concat();
        assert_eq!(rejects(&sign(&claims)), TokenRejection::Malformed);
    }
}

#[test]
fn row_59_roles_of_other_clients_do_not_count() {
    let access = json!({
        "other": {"roles": ["admin"]},
        "floe-secrets-admin2": {"roles": ["admin"]},
        "": {"roles": ["admin"]},
    });
    let caller = verify(&with_claim("resource_access", access)).unwrap();
    assert!(caller.client_roles.is_empty());
    assert_eq!(caller.user_info.roles, ["offline_access", "editor"]);
}

#[test]
fn row_60_roles_in_other_places_do_not_count() {
    let elsewhere = with_claims([
        ("roles", json!(["admin"])),
        ("role", json!("admin")),
        ("realm_access.roles", json!(["admin"])),
        ("nested", json!({"realm_access": {"roles": ["admin"]}})),
    ]);
    let caller = verify(&elsewhere).unwrap();
    assert!(!caller.user_info.roles.iter().any(|role| role == "admin"));
    for access in [
        json!("admin"),
        json!(["admin"]),
        json!({"roles": "admin"}),
        json!({"roles": {"admin": true}}),
        json!({"roles": [{"name": "admin"}]}),
        json!({"roles": [["admin"]]}),
        json!(null),
    ] {
        let mut claims = claims();
        claims["realm_access"] = access.clone();
        let token = Issuer::ours().sign(&header(SignatureAlgorithm::RS256), &claims);
        assert_eq!(rejects(&token), TokenRejection::InvalidClaim, "{access}");
    }
}
