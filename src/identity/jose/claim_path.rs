//! Places of roles and groups in the claims.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use super::claims::is_identity_text;
use super::limits::MAX_CLAIM_PATH;
use crate::identity::error::TokenRejection;

/// Names of members from the claims down to a list of texts. A list of names instead of a text with dots, because ids of
/// clients have dots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
#[schemars(with = "Vec<String>")]
pub struct ClaimPath(Vec<String>);

/// Reason why names are not a claim path.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("a claim path has 1 to {MAX_CLAIM_PATH} names, none of them empty: correct the list")]
pub struct InvalidClaimPath;

impl ClaimPath {
    /// Path of these names.
    ///
    /// # Errors
    /// There is no name, there are too many, or one is empty.
    pub fn new<N: Into<String>>(
        names: impl IntoIterator<Item = N>,
    ) -> Result<Self, InvalidClaimPath> {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        let is_valid = (1..=MAX_CLAIM_PATH).contains(&names.len())
            && names.iter().all(|name| !name.is_empty());
        is_valid.then_some(Self(names)).ok_or(InvalidClaimPath)
    }

    /// Name of the claim in which the list is.
    pub(super) fn claim(&self) -> &str {
        self.0.first().map_or("", String::as_str)
    }

    /// Texts of the list, each once. A list that is absent is empty; anything else than objects on the way and texts at
    /// the end is an error, so that no role comes from a place that was not meant.
    pub(super) fn read(
        &self,
        claims: &Map<String, Value>,
        max: usize,
    ) -> Result<Vec<String>, TokenRejection> {
        let (mut members, mut found) = (Some(claims), None);
        for name in &self.0 {
            let Some(value) = members
                .ok_or(TokenRejection::InvalidClaim)?
                .get(name.as_str())
            else {
                return Ok(Vec::new());
            };
            members = value.as_object();
            found = value.as_array();
        }
        let entries = found.ok_or(TokenRejection::InvalidClaim)?;
        if entries.len() > max {
            return Err(TokenRejection::TooManyValues);
        }
        let mut texts: Vec<String> = Vec::with_capacity(entries.len());
        for entry in entries {
            let text = entry.as_str().filter(|text| is_identity_text(text));
            let text = text.ok_or(TokenRejection::InvalidClaim)?;
            if !texts.iter().any(|other| other == text) {
                texts.push(text.to_owned());
            }
        }
        Ok(texts)
    }
}

impl TryFrom<Vec<String>> for ClaimPath {
    type Error = InvalidClaimPath;

    fn try_from(names: Vec<String>) -> Result<Self, InvalidClaimPath> {
        Self::new(names)
    }
}

impl From<ClaimPath> for Vec<String> {
    fn from(path: ClaimPath) -> Self {
        path.0
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(path: &[&str], claims: &Value) -> Result<Vec<String>, TokenRejection> {
        let path = ClaimPath::new(path.iter().copied()).unwrap();
        path.read(claims.as_object().unwrap(), 3)
    }

    #[test]
    fn list_is_read_at_its_path_alone() {
        let claims = json!({"a": {"b.c": {"roles": ["x", "y", "x"]}}, "roles": ["z"]});
        assert_eq!(read(&["a", "b.c", "roles"], &claims).unwrap(), ["x", "y"]);
        assert_eq!(read(&["roles"], &claims).unwrap(), ["z"]);
        for path in [&["b"][..], &["a", "roles"], &["a", "b", "roles"]] {
            assert_eq!(read(path, &claims), Ok(Vec::new()), "{path:?}");
        }
        for path in [
            &["a"][..],
            &["a", "b.c"],
            &["roles", "z"],
            &["roles", "z", "y"],
        ] {
            assert_eq!(
                read(path, &claims),
                Err(TokenRejection::InvalidClaim),
                "{path:?}"
            );
        }
    }

    #[test]
    fn entries_are_limited_in_number_and_kind() {
        let read = |roles: Value| read(&["roles"], &json!({ "roles": roles }));
        assert_eq!(read(json!(["a", "b", "c"])).unwrap().len(), 3);
        assert_eq!(
            read(json!(["a", "b", "c", "d"])),
            Err(TokenRejection::TooManyValues)
        );
        for roles in [
            json!("a"),
            json!({"a": 1}),
            json!(null),
            json!([1]),
            json!([["a"]]),
            json!([""]),
            json!(["a\n"]),
            json!(["a\u{202e}"]),
            json!(["x".repeat(257)]),
        ] {
            assert_eq!(
                read(roles.clone()),
                Err(TokenRejection::InvalidClaim),
                "{roles}"
            );
        }
    }

    #[test]
    fn number_of_names_is_limited() {
        let names = |count: usize| ClaimPath::new(vec!["a"; count]);
        assert!(names(1).is_ok() && names(MAX_CLAIM_PATH).is_ok());
        assert!(names(0).is_err() && names(MAX_CLAIM_PATH + 1).is_err());
        assert!(ClaimPath::new(["a", ""]).is_err());
        let path: ClaimPath = serde_json::from_value(json!(["a", "b.c"])).unwrap();
        assert_eq!(json!(path), json!(["a", "b.c"]));
        assert!(serde_json::from_value::<ClaimPath>(json!("a.b")).is_err());
    }
}
