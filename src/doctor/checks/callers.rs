//! Checks who can send reviews to the webhook's port, and whether the webhook treats every caller as the API server.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPort,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::core::{Selector, SelectorExt as _};

use crate::doctor::check::{Check, CheckId};
use crate::doctor::install_method::InstallMethod;
use crate::doctor::installation::{Installation, argument, container, name, pod_labels, pod_spec};
use crate::kubernetes::Lookup;

/// Name of the container port that receives reviews.
const ADMISSION_PORT: &str = "admission";

/// Command that shows the ranges of the pods, in clusters whose nodes have them.
const POD_CIDRS_COMMAND: &str = "kubectl get nodes -o jsonpath='{.items[*].spec.podCIDRs}'";

/// Reservation of a check that is ok because of a network policy: the API does not show whether it is enforced.
const ENFORCEMENT_NOTE: &str =
    "This counts only where the cluster's network enforces NetworkPolicies";

/// Restriction of the callers that can reach the port.
#[derive(Clone, Debug, PartialEq, Eq)]
enum CallerLimit {
    /// Every policy that opens the port names the callers. The value is the name of one of them.
    Policy(String),
    /// No policy applies, or a rule without peers opens the port.
    Unlimited,
    /// Policies do not apply to pods in the nodes' network.
    HostNetwork,
}

/// Evaluates whether every pod can reach the port, and whether the webhook is configured accordingly.
pub fn evaluate(installation: &Installation) -> Check {
    if let Lookup::Unknown(reason) = &installation.deployments {
        return Check::unchecked(CheckId::Callers, reason.clone());
    }
    let Some(deployment) = installation.deployment("webhook") else {
        return Check::unchecked(
            CheckId::Callers,
            "there is no Deployment of the webhook whose port could be looked at",
        );
    };
    if argument(deployment, "--tls-client-ca").is_some() {
        return Check::ok(
            CheckId::Callers,
            "only callers with a certificate of the client CA are answered",
        );
    }
    let policies = match &installation.network_policies {
        Lookup::Found(policies) => policies.as_slice(),
        Lookup::NotFound => &[],
        Lookup::Unknown(reason) => return Check::unchecked(CheckId::Callers, reason.clone()),
    };
    let trusted = argument(deployment, "--trusted-callers") == Some("true");
    match (caller_limit(deployment, policies), trusted) {
        (CallerLimit::Policy(policy), true) => Check::ok(
            CheckId::Callers,
            format!("NetworkPolicy {policy} names who may reach the port. {ENFORCEMENT_NOTE}"),
        ),
        (CallerLimit::Policy(policy), false) => {
            let message = format!(
                "NetworkPolicy {policy} names who may reach the port, and the webhook is not told so \
                 (--trusted-callers=false): name/* is refused for everybody"
            );
            Check::warning(
                CheckId::Callers,
                message,
                close_command(installation, false),
            )
        }
        (limit, trusted) => {
            let host_network = limit == CallerLimit::HostNetwork;
            Check::warning(
                CheckId::Callers,
                open_port_message(trusted),
                close_command(installation, host_network),
            )
        }
    }
}

fn open_port_message(trusted: bool) -> String {
    let consequence = if trusted {
        "The webhook takes every caller for the API server (--trusted-callers=true), so such a pod learns the names of \
         all keys of any Secret"
    } else {
        "Such a pod learns whether a Secret of a given name exists, and name/* is refused for everybody"
    };
    format!(
        "any pod can send reviews to the webhook's port, as if it were the API server. {consequence}. Set one of \
         tls.clientCA, networkPolicy.podCIDRs or networkPolicy.admission.from. A NetworkPolicy counts only where the \
         cluster's network enforces it"
    )
}

/// Command that closes the port, with placeholders for unknown values.
fn close_command(installation: &Installation, host_network: bool) -> String {
    match installation.install_method() {
        method @ InstallMethod::Helm { .. } if host_network => {
            method.upgrade_command("--set tls.clientCA.configMapName=api-server-ca")
        }
        method @ InstallMethod::Helm { .. } => {
            let upgrade = method.upgrade_command("--set 'networkPolicy.podCIDRs={CIDR,CIDR}'");
            format!("{POD_CIDRS_COMMAND}; {upgrade}")
        }
        InstallMethod::Manifests(_) => {
            format!("{POD_CIDRS_COMMAND} # then: \"Close the port\" in manifests/webhook/README.md")
        }
    }
}

