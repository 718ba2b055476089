//! Who may do what: the webhook and its controller, by what the shipped roles say, and whoever asks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use futures::stream::{self, StreamExt as _};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SubjectAccessReview,
    SubjectAccessReviewSpec,
};
use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::api::PostParams;
use kube::{Api, Client};

use crate::doctor::check::{Check, Id};
use crate::doctor::installation::{Installation, Tls, pod_spec};
use crate::kubernetes::cert_manager;
use crate::kubernetes::lookup;

/// Questions under way at once.
const AT_ONCE: usize = 8;

/// The shipped names that a release may have changed.
const LEASE: &str = "floe-secrets-controller";

/// One thing that somebody wants to do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Permission {
    group: String,
    resource: String,
    verb: String,
    /// All when empty.
    namespace: String,
    /// Any when empty.
    name: String,
}

/// A right that somebody has or lacks.
#[derive(Clone, Debug)]
pub struct PermissionAnswer {
    right: Permission,
    allowed: Result<bool, String>,
}

/// What was asked, and answered.
#[derive(Clone, Debug, Default)]
pub struct PermissionReview {
    /// The user who asks, by name.
    pub user: Option<String>,
    /// What whoever asks may read.
    pub yours: Vec<PermissionAnswer>,
    /// What the webhook may; `None` when its ServiceAccount is not known.
    pub webhook: Option<(String, Vec<PermissionAnswer>)>,
    /// What the controller may.
    pub controller: Option<(String, Vec<PermissionAnswer>)>,
}

impl Permission {
    fn new(verb: &str, resource: &str, namespace: &str) -> Self {
        let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
        let [group, resource, verb, namespace] =
            [group, resource, verb, namespace].map(str::to_owned);
        Self {
            group,
            resource,
            verb,
            namespace,
            name: String::new(),
        }
    }

    fn named(self, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..self
        }
    }

    /// As kubectl writes it.
    fn kind(&self) -> String {
        if self.group.is_empty() {
            self.resource.clone()
        } else {
            format!("{}.{}", self.resource, self.group)
        }
    }

    fn sentence(&self) -> String {
        let named = if self.name.is_empty() {
            String::new()
        } else {
            format!(" {}", self.name)
        };
        let place = if self.namespace.is_empty() {
            String::new()
        } else {
            format!(" in namespace {}", self.namespace)
        };
        format!("{} {}{named}{place}", self.verb, self.kind())
    }

    fn attributes(&self) -> ResourceAttributes {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        ResourceAttributes {
            group: some(&self.group),
            resource: some(&self.resource),
            verb: some(&self.verb),
            namespace: some(&self.namespace),
            name: some(&self.name),
            ..ResourceAttributes::default()
        }
    }
}

/// The rules of a shipped file, by whether they are for one namespace.
fn shipped(text: &str) -> Vec<(bool, PolicyRule)> {
    let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(text).unwrap_or_default();
    let mut rules = Vec::new();
    for mut document in documents {
        let namespaced = match document.get("kind").and_then(serde_json::Value::as_str) {
            Some("ClusterRole") => false,
            Some("Role") => true,
            _ => continue,
        };
        let of_it: Vec<PolicyRule> = document
            .get_mut("rules")
            .and_then(|rules| serde_json::from_value(rules.take()).ok())
            .unwrap_or_default();
        rules.extend(of_it.into_iter().map(|rule| (namespaced, rule)));
    }
    rules
}

fn webhook_rules() -> &'static [(bool, PolicyRule)] {
    static RULES: OnceLock<Vec<(bool, PolicyRule)>> = OnceLock::new();
    RULES.get_or_init(|| shipped(include_str!("../../../manifests/webhook/rbac.yaml")))
}

fn controller_rules() -> &'static [(bool, PolicyRule)] {
    static RULES: OnceLock<Vec<(bool, PolicyRule)>> = OnceLock::new();
    RULES.get_or_init(|| {
        shipped(include_str!(
            "../../../manifests/webhook/controller-rbac.yaml"
        ))
    })
}

