//! Permissions that the webhook, its controller, `admin` and the doctor need. Those of the first three are read from the
//! shipped roles.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use k8s_openapi::api::rbac::v1::PolicyRule;

use super::permission::Permission;
use crate::doctor::installation::{CertificateSource, DEFAULT_LEASE, Installation};

const CONFIGURATIONS: &str = "mutatingwebhookconfigurations.admissionregistration.k8s.io";

/// Kinds that the scan for drift reads.
const SCANNED_KINDS: [&str; 6] = [
    "pods",
    "deployments.apps",
    "statefulsets.apps",
    "daemonsets.apps",
    "jobs.batch",
    "cronjobs.batch",
];

/// Kinds that have no namespace, whatever the scope is.
const CLUSTER_KINDS: [&str; 1] = ["tokenreviews.authentication.k8s.io"];

/// Name of the Secret for the key of checkpoints in the shipped role.
const DEFAULT_KEY_SECRET: &str = "floe-secrets-webhook-audit-key";

/// A rule of a shipped role.
#[derive(Clone, Debug)]
struct ShippedRule {
    /// The role is a `Role`, of the webhook's own namespace, and not a `ClusterRole`.
    namespaced: bool,
    rule: PolicyRule,
}

fn parse_rules(text: &str) -> Vec<ShippedRule> {
    let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(text).unwrap_or_default();
    let mut shipped = Vec::new();
    for mut document in documents {
        let namespaced = match document.get("kind").and_then(serde_json::Value::as_str) {
            Some("ClusterRole") => false,
            Some("Role") => true,
            _ => continue,
        };
        let rules: Vec<PolicyRule> = document
            .get_mut("rules")
            .and_then(|rules| serde_json::from_value(rules.take()).ok())
            .unwrap_or_default();
        shipped.extend(
            rules
                .into_iter()
                .map(|rule| ShippedRule { namespaced, rule }),
        );
    }
    shipped
}

fn webhook_rules() -> &'static [ShippedRule] {
    static RULES: OnceLock<Vec<ShippedRule>> = OnceLock::new();
    RULES.get_or_init(|| parse_rules(include_str!("../../../../manifests/webhook/rbac.yaml")))
}

fn controller_rules() -> &'static [ShippedRule] {
    static RULES: OnceLock<Vec<ShippedRule>> = OnceLock::new();
    RULES.get_or_init(|| {
        parse_rules(include_str!(
            "../../../../manifests/webhook/controller-rbac.yaml"
        ))
    })
}

fn admin_rules() -> &'static [ShippedRule] {
    static RULES: OnceLock<Vec<ShippedRule>> = OnceLock::new();
    RULES.get_or_init(|| {
        parse_rules(include_str!(
            "../../../../manifests/webhook/admin-rbac.yaml"
        ))
    })
}

/// Expands the rules of a role to single permissions.
fn expand(rules: &[ShippedRule], installation: &Installation) -> BTreeSet<Permission> {
    let scope = installation.scope();
    let mut permissions = BTreeSet::new();
    for ShippedRule { namespaced, rule } in rules {
        for (verb, kind) in verbs_and_kinds(rule) {
            if *namespaced {
                let permission = Permission::new(verb, &kind, &installation.namespace);
                let names = rule.resource_names.iter().flatten();
                let of_names =
                    names.map(|name| permission.clone().named(actual(name, installation)));
                permissions.extend(of_names);
            } else if let Some(names) = &rule.resource_names {
                let of_name = |name: &String| Permission::new(verb, &kind, "").named(name);
                permissions.extend(names.iter().map(of_name));
            } else if scope.is_empty() || CLUSTER_KINDS.contains(&kind.as_str()) {
                permissions.insert(Permission::new(verb, &kind, ""));
            } else {
                permissions.extend(
                    scope
                        .iter()
                        .map(|namespace| Permission::new(verb, &kind, namespace)),
                );
            }
        }
    }
    permissions
}

/// Returns the name of the object in this installation. Of the shipped names, a release may change those of the Lease
/// and of the key's Secret.
fn actual<'n>(shipped: &'n str, installation: &'n Installation) -> &'n str {
    match shipped {
        DEFAULT_LEASE => installation.lease_name(),
        DEFAULT_KEY_SECRET => installation
            .argument("admin", "--checkpoint-key")
            .unwrap_or(shipped),
        _ => shipped,
    }
}

