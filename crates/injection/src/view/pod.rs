//! What the planner looks at in a pod: a partial, borrowing view of its JSON.
//!
//! Never a typed Pod: what is not looked at cannot be lost, and most of a pod is never even built.
//! A view is decoded from the bytes of a review, or from a `serde_json::Value` for `inject`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::keys::{ENABLED_LABEL, INFISICAL, INJECTED, PREFIX, RECORD_KEY, RELOADER_DOMAIN};
use crate::limits::{MAX_LABEL_KEY, MAX_LABELS};

/// The annotation by which the kubelet marks the API object of a static pod.
pub const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";

/// Text borrowed from the input where it holds no escapes.
///
/// A newtype, because serde borrows a `Cow` field but never one inside an `Option`, a list or a map.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(transparent)]
pub struct CowStr<'a>(#[serde(borrow)] pub Cow<'a, str>);

impl CowStr<'_> {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'a> From<&'a str> for CowStr<'a> {
    fn from(text: &'a str) -> Self {
        Self(Cow::Borrowed(text))
    }
}

/// The literal value of an environment variable: looked through for `$(VAR)`, never shown.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct EnvValue<'a>(#[serde(borrow)] Cow<'a, str>);

impl fmt::Debug for EnvValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[REDACTED]")
    }
}

