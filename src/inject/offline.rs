//! What manifests say about secrets and defaults: a backend that is files.
//!
//! Of a Secret, names and key names are read; its values are skipped unbuilt.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::Instant;

use super::documents::{Document, Input};
use super::head::{Head, HeadMetadata};
use super::kustomize;
use super::unreadable::Unreadable;
use crate::backend::layers::cached::RecentNames;
use crate::backend::static_binder::StaticBinder;
use crate::backend::{BackendError, BackendKind, BindQuery, SecretBinder};
use crate::defaults::{DefaultsObject, DefaultsReader};
use injection::{Annotations, MAX_LISTED, SecretBinding, SecretId, SecretName};

/// Secrets, Namespaces and ServiceAccounts, as far as manifests name them.
#[derive(Debug, Default)]
pub(super) struct ManifestStore {
    secrets: StaticBinder,
    /// By name, the namespaces that have a Secret of that name.
    places: BTreeMap<String, BTreeSet<String>>,
    /// By namespace and original name, the names that kustomize generated, among the manifests to inject into.
    generated: BTreeMap<(String, String), BTreeSet<String>>,
    /// The same, of the Secrets to check against.
    generated_elsewhere: BTreeMap<(String, String), BTreeSet<String>>,
    namespaces: BTreeMap<String, DefaultsObject>,
    service_accounts: BTreeMap<(String, String), DefaultsObject>,
    sources: Vec<DefaultsManifest>,
}

/// A Namespace or ServiceAccount of the manifests.
#[derive(Debug)]
pub(super) struct DefaultsManifest {
    /// The file, the document and the object.
    pub place: String,
    /// The namespace: the object's own name, or where it is.
    pub namespace: String,
    /// The ServiceAccount's name.
    pub service_account: Option<String>,
    /// The defaults that it sets.
    pub source: DefaultsObject,
}

/// What an input is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// `-f`: to inject into; all of it will be applied together.
    Inject,
    /// `--secrets`: to check against.
    Check,
}

/// Where an object of an input stands.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// The namespace of objects that name none.
    namespace: &'a str,
    purpose: Purpose,
    /// For messages.
    document: &'a str,
}

impl ManifestStore {
    /// Takes what the documents of `input` say; objects that name no namespace are in `namespace`.
    pub(super) fn learn(
        &mut self,
        input: &Input,
        purpose: Purpose,
        namespace: &str,
    ) -> Vec<Unreadable> {
        let mut unreadable = Vec::new();
        for document in &input.documents {
            match input.read::<Head>(document) {
                Ok(head) => {
                    let document = &format!("{}: document {}", input.name, document.number);
                    self.take(
                        head,
                        ("", ""),
                        Place {
                            namespace,
                            purpose,
                            document,
                        },
                    );
                }
                Err(error) => unreadable.push(error),
            }
        }
        unreadable
    }

