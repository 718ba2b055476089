//! Headers, algorithms and signatures.

use aws_lc_rs::hmac;
use rstest::rstest;
use serde_json::json;

use super::*;
use crate::identity::jose::limits::MAX_KEY_ID;
use crate::identity::jose::test_support::{base64url, key_set};

/// Token whose signature is whatever `sign` makes of the signed bytes.
fn forged(header: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let signed = format!(
        "{}.{}",
        base64url(header.to_string()),
        base64url(claims().to_string())
    );
    format!("{signed}.{}", base64url(sign(signed.as_bytes())))
}

#[test]
fn row_01_unsigned_tokens_are_rejected() {
    for algorithm in ["none", "None", "NONE", "nOnE", "", "rs256", "RS256 "] {
        let header = json!({"alg": algorithm, "typ": "JWT", "kid": "rsa"});
        let signed = Issuer::ours().sign(&header, &claims());
        assert_eq!(
            rejects(&signed),
            TokenRejection::WrongAlgorithm,
            "{algorithm}"
        );
        assert_eq!(
            rejects(&forged(&header, |_| vec![0])),
            TokenRejection::WrongAlgorithm
        );
        assert_eq!(
            rejects(&forged(&header, |_| Vec::new())),
            TokenRejection::WrongAlgorithm
        );
    }
    let header = header(SignatureAlgorithm::RS256);
    assert_eq!(
        rejects(&forged(&header, |_| Vec::new())),
        TokenRejection::Malformed
    );
}

#[test]
fn row_02_public_key_is_not_a_secret_key() {
    let ours = Issuer::ours();
    let jwk = ours.jwk(SignatureAlgorithm::RS256).to_string();
    let keys = [ours.rsa_der(), ours.rsa_numbers().0, jwk.into_bytes()];
    for algorithm in ["HS256", "HS384", "HS512"] {
        let header = json!({"alg": algorithm, "typ": "JWT", "kid": "rsa"});
        for key in &keys {
            let key = hmac::Key::new(hmac::HMAC_SHA256, key);
            let token = forged(&header, |signed| hmac::sign(&key, signed).as_ref().to_vec());
            assert_eq!(rejects(&token), TokenRejection::WrongAlgorithm);
        }
    }
}

#[test]
fn row_03_algorithm_is_bound_to_the_key() {
    let header = |algorithm: &str| json!({"alg": algorithm, "typ": "JWT", "kid": "rsa"});
    for algorithm in ["ES256", "ES384", "PS256", "EdDSA"] {
        let token = Issuer::ours().sign(&header(algorithm), &claims());
        assert_eq!(
            rejects(&token),
            TokenRejection::WrongAlgorithm,
            "{algorithm}"
        );
    }
    // The key may be used with PS256, but the signature is another one.
    let mut jwks = Issuer::ours().jwks();
    jwks["keys"][0].as_object_mut().unwrap().remove("alg");
    let token = Issuer::ours().sign(&header("PS256"), &claims());
    let result = rules().verify(&token, &key_set(&jwks), now());
    assert_eq!(result.err(), Some(TokenRejection::BadSignature));
}

#[test]
fn row_04_algorithm_is_allowed_for_the_issuer() {
    let mut rules = rules();
    rules.algorithms = SignatureAlgorithm::DEFAULT.to_vec();
    let issuer = Issuer::ours();
    for algorithm in SignatureAlgorithm::ALL {
        let header = header(*algorithm).to_string();
        let claims = claims().to_string();
        let token = issuer.sign_bytes(*algorithm, header.as_bytes(), claims.as_bytes());
        let expected = (!SignatureAlgorithm::DEFAULT.contains(algorithm))
            .then_some(TokenRejection::WrongAlgorithm);
        let result = rules.verify(&token, &issuer.key_set(), now());
        assert_eq!(result.err(), expected, "{algorithm:?}");
    }
}

#[test]
fn row_05_key_id_is_a_text() {
    for id in [
        Value::Null,
        json!(""),
        json!(7),
        json!(["rsa"]),
        json!({"rsa": 1}),
        json!(true),
    ] {
        let token = with_header("kid", id);
        assert_eq!(rejects(&token), TokenRejection::InvalidKeyId);
    }
}

#[rstest]
#[case::path("../../x", TokenRejection::UnknownKey)]
#[case::query("x'--", TokenRejection::UnknownKey)]
#[case::url("https://evil.example/k", TokenRejection::UnknownKey)]
#[case::case("RSA", TokenRejection::UnknownKey)]
#[case::space("rsa ", TokenRejection::InvalidKeyId)]
#[case::nul("rsa\0", TokenRejection::InvalidKeyId)]
#[case::line("rsa\r\nx: y", TokenRejection::InvalidKeyId)]
#[case::letter("rsä", TokenRejection::InvalidKeyId)]
fn row_06_key_id_is_only_compared(#[case] id: &str, #[case] reason: TokenRejection) {
    assert_eq!(rejects(&with_header("kid", json!(id))), reason);
}

