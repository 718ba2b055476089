//! An issuer that signs whatever tests want, with one key of each kind.

use std::sync::{Arc, LazyLock};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{ClaimPath, KeySet, SignatureAlgorithm, TokenRules, TokenType};

pub(crate) const ISSUER: &str = "https://id.example/realms/floe";
pub(crate) const AUDIENCE: &str = "floe-secrets-admin";
/// Time of day of tests, in seconds.
pub(crate) const NOW: i64 = 1_800_000_000;

pub(crate) struct Issuer {
    rsa: RsaKeyPair,
    p256: EcdsaKeyPair,
    p384: EcdsaKeyPair,
    ed25519: Ed25519KeyPair,
}

static ISSUERS: LazyLock<[Arc<Issuer>; 2]> =
    LazyLock::new(|| [Arc::new(Issuer::generate()), Arc::new(Issuer::generate())]);

pub(crate) fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Key id of an algorithm's key.
pub(crate) fn key_id(algorithm: SignatureAlgorithm) -> &'static str {
    match algorithm {
        SignatureAlgorithm::RS256 => "rsa",
        SignatureAlgorithm::PS256 => "rsa-pss",
        SignatureAlgorithm::ES256 => "p256",
        SignatureAlgorithm::ES384 => "p384",
        SignatureAlgorithm::EdDsa => "ed25519",
    }
}

impl Issuer {
    fn generate() -> Self {
        Self {
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
            p256: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            p384: EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap(),
            ed25519: Ed25519KeyPair::generate().unwrap(),
        }
    }

    /// The issuer whose keys are published.
    pub(crate) fn ours() -> Arc<Self> {
        Arc::clone(&ISSUERS[0])
    }

    /// Somebody else.
    pub(crate) fn attacker() -> Arc<Self> {
        Arc::clone(&ISSUERS[1])
    }

    /// RSA public key: modulus and exponent.
    pub(crate) fn rsa_numbers(&self) -> (Vec<u8>, Vec<u8>) {
        // SEQUENCE { INTEGER modulus, INTEGER exponent }; the modulus has a zero byte in front of it.
        let der = self.rsa.public_key().as_ref();
        assert_eq!(der.len(), 270);
        (der[9..265].to_vec(), der[267..].to_vec())
    }

    /// DER of the RSA public key.
    pub(crate) fn rsa_der(&self) -> Vec<u8> {
        self.rsa.public_key().as_ref().to_vec()
    }

    /// Key of the set for an algorithm.
    pub(crate) fn jwk(&self, algorithm: SignatureAlgorithm) -> Value {
        let point = |key: &EcdsaKeyPair, curve: &str| {
            let coordinates = &key.public_key().as_ref()[1..];
            let (x, y) = coordinates.split_at(coordinates.len() / 2);
            json!({"kty": "EC", "crv": curve, "x": base64url(x), "y": base64url(y)})
        };
        let mut jwk = match algorithm {
            SignatureAlgorithm::RS256 | SignatureAlgorithm::PS256 => {
                let (n, e) = self.rsa_numbers();
                json!({"kty": "RSA", "n": base64url(n), "e": base64url(e)})
            }
            SignatureAlgorithm::ES256 => point(&self.p256, "P-256"),
            SignatureAlgorithm::ES384 => point(&self.p384, "P-384"),
            SignatureAlgorithm::EdDsa => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": base64url(self.ed25519.public_key())})
            }
        };
        jwk["kid"] = json!(key_id(algorithm));
        jwk["alg"] = json!(algorithm.as_str());
        jwk["use"] = json!("sig");
        jwk
    }

    /// Key set with a key for each algorithm.
    pub(crate) fn jwks(&self) -> Value {
        let keys: Vec<Value> = SignatureAlgorithm::ALL
            .iter()
            .map(|algorithm| self.jwk(*algorithm))
            .collect();
        json!({ "keys": keys })
    }

    pub(crate) fn key_set(&self) -> KeySet {
        key_set(&self.jwks())
    }

    /// Signature of bytes.
    pub(crate) fn signature(&self, algorithm: SignatureAlgorithm, signed: &[u8]) -> Vec<u8> {
        let rng = SystemRandom::new();
        let rsa = |padding| {
            let mut signature = vec![0; self.rsa.public_modulus_len()];
            self.rsa
                .sign(padding, &rng, signed, &mut signature)
                .unwrap();
            signature
        };
        match algorithm {
            SignatureAlgorithm::RS256 => rsa(&RSA_PKCS1_SHA256),
            SignatureAlgorithm::PS256 => rsa(&RSA_PSS_SHA256),
            SignatureAlgorithm::ES256 => self.p256.sign(&rng, signed).unwrap().as_ref().to_vec(),
            SignatureAlgorithm::ES384 => self.p384.sign(&rng, signed).unwrap().as_ref().to_vec(),
            SignatureAlgorithm::EdDsa => self.ed25519.sign(signed).as_ref().to_vec(),
        }
    }

    /// Token of these very bytes.
    pub(crate) fn sign_bytes(
        &self,
        algorithm: SignatureAlgorithm,
        header: &[u8],
        claims: &[u8],
    ) -> String {
        let signed = format!("{}.{}", base64url(header), base64url(claims));
        let signature = self.signature(algorithm, signed.as_bytes());
        format!("{signed}.{}", base64url(signature))
    }

    /// Token of a header and claims, signed with RS256.
    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_bytes(
            SignatureAlgorithm::RS256,
            header.to_string().as_bytes(),
            claims.to_string().as_bytes(),
        )
    }
}

/// Key set of these keys, with all algorithms allowed.
pub(crate) fn key_set(jwks: &Value) -> KeySet {
    KeySet::parse(jwks.to_string().as_bytes(), SignatureAlgorithm::ALL).unwrap()
}

pub(crate) fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

/// Header as Keycloak writes it.
pub(crate) fn header(algorithm: SignatureAlgorithm) -> Value {
    json!({"alg": algorithm.as_str(), "typ": "JWT", "kid": key_id(algorithm)})
}

/// Claims of an access token as Keycloak writes it.
pub(crate) fn claims() -> Value {
    json!({
        "exp": NOW + 300,
        "iat": NOW,
        "jti": "onrtac:1f9a7c3e",
        "iss": ISSUER,
        "aud": [AUDIENCE, "account"],
        "sub": "7c5c9a3e-4f0b-4a51-9b3e-0a1b2c3d4e5f",
        "typ": "Bearer",
        "azp": "floe-cli",
        "sid": "lXk2",
        "acr": "1",
        "realm_access": {"roles": ["offline_access", "editor"]},
        "resource_access": {
            AUDIENCE: {"roles": ["viewer", "editor"]},
            "account": {"roles": ["manage-account"]},
        },
        "scope": "email profile",
        "email_verified": true,
        "name": "Alice Example",
        "groups": ["/data/jobs"],
        "preferred_username": "alice",
        "email": "alice@example.com",
    })
}

/// Rules for tokens of [`ISSUER`], with all algorithms, all roles and groups.
pub(crate) fn rules() -> TokenRules {
    let path = |names: &[&str]| ClaimPath::new(names.iter().copied()).ok();
    TokenRules {
        algorithms: SignatureAlgorithm::ALL.to_vec(),
        token_type: TokenType::Keycloak,
        client_roles: path(&["resource_access", AUDIENCE, "roles"]),
        realm_roles: path(&["realm_access", "roles"]),
        groups: path(&["groups"]),
        ..TokenRules::new(ISSUER, AUDIENCE)
    }
}
