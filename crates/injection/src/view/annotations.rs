//! Annotations of an object: those of the contract, those that restart workloads, and the mark of a mirror pod.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::keys::{
    EVENT_ANNOTATION, INFISICAL, MIRROR_ANNOTATION, PREFIX, RECORD_KEY, RELOADER_DOMAIN,
};
use crate::view::cow_str::CowStr;

/// Annotations with the contract's prefix, in the order of their names, reload annotations, whether the pod is a
/// mirror pod, and the event of its admission. Other annotations are not kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotations<'a> {
    ours: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    reload: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    /// Whether the kubelet created this object for a static pod.
    pub mirror: bool,
    event: Option<Cow<'a, str>>,
}

/// Whether an annotation is read by Reloader or by the Infisical operator.
fn is_reload_annotation(key: &str) -> bool {
    let domain = key.split('/').next().unwrap_or_default();
    domain == RELOADER_DOMAIN
        || domain
            .strip_suffix(RELOADER_DOMAIN)
            .is_some_and(|sub| sub.ends_with('.'))
        || key == INFISICAL
}

impl<'a> Annotations<'a> {
    /// Annotations from names and values; those of other programs are not kept.
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

    /// Keeps an annotation that is used. `value` is called only for annotations whose value is used.
    fn keep<E>(
        &mut self,
        key: Cow<'a, str>,
        value: impl FnOnce() -> Result<Cow<'a, str>, E>,
    ) -> Result<(), E> {
        if key.starts_with(PREFIX) {
            let value = value()?;
            self.ours.insert(key, value);
        } else if is_reload_annotation(&key) {
            let value = value()?;
            self.reload.insert(key, value);
        } else if key == MIRROR_ANNOTATION {
            self.mirror = true;
        } else if key == EVENT_ANNOTATION {
            self.event = Some(value()?);
        }
        Ok(())
    }

    /// Annotations of the contract: the part of the name after the prefix, and the value.
    pub fn ours(&self) -> impl Iterator<Item = (&str, &str)> {
        self.ours
            .iter()
            .map(|(key, value)| (key.get(PREFIX.len()..).unwrap_or_default(), value.as_ref()))
    }

    /// Value of an annotation of the contract, by the part of its name after the prefix.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.ours
            .get(format!("{PREFIX}{key}").as_str())
            .map(AsRef::as_ref)
    }

    /// Whether there is an annotation of the contract besides the record, which is only information.
    #[must_use]
    pub fn has_requests(&self) -> bool {
        self.ours().any(|(key, _)| key != RECORD_KEY)
    }

    /// Whether `inject` is `false`: nothing is injected, and the other annotations and the defaults do not count.
    #[must_use]
    pub fn opts_out(&self) -> bool {
        self.get("inject")
            .is_some_and(|value| value.trim() == "false")
    }

    /// Reload annotations by their full names.
    #[must_use]
    pub fn reload_annotations(&self) -> BTreeMap<&str, &str> {
        self.reload
            .iter()
            .map(|(key, value)| (key.as_ref(), value.as_ref()))
            .collect()
    }

    /// Value of an annotation of the contract or a reload annotation, by its full name.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.ours
            .get(name)
            .or_else(|| self.reload.get(name))
            .map(AsRef::as_ref)
    }

    /// Value of [`EVENT_ANNOTATION`]. Anybody may write it.
    #[must_use]
    pub fn event(&self) -> Option<&str> {
        self.event.as_deref()
    }

    /// Whether there is no annotation of the contract.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ours.is_empty()
    }

    /// Copies all text, so that the annotations outlive the input.
    #[must_use]
    pub fn into_owned(self) -> Annotations<'static> {
        let own = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        let all = |map: BTreeMap<_, _>| map.into_iter().map(|(k, v)| (own(k), own(v))).collect();
        Annotations {
            ours: all(self.ours),
            reload: all(self.reload),
            mirror: self.mirror,
            event: self.event.map(own),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Annotations<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnnotationsVisitor;
        impl<'de> Visitor<'de> for AnnotationsVisitor {
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
        deserializer.deserialize_map(AnnotationsVisitor)
    }
}
