//! Check of a caller's token with cached keys, beside the verification of its signature alone: strict reading of header
//! and claims may add at most 0.3 of it. The token has the size and the claims of one of Keycloak.

use std::fmt::Write as _;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use divan::{Bencher, black_box};
use floe_secrets_webhook::identity::jose::{
    ClaimPath, KeySet, SignatureAlgorithm, TokenRules, TokenType,
};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use serde_json::{Value, json};

const ISSUER: &str = "https://id.example.com/realms/data-platform";
const AUDIENCE: &str = "floe-secrets-admin";
const NOW: i64 = 1_800_000_000;

/// Token of a key set, and the key alone.
struct Fixture {
    token: String,
    keys: KeySet,
    key: DecodingKey,
}

fn main() {
    divan::main();
}

#[divan::bench(min_time = 1)]
fn rs256_signature(bencher: Bencher<'_, '_>) {
    signature(bencher, &rsa(), Algorithm::RS256);
}

#[divan::bench(min_time = 1)]
fn rs256_token(bencher: Bencher<'_, '_>) {
    token(bencher, &rsa());
}

#[divan::bench(min_time = 1)]
fn es256_signature(bencher: Bencher<'_, '_>) {
    signature(bencher, &p256(), Algorithm::ES256);
}

#[divan::bench(min_time = 1)]
fn es256_token(bencher: Bencher<'_, '_>) {
    token(bencher, &p256());
}

fn signature(bencher: Bencher<'_, '_>, fixture: &Fixture, algorithm: Algorithm) {
    let (signed, signature) = fixture.token.rsplit_once('.').expect("three parts");
    bencher.bench_local(|| {
        let signed = black_box(signed).as_bytes();
        let verified = crypto::verify(black_box(signature), signed, &fixture.key, algorithm);
        assert!(verified.expect("a signature"));
    });
}

fn token(bencher: Bencher<'_, '_>, fixture: &Fixture) {
    let path = |names: &[&str]| ClaimPath::new(names.iter().copied()).ok();
    let rules = TokenRules {
        token_type: TokenType::Keycloak,
        client_roles: path(&["resource_access", AUDIENCE, "roles"]),
        realm_roles: path(&["realm_access", "roles"]),
        groups: path(&["groups"]),
        ..TokenRules::new(ISSUER, AUDIENCE)
    };
    let now = Timestamp::from_second(NOW).expect("a time");
    bencher.bench_local(|| {
        let caller = rules.verify(black_box(&fixture.token), &fixture.keys, now);
        caller.expect("a valid token")
    });
}

fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn rsa() -> Fixture {
    let key = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key");
    // SEQUENCE { INTEGER modulus, INTEGER exponent }; the modulus has a zero byte in front of it.
    let der = key.public_key().as_ref();
    let numbers = der
        .get(9..265)
        .zip(der.get(267..))
        .expect("a key of 2,048 bits");
    let (n, e) = (base64url(numbers.0), base64url(numbers.1));
    let sign = |signed: &[u8]| {
        let mut signature = vec![0; key.public_modulus_len()];
        key.sign(
            &RSA_PKCS1_SHA256,
            &SystemRandom::new(),
            signed,
            &mut signature,
        )
        .expect("a signature");
        signature
    };
    Fixture {
        token: sign_token("RS256", sign),
        keys: key_set(&json!({"kty": "RSA", "kid": "k", "use": "sig", "n": n, "e": e})),
        key: DecodingKey::from_rsa_components(&n, &e).expect("a key"),
    }
}

fn p256() -> Fixture {
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
    let point = key.public_key().as_ref().split_at(1).1.split_at(32);
    let (x, y) = (base64url(point.0), base64url(point.1));
    let sign = |signed: &[u8]| {
        let signature = key.sign(&SystemRandom::new(), signed).expect("a signature");
        signature.as_ref().to_vec()
    };
    Fixture {
        token: sign_token("ES256", sign),
        keys: key_set(&json!({"kty": "EC", "crv": "P-256", "kid": "k", "x": x, "y": y})),
        key: DecodingKey::from_ec_components(&x, &y).expect("a key"),
    }
}

fn key_set(jwk: &Value) -> KeySet {
    let set = json!({ "keys": [jwk] }).to_string();
    KeySet::parse(set.as_bytes(), SignatureAlgorithm::DEFAULT).expect("a key set")
}

fn sign_token(algorithm: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let header = json!({"alg": algorithm, "typ": "JWT", "kid": "k"});
    let claims = json!({
        "exp": NOW + 300,
        "iat": NOW,
        "auth_time": NOW - 60,
        "jti": "onrtac:8d6f2f0e-1a6b-4c0b-9a54-0c4f0f0c8f5a",
        "iss": ISSUER,
        "aud": [AUDIENCE, "account"],
        "sub": "7c5c9a3e-4f0b-4a51-9b3e-0a1b2c3d4e5f",
        "typ": "Bearer",
        "azp": "floe-cli",
        "sid": "lXk2n5l9wQ5V7v7mJk1xSg",
        "acr": "1",
        "allowed-origins": ["https://console.example.com"],
        "realm_access": {"roles": ["offline_access", "default-roles-data-platform", "uma_authorization"]},
        "resource_access": {
            AUDIENCE: {"roles": ["viewer", "editor"]},
            "account": {"roles": ["manage-account", "manage-account-links", "view-profile"]},
        },
        "scope": "openid email profile",
        "email_verified": true,
        "name": "Alice Example",
        "groups": ["/data/jobs", "/data/platform"],
        "preferred_username": "alice",
        "given_name": "Alice",
        "family_name": "Example",
        "email": "alice@example.com",
    });
    let mut token = base64url(header.to_string());
    let _ = write!(token, ".{}", base64url(claims.to_string()));
    let signature = sign(token.as_bytes());
    let _ = write!(token, ".{}", base64url(signature));
    token
}