    fn take(&mut self, head: Head, inherited: (&str, &str), place: Place<'_>) {
        let api_version = head.api_version.0.as_deref().unwrap_or(inherited.0);
        let kind = head.kind.0.as_deref().unwrap_or(inherited.1);
        if let Some(of) = kind.strip_suffix("List") {
            for item in head.items.0 {
                self.take(item, (api_version, of), place);
            }
            return;
        }
        let HeadMetadata {
            name,
            namespace,
            annotations,
            labels,
        } = head.metadata;
        let (Some(name), "v1") = (name.0, api_version) else {
            return;
        };
        let namespace = namespace.0.unwrap_or_else(|| place.namespace.to_owned());
        let source = DefaultsObject {
            annotations: Annotations::from_pairs(annotations.ours),
            enforces_mountable_secrets: annotations.enforces_mountable_secrets,
            ..DefaultsObject::default()
        };
        let source = source.labelled(labels.inject.0.as_deref());
        if matches!(kind, "Namespace" | "ServiceAccount") {
            let account = (kind == "ServiceAccount").then(|| name.clone());
            self.sources.push(DefaultsManifest {
                place: format!("{}, {kind} \"{name}\"", place.document),
                namespace: if account.is_some() {
                    namespace.clone()
                } else {
                    name.clone()
                },
                service_account: account,
                source: source.clone(),
            });
        }
        match kind {
            "Secret" => {
                self.place(&namespace, &name, place.purpose);
                self.secrets.insert(
                    namespace,
                    name,
                    head.data.0.into_iter().chain(head.string_data.0),
                );
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

    /// Remembers where a Secret is, for those who look for it elsewhere or by another name.
    fn place(&mut self, namespace: &str, name: &str, purpose: Purpose) {
        self.places
            .entry(name.to_owned())
            .or_default()
            .insert(namespace.to_owned());
        if let Some(original) = kustomize::original(name) {
            let generated = match purpose {
                Purpose::Inject => &mut self.generated,
                Purpose::Check => &mut self.generated_elsewhere,
            };
            let of_original = generated
                .entry((namespace.to_owned(), original.to_owned()))
                .or_default();
            of_original.insert(name.to_owned());
        }
    }

    /// The name that kustomize generated for a secret: one Secret of the manifests has it, and none has the name itself.
    pub(super) fn generated(&self, namespace: &str, name: &str) -> Option<&str> {
        if self
            .places
            .get(name)
            .is_some_and(|namespaces| namespaces.contains(namespace))
        {
            return None;
        }
        let mut names = self
            .generated
            .get(&(namespace.to_owned(), name.to_owned()))?
            .iter();
        names
            .next()
            .filter(|_| names.next().is_none())
            .map(String::as_str)
    }

    /// What helps whoever misses a secret that is known by another name, or in another namespace.
    pub(super) fn hint(&self, namespace: &str, secret: &SecretId) -> Option<String> {
        let name = secret.name.as_str();
        let key = &(namespace.to_owned(), name.to_owned());
        if let Some(names) = self.generated.get(key) {
            return Some(format!(
                "The manifests have {} of it with a hash of kustomize, {}: leave one, or name it in the annotation.",
                names.len(),
                listed(names)
            ));
        }
        if let Some(names) = self.generated_elsewhere.get(key) {
            return Some(format!(
                "--secrets has {}, a name with a hash of kustomize: give that Secret to -f together with what uses it, or name it in the annotation.",
                listed(names)
            ));
        }
        if let Some(places) = self.places.get(name) {
            return Some(elsewhere(places));
        }
        let longer = self.longer_originals(namespace, name);
        (!longer.is_empty()).then(|| {
            format!(
                "The manifests have {} with a hash of kustomize, which may have put a prefix or suffix to the name: name that in the annotation.",
                listed(&longer)
            )
        })
    }

    /// Original names in the manifests that are `name` behind a prefix or before a suffix.
    fn longer_originals(&self, namespace: &str, name: &str) -> BTreeSet<String> {
        let in_namespace = self
            .generated
            .keys()
            .filter(|(place, _)| place == namespace)
            .map(|(_, original)| original);
        let is_longer = |original: &&String| {
            original
                .strip_suffix(name)
                .is_some_and(|prefix| prefix.ends_with(['-', '.']))
                || original
                    .strip_prefix(name)
                    .is_some_and(|suffix| suffix.starts_with(['-', '.']))
        };
        in_namespace.filter(is_longer).cloned().collect()
    }

    /// Every Namespace and ServiceAccount, in the manifests' order.
    pub(super) fn sources(&self) -> &[DefaultsManifest] {
        &self.sources
    }

    /// The Namespace of that name.
    pub(super) fn namespace_of(&self, name: &str) -> Option<&DefaultsObject> {
        self.namespaces.get(name)
    }
}

fn elsewhere(namespaces: &BTreeSet<String>) -> String {
    format!(
        "A Secret of that name is known in namespace{} {}, and pods read only those of their own: correct the object's namespace (-n sets that of objects that name none), or add the Secret here.",
        if namespaces.len() == 1 { "" } else { "s" },
        listed(namespaces)
    )
}

/// `"a", "b" and 3 more`.
fn listed(names: &BTreeSet<String>) -> String {
    let quoted: Vec<String> = names
        .iter()
        .take(MAX_LISTED)
        .map(|name| format!("\"{name}\""))
        .collect();
    match names.len().saturating_sub(MAX_LISTED) {
        0 => quoted.join(", "),
        more => format!("{} and {more} more", quoted.join(", ")),
    }
}

/// A Secret, without its values.
#[derive(Debug)]
pub(super) struct BareSecret {
    /// Its name.
    pub name: String,
    /// The annotations of ours on it.
    pub annotations: Vec<String>,
}

/// The Secret that a document is; `None` for any other kind.
pub(super) fn as_secret(
    input: &Input,
    document: &Document,
) -> Result<Option<BareSecret>, Unreadable> {
    let head: Head = input.read(document)?;
    if head.kind.0.as_deref() != Some("Secret") || head.api_version.0.as_deref() != Some("v1") {
        return Ok(None);
    }
    let annotations = head
        .metadata
        .annotations
        .ours
        .into_iter()
        .map(|(key, _)| key)
        .collect();
    Ok(Some(BareSecret {
        name: head.metadata.name.0.unwrap_or_default(),
        annotations,
    }))
}

// === as a backend ===

/// The Secrets of the manifests.
#[async_trait]
impl SecretBinder for ManifestStore {
    fn kind(&self) -> BackendKind {
        self.secrets.kind()
    }

    async fn bind(&self, query: &BindQuery) -> Result<SecretBinding, BackendError> {
        let generated = self.generated(&query.namespace, query.secret.name.as_str());
        match generated.and_then(|name| SecretName::from_str(name).ok()) {
            Some(name) => {
                let secret = SecretId {
                    name,
                    ..query.secret.clone()
                };
                self.secrets
                    .bind(&BindQuery {
                        secret,
                        ..query.clone()
                    })
                    .await
            }
            None => self.secrets.bind(query).await,
        }
    }
}

impl RecentNames for ManifestStore {
    fn recent_names(&self, namespace: &str) -> Vec<String> {
        self.secrets.recent_names(namespace)
    }
}

/// The Namespaces and ServiceAccounts of the manifests.
#[async_trait]
impl DefaultsReader for ManifestStore {
    async fn namespace(
        &self,
        name: &str,
        _: Instant,
    ) -> Result<Option<DefaultsObject>, BackendError> {
        Ok(self.namespaces.get(name).cloned())
    }

    async fn service_account(
        &self,
        namespace: &str,
        name: &str,
        _: Instant,
    ) -> Result<Option<DefaultsObject>, BackendError> {
        Ok(self
            .service_accounts
            .get(&(namespace.to_owned(), name.to_owned()))
            .cloned())
    }
}

/// Nobody is asked: every secret is taken to exist, with keys that nobody knows. Only the names that kustomize generated
/// are taken from the manifests.
#[derive(Clone, Debug)]
pub(super) struct AssumeExists(pub Arc<ManifestStore>);

#[async_trait]
impl SecretBinder for AssumeExists {
    fn kind(&self) -> BackendKind {
        BackendKind::Files
    }

    async fn bind(&self, query: &BindQuery) -> Result<SecretBinding, BackendError> {
        let written = query.secret.name.as_str();
        let name = self
            .0
            .generated(&query.namespace, written)
            .unwrap_or(written);
        Ok(SecretBinding {
            secret_name: name.to_owned(),
            keys: None,
        })
    }
}
