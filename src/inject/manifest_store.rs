//! Secrets, ConfigMaps and defaults in manifests, as a backend.
//!
//! Names and key names of Secrets are read; their values are skipped without being built.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use async_trait::async_trait;
use tokio::time::Instant;

use super::documents::Document;
use super::input::Input;
use super::kustomize;
use super::partial_object::{PartialMetadata, PartialObject};
use super::unreadable::UnreadableInput;
use crate::backend::layers::cached::RecentNames;
use crate::backend::static_binder::StaticBinder;
use crate::backend::{BackendError, BackendKind, BindQuery, SecretBinder};
use crate::defaults::{DefaultsObject, DefaultsReader};
use injection::{Annotations, MAX_LISTED, SecretBinding, SecretId, SecretName};

/// Secrets, Namespaces and ServiceAccounts in the manifests.
#[derive(Debug, Default)]
pub(crate) struct ManifestStore {
    secrets: StaticBinder,
    /// Keys of ConfigMaps, by namespace and name.
    config_maps: BTreeMap<(String, String), BTreeSet<String>>,
    /// Namespaces of Secrets, by name of the Secret.
    secret_namespaces: BTreeMap<String, BTreeSet<String>>,
    /// Names that kustomize generated, by namespace and original name, in the manifests to inject into.
    generated: BTreeMap<(String, String), BTreeSet<String>>,
    /// Names that kustomize generated, among the Secrets to check against.
    generated_in_checks: BTreeMap<(String, String), BTreeSet<String>>,
    namespaces: BTreeMap<String, DefaultsObject>,
    service_accounts: BTreeMap<(String, String), DefaultsObject>,
    defaults: Vec<DefaultsManifest>,
}

/// A Namespace or ServiceAccount in the manifests.
#[derive(Debug)]
pub(crate) struct DefaultsManifest {
    /// Input, document and object, for messages.
    pub location: String,
    /// Name of the Namespace, or namespace of the ServiceAccount.
    pub namespace: String,
    /// Name of the ServiceAccount; `None` for a Namespace.
    pub service_account: Option<String>,
    pub defaults: DefaultsObject,
}

/// Purpose of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// `-f`: to inject into; all of it will be applied together.
    Inject,
    /// `--secrets`: to check against.
    Check,
}

/// Context of the objects of one document.
#[derive(Clone, Copy)]
struct DocumentContext<'a> {
    /// Namespace of objects that name none.
    default_namespace: &'a str,
    purpose: Purpose,
    /// Input and document, for messages.
    location: &'a str,
}

impl ManifestStore {
    /// Adds the objects of an input. Returns the documents that cannot be read.
    pub(crate) fn add(
        &mut self,
        input: &Input,
        purpose: Purpose,
        default_namespace: &str,
    ) -> Vec<UnreadableInput> {
        let mut unreadable = Vec::new();
        for document in &input.documents {
            match input.read::<PartialObject>(document) {
                Ok(object) => {
                    let context = DocumentContext {
                        default_namespace,
                        purpose,
                        location: &input.location(document),
                    };
                    self.add_object(object, ("", ""), context);
                }
                Err(error) => unreadable.push(error),
            }
        }
        unreadable
    }

    /// Adds an object, or the items of a list. Items without an API version and kind have those of the list: `of_list`.
    fn add_object(
        &mut self,
        object: PartialObject,
        of_list: (&str, &str),
        context: DocumentContext<'_>,
    ) {
        let api_version = object.api_version.0.as_deref().unwrap_or(of_list.0);
        let kind = object.kind.0.as_deref().unwrap_or(of_list.1);
        if let Some(item_kind) = kind.strip_suffix("List") {
            for item in object.items.0 {
                self.add_object(item, (api_version, item_kind), context);
            }
            return;
        }
        if api_version != "v1" {
            return;
        }
        match kind {
            "Secret" => {
                let metadata = object.metadata;
                let Some(name) = metadata.name.0 else { return };
                let namespace = context.namespace_or_default(metadata.namespace.0);
                self.add_secret_name(&namespace, &name, context.purpose);
                let keys = object.data.0.into_iter().chain(object.string_data.0);
                self.secrets.insert(namespace, name, keys);
            }
            "ConfigMap" => {
                let metadata = object.metadata;
                let Some(name) = metadata.name.0 else { return };
                let namespace = context.namespace_or_default(metadata.namespace.0);
                let keys = object.data.0.into_iter().collect();
                self.config_maps.insert((namespace, name), keys);
            }
            "Namespace" | "ServiceAccount" => self.add_defaults(object.metadata, kind, context),
            _ => {}
        }
    }

    fn add_defaults(
        &mut self,
        metadata: PartialMetadata,
        kind: &str,
        context: DocumentContext<'_>,
    ) {
        let PartialMetadata {
            name,
            namespace,
            annotations,
            labels,
        } = metadata;
        let Some(name) = name.0 else { return };
        let defaults = DefaultsObject {
            annotations: Annotations::from_pairs(annotations.prefixed),
            enforces_mountable_secrets: annotations.enforces_mountable_secrets,
            ..DefaultsObject::default()
        };
        let defaults = defaults.with_label(labels.inject.0.as_deref());
        let location = format!("{}, {kind} \"{name}\"", context.location);
        let (namespace, service_account) = if kind == "ServiceAccount" {
            let namespace = context.namespace_or_default(namespace.0);
            self.service_accounts
                .insert((namespace.clone(), name.clone()), defaults.clone());
            (namespace, Some(name))
        } else {
            self.namespaces.insert(name.clone(), defaults.clone());
            (name, None)
        };
        self.defaults.push(DefaultsManifest {
            location,
            namespace,
            service_account,
            defaults,
        });
    }

