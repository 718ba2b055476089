//! Checks the replica of `admin`, and the claim of its store. Admission depends on neither.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use crate::doctor::check::{Check, CheckId};
use crate::doctor::checks::workloads::evaluate_replicas;
use crate::doctor::installation::{Installation, name};
use crate::kubernetes::Lookup;

use super::objects::AdminObjects;

/// Evaluates replica and claim. A claim without a volume is the reason why the replica does not start.
pub fn evaluate(installation: &Installation, objects: &AdminObjects) -> Check {
    let id = CheckId::Admin;
    if let Lookup::Unknown(reason) = &installation.deployments {
        return Check::unchecked(id, reason.clone());
    }
    let Some(deployment) = installation.deployment("admin") else {
        return Check::ok(id, "not installed: no store of the audit trail");
    };
    let namespace = &installation.namespace;
    match &objects.claim {
        Some(Lookup::Found(claim)) => {
            if let Some(message) = unbound(claim) {
                let name = name(&claim.metadata);
                let fix =
                    format!("kubectl -n {namespace} describe pvc {name}; kubectl get storageclass");
                return Check::failure(id, message, fix);
            }
        }
        Some(Lookup::NotFound) => {
            let message = "the claim of the store is not found: admin cannot start";
            let fix = installation.install_method().reinstall_command();
            return Check::failure(id, message, fix);
        }
        // The replica shows whether there is a volume.
        Some(Lookup::Unknown(_)) | None => {}
    }
    evaluate_replicas(id, deployment, installation)
}

/// Message about a claim that has no volume.
fn unbound(claim: &PersistentVolumeClaim) -> Option<String> {
    let status = claim.status.as_ref();
    let phase = status
        .and_then(|status| status.phase.as_deref())
        .unwrap_or("Pending");
    if phase == "Bound" {
        return None;
    }
    let class = claim
        .spec
        .as_ref()
        .and_then(|spec| spec.storage_class_name.as_deref());
    let wait = match class {
        Some(class) if !class.is_empty() => {
            format!("it waits for a volume of StorageClass {class}")
        }
        _ => {
            "it has no StorageClass, as the cluster has no default one: set admin.persistence.storageClass, provide a \
             volume, or set admin.persistence.enabled=false"
                .to_owned()
        }
    };
    Some(format!(
        "claim {} is {phase}, so that admin cannot start: {wait}",
        name(&claim.metadata)
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::doctor::check::Status;
    use crate::doctor::test_support::{change_deployment, healthy_installation};

    fn check_with(claim: &Value) -> Check {
        let claim = serde_json::from_value(claim.clone()).unwrap();
        let objects = AdminObjects {
            claim: Some(Lookup::Found(claim)),
            ..AdminObjects::default()
        };
        evaluate(&healthy_installation(), &objects)
    }

    #[test]
    fn claim_without_a_volume_names_its_storage_class() {
        let bound = json!({"metadata": {"name": "audit"}, "status": {"phase": "Bound"}});
        assert_eq!(check_with(&bound).status, Status::Ok);
        for (spec, part) in [
            (json!({"storageClassName": "fast"}), "StorageClass fast"),
            (json!({}), "the cluster has no default one"),
        ] {
            let claim = json!({"metadata": {"name": "audit"}, "spec": spec, "status": {"phase": "Pending"}});
            let check = check_with(&claim);
            assert!(
                check.status == Status::Failure
                    && check.message.starts_with("claim audit is Pending")
                    && check.message.contains(part),
                "{check:?}"
            );
        }
    }

    #[test]
    fn replica_that_is_not_available_is_a_warning() {
        let mut installation = healthy_installation();
        change_deployment(
            &mut installation,
            2,
            &json!({"status": {"availableReplicas": 0}}),
        );
        let check = evaluate(&installation, &AdminObjects::default());
        assert_eq!(check.status, Status::Warning, "{check:?}");
        assert!(check.fix.unwrap().contains("component=admin"));
    }
}