/// Each right of these rules by itself.
fn each(
    rules: &[(bool, PolicyRule)],
    own: &str,
    scope: &[&str],
    lease: &str,
) -> BTreeSet<Permission> {
    let mut rights = BTreeSet::new();
    for (namespaced, rule) in rules {
        let kinds = rule.api_groups.iter().flatten().flat_map(|group| {
            rule.resources
                .iter()
                .flatten()
                .map(move |resource| (group.as_str(), resource.as_str()))
        });
        for ((group, resource), verb) in
            kinds.flat_map(|kind| rule.verbs.iter().map(move |verb| (kind, verb)))
        {
            let kind = if group.is_empty() {
                resource.to_owned()
            } else {
                format!("{resource}.{group}")
            };
            if *namespaced {
                let right = Permission::new(verb, &kind, own);
                let names = rule.resource_names.iter().flatten();
                let names: Vec<&str> = names
                    .map(|name| if name == LEASE { lease } else { name })
                    .collect();
                rights.extend(names.into_iter().map(|name| right.clone().named(name)));
            } else if scope.is_empty() {
                rights.insert(Permission::new(verb, &kind, ""));
            } else {
                rights.extend(
                    scope
                        .iter()
                        .map(|namespace| Permission::new(verb, &kind, namespace)),
                );
            }
        }
    }
    rights
}

/// What the webhook has to be allowed.
fn of_webhook(seen: &Installation) -> BTreeSet<Permission> {
    let mut rights = each(webhook_rules(), &seen.namespace, &seen.scope(), LEASE);
    if seen.tls() == Tls::SelfManaged {
        rights
            .insert(Permission::new("get", "secrets", &seen.namespace).named(&seen.secret_name()));
    }
    // The messages about its certificate.
    if let Some(name) = seen.argument("webhook", "--tls-certificate") {
        rights.insert(
            Permission::new("get", "certificates.cert-manager.io", &seen.namespace).named(name),
        );
    }
    rights
}

/// What the controller has to be allowed, and may go without when it is told to.
fn of_controller(seen: &Installation) -> BTreeSet<Permission> {
    let lease = seen.argument("controller", "--lease-name").unwrap_or(LEASE);
    let scope = seen.scope();
    let mut rights = each(controller_rules(), &seen.namespace, &scope, lease);
    // It is told the names.
    rights
        .retain(|right| scope.is_empty() || right.resource != "namespaces" || right.verb != "list");
    let of_secrets = |right: &Permission| right.resource == "secrets" && right.name.is_empty();
    // `--nudge` is the flag's name in older versions.
    if ["--retry-owners", "--nudge"]
        .iter()
        .any(|flag| seen.argument("controller", flag) == Some("false"))
    {
        let of_retries = |right: &Permission| {
            of_secrets(right)
                || right.resource == "replicasets"
                || matches!(right.verb.as_str(), "patch" | "watch")
        };
        rights.retain(|right| {
            !of_retries(right) || right.resource == "events" && right.verb == "patch"
        });
        rights.retain(|right| right.resource != "events" || right.verb != "list");
    }
    if let Some(secret) = seen.argument("controller", "--tls-secret") {
        for verb in ["get", "patch"] {
            rights.insert(Permission::new(verb, "secrets", &seen.namespace).named(secret));
            let configurations = "mutatingwebhookconfigurations.admissionregistration.k8s.io";
            rights.insert(Permission::new(verb, configurations, "").named(&seen.name));
        }
    }
    rights
}

/// What the doctor looks at. Not Secrets: they are looked at when that is allowed, and not asked for.
fn of_doctor(seen: &Installation, probe: Option<&str>, drift: bool) -> BTreeSet<Permission> {
    let own = seen.namespace.as_str();
    let mut rights = BTreeSet::from([
        Permission::new(
            "list",
            "mutatingwebhookconfigurations.admissionregistration.k8s.io",
            "",
        ),
        Permission::new("list", "deployments.apps", own),
        Permission::new("list", "pods", own),
        Permission::new("list", "poddisruptionbudgets.policy", own),
        Permission::new("list", "networkpolicies.networking.k8s.io", own),
        Permission::new("get", "leases.coordination.k8s.io", own),
        Permission::new("create", "subjectaccessreviews.authorization.k8s.io", ""),
        Permission::new("list", "deployments.apps", ""),
    ]);
    if seen.service_name.is_some() {
        rights.insert(Permission::new("get", "services", own));
        rights.insert(Permission::new(
            "list",
            "endpointslices.discovery.k8s.io",
            own,
        ));
    }
    if let Tls::CertManager { namespace, .. } = seen.tls() {
        rights.insert(Permission::new(
            "get",
            "certificates.cert-manager.io",
            &namespace,
        ));
        rights.insert(Permission::new(
            "get",
            "issuers.cert-manager.io",
            &namespace,
        ));
    }
    if let Some(namespace) = probe {
        rights.insert(Permission::new("create", "pods", namespace));
        rights.insert(Permission::new("get", "namespaces", ""));
    }
    if drift {
        for kind in [
            "pods",
            "deployments.apps",
            "statefulsets.apps",
            "daemonsets.apps",
            "jobs.batch",
            "cronjobs.batch",
        ] {
            rights.insert(Permission::new("list", kind, ""));
            rights.insert(Permission::new("get", kind, ""));
        }
        rights.insert(Permission::new("list", "namespaces", ""));
        rights.insert(Permission::new("get", "serviceaccounts", ""));
        rights.insert(Permission::new("list", "serviceaccounts", ""));
    }
    rights
}

