//! Annotations and labels without effect: defaults in namespaces without the label, names that resemble the webhook's
//! prefix, and names with the prefix as labels.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::error::ScanError;
use super::finding::{Finding, ScanFinding};
use super::objects::{labels, object_meta};
use super::resource::{METADATA_PAGE_SIZE, ScannedResource};
use super::scanner::{Run, Scanner};
use super::task::Scope;
use crate::defaults::ENABLED_LABEL;
use crate::kubernetes::Representation;
use injection::{Annotations, CowStr, IdleDefaults, ineffective_names};

const NAMESPACE: ScannedResource = ScannedResource::defaults("Namespace", "namespaces");
const SERVICE_ACCOUNT: ScannedResource =
    ScannedResource::defaults("ServiceAccount", "serviceaccounts");

/// Names of an object's annotations and labels.
#[derive(Deserialize)]
struct ObjectWithNames<'a> {
    #[serde(borrow)]
    metadata: MetadataNames<'a>,
}

#[derive(Deserialize)]
struct MetadataNames<'a> {
    #[serde(borrow, default)]
    annotations: Option<MapKeys<'a>>,
    #[serde(borrow, default)]
    labels: Option<MapKeys<'a>>,
}

/// Keys of a map with values of any type.
struct MapKeys<'a>(Vec<CowStr<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for MapKeys<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MapKeysVisitor;
        impl<'de> Visitor<'de> for MapKeysVisitor {
            type Value = MapKeys<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut keys = Vec::new();
                while let Some((key, IgnoredAny)) = map.next_entry()? {
                    keys.push(key);
                }
                Ok(MapKeys(keys))
            }
        }
        deserializer.deserialize_map(MapKeysVisitor)
    }
}

/// Describes the names of an object that have no effect.
fn name_problems(item: &[u8], is_namespace: bool) -> Vec<String> {
    let Ok(ObjectWithNames { metadata }) = serde_json::from_slice::<ObjectWithNames<'_>>(item)
    else {
        return Vec::new();
    };
    let [annotations, labels] = [&metadata.annotations, &metadata.labels].map(|keys| {
        keys.iter()
            .flat_map(|MapKeys(keys)| keys.iter().map(CowStr::as_str))
    });
    ineffective_names(is_namespace, annotations, labels)
}

impl Scanner {
    /// Sends findings about Namespaces and ServiceAccounts in scope whose annotations or labels have no effect.
    pub(super) async fn find_idle_defaults(&self, run: Run<'_>) -> Result<(), ScanError> {
        // Values of the label in namespaces where it has another value than the one that enables defaults.
        let mut mislabelled = BTreeMap::new();
        match &run.task.scope {
            Scope::All => {
                let mut pages = self.api.pages(
                    "/api/v1/namespaces",
                    "",
                    Representation::Metadata,
                    METADATA_PAGE_SIZE,
                );
                while let Some(page) = pages.next().await? {
                    for item in page.items {
                        self.check_namespace(&item, run, &mut mislabelled).await;
                    }
                }
                for object in pages.skipped() {
                    run.progress.skip(format!("namespaces {object}"));
                }
                self.check_service_accounts(None, run, &mislabelled).await
            }
            Scope::Namespaces(names) => {
                for name in names {
                    if let Some(body) = self
                        .api
                        .get(
                            &format!("/api/v1/namespaces/{name}"),
                            Representation::Metadata,
                        )
                        .await?
                    {
                        self.check_namespace(&body, run, &mut mislabelled).await;
                    }
                    self.check_service_accounts(Some(name), run, &mislabelled)
                        .await?;
                }
                Ok(())
            }
        }
    }

    async fn check_namespace(
        &self,
        item: &Bytes,
        run: Run<'_>,
        mislabelled: &mut BTreeMap<String, String>,
    ) {
        let Some(meta) = object_meta(item) else {
            return;
        };
        let label = labels(item).remove(ENABLED_LABEL.0);
        let idle = IdleDefaults::of_namespace(&meta.name, label.as_deref());
        let has_defaults = meta
            .annotations
            .as_ref()
            .is_some_and(Annotations::has_requests);
        let mut problems = name_problems(item, true);
        problems.extend(idle.filter(|_| has_defaults).map(|idle| idle.to_string()));
        if let Some(label) = label.filter(|label| label != ENABLED_LABEL.1) {
            mislabelled.insert(meta.name.clone(), label);
        }
        let (name, deleted) = (meta.name, meta.deletion_timestamp.is_some());
        if !deleted {
            self.send_ineffective(NAMESPACE, (name.clone(), name, meta.uid), problems, run)
                .await;
        }
    }

