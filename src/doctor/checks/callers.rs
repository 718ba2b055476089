//! Who can send reviews to the webhook's port, and whether the webhook takes every caller for the API server. Pure.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPort,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::core::{Selector, SelectorExt as _};

use crate::doctor::check::{Check, Id};
use crate::doctor::installation::{
    InstallMethod, Installation, argument, container, name, pod_spec,
};
use crate::kubernetes::Lookup;

/// The container port of reviews, by its name.
const PORT: &str = "admission";

/// Shows the ranges of the pods, where nodes have them.
const POD_CIDRS: &str = "kubectl get nodes -o jsonpath='{.items[*].spec.podCIDRs}'";

/// A policy on a network that enforces none is an object like any other, and nothing in the API tells.
const ENFORCED: &str = "This counts only where the cluster's network enforces NetworkPolicies";

/// What limits callers.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Limit {
    /// Every policy that lets callers to the port names them; the first policy's name.
    Policy(String),
    /// Nothing: a rule without peers, or no policy at all.
    None,
    /// Policies do not apply to pods in the nodes' network.
    HostNetwork,
}

/// Judges whether the port is open to every pod, and whether the webhook knows.
pub fn judge(seen: &Installation) -> Check {
    if let Lookup::Unknown(why) = &seen.deployments {
        return Check::unchecked(Id::Callers, why.clone());
    }
    let Some(deployment) = seen.deployment("webhook") else {
        return Check::unchecked(
            Id::Callers,
            "there is no Deployment of the webhook whose port could be looked at",
        );
    };
    if argument(deployment, "--tls-client-ca").is_some() {
        return Check::ok(
            Id::Callers,
            "only callers with a certificate of the client CA are answered",
        );
    }
    let policies = match &seen.policies {
        Lookup::Found(policies) => policies.as_slice(),
        Lookup::NotFound => &[],
        Lookup::Unknown(why) => return Check::unchecked(Id::Callers, why.clone()),
    };
    let trusted = argument(deployment, "--trusted-callers") == Some("true");
    match (limit(deployment, policies), trusted) {
        (Limit::Policy(policy), true) => Check::ok(
            Id::Callers,
            format!("NetworkPolicy {policy} names who may reach the port. {ENFORCED}"),
        ),
        (Limit::Policy(policy), false) => {
            let says = format!(
                "NetworkPolicy {policy} names who may reach the port, and the webhook is not told so \
                 (--trusted-callers=false): name/* is refused for everybody"
            );
            Check::warning(Id::Callers, says, mend(seen, false))
        }
        (open, trusted) => Check::warning(
            Id::Callers,
            says_open(trusted),
            mend(seen, open == Limit::HostNetwork),
        ),
    }
}

fn says_open(trusted: bool) -> String {
    let learns = if trusted {
        "The webhook takes every caller for the API server (--trusted-callers=true), so such a pod learns the names of \
         all keys of any Secret"
    } else {
        "Such a pod learns whether a Secret of a given name exists, and name/* is refused for everybody"
    };
    format!(
        "any pod can send reviews to the webhook's port, as if it were the API server. {learns}. Set one of \
         tls.clientCA, networkPolicy.podCIDRs or networkPolicy.admission.from. A NetworkPolicy counts only where the \
         cluster's network enforces it"
    )
}

/// What closes the port, as far as it is known here.
fn mend(seen: &Installation, host_network: bool) -> String {
    match seen.origin() {
        origin @ InstallMethod::Helm { .. } if host_network => {
            origin.set("--set tls.clientCA.configMapName=api-server-ca")
        }
        origin @ InstallMethod::Helm { .. } => {
            format!(
                "{POD_CIDRS}; {}",
                origin.set("--set 'networkPolicy.podCIDRs={CIDR,CIDR}'")
            )
        }
        InstallMethod::Manifests(_) => {
            format!("{POD_CIDRS} # then: \"Close the port\" in manifests/webhook/README.md")
        }
    }
}

/// Policies add up: one rule that lets everybody to the port is enough.
fn limit(deployment: &Deployment, policies: &[NetworkPolicy]) -> Limit {
    if pod_spec(deployment).is_some_and(|spec| spec.host_network == Some(true)) {
        return Limit::HostNetwork;
    }
    let mut limit = Limit::None;
    for policy in policies.iter().filter(|policy| selects(policy, deployment)) {
        let rules = policy
            .spec
            .as_ref()
            .and_then(|spec| spec.ingress.as_deref())
            .unwrap_or_default();
        let to_the_port = rules.iter().filter(|rule| opens(rule, deployment));
        if to_the_port
            .clone()
            .any(|rule| rule.from.as_deref().unwrap_or_default().is_empty())
        {
            return Limit::None;
        }
        // A policy without a rule for the port keeps everybody away, but for whom another lets in.
        if limit == Limit::None || to_the_port.count() > 0 {
            limit = Limit::Policy(name(&policy.metadata).to_owned());
        }
    }
    limit
}

