//! Annotations and labels of ours that have no effect: defaults in namespaces without the label, names near our prefix,
//! and our names as labels.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::finding::{Finding, Found};
use super::objects::{labels, meta};
use super::scanner::{Kind, PAGE, Run, ScanError, Scanner, Scope};
use crate::defaults::ENABLED_LABEL;
use crate::kubernetes::Representation;
use injection::{Annotations, CowStr, IdleDefaults, ineffective_names};

const NAMESPACE: Kind = Kind::of_defaults("Namespace", "namespaces");
const SERVICE_ACCOUNT: Kind = Kind::of_defaults("ServiceAccount", "serviceaccounts");

/// An object, as far as the names of its annotations and labels go.
#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    metadata: Names<'a>,
}

#[derive(Deserialize)]
struct Names<'a> {
    #[serde(borrow, default)]
    annotations: Option<Keys<'a>>,
    #[serde(borrow, default)]
    labels: Option<Keys<'a>>,
}

/// The keys of a map, whatever its values are.
struct Keys<'a>(Vec<CowStr<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Keys<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map;
        impl<'de> Visitor<'de> for Map {
            type Value = Keys<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut keys = Vec::new();
                while let Some((key, IgnoredAny)) = map.next_entry()? {
                    keys.push(key);
                }
                Ok(Keys(keys))
            }
        }
        deserializer.deserialize_map(Map)
    }
}

/// What is to be said of an object's names.
pub(super) fn names(item: &[u8], is_namespace: bool) -> Vec<String> {
    let Ok(Named { metadata }) = serde_json::from_slice::<Named<'_>>(item) else {
        return Vec::new();
    };
    let [annotations, labels] = [&metadata.annotations, &metadata.labels].map(|keys| {
        keys.iter()
            .flat_map(|Keys(keys)| keys.iter().map(CowStr::as_str))
    });
    ineffective_names(is_namespace, annotations, labels)
}

impl Scanner {
    /// Looks at the Namespaces and ServiceAccounts in scope, and sends what of theirs has no effect.
    pub(super) async fn defaults_without_effect(&self, run: Run<'_>) -> Result<(), ScanError> {
        // What the label says in namespaces where it says something else.
        let mut mislabelled = BTreeMap::new();
        match &run.task.scope {
            Scope::All => {
                let mut pages =
                    self.api
                        .pages("/api/v1/namespaces", "", Representation::Metadata, PAGE);
                while let Some(page) = pages.next().await? {
                    for item in page.items {
                        self.namespace(&item, run, &mut mislabelled).await;
                    }
                }
                for object in pages.skipped() {
                    run.progress.skip(format!("namespaces {object}"));
                }
                self.service_accounts(None, run, &mislabelled).await
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
                        self.namespace(&body, run, &mut mislabelled).await;
                    }
                    self.service_accounts(Some(name), run, &mislabelled).await?;
                }
                Ok(())
            }
        }
    }

    async fn namespace(
        &self,
        item: &Bytes,
        run: Run<'_>,
        mislabelled: &mut BTreeMap<String, String>,
    ) {
        let Some(meta) = meta(item) else { return };
        let label = labels(item).remove(ENABLED_LABEL.0);
        let idle = IdleDefaults::of_namespace(&meta.name, label.as_deref());
        let asks = meta
            .annotations
            .as_ref()
            .is_some_and(Annotations::say_anything);
        let mut problems = names(item, true);
        problems.extend(idle.filter(|_| asks).map(|idle| idle.to_string()));
        if let Some(label) = label.filter(|label| label != ENABLED_LABEL.1) {
            mislabelled.insert(meta.name.clone(), label);
        }
        let (name, deleted) = (meta.name, meta.deletion_timestamp.is_some());
        if !deleted {
            self.ineffective(NAMESPACE, (name.clone(), name, meta.uid), problems, run)
                .await;
        }
    }

    async fn service_accounts(
        &self,
        namespace: Option<&str>,
        run: Run<'_>,
        mislabelled: &BTreeMap<String, String>,
    ) -> Result<(), ScanError> {
        let path = SERVICE_ACCOUNT.path(namespace);
        let mut pages = self.api.pages(&path, "", Representation::Metadata, PAGE);
        loop {
            let page = match pages.next().await {
                // Who may not list them still gets the rest; it is reported.
                Err(error) if error.kind.is_denied() => {
                    run.progress.hide_service_accounts();
                    return Ok(());
                }
                page => page?,
            };
            let Some(page) = page else { break };
            for item in page.items {
                let Some(meta) = meta(&item) else { continue };
                let Some(namespace) = meta.namespace.filter(|_| meta.deletion_timestamp.is_none())
                else {
                    continue;
                };
                let mut problems = names(&item, false);
                let asks = meta
                    .annotations
                    .as_ref()
                    .is_some_and(Annotations::say_anything);
                if asks && !run.namespaces.enabled.contains(&namespace) {
                    let label = mislabelled.get(&namespace).map(String::as_str);
                    let idle = IdleDefaults::of_service_account(&meta.name, &namespace, label);
                    problems.extend(idle.map(|idle| idle.to_string()));
                }
                self.ineffective(
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

    /// Sends what was found of an object that the webhook serves: its namespace, name and uid.
    pub(super) async fn ineffective(
        &self,
        kind: Kind,
        (namespace, name, uid): (String, String, String),
        problems: Vec<String>,
        run: Run<'_>,
    ) {
        if problems.is_empty()
            || !run.namespaces.selects(&namespace)
            || self.rules.exempt.contains(&namespace)
        {
            return;
        }
        run.progress.ineffective();
        let Kind {
            api_version,
            name: kind,
            ..
        } = kind;
        let finding = Finding {
            namespace,
            api_version,
            kind,
            name,
            uid,
            owner: None,
            problems,
        };
        // Nobody listens any more: nobody needs it either.
        drop(run.found.send(Found::Ineffective(finding)).await);
    }

    /// The names of the pods or workloads of a page. Of the pods of one controller, only the first is sent: what is wrong
    /// with their names is wrong with its template.
    pub(super) async fn names_without_effect(
        &self,
        kind: Kind,
        items: &[Bytes],
        run: Run<'_>,
        sent: &mut BTreeSet<String>,
    ) {
        for item in items {
            let problems = names(item, false);
            if problems.is_empty() {
                continue;
            }
            let Some(mut meta) = meta(item) else { continue };
            let made_by = meta.controller().map(|owner| owner.uid);
            let Some(namespace) = meta.namespace.filter(|_| meta.deletion_timestamp.is_none())
            else {
                continue;
            };
            if sent.insert(made_by.unwrap_or_else(|| meta.uid.clone())) {
                self.ineffective(kind, (namespace, meta.name, meta.uid), problems, run)
                    .await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn names_are_read_whatever_their_values_are() {
        let item = br#"{"metadata":{"name":"n","annotations":{"secret.floe.dev/refs":"a/k","b":null},"labels":{"secrets.floe.dev/refs":7}}}"#;
        let said = names(item, false);
        assert!(
            said.len() == 2 && said[0].contains("did you mean secrets.floe.dev/refs?"),
            "{said:?}"
        );
        assert!(names(br#"{"metadata":{"name":"n","annotations":null}}"#, true).is_empty());
        assert!(names(b"{}", true).is_empty());
    }
}