/// Combines the policies: they add up, so one rule that opens the port to everybody is enough.
fn caller_limit(deployment: &Deployment, policies: &[NetworkPolicy]) -> CallerLimit {
    if pod_spec(deployment).is_some_and(|spec| spec.host_network == Some(true)) {
        return CallerLimit::HostNetwork;
    }
    let mut limit = CallerLimit::Unlimited;
    for policy in policies.iter().filter(|policy| selects(policy, deployment)) {
        let rules = policy
            .spec
            .as_ref()
            .and_then(|spec| spec.ingress.as_deref())
            .unwrap_or_default();
        let opening = rules.iter().filter(|rule| opens_port(rule, deployment));
        if opening
            .clone()
            .any(|rule| rule.from.as_deref().unwrap_or_default().is_empty())
        {
            return CallerLimit::Unlimited;
        }
        // A policy without a rule for the port closes it, except for callers that another policy names.
        if limit == CallerLimit::Unlimited || opening.count() > 0 {
            limit = CallerLimit::Policy(name(&policy.metadata).to_owned());
        }
    }
    limit
}

/// Whether a policy limits the ingress of the Deployment's pods.
fn selects(policy: &NetworkPolicy, deployment: &Deployment) -> bool {
    let Some(spec) = &policy.spec else {
        return false;
    };
    let ingress = spec
        .policy_types
        .as_ref()
        .is_none_or(|types| types.iter().any(|kind| kind == "Ingress"));
    let labels = pod_labels(deployment).cloned().unwrap_or_default();
    let selector = Selector::try_from(spec.pod_selector.clone().unwrap_or_default());
    ingress && selector.is_ok_and(|selector| selector.matches(&labels))
}

