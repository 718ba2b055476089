//! The replicas of the webhook and of the controller: versions, how many are available, who leads. Pure.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use crate::doctor::check::{Check, Id};
use crate::doctor::installation::{Installation, container, includes, name};
use crate::kubernetes::Lookup;

/// This program's version.
const OWN: &str = env!("CARGO_PKG_VERSION");

/// How long after its end a lease is still believed: clocks of the API server and of the holder differ.
const SKEW: i64 = 30;

/// Judges them.
pub fn judge(seen: &Installation) -> Vec<Check> {
    vec![
        versions(seen),
        deployment(seen),
        budget(seen),
        controller(seen),
    ]
}

/// What runs, and whether this program knows it.
fn versions(seen: &Installation) -> Check {
    let deployments = match &seen.deployments {
        Lookup::Found(deployments) => deployments.as_slice(),
        Lookup::NotFound => &[],
        Lookup::Unknown(why) => return Check::unchecked(Id::Versions, why.clone()),
    };
    let ours: Vec<&Deployment> = ["webhook", "controller"]
        .into_iter()
        .filter_map(|component| seen.deployment(component))
        .collect();
    let Some(first) = ours.first() else {
        let many = deployments.len();
        return Check::unchecked(
            Id::Versions,
            format!(
                "none of the {many} Deployments of {} is ours",
                seen.namespace
            ),
        );
    };
    let labelled = ours.iter().filter_map(|deployment| {
        deployment
            .metadata
            .labels
            .as_ref()?
            .get("app.kubernetes.io/version")
    });
    let labelled: BTreeSet<&str> = labelled.map(String::as_str).collect();
    let wanted: BTreeSet<&str> = ours
        .iter()
        .filter_map(|deployment| container(deployment)?.image.as_deref())
        .collect();
    let pods = seen.pods.there().map(Vec::as_slice).unwrap_or_default();
    let ours_too = |pod: &&Pod| {
        pod.metadata
            .labels
            .as_ref()
            .is_some_and(|labels| includes(labels, seen.selector()))
    };
    let running = pods
        .iter()
        .filter(ours_too)
        .filter_map(|pod| pod.spec.as_ref()?.containers.first()?.image.as_deref());
    let old: BTreeSet<&str> = running.filter(|image| !wanted.contains(image)).collect();
    let list = |of: &BTreeSet<&str>| of.iter().copied().collect::<Vec<_>>().join(", ");
    if !old.is_empty() {
        let says = format!(
            "pods of another image still run ({}; wanted: {})",
            list(&old),
            list(&wanted)
        );
        let mend = format!(
            "kubectl -n {} rollout status deployment {}",
            seen.namespace,
            name(&first.metadata)
        );
        return Check::warning(Id::Versions, says, mend);
    }
    if labelled.iter().any(|version| *version != OWN) {
        let says = format!(
            "{} runs, and this program is {OWN}: use the program of the version that runs, or upgrade",
            list(&labelled)
        );
        return Check::warning(Id::Versions, says, seen.origin().again());
    }
    Check::ok(
        Id::Versions,
        format!("{} ({})", list(&labelled), list(&wanted)),
    )
}

/// How many replicas there are.
fn deployment(seen: &Installation) -> Check {
    if let Lookup::Unknown(why) = &seen.deployments {
        return Check::unchecked(Id::Deployment, why.clone());
    }
    let Some(deployment) = seen.deployment("webhook") else {
        return if seen.service_name.is_none() {
            Check::ok(Id::Deployment, "none: the webhook runs elsewhere")
        } else {
            let says = format!(
                "no Deployment of the webhook in namespace {}",
                seen.namespace
            );
            Check::failure(Id::Deployment, says, seen.origin().again())
        };
    };
    replicas(Id::Deployment, deployment, seen)
}