/// Asks the API server.
pub async fn ask(
    client: &Client,
    seen: &Installation,
    probe: Option<&str>,
    drift: bool,
) -> PermissionReview {
    let yours = of_doctor(seen, probe, drift);
    let (user, yours) = futures::future::join(who(client), review(client, None, yours)).await;
    let account = |component: &str| {
        let spec = pod_spec(seen.deployment(component)?)?;
        Some(
            spec.service_account_name
                .clone()
                .unwrap_or_else(|| "default".to_owned()),
        )
    };
    let mut answers = PermissionReview {
        user,
        yours,
        ..PermissionReview::default()
    };
    if let Some(account) = account("webhook") {
        let answered = review(client, Some((&seen.namespace, &account)), of_webhook(seen)).await;
        answers.webhook = Some((account, answered));
    }
    if let Some(account) = account("controller") {
        let answered = review(
            client,
            Some((&seen.namespace, &account)),
            of_controller(seen),
        )
        .await;
        answers.controller = Some((account, answered));
    }
    answers
}

async fn who(client: &Client) -> Option<String> {
    let api: Api<SelfSubjectReview> = Api::all(client.clone());
    let review = api
        .create(&PostParams::default(), &SelfSubjectReview::default())
        .await
        .ok()?;
    review.status?.user_info?.username
}

async fn review(
    client: &Client,
    account: Option<(&str, &str)>,
    rights: BTreeSet<Permission>,
) -> Vec<PermissionAnswer> {
    let asked = rights.into_iter().map(|right| async move {
        let allowed = match account {
            Some(account) => subject(client, account, &right).await,
            None => own(client, &right).await,
        };
        let allowed = allowed.map_err(|error| lookup::said(&error));
        PermissionAnswer { right, allowed }
    });
    stream::iter(asked).buffered(AT_ONCE).collect().await
}

async fn subject(
    client: &Client,
    (namespace, name): (&str, &str),
    right: &Permission,
) -> Result<bool, kube::Error> {
    let groups = [
        "system:authenticated",
        "system:serviceaccounts",
        &format!("system:serviceaccounts:{namespace}"),
    ];
    let spec = SubjectAccessReviewSpec {
        user: Some(format!("system:serviceaccount:{namespace}:{name}")),
        groups: Some(groups.map(str::to_owned).to_vec()),
        resource_attributes: Some(right.attributes()),
        ..SubjectAccessReviewSpec::default()
    };
    let api: Api<SubjectAccessReview> = Api::all(client.clone());
    let review = SubjectAccessReview {
        spec,
        ..SubjectAccessReview::default()
    };
    Ok(api
        .create(&PostParams::default(), &review)
        .await?
        .status
        .is_some_and(|status| status.allowed))
}

async fn own(client: &Client, right: &Permission) -> Result<bool, kube::Error> {
    let spec = SelfSubjectAccessReviewSpec {
        resource_attributes: Some(right.attributes()),
        ..SelfSubjectAccessReviewSpec::default()
    };
    let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let review = SelfSubjectAccessReview {
        spec,
        ..SelfSubjectAccessReview::default()
    };
    Ok(api
        .create(&PostParams::default(), &review)
        .await?
        .status
        .is_some_and(|status| status.allowed))
}

