//! Pods and pod templates: a partial view of their JSON that borrows from it.
//!
//! Never a typed Pod: a field that is not read cannot be lost, and most of a pod is never built in memory. A view is
//! decoded from the bytes of a review, or from a `serde_json::Value` by `inject`.

use serde::Deserialize;

use crate::view::annotations::Annotations;
use crate::view::container::ContainerView;
use crate::view::cow_str::CowStr;
use crate::view::metadata::MetadataView;

/// A pod, or the template of one.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodView<'a> {
    /// `None` only in a template that has no metadata at all.
    #[serde(borrow, default)]
    pub metadata: Option<MetadataView<'a>>,
    /// Containers and service account.
    #[serde(borrow, default)]
    pub spec: PodSpecView<'a>,
}

/// Fields of a pod's spec that the core reads.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodSpecView<'a> {
    /// App containers.
    #[serde(borrow, default)]
    pub containers: Option<Vec<ContainerView<'a>>>,
    /// Init containers, native sidecars included.
    #[serde(borrow, default)]
    pub init_containers: Option<Vec<ContainerView<'a>>>,
    /// Service account; see [`PodView::service_account`].
    #[serde(borrow, default)]
    pub service_account_name: Option<CowStr<'a>>,
    /// Deprecated name of the same field.
    #[serde(borrow, default)]
    pub service_account: Option<CowStr<'a>>,
}

impl<'a> PodView<'a> {
    /// Annotations; `None` if there is no map.
    #[must_use]
    pub fn annotations(&self) -> Option<&Annotations<'a>> {
        self.metadata
            .as_ref()
            .and_then(|metadata| metadata.annotations.as_ref())
    }

    /// Service account that the pod runs as. As in Kubernetes, `serviceAccountName` wins over the deprecated
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
    fn nulls_count_as_absent_and_foreign_annotations_are_not_kept() {
        let json = r#"{"metadata":{"annotations":{"a/b":"x","secrets.floe.dev/refs":"s\u002fk","kubernetes.io/config.mirror":"h"},"labels":null},
                       "spec":{"containers":[{"name":"c","env":null,"envFrom":null}],"initContainers":null},"status":null}"#;
        let view: PodView<'_> = serde_json::from_str(json).unwrap();
        let annotations = view.annotations().unwrap();
        assert!(annotations.mirror);
        assert_eq!(annotations.ours().collect::<Vec<_>>(), [("refs", "s/k")]);
        assert!(view.metadata.unwrap().labels.is_none());
    }
}