fn replicas(id: Id, deployment: &Deployment, seen: &Installation) -> Check {
    let (name, namespace, must) = (
        name(&deployment.metadata),
        &seen.namespace,
        id == Id::Deployment,
    );
    let wanted = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .unwrap_or(1);
    let status = deployment.status.clone().unwrap_or_default();
    let available = status.available_replicas.unwrap_or(0);
    let describe = format!(
        "kubectl -n {namespace} describe deployment,replicaset,pods -l app.kubernetes.io/component={}",
        if must { "webhook" } else { "controller" }
    );
    if wanted == 0 {
        let says = format!("Deployment {name} is scaled to 0");
        let mend = seen.origin().set(if must {
            "--set replicas=2"
        } else {
            "--set controller.replicas=2"
        });
        return if must {
            Check::failure(id, says, mend)
        } else {
            Check::warning(id, says, mend)
        };
    }
    let because = status.conditions.iter().flatten().find(|condition| {
        (condition.type_ == "ReplicaFailure" && condition.status == "True")
            || (condition.type_ == "Progressing" && condition.status == "False")
    });
    let because = because
        .and_then(|condition| condition.message.as_deref())
        .map(|message| format!(": {message}"));
    let because = because.unwrap_or_default();
    if available == 0 {
        let says = format!("no replica of {wanted} of Deployment {name} is available{because}");
        return if must {
            Check::failure(id, says, describe)
        } else {
            Check::warning(id, says, describe)
        };
    }
    if available < wanted {
        let says =
            format!("{available} of {wanted} replicas of Deployment {name} are available{because}");
        return Check::warning(id, says, describe);
    }
    if wanted == 1 && must {
        let says = format!(
            "Deployment {name} has one replica: pods that ask for secrets are refused while its node is drained"
        );
        let mend = seen.origin().set("--set replicas=2");
        return Check::warning(id, says, mend);
    }
    Check::ok(
        id,
        format!("{available} of {wanted} replicas of Deployment {name} are available"),
    )
}

/// Whether a drain takes replicas one by one, and can end.
fn budget(seen: &Installation) -> Check {
    let budgets = match &seen.budgets {
        Lookup::Found(budgets) => budgets.as_slice(),
        Lookup::NotFound => &[],
        Lookup::Unknown(why) => return Check::unchecked(Id::DisruptionBudget, why.clone()),
    };
    let Some(deployment) = seen.deployment("webhook") else {
        return Check::unchecked(Id::DisruptionBudget, "there is no Deployment to protect");
    };
    let labels = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.template.metadata.as_ref()?.labels.clone());
    let labels = labels.unwrap_or_default();
    let covers = |budget: &&PodDisruptionBudget| {
        let selector = budget
            .spec
            .as_ref()
            .and_then(|spec| spec.selector.as_ref()?.match_labels.as_ref());
        selector.is_some_and(|selector| includes(&labels, Some(selector)))
    };
    let wanted = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .unwrap_or(1);
    let Some(budget) = budgets.iter().find(covers) else {
        return if wanted > 1 {
            let says = "none: a drain may take all replicas at once";
            Check::warning(Id::DisruptionBudget, says, seen.origin().again())
        } else {
            Check::ok(Id::DisruptionBudget, "none, for one replica")
        };
    };
    let name = name(&budget.metadata);
    let status = budget.status.clone().unwrap_or_default();
    let healthy = status.current_healthy >= status.expected_pods && status.expected_pods > 0;
    if healthy && status.disruptions_allowed == 0 {
        let says = format!(
            "PodDisruptionBudget {name} allows no disruption although all replicas are healthy: no node can be drained"
        );
        return Check::warning(Id::DisruptionBudget, says, seen.origin().again());
    }
    Check::ok(Id::DisruptionBudget, format!("PodDisruptionBudget {name}"))
}

