//! Objects of both policies and their bindings.

use injection::{PREFIX, Sidecar};
use serde_json::{Value, json};

use super::MAX_ITEMS;
use super::expressions::{
    annotations, distinct_names, has_annotations, has_env_from, incomplete_containers,
    is_secret_name, literal, patch, target_indices, written_names,
};

/// Name of every object.
const NAME: &str = "floe-secrets-env-from";

const API_VERSION: &str = "admissionregistration.k8s.io/v1";

/// Policies and bindings, in the order in which they are applied: what refuses comes before what injects.
/// `exempt_namespaces` are those whose pods are left alone, `sidecars` the containers that get nothing.
#[must_use]
pub fn objects(exempt_namespaces: &[String], sidecars: &[Sidecar]) -> Vec<Value> {
    let constraints = match_constraints(exempt_namespaces);
    let variables = variables(sidecars);
    vec![
        validating_policy(&constraints, &variables),
        binding(
            "ValidatingAdmissionPolicyBinding",
            &json!({"policyName": NAME, "validationActions": ["Deny"]}),
        ),
        mutating_policy(&constraints, &variables),
        binding(
            "MutatingAdmissionPolicyBinding",
            &json!({"policyName": NAME}),
        ),
    ]
}

fn match_constraints(exempt_namespaces: &[String]) -> Value {
    json!({
        "namespaceSelector": {"matchExpressions": [
            {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": exempt_namespaces},
        ]},
        "resourceRules": [
            {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"], "scope": "Namespaced"},
        ],
    })
}

/// Variables of both policies. Each may use those before it.
fn variables(sidecars: &[Sidecar]) -> Value {
    json!([
        {"name": "written", "expression": written_names()},
        {"name": "names", "expression": distinct_names()},
        {"name": "targets", "expression": target_indices(sidecars)},
    ])
}

fn mutating_policy(constraints: &Value, variables: &Value) -> Value {
    json!({
        "apiVersion": API_VERSION,
        "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": NAME},
        "spec": {
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "matchConstraints": constraints,
            "matchConditions": [{"name": "requests-secrets", "expression": has_env_from()}],
            "variables": variables,
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": patch()}}],
        },
    })
}

fn validating_policy(constraints: &Value, variables: &Value) -> Value {
    json!({
        "apiVersion": API_VERSION,
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": NAME},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": constraints,
            "matchConditions": [{"name": "has-annotations", "expression": has_annotations()}],
            "variables": variables,
            "validations": validations(),
        },
    })
}

/// Validations, with a message each. The API server returns the message of the first that fails.
fn validations() -> Value {
    let served = ["env-from", "inject"].map(|key| literal(&format!("{PREFIX}{key}")));
    let is_served = format!(
        "!key.startsWith({}) || key in [{}]",
        literal(PREFIX),
        served.join(", ")
    );
    let [env_from, inject] = served;
    let annotations = annotations();
    json!([
        {
            "expression": format!("{annotations}.all(key, {is_served})"),
            "messageExpression": format!(
                "\"not served in this cluster, which injects secrets without the webhook: \" + \
                 {annotations}.filter(key, !({is_served})).join(\", \") + \". Remove them, or use {PREFIX}env-from\""
            ),
        },
        {
            "expression": format!("{annotations}[?{inject}].orValue(\"true\").trim() in [\"true\", \"false\"]"),
            "message": format!("{PREFIX}inject must be true or false"),
        },
        {
            "expression": format!("!({env_from} in {annotations}) || size(variables.written) > 0"),
            "message": format!("{PREFIX}env-from names no secret: write names of Secrets, or remove the annotation"),
        },
        {
            "expression": format!("size(variables.written) <= {MAX_ITEMS}"),
            "message": format!("{PREFIX}env-from names more than {MAX_ITEMS} secrets, which is the limit without the webhook"),
        },
        {
            "expression": format!("variables.written.all(name, {})", is_secret_name("name")),
            "message": format!("{PREFIX}env-from has a word that is no name of a Secret. Without the webhook, secrets of other sources cannot be injected"),
        },
        {
            "expression": format!("size(variables.written) == 0 || size(object.spec.containers) <= {MAX_ITEMS}"),
            "message": format!("the pod has more than {MAX_ITEMS} containers, which is the limit without the webhook"),
        },
        {
            "expression": "size(variables.written) == 0 || size(variables.targets) > 0",
            "message": "all containers of the pod are on the list of sidecars, so none would get the secrets: rename the container, or let the list be changed",
        },
        {
            "expression": format!("size({}) == 0", incomplete_containers()),
            "messageExpression": format!(
                "\"containers that would run without the secrets of {PREFIX}env-from: \" + {}.join(\", \") + \
                 \". A container that a webhook adds belongs on the policies' list of sidecars\"",
                incomplete_containers()
            ),
        },
    ])
}

fn binding(kind: &str, spec: &Value) -> Value {
    json!({"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": NAME}, "spec": spec})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn refusing_policy_comes_first_and_both_fail_closed() {
        let objects = objects(&names(&["kube-system"]), &[]);
        let kinds: Vec<&str> = objects.iter().filter_map(|o| o["kind"].as_str()).collect();
        assert_eq!(
            kinds,
            [
                "ValidatingAdmissionPolicy",
                "ValidatingAdmissionPolicyBinding",
                "MutatingAdmissionPolicy",
                "MutatingAdmissionPolicyBinding"
            ]
        );
        for policy in objects.iter().filter(|o| o["spec"]["variables"].is_array()) {
            assert_eq!(policy["spec"]["failurePolicy"], "Fail");
        }
    }

    #[test]
    fn exempt_namespaces_are_in_both_policies() {
        let objects = objects(&names(&["kube-system", "mine"]), &[]);
        let policies = objects
            .iter()
            .filter(|o| o["spec"]["matchConstraints"].is_object());
        let values: Vec<&Value> = policies
            .map(|o| &o["spec"]["matchConstraints"]["namespaceSelector"]["matchExpressions"][0]["values"])
            .collect();
        assert_eq!(values, [&json!(["kube-system", "mine"]); 2]);
    }

    #[test]
    fn every_validation_has_a_message() {
        let validations = validations();
        let rows = validations.as_array().unwrap();
        assert_eq!(rows.len(), 8);
        for row in rows {
            assert!(
                row["message"].is_string() || row["messageExpression"].is_string(),
                "{row}"
            );
        }
    }
}
