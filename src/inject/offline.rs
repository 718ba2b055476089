//! What manifests say about secrets and defaults: a backend that is files.
//!
//! Of a Secret, names and key names are read; its values are skipped unbuilt.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use tokio::time::Instant;

use super::documents::{Document, Input, Unreadable};
use crate::backend::cached::RecentNames;
use crate::backend::static_binder::StaticBinder;
use crate::backend::{BackendError, BackendKind, BindQuery, SecretBinder};
use crate::defaults::{ENABLED_LABEL, Source, SourceReader};
use crate::injection::{Annotations, PREFIX, SecretBinding};

/// On a ServiceAccount: its pods may use the secrets that it lists, and no others.
const ENFORCE_MOUNTABLE: &str = "kubernetes.io/enforce-mountable-secrets";

/// Secrets, Namespaces and ServiceAccounts, as far as manifests name them.
#[derive(Debug, Default)]
pub(super) struct Known {
    secrets: StaticBinder,
    namespaces: BTreeMap<String, Source>,
    service_accounts: BTreeMap<(String, String), Source>,
    /// Every Namespace and ServiceAccount: where it stands, and the defaults that it sets.
    sources: Vec<(String, Annotations<'static>)>,
}

impl Known {
    /// Takes what the documents of `input` say; objects that name no namespace are in `namespace`.
    pub(super) fn learn(&mut self, input: &Input, namespace: &str) -> Vec<Unreadable> {
        let mut unreadable = Vec::new();
        for document in &input.documents {
            match input.read::<Head>(document) {
                Ok(head) => {
                    self.take(head, ("", ""), namespace, &format!("{}: document {}", input.name, document.number));
                }
                Err(error) => unreadable.push(error),
            }
        }
        unreadable
    }

    fn take(&mut self, head: Head, inherited: (&str, &str), default: &str, place: &str) {
        let api_version = head.api_version.0.as_deref().unwrap_or(inherited.0);
        let kind = head.kind.0.as_deref().unwrap_or(inherited.1);
        if let Some(of) = kind.strip_suffix("List") {
            for item in head.items.0 {
                self.take(item, (api_version, of), default, place);
            }
            return;
        }
        let HeadMetadata { name, namespace, annotations, labels } = head.metadata;
        let (Some(name), "v1") = (name.0, api_version) else { return };
        let namespace = namespace.0.unwrap_or_else(|| default.to_owned());
        let source = Source {
            annotations: Annotations::from_pairs(annotations.ours),
            enforces_mountable_secrets: annotations.enforces_mountable_secrets,
            enabled: labels.enabled,
        };
        if matches!(kind, "Namespace" | "ServiceAccount") {
            self.sources.push((format!("{place}, {kind} \"{name}\""), source.annotations.clone()));
        }
        match kind {
            "Secret" => {
                self.secrets.insert(namespace, name, head.data.0.into_iter().chain(head.string_data.0));
            }
            "Namespace" => {
                self.namespaces.insert(name, source);
            }
            "ServiceAccount" => {
                self.service_accounts.insert((namespace, name), source);
            }
            _ => {}
        }
    }

    /// Every Namespace and ServiceAccount: where it stands, and the defaults that it sets.
    pub(super) fn sources(&self) -> impl Iterator<Item = (&str, &Annotations<'static>)> {
        self.sources.iter().map(|(place, annotations)| (place.as_str(), annotations))
    }
}

/// Whether a document is a Secret; of any other, nothing is said.
pub(super) fn is_secret(input: &Input, document: &Document) -> Result<bool, Unreadable> {
    let head: Head = input.read(document)?;
    Ok(head.kind.0.as_deref() == Some("Secret") && head.api_version.0.as_deref() == Some("v1"))
}

// === as a backend ===

/// The Secrets of the manifests.
#[async_trait]
impl SecretBinder for Known {
    fn kind(&self) -> BackendKind {
        self.secrets.kind()
    }

    async fn bind(&self, query: &BindQuery) -> Result<SecretBinding, BackendError> {
        self.secrets.bind(query).await
    }
}

impl RecentNames for Known {
    fn recent_names(&self, namespace: &str) -> Vec<String> {
        self.secrets.recent_names(namespace)
    }
}

/// The Namespaces and ServiceAccounts of the manifests.
#[async_trait]
impl SourceReader for Known {
    async fn namespace(&self, name: &str, _: Instant) -> Result<Option<Source>, BackendError> {
        Ok(self.namespaces.get(name).cloned())
    }

    async fn service_account(&self, namespace: &str, name: &str, _: Instant) -> Result<Option<Source>, BackendError> {
        Ok(self.service_accounts.get(&(namespace.to_owned(), name.to_owned())).cloned())
    }
}

/// Nobody is asked: every secret is taken to exist, with keys that nobody knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Assumed;

#[async_trait]
impl SecretBinder for Assumed {
    fn kind(&self) -> BackendKind {
        BackendKind::Files
    }