#[test]
fn row_06_key_id_is_limited_in_length() {
    let longest = "k".repeat(MAX_KEY_ID);
    assert_eq!(
        rejects(&with_header("kid", json!(longest))),
        TokenRejection::UnknownKey
    );
    let longer = longest + "k";
    assert_eq!(
        rejects(&with_header("kid", json!(longer))),
        TokenRejection::InvalidKeyId
    );
    let id = "k".repeat(10 << 10);
    assert_eq!(
        rejects(&with_header("kid", json!(id))),
        TokenRejection::TooLong
    );
}

#[test]
fn row_07_keys_in_headers_are_ignored() {
    let attacker = Issuer::attacker();
    for (name, value) in [
        ("jku", json!("https://evil.example/jwks")),
        ("x5u", json!("https://evil.example/chain")),
        ("jwk", attacker.jwk(SignatureAlgorithm::ES256)),
        ("x5c", json!(["MIIB"])),
    ] {
        for (id, reason) in [
            ("rsa", TokenRejection::BadSignature),
            ("other", TokenRejection::UnknownKey),
        ] {
            let mut header = header(SignatureAlgorithm::RS256);
            header["kid"] = json!(id);
            header[name] = value.clone();
            assert_eq!(
                rejects(&attacker.sign(&header, &claims())),
                reason,
                "{name}"
            );
        }
        // The issuer's own token is as good with it.
        assert_eq!(verify(&with_header(name, value)).err(), None, "{name}");
    }
}

#[test]
fn row_08_critical_parameters_are_rejected() {
    for value in [
        json!(["x"]),
        json!(["exp"]),
        json!([]),
        json!("x"),
        json!({}),
    ] {
        let token = with_header("crit", value);
        assert_eq!(rejects(&token), TokenRejection::UnsupportedHeader);
    }
}

#[test]
fn row_09_payload_without_encoding_is_rejected() {
    for value in [json!(false), json!(true)] {
        assert_eq!(
            rejects(&with_header("b64", value)),
            TokenRejection::UnsupportedHeader
        );
    }
    let mut header = header(SignatureAlgorithm::RS256);
    header["b64"] = json!(false);
    header["crit"] = json!(["b64"]);
    let token = Issuer::ours().sign(&header, &claims());
    assert_eq!(rejects(&token), TokenRejection::UnsupportedHeader);
}

#[test]
fn row_10_nested_encrypted_and_json_tokens_are_rejected() {
    for content in ["JWT", "jwt", "application/json"] {
        let token = with_header("cty", json!(content));
        assert_eq!(rejects(&token), TokenRejection::UnsupportedHeader);
    }
    let mut header = header(SignatureAlgorithm::RS256);
    header["cty"] = json!("JWT");
    let inner = Issuer::ours().sign(&header, &claims());
    let nested = Issuer::ours().sign_bytes(
        SignatureAlgorithm::RS256,
        header.to_string().as_bytes(),
        inner.as_bytes(),
    );
    assert_eq!(rejects(&nested), TokenRejection::UnsupportedHeader);
    for name in ["enc", "zip"] {
        assert_eq!(
            rejects(&with_header(name, json!("DEF"))),
            TokenRejection::UnsupportedHeader
        );
    }
    let token = with_header("x", json!(1));
    let parts: Vec<&str> = token.split('.').collect();
    let [protected, payload, signature] = parts[..] else {
        panic!("{parts:?}")
    };
    for text in [
        format!("{token}.{signature}.{signature}"),
        json!({"protected": protected, "payload": payload, "signature": signature}).to_string(),
        json!({"payload": payload, "signatures": [{"protected": protected}]}).to_string(),
    ] {
        assert_eq!(rejects(&text), TokenRejection::Malformed);
    }
}