/// Whether a policy limits who reaches the pods.
fn selects(policy: &NetworkPolicy, deployment: &Deployment) -> bool {
    let Some(spec) = &policy.spec else {
        return false;
    };
    let ingress = spec
        .policy_types
        .as_ref()
        .is_none_or(|types| types.iter().any(|kind| kind == "Ingress"));
    let labels = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.template.metadata.as_ref()?.labels.clone());
    let selector = Selector::try_from(spec.pod_selector.clone().unwrap_or_default());
    ingress && selector.is_ok_and(|selector| selector.matches(&labels.unwrap_or_default()))
}

/// Whether a rule is about the port of reviews.
fn opens(rule: &NetworkPolicyIngressRule, deployment: &Deployment) -> bool {
    let ports = container(deployment)
        .and_then(|container| container.ports.as_deref())
        .unwrap_or_default();
    let number = ports
        .iter()
        .find(|port| port.name.as_deref() == Some(PORT))
        .map(|port| port.container_port);
    let is_it = |port: &NetworkPolicyPort| {
        port.protocol.as_deref().unwrap_or("TCP") == "TCP"
            && match (&port.port, number) {
                (None, _) => true,
                (Some(IntOrString::String(name)), _) => name == PORT,
                (Some(IntOrString::Int(first)), Some(number)) => {
                    (*first..=port.end_port.unwrap_or(*first)).contains(&number)
                }
                (Some(IntOrString::Int(_)), None) => false,
            }
    };
    rule.ports
        .as_deref()
        .is_none_or(|ports| ports.is_empty() || ports.iter().any(is_it))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::doctor::check::Status;
    use crate::doctor::test_support::{installation, merged};

    /// The shipped installation with other arguments, another pod, and other rules of its policy.
    fn with(trusted: bool, pod: &Value, ingress: &Value) -> Installation {
        let mut seen = installation();
        if let Lookup::Found(deployments) = &mut seen.deployments {
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
        if let Lookup::Found(policies) = &mut seen.policies
            && !ingress.is_null()
        {
            policies[0] = merged(&policies[0], &json!({"spec": {"ingress": ingress}}));
        }
        seen
    }

    fn named_peers() -> Value {
        json!([{"ports": [{"port": "admission", "protocol": "TCP"}], "from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}])
    }

    #[test]
    fn shipped_port_is_open_and_the_three_settings_are_named() {
        let check = judge(&installation());
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
        assert!(check.fix.expect("a command").starts_with(POD_CIDRS));
    }

    #[rstest]
    #[case(true, json!({}), named_peers(), Status::Ok, "NetworkPolicy floe-secrets-webhook names who may reach")]
    #[case(false, json!({}), named_peers(), Status::Warning, "the webhook is not told so (--trusted-callers=false)")]
    #[case(true, json!({}), json!(null), Status::Warning, "names of all keys of any Secret")]
    #[case(true, json!({"hostNetwork": true}), named_peers(), Status::Warning, "names of all keys of any Secret")]
    // A port by its number, in a range, or not named at all is the same port.
    #[case(true, json!({}), json!([{"ports": [{"port": 8443}]}]), Status::Warning, "any pod can send")]
    #[case(true, json!({}), json!([{"ports": [{"port": 8000, "endPort": 9000}]}]), Status::Warning, "any pod can send")]
    #[case(true, json!({}), json!([{}]), Status::Warning, "any pod can send")]
    #[case(true, json!({}), json!([{"ports": [{"port": 8444}]}]), Status::Ok, "NetworkPolicy")]
    #[case(true, json!({}), json!([{"ports": [{"port": 8443, "protocol": "UDP"}]}]), Status::Ok, "NetworkPolicy")]
    fn callers_are_judged_by_argument_and_policy(
        #[case] trusted: bool,
        #[case] pod: Value,
        #[case] ingress: Value,
        #[case] status: Status,
        #[case] says: &str,
    ) {
        let check = judge(&with(trusted, &pod, &ingress));
        assert_eq!(check.status, status, "{check:?}");
        assert!(check.message.contains(says), "{check:?}");
    }

    #[test]
    fn one_open_policy_opens_what_another_closes() {
        let mut seen = with(true, &json!({}), &named_peers());
        assert_eq!(judge(&seen).status, Status::Ok);
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
            if let Lookup::Found(policies) = &mut seen.policies {
                policies.truncate(1);
                policies.push(other(selector.clone(), types.clone()));
            }
            assert_eq!(judge(&seen).status, status, "{selector} {types}");
        }
        seen.policies = Lookup::Found(Vec::new());
        assert_eq!(judge(&seen).status, Status::Warning);
        seen.policies = Lookup::Unknown("forbidden".to_owned());
        assert_eq!(judge(&seen).status, Status::NotChecked);
        seen.deployments = Lookup::Found(Vec::new());
        assert_eq!(judge(&seen).status, Status::NotChecked);
    }

    #[test]
    fn client_ca_closes_the_port_on_any_network() {
        let mut seen = with(true, &json!({"hostNetwork": true}), &json!(null));
        if let Lookup::Found(deployments) = &mut seen.deployments {
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
        assert_eq!(judge(&seen).status, Status::Ok);
    }
}