    async fn bind(&self, query: &BindQuery) -> Result<SecretBinding, BackendError> {
        Ok(SecretBinding { secret_name: query.secret.name.to_string(), keys: None })
    }
}

// === reading without values ===

/// An object without what it holds. Whatever is not what Kubernetes has there is nothing: whether a manifest is
/// well formed is said elsewhere.
#[derive(Debug, Default)]
struct Head {
    api_version: Word,
    kind: Word,
    metadata: HeadMetadata,
    data: Keys,
    string_data: Keys,
    items: Items,
}

#[derive(Debug, Default)]
struct HeadMetadata {
    name: Word,
    namespace: Word,
    annotations: HeadAnnotations,
    labels: HeadLabels,
}

/// Ours, and the one of Kubernetes that matters. `kubectl apply` leaves a Secret's values in another.
#[derive(Debug, Default)]
struct HeadAnnotations {
    ours: Vec<(String, String)>,
    enforces_mountable_secrets: bool,
}

#[derive(Debug, Default)]
struct HeadLabels {
    enabled: bool,
}

/// The keys of a map whose values are not looked at.
#[derive(Debug, Default)]
struct Keys(Vec<String>);

/// The items of a list.
#[derive(Debug, Default)]
struct Items(Vec<Head>);

/// A text that is not empty.
#[derive(Debug, Default)]
struct Word(Option<String>);

/// Gathers what matters from a node of any type.
trait Gather: Default {
    fn entry<'de, A: MapAccess<'de>>(&mut self, _: &str, map: &mut A) -> Result<(), A::Error> {
        map.next_value::<IgnoredAny>().map(drop)
    }

    /// The next item of a list; false after the last.
    fn item<'de, A: SeqAccess<'de>>(&mut self, list: &mut A) -> Result<bool, A::Error> {
        Ok(list.next_element::<IgnoredAny>()?.is_some())
    }

    fn text(&mut self, _: &str) {}
}

impl Gather for Head {
    fn entry<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "apiVersion" => self.api_version = map.next_value()?,
            "kind" => self.kind = map.next_value()?,
            "metadata" => self.metadata = map.next_value()?,
            "data" => self.data = map.next_value()?,
            "stringData" => self.string_data = map.next_value()?,
            "items" => self.items = map.next_value()?,
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}

impl Gather for HeadMetadata {
    fn entry<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "name" => self.name = map.next_value()?,
            "namespace" => self.namespace = map.next_value()?,
            "annotations" => self.annotations = map.next_value()?,
            "labels" => self.labels = map.next_value()?,
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}

impl Gather for HeadAnnotations {
    fn entry<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        if key.starts_with(PREFIX) {
            let Word(value) = map.next_value()?;
            self.ours.push((key.to_owned(), value.unwrap_or_default()));
        } else if key == ENFORCE_MOUNTABLE {
            let Word(value) = map.next_value()?;
            self.enforces_mountable_secrets = value.as_deref() == Some("true");
        } else {
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

impl Gather for HeadLabels {
    fn entry<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        if key == ENABLED_LABEL.0 {
            let Word(value) = map.next_value()?;
            self.enabled = value.as_deref() == Some(ENABLED_LABEL.1);
        } else {
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

impl Gather for Keys {
    fn entry<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        self.0.push(key.to_owned());
        map.next_value::<IgnoredAny>().map(drop)
    }
}

impl Gather for Items {
    fn item<'de, A: SeqAccess<'de>>(&mut self, list: &mut A) -> Result<bool, A::Error> {
        let item = list.next_element()?;
        let more = item.is_some();
        self.0.extend(item);
        Ok(more)
    }
}

impl Gather for Word {
    fn text(&mut self, text: &str) {
        self.0 = Some(text.to_owned()).filter(|text| !text.is_empty());
    }
}

struct Gatherer<T>(T);

impl<'de, T: Gather> Visitor<'de> for Gatherer<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<T, A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            self.0.entry(&key, &mut map)?;
        }
        Ok(self.0)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<T, A::Error> {
        while self.0.item(&mut list)? {}
        Ok(self.0)
    }

    fn visit_str<E>(mut self, text: &str) -> Result<T, E> {
        self.0.text(text);
        Ok(self.0)
    }

    fn visit_bool<E>(self, _: bool) -> Result<T, E> {
        Ok(self.0)
    }

    fn visit_i64<E>(self, _: i64) -> Result<T, E> {
        Ok(self.0)
    }

    fn visit_i128<E>(self, _: i128) -> Result<T, E> {
        Ok(self.0)
    }

    fn visit_u64<E>(self, _: u64) -> Result<T, E> {
        Ok(self.0)
    }

    fn visit_u128<E>(self, _: u128) -> Result<T, E> {
        Ok(self.0)
    }

    fn visit_f64<E>(self, _: f64) -> Result<T, E> {
        Ok(self.0)
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<T, E> {
        Ok(self.0)
    }

    fn visit_unit<E>(self) -> Result<T, E> {
        Ok(self.0)
    }

    fn visit_none<E>(self) -> Result<T, E> {
        Ok(self.0)
    }
}

macro_rules! gathered {
    ($($type:ty),*) => { $(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(Gatherer(Self::default()))
            }
        }
    )* };
}

gathered!(Head, HeadMetadata, HeadAnnotations, HeadLabels, Keys, Items, Word);