/// Judges what the webhook and the controller may.
pub fn judge(seen: &Installation, answers: &PermissionReview) -> Vec<Check> {
    let mut checks = Vec::new();
    for (id, of, is_webhook) in [
        (Id::WebhookPermissions, &answers.webhook, true),
        (Id::ControllerPermissions, &answers.controller, false),
    ] {
        let Some((account, answered)) = of else {
            if is_webhook {
                checks.push(Check::unchecked(
                    id,
                    "its ServiceAccount is not known, as its Deployment is not",
                ));
            }
            continue;
        };
        if let Some(why) = answered
            .iter()
            .find_map(|answer| answer.allowed.as_ref().err())
        {
            let Installation { namespace, .. } = seen;
            let ask = format!(
                "kubectl auth can-i get secrets -A \
                 --as=system:serviceaccount:{namespace}:{account}"
            );
            checks.push(Check::unchecked(id, why.clone()).with(ask));
            continue;
        }
        let lacks = lacking(answered);
        checks.push(if lacks.is_empty() {
            Check::ok(
                id,
                format!(
                    "ServiceAccount {account} has all {} that it needs",
                    answered.len()
                ),
            )
        } else {
            let says = format!("ServiceAccount {account} may not {}", sentence(&lacks));
            let mend = seen.origin().again();
            // cert-manager's objects are read for messages alone.
            let matters =
                is_webhook && lacks.iter().any(|right| right.group != cert_manager::GROUP);
            if matters {
                Check::failure(id, says, mend)
            } else {
                Check::warning(id, says, mend)
            }
        });
    }
    checks
}

/// Judges what whoever asks may look at.
pub fn yours(answers: &PermissionReview) -> Check {
    let lacks = lacking(&answers.yours);
    let user = answers.user.as_deref().unwrap_or("you");
    if let Some(why) = answers
        .yours
        .iter()
        .find_map(|answer| answer.allowed.as_ref().err())
    {
        return Check::unchecked(Id::CallerPermissions, why.clone());
    }
    if lacks.is_empty() {
        return Check::ok(
            Id::CallerPermissions,
            format!("{user} may look at everything that is looked at here"),
        );
    }
    let says = format!(
        "{user} may not {}; what needs it is not checked",
        sentence(&lacks)
    );
    Check::unchecked(Id::CallerPermissions, says).with(grant(user, &lacks))
}

/// Gives exactly what is lacking, for an administrator to run.
fn grant(user: &str, lacks: &[&Permission]) -> String {
    let mut by_place: BTreeMap<(&str, &str), BTreeSet<String>> = BTreeMap::new();
    for right in lacks {
        by_place
            .entry((&right.namespace, &right.verb))
            .or_default()
            .insert(right.kind());
    }
    let commands = by_place.into_iter().map(|((namespace, verb), kinds)| {
        let kinds = kinds.into_iter().collect::<Vec<_>>().join(",");
        let (role, place) = if namespace.is_empty() {
            ("clusterrole", String::new())
        } else {
            ("role", format!(" -n {namespace}"))
        };
        let name = format!("floe-secrets-doctor-{verb}");
        format!(
            "kubectl{place} create {role} {name} --verb={verb} --resource={kinds}; \
             kubectl{place} create {role}binding {name} --{role}={name} --user={user}"
        )
    });
    commands.collect::<Vec<_>>().join("; ")
}

fn lacking(answers: &[PermissionAnswer]) -> Vec<&Permission> {
    answers
        .iter()
        .filter(|answer| answer.allowed == Ok(false))
        .map(|answer| &answer.right)
        .collect()
}