fn verbs_and_kinds(rule: &PolicyRule) -> impl Iterator<Item = (&str, String)> {
    let groups = rule.api_groups.iter().flatten();
    let kinds = groups.flat_map(|group| {
        let resources = rule.resources.iter().flatten();
        resources.map(move |resource| {
            if group.is_empty() {
                resource.clone()
            } else {
                format!("{resource}.{group}")
            }
        })
    });
    kinds.flat_map(|kind| {
        rule.verbs
            .iter()
            .map(move |verb| (verb.as_str(), kind.clone()))
    })
}

/// Permissions of the webhook's ServiceAccount.
pub fn of_webhook(installation: &Installation) -> BTreeSet<Permission> {
    let namespace = &installation.namespace;
    let mut permissions = expand(webhook_rules(), installation);
    if installation.certificate_source() == CertificateSource::SelfManaged {
        permissions.insert(
            Permission::new("get", "secrets", namespace).named(&installation.secret_name()),
        );
    }
    // The webhook logs what cert-manager reports about this Certificate.
    if let Some(name) = installation.argument("webhook", "--tls-certificate") {
        permissions
            .insert(Permission::new("get", "certificates.cert-manager.io", namespace).named(name));
    }
    permissions
}

/// Permissions of the controller's ServiceAccount, without those of features that are disabled.
pub fn of_controller(installation: &Installation) -> BTreeSet<Permission> {
    let mut permissions = expand(controller_rules(), installation);
    // `--namespaces` names the namespaces, so they are not listed.
    if !installation.scope().is_empty() {
        permissions
            .retain(|permission| permission.resource != "namespaces" || permission.verb != "list");
    }
    // `--nudge` is the flag's name in older versions.
    if ["--retry-owners", "--nudge"]
        .iter()
        .any(|flag| installation.argument("controller", flag) == Some("false"))
    {
        permissions.retain(|permission| !is_for_retries(permission));
    }
    if let Some(secret) = installation.argument("controller", "--tls-secret") {
        let configuration = &installation.configuration_name;
        for verb in ["get", "patch"] {
            permissions.extend([
                Permission::new(verb, "secrets", &installation.namespace).named(secret),
                Permission::new(verb, CONFIGURATIONS, "").named(configuration),
            ]);
        }
    }
    if let Some(secret) = installation.argument("controller", "--admin-tls-secret") {
        let of_verb =
            |verb| Permission::new(verb, "secrets", &installation.namespace).named(secret);
        permissions.extend(["get", "patch"].map(of_verb));
    }
    permissions
}

/// Permissions of the ServiceAccount of `admin`, without those of features that are disabled.
pub fn of_admin(installation: &Installation) -> BTreeSet<Permission> {
    let namespace = &installation.namespace;
    let mut permissions = expand(admin_rules(), installation);
    if installation.argument("admin", "--checkpoint-key").is_none() {
        permissions.retain(|permission| permission.resource != "secrets");
    }
    if let Some(secret) = installation.argument("admin", "--tls-secret") {
        permissions.insert(Permission::new("get", "secrets", namespace).named(secret));
    }
    if let Some(name) = installation.argument("admin", "--tls-certificate") {
        permissions
            .insert(Permission::new("get", "certificates.cert-manager.io", namespace).named(name));
    }
    permissions
}

/// Whether only the retries of refused pods need a permission. Events are also published without them.
fn is_for_retries(permission: &Permission) -> bool {
    let Permission { resource, verb, .. } = permission;
    match resource.as_str() {
        "events" => matches!(verb.as_str(), "list" | "watch"),
        "secrets" => permission.name.is_empty() || matches!(verb.as_str(), "patch" | "watch"),
        "replicasets" => true,
        _ => matches!(verb.as_str(), "patch" | "watch"),
    }
}

