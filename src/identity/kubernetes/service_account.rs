//! Name of a ServiceAccount.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Characters of the name of a ServiceAccount or a namespace.
const MAX_NAME: usize = 253;

/// ServiceAccount, written as `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceAccountName {
    pub namespace: String,
    pub name: String,
}

/// Reason why a text is not the name of a ServiceAccount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "expected the namespace and the name of a ServiceAccount, as in floe-secrets-webhook/webhook"
)]
pub struct InvalidServiceAccount;

impl ServiceAccountName {
    /// ServiceAccount that the API server writes as `system:serviceaccount:NAMESPACE:NAME`.
    #[must_use]
    pub fn of_username(username: &str) -> Option<Self> {
        let rest = username.strip_prefix("system:serviceaccount:")?;
        let (namespace, name) = rest.split_once(':')?;
        Self::of_parts(namespace, name)
    }

    fn of_parts(namespace: &str, name: &str) -> Option<Self> {
        let is_name = |text: &str| {
            let allowed = |byte: u8| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.')
            };
            (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(allowed)
        };
        (is_name(namespace) && is_name(name)).then(|| Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }
}

impl FromStr for ServiceAccountName {
    type Err = InvalidServiceAccount;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_once('/');
        parts
            .and_then(|(namespace, name)| Self::of_parts(namespace, name))
            .ok_or(InvalidServiceAccount)
    }
}

impl fmt::Display for ServiceAccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn username_and_flag_name_the_same_account() {
        let by_flag: ServiceAccountName = "floe/web.hook-1".parse().unwrap();
        let by_username = ServiceAccountName::of_username("system:serviceaccount:floe:web.hook-1");
        assert_eq!(by_username.as_ref(), Some(&by_flag));
        assert_eq!(by_flag.to_string(), "floe/web.hook-1");
    }

    #[test]
    fn other_names_are_rejected() {
        let long = format!("a/{}", "x".repeat(MAX_NAME + 1));
        for wrong in ["", "a", "a/", "/a", "a/b/c", "A/b", "a/b c", long.as_str()] {
            assert_eq!(
                wrong.parse::<ServiceAccountName>(),
                Err(InvalidServiceAccount),
                "{wrong}"
            );
        }
        for wrong in [
            "alice",
            "system:node:a",
            "system:serviceaccount:a",
            "system:serviceaccount:a:b:c",
        ] {
            assert_eq!(ServiceAccountName::of_username(wrong), None, "{wrong}");
        }
    }
}
