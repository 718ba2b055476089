//! Tokens of other kinds that the issuer signs with the same key.

use serde_json::json;

use super::*;
use crate::identity::jose::TokenType;
use crate::identity::jose::test_support::AUDIENCE;

const ALL: [TokenType; 3] = [
    TokenType::Keycloak,
    TokenType::AccessTokenJwt,
    TokenType::Untyped,
];

/// Reason to reject a token of our issuer with each token type.
fn rejects_as(token_type: TokenType, header: &Value, claims: &Value) -> TokenRejection {
    let mut rules = rules();
    rules.token_type = token_type;
    let token = Issuer::ours().sign(header, claims);
    match rules.verify(&token, &Issuer::ours().key_set(), now()) {
        Err(reason) => reason,
        Ok(_) => panic!("{token_type:?} accepts {header} {claims}"),
    }
}

#[test]
fn row_22_id_tokens_are_rejected() {
    // Its audience is the client, which may have our name.
    let mut id_token = claims();
    id_token["aud"] = json!(AUDIENCE);
    id_token["typ"] = json!("ID");
    id_token["at_hash"] = json!("x");
    id_token["nonce"] = json!("n");
    set(&mut id_token, "scope", Value::Null);
    for token_type in ALL {
        let reason = rejects_as(token_type, &header(SignatureAlgorithm::RS256), &id_token);
        assert_eq!(reason, TokenRejection::WrongType);
    }
    // Issuers that mark nothing: each trace of an ID token is enough, and so is no trace of an access token.
    set(&mut id_token, "typ", Value::Null);
    for name in ["at_hash", "nonce", "c_hash", "s_hash", ""] {
        let mut claims = id_token.clone();
        set(&mut claims, "at_hash", Value::Null);
        set(&mut claims, "nonce", Value::Null);
        if !name.is_empty() {
            claims[name] = json!("x");
            claims["scope"] = json!("openid");
        }
        for token_type in ALL {
            let reason = rejects_as(token_type, &header(SignatureAlgorithm::RS256), &claims);
            assert_eq!(reason, TokenRejection::WrongType, "{name}");
        }
    }
}

#[test]
fn row_23_refresh_and_offline_tokens_are_rejected() {
    for kind in ["Refresh", "Offline", "ID", "Serialized-ID", "", "bearer"] {
        let mut claims = claims();
        claims["typ"] = json!(kind);
        for token_type in ALL {
            let reason = rejects_as(token_type, &header(SignatureAlgorithm::RS256), &claims);
            assert_eq!(reason, TokenRejection::WrongType, "{kind}");
        }
    }
    // Keycloak signs refresh tokens with a secret of its own.
    let mut header = header(SignatureAlgorithm::RS256);
    header["alg"] = json!("HS512");
    assert_eq!(
        rejects_as(TokenType::Keycloak, &header, &claims()),
        TokenRejection::WrongAlgorithm
    );
}

#[test]
fn row_24_logout_tokens_are_rejected() {
    let mut logout = claims();
    logout["events"] = json!({"http://schemas.openid.net/event/backchannel-logout": {}});
    let mut typed = header(SignatureAlgorithm::RS256);
    typed["typ"] = json!("logout+jwt");
    for token_type in ALL {
        assert_eq!(
            rejects_as(token_type, &typed, &claims()),
            TokenRejection::WrongType
        );
        let mut marked = logout.clone();
        marked["typ"] = json!("Logout");
        let plain = header(SignatureAlgorithm::RS256);
        assert_eq!(
            rejects_as(token_type, &plain, &marked),
            TokenRejection::WrongType
        );
    }
    set(&mut logout, "typ", Value::Null);
    let plain = header(SignatureAlgorithm::RS256);
    assert_eq!(
        rejects_as(TokenType::Untyped, &plain, &logout),
        TokenRejection::WrongType
    );
}

#[test]
fn row_25_tokens_with_another_media_type_are_rejected() {
    for media_type in [
        "dpop+jwt",
        "secevent+jwt",
        "oauth-authz-req+jwt",
        "client-authentication+jwt",
        "token-introspection+jwt",
        "JOSE",
        "",
        "at+jwt ",
        "text/at+jwt",
    ] {
        let mut header = header(SignatureAlgorithm::RS256);
        header["typ"] = json!(media_type);
        for token_type in ALL {
            let reason = rejects_as(token_type, &header, &claims());
            assert_eq!(reason, TokenRejection::WrongType, "{media_type}");
        }
    }
    // A client assertion has the header of an access token without a type.
    let mut unmarked = claims();
    set(&mut unmarked, "typ", Value::Null);
    let mut header = header(SignatureAlgorithm::RS256);
    for token_type in [TokenType::Keycloak, TokenType::AccessTokenJwt] {
        assert_eq!(
            rejects_as(token_type, &header, &unmarked),
            TokenRejection::WrongType
        );
    }
    set(&mut header, "typ", Value::Null);
    for token_type in [TokenType::Keycloak, TokenType::AccessTokenJwt] {
        assert_eq!(
            rejects_as(token_type, &header, &claims()),
            TokenRejection::WrongType
        );
    }
}

#[test]
fn row_26_tokens_that_are_bound_to_a_proof_are_rejected() {
    let mut typed = claims();
    typed["typ"] = json!("DPoP");
    let mut confirmed = claims();
    confirmed["cnf"] = json!({"jkt": "x"});
    let mut certificate = claims();
    certificate["cnf"] = json!({"x5t#S256": "x"});
    for claims in [&typed, &confirmed, &certificate] {
        for token_type in ALL {
            for media_type in ["JWT", "at+jwt"] {
                let mut header = header(SignatureAlgorithm::RS256);
                header["typ"] = json!(media_type);
                let reason = rejects_as(token_type, &header, claims);
                assert_eq!(reason, TokenRejection::SenderBound);
            }
        }
    }
}
