//! ClusterRoles of the chart for callers of the admin API, against the table of routes.

use std::collections::BTreeSet;

use floe_secrets_webhook::authz::{API_GROUP, AdminRole, ApiPermission};
use serde_json::{Value, json};

use crate::{existing, merged};
use testbed::helm::{Helm, NAME};

/// Label of aggregated ClusterRoles, without the name of the role.
const AGGREGATE: &str = "rbac.authorization.k8s.io/aggregate-to-";

/// ClusterRoles of the chart that are about the admin API.
fn roles(values: &Value) -> Vec<Value> {
    let objects = Helm::V4
        .objects("r", &merged(existing(), values))
        .into_iter();
    objects
        .filter(|object| {
            let rules = object["rules"].as_array().into_iter().flatten();
            let mut groups = rules.map(|rule| &rule["apiGroups"]);
            object["kind"] == "ClusterRole" && groups.any(|groups| *groups == json!([API_GROUP]))
        })
        .collect()
}

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    let texts = value.as_array().expect("a list").iter();
    texts.map(|text| text.as_str().expect("a text"))
}

/// Every verb and resource of a ClusterRole.
fn permissions(role: &Value) -> BTreeSet<(&str, &str)> {
    let rules = role["rules"].as_array().expect("rules").iter();
    rules
        .flat_map(|rule| {
            assert_eq!(rule["apiGroups"], json!([API_GROUP]), "{role}");
            let resources = texts(&rule["resources"]);
            resources.flat_map(|resource| texts(&rule["verbs"]).map(move |verb| (verb, resource)))
        })
        .collect()
}

#[test]
fn roles_have_the_permissions_of_their_routes() {
    for aggregate in [false, true] {
        let rendered = roles(&json!({"admin": {"clusterRoles": {"aggregate": aggregate}}}));
        assert_eq!(rendered.len(), AdminRole::ALL.len());
        for role in AdminRole::ALL {
            let name = format!("r-{NAME}-{}", role.as_str());
            let object = rendered
                .iter()
                .find(|object| object["metadata"]["name"] == name);
            let object = object.unwrap_or_else(|| panic!("no ClusterRole {name}"));
            let expected = role
                .permissions()
                .map(|ApiPermission { verb, resource }| (verb.as_str(), resource.as_str()));
            assert_eq!(permissions(object), expected.collect(), "{name}");
            let labels = object["metadata"]["labels"].as_object().expect("labels");
            let aggregated: Vec<&str> = labels
                .keys()
                .filter_map(|label| label.strip_prefix(AGGREGATE))
                .collect();
            let expected = role.aggregate_to().filter(|_| aggregate);
            assert_eq!(aggregated, Vec::from_iter(expected), "{name}");
        }
    }
}

#[test]
fn roles_are_there_only_where_they_are_wanted() {
    for values in [
        json!({"admin": {"clusterRoles": {"create": false}}}),
        json!({"admin": {"enabled": false}}),
        json!({"rbac": {"create": false}}),
    ] {
        assert_eq!(roles(&values), [Value::Null; 0], "{values}");
    }
}
