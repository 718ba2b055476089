//! Tokens that are valid, and what is known of their owners.

use serde_json::{Value, json};

use super::*;
use crate::identity::jose::test_support::{AUDIENCE, ISSUER, NOW};
use crate::identity::jose::{ClaimPath, TokenType, UnverifiedToken};

#[test]
fn token_of_each_algorithm_is_accepted() {
    let issuer = Issuer::ours();
    for algorithm in SignatureAlgorithm::ALL {
        let token = issuer.sign_bytes(
            *algorithm,
            header(*algorithm).to_string().as_bytes(),
            claims().to_string().as_bytes(),
        );
        assert_eq!(verify(&token).err(), None, "{algorithm:?}");
    }
}

#[test]
fn owner_of_a_token_is_read_from_its_claims() {
    let token = Issuer::ours().sign(&header(SignatureAlgorithm::RS256), &claims());
    let unverified = UnverifiedToken::parse(&token).unwrap();
    let claimed = unverified.expires_at().unwrap().as_second();
    assert_eq!((unverified.issuer(), claimed), (ISSUER, NOW + 300));
    let caller = verify(&token).unwrap();
    let user = &caller.user_info;
    assert_eq!(caller.issuer, ISSUER);
    assert_eq!(user.subject, "7c5c9a3e-4f0b-4a51-9b3e-0a1b2c3d4e5f");
    assert_eq!(
        (user.email.as_str(), user.name.as_str()),
        ("alice@example.com", "Alice Example")
    );
    assert_eq!(caller.client_roles, ["viewer", "editor"]);
    assert_eq!(caller.realm_roles, ["offline_access", "editor"]);
    assert_eq!(user.roles, ["viewer", "editor", "offline_access"]);
    assert_eq!(user.groups, ["/data/jobs"]);
    assert_eq!(user.claims, *claims().as_object().unwrap());
    assert_eq!(caller.username.as_deref(), Some("alice"));
    assert_eq!(caller.authorized_party.as_deref(), Some("floe-cli"));
    assert_eq!(caller.credential_id.as_deref(), Some("onrtac:1f9a7c3e"));
    assert_eq!(caller.expires_at.unwrap().as_second(), NOW + 300);
    assert!(!caller.has_omitted_groups);
}

#[test]
fn roles_and_groups_are_read_only_where_the_rules_say() {
    let token = Issuer::ours().sign(&header(SignatureAlgorithm::RS256), &claims());
    let mut rules = rules();
    (rules.client_roles, rules.realm_roles, rules.groups) = (None, None, None);
    let caller = rules
        .verify(&token, &Issuer::ours().key_set(), now())
        .unwrap();
    assert!(caller.user_info.roles.is_empty() && caller.user_info.groups.is_empty());
    rules.client_roles = ClaimPath::new(["resource_access", "account", "roles"]).ok();
    let caller = rules
        .verify(&token, &Issuer::ours().key_set(), now())
        .unwrap();
    assert_eq!(caller.user_info.roles, ["manage-account"]);
}

#[test]
fn email_counts_only_if_the_issuer_verified_it() {
    for (verified, email) in [
        (json!(true), "alice@example.com"),
        (json!(false), ""),
        (json!("true"), ""),
        (json!(1), ""),
        (Value::Null, ""),
    ] {
        let caller = verify(&with_claim("email_verified", verified)).unwrap();
        assert_eq!(caller.user_info.email, email);
    }
}

#[test]
fn names_for_display_are_dropped_if_they_cannot_be_shown() {
    for name in [
        json!("a\u{202e}b"),
        json!(7),
        json!("x".repeat(300)),
        Value::Null,
    ] {
        let token = with_claims([("name", name.clone()), ("preferred_username", name)]);
        let caller = verify(&token).unwrap();
        assert_eq!(
            (caller.user_info.name.as_str(), caller.username),
            ("", None)
        );
    }
}

#[test]
fn groups_that_entra_id_left_out_are_reported() {
    let elsewhere = json!({"groups": "src1"});
    let caller = verify(&with_claim("_claim_names", elsewhere)).unwrap();
    assert!(caller.has_omitted_groups && caller.user_info.groups.is_empty());
    let caller = verify(&with_claim("hasgroups", json!(true))).unwrap();
    assert!(caller.has_omitted_groups && caller.user_info.groups.is_empty());
    let caller = verify(&with_claim("_claim_names", json!({"roles": "src1"}))).unwrap();
    assert!(!caller.has_omitted_groups && caller.user_info.groups.len() == 1);
}

#[test]
fn client_is_read_from_the_claim_that_the_issuer_has() {
    for name in ["azp", "client_id", "appid", "cid"] {
        let token = with_claims([("azp", Value::Null), (name, json!("c"))]);
        let caller = verify(&token).unwrap();
        assert_eq!(caller.authorized_party.as_deref(), Some("c"), "{name}");
    }
    let caller = verify(&with_claim("azp", Value::Null)).unwrap();
    assert_eq!(caller.authorized_party, None);
}

#[test]
fn token_of_another_issuer_kind_is_accepted_by_its_rules() {
    let accepts = |token_type, typ: Value, changes: [(&str, Value); 3]| {
        let (mut header, mut claims) = (header(SignatureAlgorithm::RS256), claims());
        set(&mut header, "typ", typ);
        for (name, value) in changes {
            set(&mut claims, name, value);
        }
        let mut rules = rules();
        rules.token_type = token_type;
        let token = Issuer::ours().sign(&header, &claims);
        rules.verify(&token, &Issuer::ours().key_set(), now()).err()
    };
    let none = || ("none", Value::Null);
    let typ = || ("typ", Value::Null);
    for media_type in ["at+jwt", "AT+JWT", "application/at+jwt"] {
        let token_type = TokenType::AccessTokenJwt;
        assert_eq!(
            accepts(token_type, json!(media_type), [typ(), none(), none()]),
            None
        );
        let token_type = TokenType::Keycloak;
        assert_eq!(
            accepts(token_type, json!(media_type), [typ(), none(), none()]),
            None
        );
    }
    // As Okta and Entra ID write them.
    for (client, name) in [
        ("cid", "scp"),
        ("azpacr", "azp"),
        ("appid", "x"),
        ("client_id", "x"),
    ] {
        let changes = [typ(), ("scope", Value::Null), (client, json!("1"))];
        assert_eq!(
            accepts(TokenType::Untyped, Value::Null, changes),
            None,
            "{client} {name}"
        );
    }
    let audience = |audience: Value| {
        accepts(
            TokenType::Keycloak,
            json!("JWT"),
            [("aud", audience), none(), none()],
        )
    };
    assert_eq!(audience(json!(AUDIENCE)), None);
}
