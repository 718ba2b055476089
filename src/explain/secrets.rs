//! Secrets of a request: whether they and their keys exist now, by their metadata alone.

use std::collections::{BTreeMap, BTreeSet};

use injection::{BindOutcome, InjectionRequest, KeyQuery, SecretBinding, SecretId, SecretKey};

use super::error::ExplainError;
use super::limits::MAX_NAMED_KEYS;
use super::reader::Explainer;
use crate::consumers::{ConsumersError, MAX_KEYS, SecretHead};

/// Secrets of a request.
#[derive(Default)]
pub(super) struct RequestedSecrets {
    pub heads: Vec<SecretHead>,
    /// Bindings for the planner. Keys that cannot be checked count as existing.
    pub bindings: BTreeMap<SecretId, BindOutcome>,
    pub lines: Vec<String>,
    /// Sentences about secrets and keys that do not exist.
    pub missing: Vec<String>,
    pub notes: Vec<String>,
}

impl Explainer {
    /// Looks up the secrets of a request.
    pub(super) async fn read_secrets(
        &self,
        namespace: &str,
        request: &InjectionRequest,
    ) -> Result<RequestedSecrets, ExplainError> {
        let mut secrets = RequestedSecrets::default();
        for (id, query) in request.key_queries() {
            let read = SecretHead::read(&self.api, namespace, id.name.as_str()).await;
            let outcome = match read {
                Ok(Some(head)) => secrets.found(&head, &query),
                Ok(None) => {
                    secrets.missing.push(format!(
                        "secret \"{}\" does not exist in namespace \"{namespace}\"",
                        id.name
                    ));
                    BindOutcome::Missing {
                        backend: "kubernetes",
                        near: None,
                    }
                }
                Err(ConsumersError::Api(error)) if error.kind.is_denied() => {
                    secrets
                        .notes
                        .push(format!("secret \"{}\" was not looked up: {error}", id.name));
                    BindOutcome::Unchecked
                }
                Err(error) => return Err(error.into()),
            };
            secrets.bindings.insert(id.clone(), outcome);
        }
        secrets.lines.extend(secrets.missing.iter().cloned());
        Ok(secrets)
    }
}

impl RequestedSecrets {
    fn found(&mut self, head: &SecretHead, query: &KeyQuery) -> BindOutcome {
        let name = &head.name;
        let requested: BTreeSet<&str> = query.keys.iter().map(SecretKey::as_str).collect();
        let keys = match &head.keys {
            Some(keys) => {
                let absent: Vec<&str> = requested
                    .iter()
                    .copied()
                    .filter(|key| !keys.contains(*key))
                    .collect();
                for key in &absent {
                    self.missing.push(format!(
                        "secret \"{name}\" exists and has no key \"{key}\"; it has {}",
                        named(keys)
                    ));
                }
                if absent.is_empty() {
                    self.lines.push(exists(name, &requested, query.all));
                }
                keys.clone()
            }
            None if query.needs_keys() => {
                self.notes.push(format!(
                    "secret \"{name}\" exists; its keys were not checked, because its managed fields do not list them, or list more than {MAX_KEYS}, and its data are not read"
                ));
                requested.iter().map(|key| (*key).to_owned()).collect()
            }
            None => {
                self.lines.push(exists(name, &requested, false));
                BTreeSet::new()
            }
        };
        self.heads.push(head.clone());
        BindOutcome::Found(SecretBinding {
            secret_name: name.clone(),
            keys: Some(keys),
        })
    }
}

fn exists(name: &str, requested: &BTreeSet<&str>, all: bool) -> String {
    let quoted: Vec<String> = requested.iter().map(|key| format!("\"{key}\"")).collect();
    match (quoted.as_slice(), all) {
        (_, true) | ([], false) => format!("secret \"{name}\" exists"),
        ([key], false) => format!("secret \"{name}\" exists and has the key {key}"),
        (keys, false) => format!(
            "secret \"{name}\" exists and has the keys {}",
            keys.join(", ")
        ),
    }
}

fn named(keys: &BTreeSet<String>) -> String {
    let quoted: Vec<String> = keys
        .iter()
        .take(MAX_NAMED_KEYS)
        .map(|key| format!("\"{key}\""))
        .collect();
    let more = keys.len().saturating_sub(MAX_NAMED_KEYS);
    let listed = quoted.join(", ");
    if more > 0 {
        format!("{listed} and {more} more")
    } else {
        listed
    }
}
