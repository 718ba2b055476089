//! Checks the replicas of a Deployment.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus};

use crate::doctor::check::{Check, CheckId};
use crate::doctor::installation::{Installation, name};
use crate::kubernetes::Lookup;

/// Evaluates the replicas of the webhook.
pub fn evaluate(installation: &Installation) -> Check {
    if let Lookup::Unknown(reason) = &installation.deployments {
        return Check::unchecked(CheckId::Deployment, reason.clone());
    }
    if let Some(deployment) = installation.deployment("webhook") {
        return evaluate_replicas(CheckId::Deployment, deployment, installation);
    }
    if installation.service_name.is_none() {
        return Check::ok(CheckId::Deployment, "none: the webhook runs elsewhere");
    }
    let message = format!(
        "no Deployment of the webhook in namespace {}",
        installation.namespace
    );
    let fix = installation.install_method().reinstall_command();
    Check::failure(CheckId::Deployment, message, fix)
}

/// Evaluates the replicas of the webhook, the controller or `admin`. Admission depends on the webhook alone, so problems
/// of the others are warnings.
pub fn evaluate_replicas(
    id: CheckId,
    deployment: &Deployment,
    installation: &Installation,
) -> Check {
    let is_webhook = id == CheckId::Deployment;
    let problem: fn(CheckId, String, String) -> Check = if is_webhook {
        Check::failure
    } else {
        Check::warning
    };
    let name = name(&deployment.metadata);
    let desired = desired_replicas(deployment);
    let status = deployment.status.clone().unwrap_or_default();
    let available = status.available_replicas.unwrap_or(0);
    let describe = format!(
        "kubectl -n {} describe deployment,replicaset,pods -l app.kubernetes.io/component={}",
        installation.namespace,
        match id {
            CheckId::Deployment => "webhook",
            CheckId::Admin => "admin",
            _ => "controller",
        }
    );
    let upgrade = |values: &str| installation.install_method().upgrade_command(values);
    if desired == 0 {
        let message = format!("Deployment {name} is scaled to 0");
        let fix = match id {
            CheckId::Deployment => upgrade("--set replicas=2"),
            CheckId::Admin => format!(
                "kubectl -n {} scale deployment {name} --replicas=1",
                installation.namespace
            ),
            _ => upgrade("--set controller.replicas=2"),
        };
        return problem(id, message, fix);
    }
    if available == 0 {
        let cause = rollout_problem(&status);
        let message = format!("no replica of {desired} of Deployment {name} is available{cause}");
        return problem(id, message, describe);
    }
    if available < desired {
        let cause = rollout_problem(&status);
        let message =
            format!("{available} of {desired} replicas of Deployment {name} are available{cause}");
        return Check::warning(id, message, describe);
    }
    if desired == 1 && is_webhook {
        let message = format!(
            "Deployment {name} has one replica: pods that ask for secrets are refused while its node is drained"
        );
        return Check::warning(id, message, upgrade("--set replicas=2"));
    }
    Check::ok(
        id,
        format!("{available} of {desired} replicas of Deployment {name} are available"),
    )
}

pub fn desired_replicas(deployment: &Deployment) -> i32 {
    let spec = deployment.spec.as_ref();
    spec.and_then(|spec| spec.replicas).unwrap_or(1)
}

/// Returns the message of the condition that a rollout does not progress, after a colon; empty without one.
fn rollout_problem(status: &DeploymentStatus) -> String {
    let condition = status.conditions.iter().flatten().find(|condition| {
        (condition.type_ == "ReplicaFailure" && condition.status == "True")
            || (condition.type_ == "Progressing" && condition.status == "False")
    });
    condition
        .and_then(|condition| condition.message.as_deref())
        .map(|message| format!(": {message}"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::doctor::check::Status;
    use crate::doctor::test_support::{change_deployment, healthy_installation};

    fn check_with(change: &Value) -> (Status, String) {
        let mut installation = healthy_installation();
        change_deployment(&mut installation, 0, change);
        let check = evaluate(&installation);
        assert!(check.fix.is_some(), "{check:?}");
        (check.status, check.message)
    }

    #[test]
    fn unavailable_replicas_are_reported() {
        let failure =
            json!([{"type": "ReplicaFailure", "status": "True", "message": "insufficient quota"}]);
        let (status, message) =
            check_with(&json!({"status": {"availableReplicas": null, "conditions": failure}}));
        assert!(
            status == Status::Failure && message.ends_with("is available: insufficient quota"),
            "{message}"
        );
        let (status, _) = check_with(&json!({"status": {"availableReplicas": 1}}));
        assert_eq!(status, Status::Warning);
        let (status, _) = check_with(&json!({"spec": {"replicas": 0}}));
        assert_eq!(status, Status::Failure);
    }

    #[test]
    fn missing_deployment_is_a_failure() {
        let mut installation = healthy_installation();
        installation.deployments = Lookup::Found(Vec::new());
        let check = evaluate(&installation);
        assert!(
            check.status == Status::Failure && check.message.starts_with("no Deployment"),
            "{check:?}"
        );
    }
}