/// Whether a rule applies to the port that receives reviews.
fn opens_port(rule: &NetworkPolicyIngressRule, deployment: &Deployment) -> bool {
    let ports = container(deployment)
        .and_then(|container| container.ports.as_deref())
        .unwrap_or_default();
    let number = ports
        .iter()
        .find(|port| port.name.as_deref() == Some(ADMISSION_PORT))
        .map(|port| port.container_port);
    let is_admission = |port: &NetworkPolicyPort| {
        port.protocol.as_deref().unwrap_or("TCP") == "TCP"
            && match (&port.port, number) {
                (None, _) => true,
                (Some(IntOrString::String(name)), _) => name == ADMISSION_PORT,
                (Some(IntOrString::Int(first)), Some(number)) => {
                    (*first..=port.end_port.unwrap_or(*first)).contains(&number)
                }
                (Some(IntOrString::Int(_)), None) => false,
            }
    };
    rule.ports
        .as_deref()
        .is_none_or(|ports| ports.is_empty() || ports.iter().any(is_admission))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::doctor::check::Status;
    use crate::doctor::test_support::{healthy_installation, merged};

    /// Returns the shipped installation with changed arguments, pod spec and policy rules.
    fn installation_with(trusted: bool, pod: &Value, ingress: &Value) -> Installation {
        let mut installation = healthy_installation();
        if let Lookup::Found(deployments) = &mut installation.deployments {
            let deployment = &mut deployments[0];
            let mut container =
                serde_json::to_value(container(deployment).expect("a container")).expect("JSON");
            for argument in container["args"].as_array_mut().expect("arguments") {
                if argument == "--trusted-callers=false" {
                    *argument = format!("--trusted-callers={trusted}").into();
                }
            }
            let spec = json!({"spec": {"template": {"spec": {"containers": [container]}}}});
            *deployment = merged(
                &merged(deployment, &spec),
                &json!({"spec": {"template": {"spec": pod}}}),
            );
        }
        if let Lookup::Found(policies) = &mut installation.network_policies
            && !ingress.is_null()
        {
            policies[0] = merged(&policies[0], &json!({"spec": {"ingress": ingress}}));
        }
        installation
    }

    fn named_peers() -> Value {
        json!([{"ports": [{"port": "admission", "protocol": "TCP"}], "from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}])
    }

    #[test]
    fn shipped_port_is_open_and_the_message_names_three_settings() {
        let check = evaluate(&healthy_installation());
        assert_eq!(check.status, Status::Warning);
        assert!(
            check
                .message
                .contains("tls.clientCA, networkPolicy.podCIDRs or networkPolicy.admission.from"),
            "{check:?}"
        );
        assert!(
            check
                .message
                .contains("only where the cluster's network enforces it"),
            "{}",
            check.message
        );
        assert!(
            check.message.contains("name/* is refused"),
            "{}",
            check.message
        );
        assert!(check.fix.expect("a command").starts_with(POD_CIDRS_COMMAND));
    }

    #[rstest]
    #[case(true, json!({}), named_peers(), Status::Ok, "NetworkPolicy floe-secrets-webhook names who may reach")]
    #[case(false, json!({}), named_peers(), Status::Warning, "the webhook is not told so (--trusted-callers=false)")]
    #[case(true, json!({}), json!(null), Status::Warning, "names of all keys of any Secret")]
    #[case(true, json!({"hostNetwork": true}), named_peers(), Status::Warning, "names of all keys of any Secret")]
    // A rule names the port by its number, by a range that has it, or by naming no port.
    #[case(true, json!({}), json!([{"ports": [{"port": 8443}]}]), Status::Warning, "any pod can send")]
    #[case(true, json!({}), json!([{"ports": [{"port": 8000, "endPort": 9000}]}]), Status::Warning, "any pod can send")]
    #[case(true, json!({}), json!([{}]), Status::Warning, "any pod can send")]
    #[case(true, json!({}), json!([{"ports": [{"port": 8444}]}]), Status::Ok, "NetworkPolicy")]
    #[case(true, json!({}), json!([{"ports": [{"port": 8443, "protocol": "UDP"}]}]), Status::Ok, "NetworkPolicy")]
    fn callers_are_evaluated_by_argument_and_policy(
        #[case] trusted: bool,
        #[case] pod: Value,
        #[case] ingress: Value,
        #[case] status: Status,
        #[case] message: &str,
    ) {
        let check = evaluate(&installation_with(trusted, &pod, &ingress));
        assert_eq!(check.status, status, "{check:?}");
        assert!(check.message.contains(message), "{check:?}");
    }

    #[test]
    fn open_policy_opens_a_port_that_another_policy_closes() {
        let mut installation = installation_with(true, &json!({}), &named_peers());
        assert_eq!(evaluate(&installation).status, Status::Ok);
        let other = |selector: Value, types: Value| -> NetworkPolicy {
            let spec = json!({"podSelector": selector, "policyTypes": types, "ingress": [{}]});
            serde_json::from_value(json!({"metadata": {"name": "other"}, "spec": spec}))
                .expect("a policy")
        };
        for (selector, types, status) in [
            (json!({}), json!(["Ingress"]), Status::Warning),
            (json!({}), json!(null), Status::Warning),
            (json!({}), json!(["Egress"]), Status::Ok),
            (
                json!({"matchLabels": {"app": "another"}}),
                json!(["Ingress"]),
                Status::Ok,
            ),
        ] {
            if let Lookup::Found(policies) = &mut installation.network_policies {
                policies.truncate(1);
                policies.push(other(selector.clone(), types.clone()));
            }
            assert_eq!(evaluate(&installation).status, status, "{selector} {types}");
        }
        installation.network_policies = Lookup::Found(Vec::new());
        assert_eq!(evaluate(&installation).status, Status::Warning);
        installation.network_policies = Lookup::Unknown("forbidden".to_owned());
        assert_eq!(evaluate(&installation).status, Status::NotChecked);
        installation.deployments = Lookup::Found(Vec::new());
        assert_eq!(evaluate(&installation).status, Status::NotChecked);
    }

    #[test]
    fn client_ca_closes_the_port_on_any_network() {
        let mut installation = installation_with(true, &json!({"hostNetwork": true}), &json!(null));
        if let Lookup::Found(deployments) = &mut installation.deployments {
            let args = json!([
                "serve",
                "--tls-client-ca=/client-ca/ca.crt",
                "--trusted-callers=true"
            ]);
            let container = json!([{"name": "webhook", "args": args}]);
            deployments[0] = merged(
                &deployments[0],
                &json!({"spec": {"template": {"spec": {"containers": container}}}}),
            );
        }
        assert_eq!(evaluate(&installation).status, Status::Ok);
    }
}
