//! Containers: their names, and the entries of `env` and `envFrom`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

use crate::view::cow_str::CowStr;

/// Literal value of an environment variable: searched for `$(VAR)`, never shown.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct EnvValue<'a>(#[serde(borrow)] Cow<'a, str>);

impl fmt::Debug for EnvValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[REDACTED]")
    }
}

impl EnvValue<'_> {
    /// Names whose `$(NAME)` the kubelet expands in this value. `$$(NAME)` is an escape and is not
    /// expanded (`third_party/forked/golang/expansion` in Kubernetes).
    pub fn mentions(&self) -> impl Iterator<Item = &str> {
        let mut rest: &str = &self.0;
        std::iter::from_fn(move || {
            while let Some((_, after)) = rest.split_once('$') {
                if let Some(escaped) = after.strip_prefix('$') {
                    rest = escaped;
                } else if let Some(open) = after.strip_prefix('(') {
                    // Without a closing parenthesis here, there is none further on.
                    let (name, tail) = open.split_once(')')?;
                    rest = tail;
                    return Some(name);
                } else {
                    rest = after;
                }
            }
            None
        })
    }
}

/// A container: its name and its environment.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerView<'a> {
    /// Name of the container, unique in the pod.
    #[serde(borrow, default)]
    pub name: CowStr<'a>,
    /// `None` if there is no list to add to.
    #[serde(borrow, default)]
    pub env: Option<Vec<EnvView<'a>>>,
    /// `None` if there is no list to add to.
    #[serde(borrow, default)]
    pub env_from: Option<Vec<EnvFromView<'a>>>,
}

impl ContainerView<'_> {
    /// Env entries by variable name, injected ones included. If a name occurs twice, the last entry wins, as in the
    /// kubelet.
    #[must_use]
    pub fn env_by_name(&self) -> BTreeMap<&str, &EnvView<'_>> {
        self.env
            .iter()
            .flatten()
            .map(|entry| (entry.name.as_str(), entry))
            .collect()
    }

    /// First index of each Secret in `envFrom` that is a source as a whole, without a prefix.
    #[must_use]
    pub fn whole_secrets(&self) -> BTreeMap<&str, usize> {
        let sources = self
            .env_from
            .as_deref()
            .unwrap_or_default()
            .iter()
            .enumerate()
            .rev();
        sources
            .filter_map(|(place, source)| Some((source.whole_secret()?, place)))
            .collect()
    }
}

/// An `env` entry.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnvView<'a> {
    /// Name of the variable.
    #[serde(borrow, default)]
    pub name: CowStr<'a>,
    /// Literal value, if it has one.
    #[serde(borrow, default)]
    pub value: Option<EnvValue<'a>>,
    /// Source of the value otherwise. Boxed, because most entries have none, and a pod may have a hundred thousand
    /// entries.
    #[serde(borrow, default)]
    pub value_from: Option<Box<ValueFromView<'a>>>,
}

impl EnvView<'_> {
    /// Secret and key that the value is from.
    #[must_use]
    pub fn secret_key(&self) -> Option<(&str, &str)> {
        let from = self.value_from.as_ref()?.secret_key_ref.as_ref()?;
        Some((from.name.as_str(), from.key.as_str()))
    }
}

/// `valueFrom`, without sources other than Secrets.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ValueFromView<'a> {
    /// Reference to a key of a Secret.
    #[serde(borrow, default)]
    pub secret_key_ref: Option<SecretKeyRefView<'a>>,
}

/// `secretKeyRef`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct SecretKeyRefView<'a> {
    /// Name of the Secret.
    #[serde(borrow, default)]
    pub name: CowStr<'a>,
    /// Data key of the Secret.
    #[serde(borrow, default)]
    pub key: CowStr<'a>,
}

/// An `envFrom` entry.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnvFromView<'a> {
    /// Prefix of the variables' names.
    #[serde(borrow, default)]
    pub prefix: Option<CowStr<'a>>,
    /// The Secret, if the source is one.
    #[serde(borrow, default)]
    pub secret_ref: Option<SecretRefView<'a>>,
}

impl EnvFromView<'_> {
    /// Name of the Secret, if all of its keys become variables without a prefix.
    pub(crate) fn whole_secret(&self) -> Option<&str> {
        let whole = self
            .prefix
            .as_ref()
            .is_none_or(|prefix| prefix.as_str().is_empty());
        self.secret_ref
            .as_ref()
            .filter(|_| whole)
            .map(|from| from.name.as_str())
    }
}

/// `secretRef`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct SecretRefView<'a> {
    /// Name of the Secret.
    #[serde(borrow, default)]
    pub name: CowStr<'a>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("$(A)", true)]
    #[case("x$(A)y", true)]
    #[case("$$(A)", false)]
    #[case("$$$(A)", true)]
    #[case("$(AB)", false)]
    #[case("$(", false)]
    #[case("$(B)$(A)", true)]
    #[case("$A", false)]
    #[case("$($(A)", false)]
    fn literal_mentions_variables_that_the_kubelet_expands(
        #[case] value: &str,
        #[case] expected: bool,
    ) {
        assert_eq!(
            EnvValue(Cow::Borrowed(value))
                .mentions()
                .any(|name| name == "A"),
            expected,
            "{value}"
        );
    }
}
