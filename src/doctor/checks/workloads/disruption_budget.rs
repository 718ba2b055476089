//! Checks the disruption budget of the webhook.

use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use super::replicas::desired_replicas;
use crate::doctor::check::{Check, CheckId};
use crate::doctor::installation::{Installation, includes, name, pod_labels};
use crate::kubernetes::Lookup;

/// Evaluates whether a drain evicts the replicas one by one, and whether it can finish.
pub fn evaluate(installation: &Installation) -> Check {
    let budgets = match &installation.budgets {
        Lookup::Found(budgets) => budgets.as_slice(),
        Lookup::NotFound => &[],
        Lookup::Unknown(reason) => {
            return Check::unchecked(CheckId::DisruptionBudget, reason.clone());
        }
    };
    let Some(deployment) = installation.deployment("webhook") else {
        return Check::unchecked(
            CheckId::DisruptionBudget,
            "there is no Deployment to protect",
        );
    };
    let reinstall = || installation.install_method().reinstall_command();
    let labels = pod_labels(deployment).cloned().unwrap_or_default();
    let covers = |budget: &&PodDisruptionBudget| {
        let selector = budget
            .spec
            .as_ref()
            .and_then(|spec| spec.selector.as_ref()?.match_labels.as_ref());
        selector.is_some_and(|selector| includes(&labels, Some(selector)))
    };
    let Some(budget) = budgets.iter().find(covers) else {
        return if desired_replicas(deployment) > 1 {
            let message = "none: a drain may take all replicas at once";
            Check::warning(CheckId::DisruptionBudget, message, reinstall())
        } else {
            Check::ok(CheckId::DisruptionBudget, "none, for one replica")
        };
    };
    let name = name(&budget.metadata);
    let status = budget.status.clone().unwrap_or_default();
    let healthy = status.current_healthy >= status.expected_pods && status.expected_pods > 0;
    if healthy && status.disruptions_allowed == 0 {
        let message = format!(
            "PodDisruptionBudget {name} allows no disruption although all replicas are healthy: no node can be drained"
        );
        return Check::warning(CheckId::DisruptionBudget, message, reinstall());
    }
    Check::ok(
        CheckId::DisruptionBudget,
        format!("PodDisruptionBudget {name}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::check::Status;
    use crate::doctor::test_support::healthy_installation;

    #[test]
    fn missing_budget_of_two_replicas_is_reported() {
        let mut installation = healthy_installation();
        installation.budgets = Lookup::Found(Vec::new());
        let check = evaluate(&installation);
        assert_eq!(check.status, Status::Warning);
        assert!(check.fix.is_some(), "{check:?}");
    }
}