/// The controller's replicas, and that one of them leads.
fn controller(seen: &Installation) -> Check {
    if let Lookup::Unknown(why) = &seen.deployments {
        return Check::unchecked(Id::Controller, why.clone());
    }
    let namespace = &seen.namespace;
    let Some(deployment) = seen.deployment("controller") else {
        return Check::ok(
            Id::Controller,
            "not installed: no drift scan, no retries of refused pods, no self-managed certificates",
        );
    };
    let there = replicas(Id::Controller, deployment, seen);
    let logs =
        format!("kubectl -n {namespace} logs -l app.kubernetes.io/component=controller --tail=50");
    let lease_name = seen
        .argument("controller", "--lease-name")
        .unwrap_or("floe-secrets-controller");
    let lease = match &seen.lease {
        Lookup::Found(lease) => lease,
        Lookup::NotFound => {
            let says = format!("Lease {lease_name} not found: no controller can lead");
            return Check::warning(Id::Controller, says, seen.origin().again());
        }
        Lookup::Unknown(why) => return Check::unchecked(Id::Controller, why.clone()),
    };
    if there.fix.is_some() {
        return there;
    }
    let spec = lease.spec.clone().unwrap_or_default();
    let holder = spec.holder_identity.unwrap_or_default();
    if holder.is_empty() {
        return Check::warning(
            Id::Controller,
            format!("nobody holds Lease {lease_name}"),
            logs,
        );
    }
    let renewed = spec.renew_time.map_or(0, |time| time.0.as_second());
    let silent = seen.now.as_second() - renewed;
    if silent > i64::from(spec.lease_duration_seconds.unwrap_or(15)) + SKEW {
        let says =
            format!("{holder} holds Lease {lease_name} and has not renewed it for {silent} s");
        return Check::warning(Id::Controller, says, logs);
    }
    Check::ok(Id::Controller, format!("{}; {holder} leads", there.message))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::{Value, json};

    use super::*;
    use crate::doctor::check::Status;
    use crate::doctor::test_support::{NOW, installation, merged};

    fn of(id: Id, change: impl FnOnce(&mut Installation)) -> (Status, String) {
        let mut seen = installation();
        change(&mut seen);
        let check = judge(&seen)
            .into_iter()
            .find(|check| check.check == id)
            .expect("a check");
        assert_eq!(
            check.fix.is_some(),
            matches!(check.status, Status::Warning | Status::Failure),
            "{check:?}"
        );
        (check.status, check.message)
    }

    fn deployments(seen: &mut Installation, which: usize, change: &Value) {
        if let Lookup::Found(deployments) = &mut seen.deployments {
            deployments[which] = merged(&deployments[which], change);
        }
    }

    #[test]
    fn two_replicas_of_this_version_are_well() {
        let all = judge(&installation());
        assert!(
            all.iter().all(|check| check.status == Status::Ok),
            "{all:#?}"
        );
        assert_eq!(
            all[3].message,
            "2 of 2 replicas of Deployment floe-secrets-controller are available; a leads"
        );
    }

    #[test]
    fn replicas_that_are_missing_are_told() {
        let (status, says) = of(Id::Deployment, |seen| {
            let failure = json!([{"type": "ReplicaFailure", "status": "True", "message": "insufficient quota"}]);
            deployments(
                seen,
                0,
                &json!({"status": {"availableReplicas": null, "conditions": failure}}),
            );
        });
        assert!(
            status == Status::Failure && says.ends_with("is available: insufficient quota"),
            "{says}"
        );
        let (status, _) = of(Id::Deployment, |seen| {
            deployments(seen, 0, &json!({"status": {"availableReplicas": 1}}));
        });
        assert_eq!(status, Status::Warning);
        let (status, _) = of(Id::Deployment, |seen| {
            deployments(seen, 0, &json!({"spec": {"replicas": 0}}));
        });
        assert_eq!(status, Status::Failure);
        let (status, says) = of(Id::Deployment, |seen| {
            seen.deployments = Lookup::Found(Vec::new());
        });
        assert!(
            status == Status::Failure && says.starts_with("no Deployment"),
            "{says}"
        );
        let (status, _) = of(Id::DisruptionBudget, |seen| {
            seen.budgets = Lookup::Found(Vec::new());
        });
        assert_eq!(status, Status::Warning);
    }

    #[test]
    fn another_version_is_told() {
        let (status, says) = of(Id::Versions, |seen| {
            deployments(
                seen,
                1,
                &json!({"metadata": {"labels": {"app.kubernetes.io/version": "0.0.9"}}}),
            );
        });
        assert!(
            status == Status::Warning && says.contains("0.0.9"),
            "{says}"
        );
        let (status, says) = of(Id::Versions, |seen| {
            let labels = json!({"app.kubernetes.io/name": "floe-secrets-webhook",
                "app.kubernetes.io/instance": "floe-secrets-webhook", "app.kubernetes.io/component": "webhook"});
            let old = json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "webhook", "image": "floe-secrets-webhook:0.0.9"}]}});
            seen.pods = Lookup::Found(vec![serde_json::from_value(old).expect("a pod")]);
        });
        assert!(
            status == Status::Warning && says.starts_with("pods of another image still run"),
            "{says}"
        );
    }

    #[test]
    fn a_leader_that_is_silent_is_told() {
        let at = |second: i64| {
            Timestamp::from_second(NOW + second)
                .expect("a time")
                .to_string()
        };
        let lease = |holder: &str, renewed: i64| {
            of(Id::Controller, |seen| {
                let spec = json!({"holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": at(renewed)});
                let lease =
                    serde_json::from_value(json!({"metadata": {}, "spec": spec})).expect("a lease");
                seen.lease = Lookup::Found(lease);
            })
        };
        assert_eq!(lease("a", -20).0, Status::Ok);
        let (status, says) = lease("a", -46);
        assert!(
            status == Status::Warning && says.ends_with("has not renewed it for 46 s"),
            "{says}"
        );
        assert_eq!(lease("", 0).0, Status::Warning);
        assert_eq!(
            of(Id::Controller, |seen| seen.lease = Lookup::NotFound).0,
            Status::Warning
        );
    }
}