#[test]
fn row_27_members_that_are_there_twice_are_rejected() {
    let (header, claims) = (
        header(SignatureAlgorithm::RS256).to_string(),
        claims().to_string(),
    );
    let twice = |object: &str, member: &str| format!("{{{member},{}", &object[1..]);
    let sign = |header: &str, claims: &str| {
        let algorithm = SignatureAlgorithm::RS256;
        Issuer::ours().sign_bytes(algorithm, header.as_bytes(), claims.as_bytes())
    };
    assert_eq!(verify(&sign(&header, &claims)).err(), None);
    for member in [
        r#""alg":"RS256""#,
        r#""kid":"rsa""#,
        r#""\u0061lg":"RS256""#,
    ] {
        assert_eq!(
            rejects(&sign(&twice(&header, member), &claims)),
            TokenRejection::Malformed
        );
    }
    for member in [r#""iss":"x""#, r#""exp":1"#, r#""aud":"x""#] {
        assert_eq!(
            rejects(&sign(&header, &twice(&claims, member))),
            TokenRejection::Malformed
        );
    }
    let nested = claims.replacen(r#""roles":"#, r#""roles":["admin"],"roles":"#, 1);
    assert_eq!(rejects(&sign(&header, &nested)), TokenRejection::Malformed);
}

#[test]
fn row_32_encoding_is_exact() {
    let token = with_header("x", json!("~~~???"));
    assert_eq!(verify(&token).err(), None);
    let [header, payload, signature] = token.split('.').collect::<Vec<_>>()[..] else {
        panic!("not three parts")
    };
    let mut last = signature.to_owned();
    let bits = last.pop().unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let position = alphabet.find(bits).unwrap();
    assert_eq!(position % 16, 0, "256 bytes leave four bits over");
    last.push_str(&alphabet[position + 1..position + 2]);
    for text in [
        format!("{header}=.{payload}.{signature}"),
        format!("{header}.{payload}.{signature}=="),
        format!("{header}.{payload}.{last}"),
        format!("{header}.{payload}"),
        format!("{header}.{payload}.{signature}."),
        format!(".{header}.{payload}.{signature}"),
        format!("..{signature}"),
        format!("{header}..{signature}"),
        format!("{header}. {payload}.{signature}"),
        format!(" {token}"),
        format!("{token}\n"),
        format!("{}+.{payload}.{signature}", &header[1..]),
        format!("{}/.{payload}.{signature}", &header[1..]),
        String::new(),
        "..".to_owned(),
        "é.é.é".to_owned(),
    ] {
        assert_eq!(rejects(&text), TokenRejection::Malformed, "{text}");
    }
}

#[test]
fn row_34_changed_signatures_are_rejected() {
    for algorithm in SignatureAlgorithm::ALL {
        let (header, claims) = (header(*algorithm).to_string(), claims().to_string());
        let token = Issuer::ours().sign_bytes(*algorithm, header.as_bytes(), claims.as_bytes());
        let (signed, _) = token.rsplit_once('.').unwrap();
        let signature = Issuer::ours().signature(*algorithm, signed.as_bytes());
        let rejects_signature = |signature: &[u8]| {
            let token = format!("{signed}.{}", base64url(signature));
            assert_eq!(
                rejects(&token),
                TokenRejection::BadSignature,
                "{algorithm:?}"
            );
        };
        for byte in [0, signature.len() / 2, signature.len() - 1] {
            let mut changed = signature.clone();
            changed[byte] ^= 1;
            rejects_signature(&changed);
        }
        rejects_signature(&signature[1..]);
        rejects_signature(&signature[..signature.len() - 1]);
        rejects_signature(&[signature.as_slice(), &[0]].concat());
        rejects_signature(&[&[0], signature.as_slice()].concat());
        rejects_signature(&[0]);
        rejects_signature(&Issuer::attacker().signature(*algorithm, signed.as_bytes()));
        assert_eq!(rejects(&format!("{signed}.")), TokenRejection::Malformed);
    }
}

#[test]
fn row_38_degenerate_and_der_signatures_are_rejected() {
    for (algorithm, half) in [
        (SignatureAlgorithm::ES256, 32),
        (SignatureAlgorithm::ES384, 48),
    ] {
        let header = header(algorithm);
        let der = |signed: &[u8]| {
            let fixed = Issuer::ours().signature(algorithm, signed);
            let integer = |bytes: &[u8]| {
                let first = bytes.iter().position(|byte| *byte != 0).unwrap();
                let mut integer = bytes[first..].to_vec();
                if integer[0] >= 0x80 {
                    integer.insert(0, 0);
                }
                [
                    &[2, u8::try_from(integer.len()).unwrap()],
                    integer.as_slice(),
                ]
                .concat()
            };
            let body = [integer(&fixed[..half]), integer(&fixed[half..])].concat();
            [&[0x30, u8::try_from(body.len()).unwrap()], body.as_slice()].concat()
        };
        assert_eq!(rejects(&forged(&header, der)), TokenRejection::BadSignature);
        for bytes in [vec![0; half * 2], vec![0xff; half * 2]] {
            let token = forged(&header, |_| bytes.clone());
            assert_eq!(rejects(&token), TokenRejection::BadSignature);
        }
    }
}

#[test]
fn other_types_of_header_parameters_are_rejected() {
    assert_eq!(
        rejects(&with_header("alg", json!(["RS256"]))),
        TokenRejection::WrongAlgorithm
    );
    assert_eq!(
        rejects(&with_header("alg", Value::Null)),
        TokenRejection::WrongAlgorithm
    );
    for name in ["typ", "jku", "x5u", "x5t", "x5t#S256", "url", "nonce"] {
        assert_eq!(
            rejects(&with_header(name, json!(1))),
            TokenRejection::Malformed,
            "{name}"
        );
    }
    let sign = |header: &[u8]| {
        let claims = claims().to_string();
        Issuer::ours().sign_bytes(SignatureAlgorithm::RS256, header, claims.as_bytes())
    };
    for header in [&b"[]"[..], b"x", b"{\"alg\":\"RS256\"}x", b"\xff"] {
        assert_eq!(rejects(&sign(header)), TokenRejection::Malformed);
    }
}