impl EnvValue<'_> {
    /// The names whose `$(NAME)` the kubelet will expand in this value. `$$(NAME)` is an escape and is not
    /// expanded (`third_party/forked/golang/expansion` in Kubernetes).
    pub fn mentions(&self) -> impl Iterator<Item = &str> {
        let mut rest: &str = &self.0;
        std::iter::from_fn(move || {
            while let Some((_, after)) = rest.split_once('$') {
                if let Some(escaped) = after.strip_prefix('$') {
                    rest = escaped;
                } else if let Some(open) = after.strip_prefix('(') {
                    // Without an end here there is none further on.
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

/// A pod, or the template of one.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodView<'a> {
    /// `None` only in a template that has no metadata at all.
    #[serde(borrow, default)]
    pub metadata: Option<MetadataView<'a>>,
    /// The containers and the service account.
    #[serde(borrow, default)]
    pub spec: PodSpecView<'a>,
}

/// The part of `metadata` that matters here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetadataView<'a> {
    /// Absent on pods that a controller makes by `generateName`.
    #[serde(borrow, default)]
    pub name: Option<CowStr<'a>>,
    /// The prefix that the API server completes after admission.
    #[serde(borrow, default)]
    pub generate_name: Option<CowStr<'a>>,
    /// Ours, and the mirror mark; `None` when there is no map to add to.
    #[serde(borrow, default)]
    pub annotations: Option<Annotations<'a>>,
    /// Whether there is a map to add to, what our labels say, and the names of the others.
    #[serde(borrow, default)]
    pub labels: Option<Labels<'a>>,
    /// Who made the pod, for logs and audit alone: authors can write it too.
    #[serde(borrow, default)]
    pub owner_references: Option<Vec<OwnerView<'a>>>,
    /// Set on what is being deleted.
    #[serde(borrow, default)]
    pub deletion_timestamp: Option<CowStr<'a>>,
}

/// One owner reference: information, never proof.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct OwnerView<'a> {
    /// Kind of the owner.
    #[serde(borrow, default)]
    pub kind: CowStr<'a>,
    /// Its name.
    #[serde(borrow, default)]
    pub name: CowStr<'a>,
}

/// The annotations under our prefix, in the order of their names, those by which other programs are told to restart
/// a workload, and whether the pod is a mirror pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotations<'a> {
    ours: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    restarts: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    /// The kubelet made this object for a static pod.
    pub mirror: bool,
}

/// Whether an annotation tells Reloader or the Infisical operator about restarts.
fn restarts(key: &str) -> bool {
    let domain = key.split('/').next().unwrap_or_default();
    domain == RELOADER_DOMAIN
        || domain
            .strip_suffix(RELOADER_DOMAIN)
            .is_some_and(|sub| sub.ends_with('.'))
        || key == INFISICAL
}

impl<'a> Annotations<'a> {
    /// Those of `pairs` that stand under our prefix.
    pub fn from_pairs(
        pairs: impl IntoIterator<Item = (impl Into<Cow<'a, str>>, impl Into<Cow<'a, str>>)>,
    ) -> Self {
        let mut annotations = Self::default();
        for (key, value) in pairs {
            annotations
                .keep(key.into(), || {
                    Ok::<_, std::convert::Infallible>(value.into())
                })
                .unwrap_or_else(|e| match e {});
        }
        annotations
    }

    /// Annotations of the contract, by the part of the name after the prefix.
    pub(crate) fn ours_from(keys: BTreeMap<String, String>) -> Annotations<'static> {
        let ours = keys
            .into_iter()
            .map(|(key, value)| (Cow::Owned(format!("{PREFIX}{key}")), Cow::Owned(value)));
        Annotations {
            ours: ours.collect(),
            ..Annotations::default()
        }
    }

    /// Keeps what matters; `value` is only read for keys of ours.
    fn keep<E>(
        &mut self,
        key: Cow<'a, str>,
        value: impl FnOnce() -> Result<Cow<'a, str>, E>,
    ) -> Result<(), E> {
        if key.starts_with(PREFIX) {
            let value = value()?;
            self.ours.insert(key, value);
        } else if restarts(&key) {
            let value = value()?;
            self.restarts.insert(key, value);
        } else if key == MIRROR_ANNOTATION {
            self.mirror = true;
        }
        Ok(())
    }

    /// Each annotation of ours: the part of its name after the prefix, and its value.
    pub fn ours(&self) -> impl Iterator<Item = (&str, &str)> {
        self.ours
            .iter()
            .map(|(key, value)| (key.get(PREFIX.len()..).unwrap_or_default(), value.as_ref()))
    }

    /// The value of one of ours, by the part of its name after the prefix.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.ours
            .get(format!("{PREFIX}{key}").as_str())
            .map(AsRef::as_ref)
    }

    /// Whether any of ours is more than the record, which is information alone.
    #[must_use]
    pub fn say_anything(&self) -> bool {
        self.ours().any(|(key, _)| key != RECORD_KEY)
    }

    /// Whether `inject` says `false`: nothing is injected, whatever the other annotations and the defaults say.
    #[must_use]
    pub fn opts_out(&self) -> bool {
        self.get("inject")
            .is_some_and(|word| word.trim() == "false")
    }

    /// What other programs that restart workloads are told, by the annotation's whole name.
    #[must_use]
    pub fn restarts(&self) -> BTreeMap<&str, &str> {
        self.restarts
            .iter()
            .map(|(key, value)| (key.as_ref(), value.as_ref()))
            .collect()
    }

    /// The value of an annotation that is kept, by its whole name.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.ours
            .get(name)
            .or_else(|| self.restarts.get(name))
            .map(AsRef::as_ref)
    }

    /// Whether none is ours.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ours.is_empty()
    }

    /// The same, owning its text: for what outlives the input.
    #[must_use]
    pub fn into_owned(self) -> Annotations<'static> {
        let own = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        let all = |map: BTreeMap<_, _>| map.into_iter().map(|(k, v)| (own(k), own(v))).collect();
        Annotations {
            ours: all(self.ours),
            restarts: all(self.restarts),
            mirror: self.mirror,
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Annotations<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Annotations<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of annotations")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut annotations = Annotations::default();
                while let Some(CowStr(key)) = map.next_key()? {
                    let mut read = false;
                    annotations.keep(key, || {
                        read = true;
                        map.next_value::<CowStr<'de>>().map(|text| text.0)
                    })?;
                    if !read {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(annotations)
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// What our own labels say, and the names of the others: by these, the tool is known that made a pod.
#[derive(Clone, Debug, Default)]
pub struct Labels<'a> {
    /// [`crate::keys::INJECTED`], as label.
    pub injected: Option<CowStr<'a>>,
    /// The label of [`crate::keys::ENABLED_LABEL`], on a Namespace.
    pub inject: Option<CowStr<'a>>,
    names: Vec<CowStr<'a>>,
}

impl Labels<'_> {
    /// The names of all labels, at most [`MAX_LABELS`] of them.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(CowStr::as_str)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Labels<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Labels<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of labels")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut labels = Labels::default();
                while let Some(key) = map.next_key::<CowStr<'de>>()? {
                    match key.as_str() {
                        INJECTED => labels.injected = map.next_value()?,
                        name if name == ENABLED_LABEL.0 => labels.inject = map.next_value()?,
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                    if labels.names.len() < MAX_LABELS && key.as_str().len() <= MAX_LABEL_KEY {
                        labels.names.push(key);
                    }
                }
                Ok(labels)
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// The part of a pod's spec that matters here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodSpecView<'a> {
    /// App containers.
    #[serde(borrow, default)]
    pub containers: Option<Vec<ContainerView<'a>>>,
    /// Init containers, native sidecars among them.
    #[serde(borrow, default)]
    pub init_containers: Option<Vec<ContainerView<'a>>>,
    /// The service account; see [`PodView::service_account`].
    #[serde(borrow, default)]
    pub service_account_name: Option<CowStr<'a>>,
    /// Deprecated name of the same field.
    #[serde(borrow, default)]
    pub service_account: Option<CowStr<'a>>,
}

/// A container: its name and its environment, without values.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerView<'a> {
    /// Its name.
    #[serde(borrow, default)]
    pub name: CowStr<'a>,
    /// `None` when there is no list to add to.
    #[serde(borrow, default)]
    pub env: Option<Vec<EnvView<'a>>>,
    /// `None` when there is no list to add to.
    #[serde(borrow, default)]
    pub env_from: Option<Vec<EnvFromView<'a>>>,
}

