//! Install method of an installation, and the commands that reinstall or reconfigure it.

use kube::api::ObjectMeta;

/// Label that the chart gives its objects if it is a subchart. The value is the key of its values in the parent chart.
const SUBCHART_LABEL: &str = "floe.dev/subchart";

/// Tool that created the objects; it also has to fix them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstallMethod {
    /// A Helm release.
    Helm {
        release: String,
        namespace: String,
        /// The release was applied with server-side apply, as Helm 4 does. Fields that others have set since are
        /// conflicts then.
        applied: bool,
        /// Key of the webhook's values if its chart is a subchart of the release. An upgrade of that release with the
        /// webhook's chart alone would remove the rest of the release.
        subchart: Option<String>,
    },
    /// Folder of the plain manifests; also assumed if the method is unknown.
    Manifests(&'static str),
}

impl InstallMethod {
    /// Returns the Helm release of an object, or `None` if Helm did not create it.
    pub(super) fn of_helm_object(metadata: &ObjectMeta) -> Option<Self> {
        let annotations = metadata.annotations.as_ref()?;
        let mut managers = metadata.managed_fields.iter().flatten();
        let applied = managers.any(|entry| {
            entry.manager.as_deref() == Some("helm") && entry.operation.as_deref() == Some("Apply")
        });
        Some(Self::Helm {
            applied,
            subchart: metadata
                .labels
                .as_ref()
                .and_then(|labels| labels.get(SUBCHART_LABEL))
                .cloned(),
            release: annotations.get("meta.helm.sh/release-name")?.clone(),
            namespace: annotations.get("meta.helm.sh/release-namespace")?.clone(),
        })
    }

    /// Command that restores every object.
    #[must_use]
    pub fn reinstall_command(&self) -> String {
        self.upgrade_command("")
    }

    /// Command that restores every object and sets values, as in `--set a=b`. The plain manifests have no values.
    #[must_use]
    pub fn upgrade_command(&self, values: &str) -> String {
        match self {
            Self::Helm {
                release,
                namespace,
                applied,
                subchart,
            } => {
                let chart = if subchart.is_some() {
                    "PARENT-CHART"
                } else {
                    "charts/floe-secrets-webhook"
                };
                let mut command =
                    format!("helm upgrade {release} {chart} -n {namespace} --reuse-values");
                if *applied {
                    command.push_str(" --force-conflicts");
                }
                if !values.is_empty() {
                    command.push(' ');
                    command.push_str(
                        &subchart.as_ref().map_or_else(
                            || values.to_owned(),
                            |key| values_of_subchart(key, values),
                        ),
                    );
                }
                command
            }
            Self::Manifests(folder) => {
                format!("kubectl apply --server-side --force-conflicts -k {folder}")
            }
        }
    }
}

/// Moves an assignment (`--set a=b`) below a key, where a parent chart has the values of its subchart.
fn values_of_subchart(key: &str, values: &str) -> String {
    let nested =
        values
            .strip_prefix("--set ")
            .map(|assignment| match assignment.strip_prefix('\'') {
                Some(quoted) => format!("--set '{key}.{quoted}"),
                None => format!("--set {key}.{assignment}"),
            });
    nested.unwrap_or_else(|| values.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn helm_release(labels: &Value, operation: &str) -> InstallMethod {
        let metadata = json!({
            "annotations": {"meta.helm.sh/release-name": "a", "meta.helm.sh/release-namespace": "b"},
            "labels": labels,
            "managedFields": [{"manager": "helm", "operation": operation}],
        });
        let metadata = serde_json::from_value(metadata).expect("metadata");
        InstallMethod::of_helm_object(&metadata).expect("a release")
    }

    #[test]
    fn helm_upgrade_forces_conflicts_only_after_server_side_apply() {
        let upgrade =
            |operation: &str| helm_release(&json!(null), operation).upgrade_command("--set c=d");
        let expected = "helm upgrade a charts/floe-secrets-webhook -n b --reuse-values";
        // Helm 3 has neither conflicts nor the flag.
        assert_eq!(upgrade("Update"), format!("{expected} --set c=d"));
        assert_eq!(
            upgrade("Apply"),
            format!("{expected} --force-conflicts --set c=d")
        );
    }

    /// The webhook's chart in place of the parent chart would remove the rest of the release.
    #[test]
    fn subchart_is_upgraded_with_its_parent_chart() {
        let method = helm_release(&json!({"floe.dev/subchart": "secretsWebhook"}), "Update");
        let command = "helm upgrade a PARENT-CHART -n b --reuse-values";
        assert_eq!(method.reinstall_command(), command);
        assert_eq!(
            method.upgrade_command("--set c=d"),
            format!("{command} --set secretsWebhook.c=d")
        );
        assert_eq!(
            method.upgrade_command("--set 'c={d,e}'"),
            format!("{command} --set 'secretsWebhook.c={{d,e}}'")
        );
        assert_eq!(
            method.upgrade_command("--values values.yaml"),
            format!("{command} --values values.yaml")
        );
    }
}
