//! Tests of whole tokens. The numbers in names of tests are those of `tests/identity/matrix.tsv`.

mod accepted;
mod claims;
mod differential;
mod headers;
mod keys;
mod kinds;
mod limits;

use serde_json::Value;

use super::SignatureAlgorithm;
use super::test_support::{Issuer, claims, header, now, rules};
use crate::identity::error::TokenRejection;
use crate::identity::types::AuthenticatedCaller;

/// Result for a token that our issuer signed.
fn verify(token: &str) -> Result<AuthenticatedCaller, TokenRejection> {
    rules().verify(token, &Issuer::ours().key_set(), now())
}

/// Reason to reject a token.
fn rejects(token: &str) -> TokenRejection {
    match verify(token) {
        Err(reason) => reason,
        Ok(caller) => panic!("accepted: {caller:?}"),
    }
}

/// Token of our issuer with a member of the header set, or removed by `null`.
fn with_header(name: &str, value: Value) -> String {
    let mut header = header(SignatureAlgorithm::RS256);
    set(&mut header, name, value);
    Issuer::ours().sign(&header, &claims())
}

/// Token of our issuer with a claim set, or removed by `null`.
fn with_claim(name: &str, value: Value) -> String {
    with_claims([(name, value)])
}

/// Token of our issuer with claims set, or removed by `null`.
fn with_claims<const N: usize>(changes: [(&str, Value); N]) -> String {
    let mut claims = claims();
    for (name, value) in changes {
        set(&mut claims, name, value);
    }
    Issuer::ours().sign(&header(SignatureAlgorithm::RS256), &claims)
}

fn set(object: &mut Value, name: &str, value: Value) {
    let members = object.as_object_mut().unwrap();
    if value.is_null() {
        members.remove(name);
    } else {
        members.insert(name.to_owned(), value);
    }
}