impl ContainerView<'_> {
    /// Each variable's entry, the author's or ours of an earlier pass: of two for one variable the last, which counts.
    #[must_use]
    pub fn env_by_name(&self) -> BTreeMap<&str, &EnvView<'_>> {
        self.env
            .iter()
            .flatten()
            .map(|entry| (entry.name.as_str(), entry))
            .collect()
    }

    /// Where each Secret first stands among the sources, whole and without a prefix.
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
    /// The variable.
    #[serde(borrow, default)]
    pub name: CowStr<'a>,
    /// Its literal value, where it has one.
    #[serde(borrow, default)]
    pub value: Option<EnvValue<'a>>,
    /// Where its value comes from otherwise. Boxed, because most entries have none, and a pod may have a hundred thousand.
    #[serde(borrow, default)]
    pub value_from: Option<Box<ValueFromView<'a>>>,
}

impl EnvView<'_> {
    /// Which key of which Secret this entry takes its value from.
    #[must_use]
    pub fn secret_key(&self) -> Option<(&str, &str)> {
        let from = self.value_from.as_ref()?.secret_key_ref.as_ref()?;
        Some((from.name.as_str(), from.key.as_str()))
    }
}

/// `valueFrom`, as far as Secrets go.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ValueFromView<'a> {
    /// One key of a Secret.
    #[serde(borrow, default)]
    pub secret_key_ref: Option<SecretKeyRefView<'a>>,
}

/// `secretKeyRef`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct SecretKeyRefView<'a> {
    /// The Secret.
    #[serde(borrow, default)]
    pub name: CowStr<'a>,
    /// The data key.
    #[serde(borrow, default)]
    pub key: CowStr<'a>,
}

/// An `envFrom` entry.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnvFromView<'a> {
    /// Put before each key's name.
    #[serde(borrow, default)]
    pub prefix: Option<CowStr<'a>>,
    /// The Secret, when the source is one.
    #[serde(borrow, default)]
    pub secret_ref: Option<SecretRefView<'a>>,
}

impl EnvFromView<'_> {
    /// The Secret that it brings in, whole and without a prefix.
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
    /// The Secret.
    #[serde(borrow, default)]
    pub name: CowStr<'a>,
}

impl<'a> PodView<'a> {
    /// Our annotations; none when there is no map.
    #[must_use]
    pub fn annotations(&self) -> Option<&Annotations<'a>> {
        self.metadata
            .as_ref()
            .and_then(|metadata| metadata.annotations.as_ref())
    }

    /// The service account that the pod runs as. As in Kubernetes, `serviceAccountName` wins over the deprecated
    /// `serviceAccount`. The API server fills in the former for its own kinds, but not in the templates of others.
    #[must_use]
    pub fn service_account(&self) -> &str {
        let fields = [&self.spec.service_account_name, &self.spec.service_account];
        let mut named = fields
            .into_iter()
            .flatten()
            .map(CowStr::as_str)
            .filter(|name| !name.is_empty());
        named.next().unwrap_or("default")
    }
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
    fn a_literal_mentions_what_the_kubelet_would_expand(
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

    #[test]
    fn debug_of_a_view_hides_literal_values() {
        let json =
            r#"{"spec":{"containers":[{"name":"c","env":[{"name":"P","value":"canary-7f3a"}]}]}}"#;
        let view: PodView<'_> = serde_json::from_str(json).unwrap();
        assert!(!format!("{view:?}").contains("canary"), "{view:?}");
    }

    #[rstest::rstest]
    #[case::neither("{}", "default")]
    #[case::current(r#"{"serviceAccountName":"runner"}"#, "runner")]
    #[case::deprecated(r#"{"serviceAccount":"runner"}"#, "runner")]
    #[case::both(r#"{"serviceAccount":"old","serviceAccountName":"runner"}"#, "runner")]
    #[case::current_is_empty(r#"{"serviceAccountName":"","serviceAccount":"runner"}"#, "runner")]
    #[case::current_is_null(r#"{"serviceAccountName":null,"serviceAccount":"runner"}"#, "runner")]
    #[case::both_are_empty(r#"{"serviceAccountName":"","serviceAccount":""}"#, "default")]
    fn service_account_is_read_from_either_field(#[case] spec: &str, #[case] expected: &str) {
        let json = format!(r#"{{"spec":{spec}}}"#);
        let view: PodView<'_> = serde_json::from_str(&json).unwrap();
        assert_eq!(view.service_account(), expected);
    }

    #[test]
    fn nulls_stand_for_absent_and_foreign_annotations_are_not_kept() {
        let json = r#"{"metadata":{"annotations":{"a/b":"x","secrets.floe.dev/refs":"s\u002fk","kubernetes.io/config.mirror":"h"},"labels":null},
                       "spec":{"containers":[{"name":"c","env":null,"envFrom":null}],"initContainers":null},"status":null}"#;
        let view: PodView<'_> = serde_json::from_str(json).unwrap();
        let annotations = view.annotations().unwrap();
        assert!(annotations.mirror);
        assert_eq!(annotations.ours().collect::<Vec<_>>(), [("refs", "s/k")]);
        assert!(view.metadata.unwrap().labels.is_none());
    }
}
