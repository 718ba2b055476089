//! Permissions of the chart's roles, by the table of routes.

use std::collections::{BTreeMap, BTreeSet};

use super::question::{AccessResource, AccessVerb, ApiPermission};
use super::role::AdminRole;
use super::route::{ROUTES, RouteAccess};

impl AdminRole {
    /// Permissions of the role.
    pub fn permissions(self) -> impl Iterator<Item = ApiPermission> {
        let has_role = move |roles: &[Self]| roles.contains(&self);
        let of_role = ROUTES.iter().filter(move |route| has_role(route.roles));
        of_role.filter_map(|route| match route.access {
            RouteAccess::Permission(permission) => Some(permission),
            RouteAccess::AnyCaller => None,
        })
    }

    /// Verbs of the role by resource.
    #[must_use]
    pub fn rules(self) -> BTreeMap<AccessResource, BTreeSet<AccessVerb>> {
        let mut rules: BTreeMap<AccessResource, BTreeSet<AccessVerb>> = BTreeMap::new();
        for ApiPermission { verb, resource } in self.permissions() {
            rules.entry(resource).or_default().insert(verb);
        }
        rules
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::*;
    use crate::authz::API_GROUP;

    #[test]
    fn values_are_read_by_one_role_that_has_nothing_else() {
        let value = ApiPermission {
            verb: AccessVerb::Get,
            resource: AccessResource::SecretValue,
        };
        for role in AdminRole::ALL {
            let reveals = role.permissions().any(|permission| permission == value);
            assert_eq!(reveals, role == AdminRole::Revealer, "{role:?}");
            assert!(!reveals || role.aggregate_to().is_none());
        }
        assert_eq!(AdminRole::Revealer.permissions().count(), 1);
    }

    #[test]
    fn editor_may_do_what_a_viewer_may() {
        let editor: BTreeSet<_> = AdminRole::Editor.permissions().collect();
        assert!(
            AdminRole::Viewer
                .permissions()
                .all(|each| editor.contains(&each))
        );
    }

    /// Permissions of a rendered ClusterRole, as texts.
    fn rendered(role: &Value) -> BTreeSet<(String, String)> {
        let texts = |value: &Value| -> Vec<String> {
            let texts = value.as_array().expect("a list").iter();
            texts
                .map(|text| text.as_str().expect("a text").to_owned())
                .collect()
        };
        let rules = role["rules"].as_array().expect("rules").iter();
        rules
            .flat_map(|rule| {
                assert_eq!(rule["apiGroups"], json!([API_GROUP]));
                let verbs = texts(&rule["verbs"]);
                texts(&rule["resources"])
                    .into_iter()
                    .flat_map(move |resource| {
                        verbs
                            .clone()
                            .into_iter()
                            .map(move |verb| (verb, resource.clone()))
                    })
            })
            .collect()
    }

    #[test]
    fn manifest_has_the_roles_of_the_routes() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/webhook/admin-roles.yaml");
        let text = std::fs::read_to_string(path).unwrap();
        let roles: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        assert_eq!(roles.len(), AdminRole::ALL.len());
        for (role, manifest) in AdminRole::ALL.into_iter().zip(&roles) {
            assert_eq!(manifest["kind"], "ClusterRole");
            let name = format!("floe-secrets-webhook-{}", role.as_str());
            assert_eq!(manifest["metadata"]["name"], name);
            let expected = role.permissions().map(|ApiPermission { verb, resource }| {
                (verb.as_str().to_owned(), resource.as_str().to_owned())
            });
            assert_eq!(rendered(manifest), expected.collect(), "{role:?}");
        }
    }
}
