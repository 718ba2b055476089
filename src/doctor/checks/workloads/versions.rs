//! Checks the versions of the Deployments and of their pods.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;

use crate::doctor::check::{Check, CheckId};
use crate::doctor::installation::{Installation, container, includes, name};
use crate::kubernetes::Lookup;

/// Version of this program.
const PROGRAM_VERSION: &str = env!("CARGO_PKG_VERSION");

/// Evaluates whether all pods run the image of their Deployment, and whether its version is that of this program.
pub fn evaluate(installation: &Installation) -> Check {
    let count = match &installation.deployments {
        Lookup::Found(deployments) => deployments.len(),
        Lookup::NotFound => 0,
        Lookup::Unknown(reason) => return Check::unchecked(CheckId::Versions, reason.clone()),
    };
    let namespace = &installation.namespace;
    let components: Vec<&Deployment> = ["webhook", "controller"]
        .into_iter()
        .filter_map(|component| installation.deployment(component))
        .collect();
    let Some(first) = components.first() else {
        let message = format!("none of the {count} Deployments of {namespace} is ours");
        return Check::unchecked(CheckId::Versions, message);
    };
    let images: BTreeSet<&str> = components
        .iter()
        .filter_map(|deployment| container(deployment)?.image.as_deref())
        .collect();
    let mut other_images = running_images(installation);
    other_images.retain(|image| !images.contains(image));
    if !other_images.is_empty() {
        let message = format!(
            "pods of another image still run ({}; wanted: {})",
            list(&other_images),
            list(&images)
        );
        let fix = format!(
            "kubectl -n {namespace} rollout status deployment {}",
            name(&first.metadata)
        );
        return Check::warning(CheckId::Versions, message, fix);
    }
    let versions = labelled_versions(&components);
    if versions.iter().any(|version| *version != PROGRAM_VERSION) {
        let message = format!(
            "{} runs, and this program is {PROGRAM_VERSION}: use the program of the version that runs, or upgrade",
            list(&versions)
        );
        let fix = installation.install_method().reinstall_command();
        return Check::warning(CheckId::Versions, message, fix);
    }
    Check::ok(
        CheckId::Versions,
        format!("{} ({})", list(&versions), list(&images)),
    )
}

/// Returns the versions in the Deployments' labels.
fn labelled_versions<'d>(deployments: &[&'d Deployment]) -> BTreeSet<&'d str> {
    let labels = deployments
        .iter()
        .filter_map(|deployment| deployment.metadata.labels.as_ref());
    labels
        .filter_map(|labels| labels.get("app.kubernetes.io/version"))
        .map(String::as_str)
        .collect()
}

/// Returns the images of the pods that the Service selects.
fn running_images(installation: &Installation) -> BTreeSet<&str> {
    let is_selected = |pod: &&Pod| {
        pod.metadata
            .labels
            .as_ref()
            .is_some_and(|labels| includes(labels, installation.selector()))
    };
    let pods = installation.pods.found().into_iter().flatten();
    pods.filter(is_selected)
        .filter_map(|pod| pod.spec.as_ref()?.containers.first()?.image.as_deref())
        .collect()
}

fn list(values: &BTreeSet<&str>) -> String {
    values.iter().copied().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::doctor::check::Status;
    use crate::doctor::test_support::{change_deployment, healthy_installation};

    #[test]
    fn other_version_in_a_label_is_reported() {
        let mut installation = healthy_installation();
        let change = json!({"metadata": {"labels": {"app.kubernetes.io/version": "0.0.9"}}});
        change_deployment(&mut installation, 1, &change);
        let check = evaluate(&installation);
        assert!(
            check.status == Status::Warning && check.message.contains("0.0.9"),
            "{check:?}"
        );
        assert!(check.fix.is_some(), "{check:?}");
    }

    #[test]
    fn pods_of_another_image_are_reported() {
        let mut installation = healthy_installation();
        let labels = json!({"app.kubernetes.io/name": "floe-secrets-webhook",
            "app.kubernetes.io/instance": "floe-secrets-webhook", "app.kubernetes.io/component": "webhook"});
        let old = json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "webhook", "image": "floe-secrets-webhook:0.0.9"}]}});
        installation.pods = Lookup::Found(vec![serde_json::from_value(old).expect("a pod")]);
        let check = evaluate(&installation);
        let message = "pods of another image still run";
        assert!(
            check.status == Status::Warning && check.message.starts_with(message),
            "{check:?}"
        );
        assert!(check.fix.is_some(), "{check:?}");
    }
}
