//! Labels of the namespaces in scope: whether the webhook serves them, and whether their defaults apply.

use std::collections::BTreeSet;

use super::error::ScanError;
use super::objects::{labels, object_meta};
use super::resource::METADATA_PAGE_SIZE;
use super::task::Scope;
use crate::defaults::ENABLED_LABEL;
use crate::kubernetes::{ObjectApi, Representation, Selector};

/// Namespaces in scope by their labels.
#[derive(Debug)]
pub(super) struct ServedNamespaces {
    /// Namespaces whose defaults apply.
    pub enabled: BTreeSet<String>,
    /// Namespaces that the webhook serves; `None` if it serves all.
    selected: Option<BTreeSet<String>>,
}

impl ServedNamespaces {
    /// Whether the webhook's namespace selector matches.
    pub fn selects(&self, namespace: &str) -> bool {
        self.selected
            .as_ref()
            .is_none_or(|selected| selected.contains(namespace))
    }

    /// Reads the labels of the namespaces in scope.
    pub async fn read(
        api: &ObjectApi,
        scope: &Scope,
        selector: &Selector,
    ) -> Result<Self, ScanError> {
        match scope {
            Scope::Namespaces(names) => Self::read_each(api, names, selector).await,
            Scope::All => Self::read_all(api, selector).await,
        }
    }

    async fn read_each(
        api: &ObjectApi,
        names: &[String],
        selector: &Selector,
    ) -> Result<Self, ScanError> {
        let (mut enabled, mut selected) = (BTreeSet::new(), BTreeSet::new());
        for name in names {
            let path = format!("/api/v1/namespaces/{name}");
            let body = api.get(&path, Representation::Metadata).await?;
            let labels = body.map(|body| labels(&body)).unwrap_or_default();
            if labels
                .get(ENABLED_LABEL.0)
                .is_some_and(|value| value == ENABLED_LABEL.1)
            {
                enabled.insert(name.clone());
            }
            if selector.matches(&labels) {
                selected.insert(name.clone());
            }
        }
        Ok(Self {
            enabled,
            selected: Some(selected),
        })
    }

    async fn read_all(api: &ObjectApi, selector: &Selector) -> Result<Self, ScanError> {
        let enabled = format!(
            "labelSelector={}%3D{}",
            ENABLED_LABEL.0.replace('/', "%2F"),
            ENABLED_LABEL.1
        );
        let enabled = list_names(api, &enabled).await?;
        let selected = if selector.is_empty() {
            None
        } else {
            Some(list_names(api, &selector.query()).await?)
        };
        Ok(Self { enabled, selected })
    }
}

/// Lists the names of the namespaces that match a query.
async fn list_names(api: &ObjectApi, query: &str) -> Result<BTreeSet<String>, ScanError> {
    let mut names = BTreeSet::new();
    let mut pages = api.pages(
        "/api/v1/namespaces",
        query,
        Representation::Metadata,
        METADATA_PAGE_SIZE,
    );
    while let Some(page) = pages.next().await? {
        let metas = page.items.iter().filter_map(|item| object_meta(item));
        names.extend(metas.map(|meta| meta.name));
    }
    Ok(names)
}
