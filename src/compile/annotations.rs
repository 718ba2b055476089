//! Annotations that make the demanded variables exist in a pod.

use std::collections::{BTreeMap, BTreeSet};

use injection::{InfisicalPath, PREFIX, SecretId, SecretSource};

use super::demand::{Delivery, Demand};

/// Annotations for the demands: `env-from`, `refs`, one `env.<VAR>` for each alias, and where Infisical has its secrets.
pub(crate) fn annotations(
    demands: &[Demand],
    infisical: Option<&InfisicalPath>,
) -> BTreeMap<String, String> {
    let mut bulk = UniqueList::default();
    let mut references = UniqueList::default();
    let mut annotations = BTreeMap::new();
    for demand in demands {
        match demand.delivery {
            Delivery::EnvFrom | Delivery::Whole => bulk.push(demand.reference.secret.to_string()),
            Delivery::Reference => references.push(demand.reference.to_string()),
            Delivery::Alias => {
                annotations.insert(format!("{PREFIX}env.{}", demand.variable), aliased(demand));
            }
        }
        if let Some((key, value)) = infisical_path(&demand.reference.secret, infisical) {
            annotations.insert(key, value);
        }
    }
    for (key, items) in [("env-from", bulk.items), ("refs", references.items)] {
        if !items.is_empty() {
            annotations.insert(format!("{PREFIX}{key}"), items.join(", "));
        }
    }
    annotations
}

/// `[source:]name/key`: an alias names its key, the default one too.
fn aliased(demand: &Demand) -> String {
    match demand.reference.data_key() {
        Some(key) => format!("{}/{key}", demand.reference.secret),
        None => demand.reference.to_string(),
    }
}

/// Annotation with the environment and the path of a secret in Infisical.
fn infisical_path(secret: &SecretId, path: Option<&InfisicalPath>) -> Option<(String, String)> {
    let path = path.filter(|_| secret.source == SecretSource::Infisical)?;
    Some((
        format!("{PREFIX}infisical.{}", secret.name),
        format!("{}:{}", path.environment, path.path),
    ))
}

/// Items in the order in which each came first.
#[derive(Default)]
struct UniqueList {
    items: Vec<String>,
    known: BTreeSet<String>,
}

impl UniqueList {
    fn push(&mut self, item: String) {
        if self.known.insert(item.clone()) {
            self.items.push(item);
        }
    }
}