fn sentence(lacks: &[&Permission]) -> String {
    lacks
        .iter()
        .map(|right| right.sentence())
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::doctor::check::Status;
    use crate::doctor::test_support::{installation, merged};
    use crate::kubernetes::Lookup;

    fn answered(
        rights: BTreeSet<Permission>,
        allowed: impl Fn(&Permission) -> Result<bool, String>,
    ) -> Vec<PermissionAnswer> {
        rights
            .into_iter()
            .map(|right| PermissionAnswer {
                allowed: allowed(&right),
                right,
            })
            .collect()
    }

    #[test]
    fn the_shipped_rights_are_what_is_asked_for() {
        let seen = installation();
        let webhook: Vec<String> = of_webhook(&seen).iter().map(Permission::sentence).collect();
        assert_eq!(
            webhook,
            ["get namespaces", "get secrets", "get serviceaccounts"]
        );
        let controller: Vec<String> = of_controller(&seen)
            .iter()
            .map(Permission::sentence)
            .collect();
        assert!(
            controller.contains(&"list cronjobs.batch".to_owned()),
            "{controller:?}"
        );
        let lease = "update leases.coordination.k8s.io floe-secrets-controller in namespace floe-secrets-webhook";
        assert!(controller.contains(&lease.to_owned()), "{controller:?}");
        assert!(controller.contains(&"get secrets".to_owned()));
        assert!(
            !of_doctor(&seen, Some("default"), true)
                .iter()
                .any(|right| right.resource == "secrets")
        );
    }

    #[test]
    fn rights_follow_the_scope() {
        let mut seen = installation();
        if let Lookup::Found(deployments) = &mut seen.deployments {
            let args = json!(["serve", "--namespaces=a,b"]);
            let containers = json!([{"name": "webhook", "args": args}]);
            let change = json!({"spec": {"template": {"spec": {"containers": containers}}}});
            deployments[0] = merged(&deployments[0], &change);
        }
        for rights in [of_webhook(&seen), of_controller(&seen)] {
            assert!(
                rights.iter().all(|right| !right.namespace.is_empty()),
                "{rights:?}"
            );
            for namespace in ["a", "b"] {
                assert!(
                    rights.contains(&Permission::new("get", "secrets", namespace)),
                    "{rights:?}"
                );
                assert!(
                    rights.contains(&Permission::new("get", "namespaces", namespace)),
                    "{rights:?}"
                );
            }
        }
        let controller = of_controller(&seen);
        assert!(controller.contains(&Permission::new("patch", "replicasets.apps", "b")));
        assert!(
            !controller.contains(&Permission::new("list", "namespaces", "a")),
            "it is told the names"
        );
        // What goes with retries goes everywhere.
        for flag in ["--retry-owners=false", "--nudge=false"] {
            if let Lookup::Found(deployments) = &mut seen.deployments {
                let containers = json!([{"name": "controller", "args": ["controller", flag]}]);
                let change = json!({"spec": {"template": {"spec": {"containers": containers}}}});
                deployments[1] = merged(&deployments[1], &change);
            }
            let controller = of_controller(&seen);
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
                "{flag}: people are still told"
            );
        }
    }

    #[test]
    fn what_is_lacking_is_named_with_what_mends_it() {
        let seen = installation();
        let mut answers = PermissionReview {
            webhook: Some((
                "webhook".to_owned(),
                answered(of_webhook(&seen), |right| Ok(right.resource != "secrets")),
            )),
            controller: Some((
                "controller".to_owned(),
                answered(of_controller(&seen), |_| Ok(true)),
            )),
            ..PermissionReview::default()
        };
        let [webhook, controller]: [Check; 2] = judge(&seen, &answers).try_into().expect("two");
        assert_eq!(
            (webhook.status, webhook.message.as_str()),
            (
                Status::Failure,
                "ServiceAccount webhook may not get secrets"
            )
        );
        assert_eq!(controller.status, Status::Ok);
        answers.webhook = Some((
            "webhook".to_owned(),
            answered(of_webhook(&seen), |_| Err("forbidden".to_owned())),
        ));
        let [webhook, _]: [Check; 2] = judge(&seen, &answers).try_into().expect("two");
        assert_eq!(
            (webhook.status, webhook.message.as_str()),
            (Status::NotChecked, "forbidden")
        );

        answers.user = Some("jane".to_owned());
        let all = of_doctor(&seen, Some("default"), false);
        let denied = |right: &Permission| {
            right.resource == "endpointslices" || right.verb == "create" && right.resource == "pods"
        };
        answers.yours = answered(all, |right| Ok(!denied(right)));
        let check = yours(&answers);
        assert_eq!(check.status, Status::NotChecked);
        assert_eq!(
            check.message,
            "jane may not create pods in namespace default, list endpointslices.discovery.k8s.io in namespace \
             floe-secrets-webhook; what needs it is not checked"
        );
        assert_eq!(
            check.fix.as_deref(),
            Some(
                "kubectl -n default create role floe-secrets-doctor-create --verb=create --resource=pods; \
                 kubectl -n default create rolebinding floe-secrets-doctor-create --role=floe-secrets-doctor-create \
                 --user=jane; \
                 kubectl -n floe-secrets-webhook create role floe-secrets-doctor-list --verb=list \
                 --resource=endpointslices.discovery.k8s.io; \
                 kubectl -n floe-secrets-webhook create rolebinding floe-secrets-doctor-list \
                 --role=floe-secrets-doctor-list --user=jane"
            )
        );
    }
}