/// Permissions that the doctor needs. Secrets are not among them: they are read only if the caller may read them
/// anyway.
pub fn of_doctor(
    installation: &Installation,
    probe_namespace: Option<&str>,
    drift: bool,
) -> BTreeSet<Permission> {
    let own = installation.namespace.as_str();
    let mut permissions = BTreeSet::from([
        Permission::new("list", CONFIGURATIONS, ""),
        Permission::new("list", "deployments.apps", own),
        Permission::new("list", "pods", own),
        Permission::new("list", "poddisruptionbudgets.policy", own),
        Permission::new("list", "networkpolicies.networking.k8s.io", own),
        Permission::new("get", "leases.coordination.k8s.io", own),
        Permission::new("create", "subjectaccessreviews.authorization.k8s.io", ""),
        Permission::new("list", "deployments.apps", ""),
    ]);
    if installation.service_name.is_some() {
        permissions.extend([
            Permission::new("get", "services", own),
            Permission::new("list", "endpointslices.discovery.k8s.io", own),
        ]);
    }
    if let CertificateSource::CertManager { namespace, .. } = installation.certificate_source() {
        permissions.extend([
            Permission::new("get", "certificates.cert-manager.io", &namespace),
            Permission::new("get", "issuers.cert-manager.io", &namespace),
        ]);
    }
    if installation.deployment("admin").is_some() {
        permissions.insert(Permission::new("get", "persistentvolumeclaims", own));
    }
    if let Some(namespace) = probe_namespace {
        permissions.extend([
            Permission::new("create", "pods", namespace),
            Permission::new("get", "namespaces", ""),
        ]);
    }
    if drift {
        for kind in SCANNED_KINDS {
            permissions.extend(["list", "get"].map(|verb| Permission::new(verb, kind, "")));
        }
        permissions.extend([
            Permission::new("list", "namespaces", ""),
            Permission::new("get", "serviceaccounts", ""),
            Permission::new("list", "serviceaccounts", ""),
        ]);
    }
    permissions
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::doctor::test_support::{change_deployment, healthy_installation};

    #[test]
    fn required_permissions_are_those_of_the_shipped_roles() {
        let installation = healthy_installation();
        let webhook: Vec<String> = of_webhook(&installation)
            .iter()
            .map(Permission::describe)
            .collect();
        assert_eq!(
            webhook,
            ["get namespaces", "get secrets", "get serviceaccounts"]
        );
        let controller: Vec<String> = of_controller(&installation)
            .iter()
            .map(Permission::describe)
            .collect();
        assert!(
            controller.contains(&"list cronjobs.batch".to_owned()),
            "{controller:?}"
        );
        let lease = "update leases.coordination.k8s.io floe-secrets-controller in namespace floe-secrets-webhook";
        assert!(controller.contains(&lease.to_owned()), "{controller:?}");
        assert!(controller.contains(&"get secrets".to_owned()));
        let admin: Vec<String> = of_admin(&installation)
            .iter()
            .map(Permission::describe)
            .collect();
        for permission in [
            "create tokenreviews.authentication.k8s.io",
            "get namespaces kube-system",
            "get replicasets.apps",
            "patch secrets floe-secrets-webhook-audit-key in namespace floe-secrets-webhook",
        ] {
            assert!(admin.contains(&permission.to_owned()), "{admin:?}");
        }
        assert!(
            !of_doctor(&installation, Some("default"), true)
                .iter()
                .any(|permission| permission.resource == "secrets")
        );
    }

    fn installation_with_arguments(webhook: &[&str], controller: &[&str]) -> Installation {
        let mut installation = healthy_installation();
        for (index, name, args) in [(0, "webhook", webhook), (1, "controller", controller)] {
            let containers = json!([{"name": name, "args": args}]);
            let change = json!({"spec": {"template": {"spec": {"containers": containers}}}});
            change_deployment(&mut installation, index, &change);
        }
        installation
    }

    #[test]
    fn required_permissions_follow_the_scope() {
        let installation =
            installation_with_arguments(&["serve", "--namespaces=a,b"], &["controller"]);
        for permissions in [of_webhook(&installation), of_controller(&installation)] {
            assert!(
                permissions
                    .iter()
                    .all(|permission| !permission.namespace.is_empty()),
                "{permissions:?}"
            );
            for namespace in ["a", "b"] {
                for kind in ["secrets", "namespaces"] {
                    assert!(
                        permissions.contains(&Permission::new("get", kind, namespace)),
                        "{permissions:?}"
                    );
                }
            }
        }
        let controller = of_controller(&installation);
        assert!(controller.contains(&Permission::new("patch", "replicasets.apps", "b")));
        assert!(
            !controller.contains(&Permission::new("list", "namespaces", "a")),
            "the argument names the namespaces"
        );
    }

    #[test]
    fn required_permissions_of_retries_are_omitted_without_retries() {
        for flag in ["--retry-owners=false", "--nudge=false"] {
            let installation =
                installation_with_arguments(&["serve", "--namespaces=a,b"], &["controller", flag]);
            let controller = of_controller(&installation);
            for (verb, kind) in [
                ("get", "secrets"),
                ("patch", "jobs.batch"),
                ("list", "events"),
                ("watch", "events"),
            ] {
                assert!(
                    !controller.contains(&Permission::new(verb, kind, "a")),
                    "{flag}: {verb} {kind}"
                );
            }
            assert!(
                controller.contains(&Permission::new("patch", "events", "a")),
                "{flag}: findings are still reported as Events"
            );
        }
    }
}