    /// Adds the name of a Secret to the indexes by which hints and generated names are found.
    fn add_secret_name(&mut self, namespace: &str, name: &str, purpose: Purpose) {
        self.secret_namespaces
            .entry(name.to_owned())
            .or_default()
            .insert(namespace.to_owned());
        if let Some(original) = kustomize::original(name) {
            let generated = match purpose {
                Purpose::Inject => &mut self.generated,
                Purpose::Check => &mut self.generated_in_checks,
            };
            generated
                .entry((namespace.to_owned(), original.to_owned()))
                .or_default()
                .insert(name.to_owned());
        }
    }

    /// Name that kustomize generated for a secret, if exactly one Secret in the manifests has it and none has the
    /// original name.
    pub(crate) fn generated_name(&self, namespace: &str, name: &str) -> Option<&str> {
        if self
            .secret_namespaces
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

    /// Hint for a missing secret that the manifests have by another name or in another namespace.
    pub(crate) fn hint(&self, namespace: &str, secret: &SecretId) -> Option<String> {
        let name = secret.name.as_str();
        let key = &(namespace.to_owned(), name.to_owned());
        if let Some(names) = self.generated.get(key) {
            return Some(format!(
                "The manifests have {} of it with a hash of kustomize, {}: leave one, or name it in the annotation.",
                names.len(),
                listed(names)
            ));
        }
        if let Some(names) = self.generated_in_checks.get(key) {
            return Some(format!(
                "--secrets has {}, a name with a hash of kustomize: give that Secret to -f together with what uses it, or name it in the annotation.",
                listed(names)
            ));
        }
        if let Some(namespaces) = self.secret_namespaces.get(name) {
            return Some(other_namespaces_hint(namespaces));
        }
        let longer = self.longer_originals(namespace, name);
        (!longer.is_empty()).then(|| {
            format!(
                "The manifests have {} with a hash of kustomize, which may have put a prefix or suffix to the name: name that in the annotation.",
                listed(&longer)
            )
        })
    }

    /// Original names in the manifests that are `name` with a prefix or suffix.
    fn longer_originals(&self, namespace: &str, name: &str) -> BTreeSet<String> {
        let originals = self
            .generated
            .keys()
            .filter(|(in_namespace, _)| in_namespace == namespace)
            .map(|(_, original)| original);
        let is_longer = |original: &&String| {
            original
                .strip_suffix(name)
                .is_some_and(|prefix| prefix.ends_with(['-', '.']))
                || original
                    .strip_prefix(name)
                    .is_some_and(|suffix| suffix.starts_with(['-', '.']))
        };
        originals.filter(is_longer).cloned().collect()
    }

    /// Namespaces and ServiceAccounts in the order of the manifests.
    pub(crate) fn defaults(&self) -> &[DefaultsManifest] {
        &self.defaults
    }

    /// Keys of a ConfigMap in the manifests, values of which are text.
    pub(crate) fn config_map_keys(&self, namespace: &str, name: &str) -> Option<&BTreeSet<String>> {
        self.config_maps
            .get(&(namespace.to_owned(), name.to_owned()))
    }

    pub(crate) fn namespace_named(&self, name: &str) -> Option<&DefaultsObject> {
        self.namespaces.get(name)
    }
}

impl DocumentContext<'_> {
    fn namespace_or_default(&self, namespace: Option<String>) -> String {
        namespace.unwrap_or_else(|| self.default_namespace.to_owned())
    }
}

fn other_namespaces_hint(namespaces: &BTreeSet<String>) -> String {
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

/// A Secret without its values.
#[derive(Debug)]
pub(crate) struct PartialSecret {
    pub name: String,
    /// Names of its annotations under [`injection::PREFIX`].
    pub annotations: Vec<String>,
}

/// Reads a document that is a Secret; `None` for any other kind.
pub(crate) fn read_secret(
    input: &Input,
    document: &Document,
) -> Result<Option<PartialSecret>, UnreadableInput> {
    let object: PartialObject = input.read(document)?;
    if object.kind.0.as_deref() != Some("Secret") || object.api_version.0.as_deref() != Some("v1") {
        return Ok(None);
    }
    let annotations = object
        .metadata
        .annotations
        .prefixed
        .into_iter()
        .map(|(key, _)| key)
        .collect();
    Ok(Some(PartialSecret {
        name: object.metadata.name.0.unwrap_or_default(),
        annotations,
    }))
}

#[async_trait]
impl SecretBinder for ManifestStore {
    fn kind(&self) -> BackendKind {
        self.secrets.kind()
    }

    async fn bind(&self, query: &BindQuery) -> Result<SecretBinding, BackendError> {
        let generated = self.generated_name(&query.namespace, query.secret.name.as_str());
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