    async fn check_service_accounts(
        &self,
        namespace: Option<&str>,
        run: Run<'_>,
        mislabelled: &BTreeMap<String, String>,
    ) -> Result<(), ScanError> {
        let path = SERVICE_ACCOUNT.path(namespace);
        let mut pages = self
            .api
            .pages(&path, "", Representation::Metadata, METADATA_PAGE_SIZE);
        loop {
            let page = match pages.next().await {
                // Without this permission, the other findings are still complete. The omission is reported.
                Err(error) if error.kind.is_denied() => {
                    run.progress.hide_service_accounts();
                    return Ok(());
                }
                page => page?,
            };
            let Some(page) = page else { break };
            for item in page.items {
                let Some(meta) = object_meta(&item) else {
                    continue;
                };
                let Some(namespace) = meta.namespace.filter(|_| meta.deletion_timestamp.is_none())
                else {
                    continue;
                };
                let mut problems = name_problems(&item, false);
                let has_defaults = meta
                    .annotations
                    .as_ref()
                    .is_some_and(Annotations::has_requests);
                if has_defaults && !run.namespaces.enabled.contains(&namespace) {
                    let label = mislabelled.get(&namespace).map(String::as_str);
                    let idle = IdleDefaults::of_service_account(&meta.name, &namespace, label);
                    problems.extend(idle.map(|idle| idle.to_string()));
                }
                self.send_ineffective(
                    SERVICE_ACCOUNT,
                    (namespace, meta.name, meta.uid),
                    problems,
                    run,
                )
                .await;
            }
        }
        for object in pages.skipped() {
            run.progress.skip(format!("serviceaccounts {object}"));
        }
        Ok(())
    }

    /// Sends a finding about the object with this namespace, name and uid, if the webhook serves its namespace.
    async fn send_ineffective(
        &self,
        resource: ScannedResource,
        (namespace, name, uid): (String, String, String),
        problems: Vec<String>,
        run: Run<'_>,
    ) {
        if problems.is_empty() || !self.serves(&namespace, run) {
            return;
        }
        run.progress.count_ineffective();
        let finding = Finding {
            namespace,
            api_version: resource.api_version,
            kind: resource.kind,
            name,
            uid,
            owner: None,
            problems,
        };
        // A closed receiver needs no findings.
        drop(run.found.send(ScanFinding::Ineffective(finding)).await);
    }

    /// Sends findings about names without effect on pods or workloads of a page. Of the pods of one controller, only
    /// the first is sent, because the mistake is in their template.
    pub(super) async fn find_ineffective_names(
        &self,
        resource: ScannedResource,
        items: &[Bytes],
        run: Run<'_>,
        sent: &mut BTreeSet<String>,
    ) {
        for item in items {
            let problems = name_problems(item, false);
            if problems.is_empty() {
                continue;
            }
            let Some(mut meta) = object_meta(item) else {
                continue;
            };
            let owner = meta.controller().map(|owner| owner.uid);
            let Some(namespace) = meta.namespace.filter(|_| meta.deletion_timestamp.is_none())
            else {
                continue;
            };
            if sent.insert(owner.unwrap_or_else(|| meta.uid.clone())) {
                self.send_ineffective(resource, (namespace, meta.name, meta.uid), problems, run)
                    .await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::name_problems;

    #[test]
    fn names_are_read_with_values_of_any_type() {
        let item = br#"{"metadata":{"name":"n","annotations":{"secret.floe.dev/refs":"a/k","b":null},"labels":{"secrets.floe.dev/refs":7}}}"#;
        let problems = name_problems(item, false);
        assert!(
            problems.len() == 2 && problems[0].contains("did you mean secrets.floe.dev/refs?"),
            "{problems:?}"
        );
        assert!(name_problems(br#"{"metadata":{"name":"n","annotations":null}}"#, true).is_empty());
        assert!(name_problems(b"{}", true).is_empty());
    }
}
