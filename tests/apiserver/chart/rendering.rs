//! Objects that the chart renders, without a cluster.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::{everything, existing, merged};
use testbed::helm::{Helm, NAME, find_object, summaries};
use testbed::objects::yaml;
use testbed::tools::{program_paths, project_root};

/// One set of values for each mode, and one with everything.
fn variants() -> [(&'static str, Value); 6] {
    [
        ("cert-manager", json!({})),
        ("existing", existing()),
        ("self-managed", json!({"tls": {"mode": "self-managed"}})),
        (
            "namespaces",
            merged(
                crate::recorded(),
                &json!({"rbac": {"scope": "namespaces", "namespaces": ["a", "b"]}}),
            ),
        ),
        (
            "url",
            json!({"replicas": 0, "webhook": {"url": "https://webhook.example.com:9443/floe/"}}),
        ),
        ("everything", everything()),
    ]
}

#[test]
fn rendering_is_deterministic_and_equal_in_both_helms() {
    for (what, values) in variants() {
        for helm in Helm::ALL {
            let [first, second] =
                [(); 2].map(|()| helm.template(NAME, &values).expect_success().stdout);
            assert!(
                first == second,
                "{helm:?}: {what} is rendered anew each time"
            );
            assert!(first.len() > 10_000, "{what}: {first}");
        }
        // Both Helms order unknown kinds differently.
        let [four, three] = Helm::ALL.map(|helm| {
            let mut objects: Vec<String> = helm
                .objects(NAME, &values)
                .iter()
                .map(Value::to_string)
                .collect();
            objects.sort();
            objects
        });
        assert_eq!(four, three, "{what}");
    }
}

#[test]
fn certificates_and_cas_are_never_rendered() {
    for (what, values) in variants() {
        let text = Helm::V4.template(NAME, &values).expect_success().stdout;
        let without_comments: String = text
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'))
            .collect();
        for never in ["caBundle:", "BEGIN ", "PRIVATE KEY"] {
            assert!(!without_comments.contains(never), "{what}: {never}");
        }
        for object in Helm::V4.objects(NAME, &values) {
            if object["kind"] == "Secret" {
                let is_test = object["metadata"]["labels"]["app.kubernetes.io/component"] == "test";
                assert!(
                    object["data"].is_null() && (is_test || object["stringData"].is_null()),
                    "{what}: {object}"
                );
            }
        }
    }
}

#[test]
fn objects_are_labelled_and_in_release_namespace() {
    // Label selection by users, or everywhere.
    let cluster_wide = [
        "ClusterRole",
        "ClusterRoleBinding",
        "FlowSchema",
        "MutatingWebhookConfiguration",
        "PriorityLevelConfiguration",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    ];
    for (what, values) in variants() {
        let objects = Helm::V4.objects(
            "other",
            &merged(values, &json!({"namespaceOverride": "elsewhere"})),
        );
        for object in &objects {
            let name = object["metadata"]["name"].as_str().expect("a name");
            let kind = object["kind"].as_str().expect("a kind");
            let namespace = object["metadata"]["namespace"].as_str();
            if name.ends_with("-extra") {
                continue;
            }
            assert!(name.contains("other-floe-secrets"), "{what}: {kind} {name}");
            let labels = &object["metadata"]["labels"];
            assert_eq!(
                labels["app.kubernetes.io/instance"], "other",
                "{what}: {kind} {name}"
            );
            assert_eq!(
                labels["app.kubernetes.io/managed-by"], "Helm",
                "{what}: {kind} {name}"
            );
            let expected: &[Option<&str>] = if cluster_wide.contains(&kind) {
                &[None]
            } else if labels["app.kubernetes.io/component"] == "test" {
                &[Some("default"), Some("a")]
            } else {
                &[Some("elsewhere"), Some("a"), Some("b")]
            };
            assert!(
                expected.contains(&namespace),
                "{what}: {kind} {name} in {namespace:?}"
            );
        }
        let unique: BTreeSet<String> = objects
            .iter()
            .map(|object| {
                format!(
                    "{} {} {}",
                    object["kind"], object["metadata"]["namespace"], object["metadata"]["name"]
                )
            })
            .collect();
        // A Secret of cert-manager is rendered only for its removal.
        assert_eq!(
            unique.len(),
            objects.len(),
            "{what}: {:?}",
            summaries(&objects)
        );
    }
}

#[test]
fn webhook_entries_are_the_five_and_never_stop_cluster() {
    let frozen = [
        ("pods.secrets.floe.dev", "/admit/pods", "Fail"),
        ("workloads.secrets.floe.dev", "/admit/workloads", "Ignore"),
        (
            "defaults.pods.secrets.floe.dev",
            "/admit/defaults/pods",
            "Fail",
        ),
        (
            "defaults.workloads.secrets.floe.dev",
            "/admit/defaults/workloads",
            "Ignore",
        ),
        ("sources.secrets.floe.dev", "/admit/sources", "Ignore"),
    ];
    for (what, values) in variants() {
        let objects = Helm::V4.objects(NAME, &values);
        let configuration = find_object(
            &objects,
            "MutatingWebhookConfiguration",
            "zz-floe-secrets-webhook",
        );
        let entries = configuration["webhooks"].as_array().expect("entries");
        let found: Vec<(&str, String, &str)> = entries
            .iter()
            .map(|entry| {
                let config = &entry["clientConfig"];
                let path = match config["url"].as_str() {
                    Some(url) => url
                        .strip_prefix("https://webhook.example.com:9443/floe")
                        .expect("the url")
                        .to_owned(),
                    None => config["service"]["path"]
                        .as_str()
                        .expect("a path")
                        .to_owned(),
                };
                (
                    entry["name"].as_str().expect("a name"),
                    path,
                    entry["failurePolicy"].as_str().expect("a policy"),
                )
            })
            .collect();
        let frozen: Vec<_> = frozen
            .iter()
            .map(|(name, path, policy)| (*name, (*path).to_owned(), *policy))
            .collect();
        assert_eq!(found, frozen, "{what}");

        for entry in entries {
            let conditions = entry["matchConditions"].as_array().expect("conditions");
            // An unguarded field, or a namespaceObject, rejects every object.
            for condition in conditions {
                let expression = condition["expression"].as_str().expect("an expression");
                assert!(!expression.contains("namespaceObject"), "{expression}");
                let fields = expression.matches("object.").count()
                    + expression.matches("oldObject.").count();
                let guarded = expression.matches("bject.?").count();
                assert_eq!(fields, guarded, "{what}: {expression}");
            }
            // Entries that can stop pods select only pods with annotations or labelled namespaces.
            let by_annotation = conditions
                .iter()
                .any(|condition| condition["name"] == "asks-for-secrets");
            let expressions = entry["namespaceSelector"]["matchExpressions"]
                .as_array()
                .expect("expressions");
            let labelled = expressions.contains(&json!(
                {"key": "secrets.floe.dev/inject", "operator": "In", "values": ["enabled"]}));
            assert!(
                entry["failurePolicy"] == "Ignore" || by_annotation || labelled,
                "{what}: {entry}"
            );
            let exempt = &expressions[0];
            assert_eq!(
                (&exempt["key"], &exempt["operator"]),
                (&json!("kubernetes.io/metadata.name"), &json!("NotIn"))
            );
            for namespace in ["kube-system", "kube-node-lease", NAME] {
                assert!(
                    exempt["values"]
                        .as_array()
                        .expect("values")
                        .contains(&json!(namespace)),
                    "{what}: {exempt}"
                );
            }
            let resources: Vec<&str> = entry["rules"]
                .as_array()
                .into_iter()
                .flatten()
                .flat_map(|rule| rule["resources"].as_array().into_iter().flatten())
                .filter_map(Value::as_str)
                .collect();
            assert!(
                !resources.is_empty() && resources.iter().all(|name| !name.contains(['*', '/'])),
                "{resources:?}"
            );
            assert!(
                !resources.contains(&"replicasets") && !resources.contains(&"secrets"),
                "{resources:?}"
            );
        }
    }
}

#[test]
fn operator_choices_are_in_every_entry() {
    let objects = Helm::V4.objects(NAME, &everything());
    let configuration = find_object(
        &objects,
        "MutatingWebhookConfiguration",
        "zz-floe-secrets-webhook",
    );
    let annotations = &configuration["metadata"]["annotations"];
    assert_eq!(
        annotations,
        &json!({"admissions.enforcer/disabled": "true", "example.com/a": "b"})
    );
    for entry in configuration["webhooks"].as_array().expect("entries") {
        let selector = &entry["namespaceSelector"];
        assert_eq!(selector["matchLabels"], json!({"team": "data"}));
        assert_eq!(
            selector["matchExpressions"][0]["values"],
            json!(["kube-system", "kube-node-lease", NAME, "monitoring"])
        );
        let conditions = entry["matchConditions"].as_array().expect("conditions");
        assert_eq!(conditions.last().expect("one")["name"], "not-theirs");
        // Namespaces and ServiceAccounts have no labels of workloads.
        assert_eq!(
            entry["objectSelector"].is_null(),
            entry["name"] == "sources.secrets.floe.dev"
        );
    }

    let scoped = Helm::V4.objects(
        NAME,
        &json!({"rbac": {"scope": "namespaces", "namespaces": ["a", "b"]}}),
    );
    let configuration = find_object(
        &scoped,
        "MutatingWebhookConfiguration",
        "zz-floe-secrets-webhook",
    );
    for entry in configuration["webhooks"].as_array().expect("entries") {
        let only =
            json!({"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["a", "b"]});
        assert_eq!(entry["namespaceSelector"]["matchExpressions"][1], only);
    }
}

/// Rules of every rendered role of a component: its namespace, empty for the whole cluster, and its permissions.
fn rules(objects: &[Value], component: &str) -> Vec<(String, Value)> {
    let every = objects.iter().filter(|object| {
        object["kind"]
            .as_str()
            .is_some_and(|kind| kind.ends_with("Role"))
    });
    let of_it =
        every.filter(|role| role["metadata"]["labels"]["app.kubernetes.io/component"] == component);
    of_it
        .flat_map(|role| {
            let place = role["metadata"]["namespace"].as_str().unwrap_or_default();
            let rules = role["rules"].as_array().expect("rules");
            rules
                .iter()
                .map(|rule| (place.to_owned(), rule.clone()))
                .collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn permissions_follow_scope() {
    let scoped = json!({"rbac": {"scope": "namespaces", "namespaces": ["a", "b"]}, "audit": {"output": "off"}});
    let (everywhere, in_namespace) = (
        Helm::V4.objects(NAME, &json!({})),
        Helm::V4.objects(NAME, &scoped),
    );
    // No component has permissions in the whole cluster, except for what exists only there.
    let only_there = |objects: &[Value]| -> Vec<(String, String)> {
        // ClusterRoles for callers of the admin API are bound to nobody.
        let is_bound = |object: &&Value| {
            object["kind"] == "ClusterRole"
                && object["rules"][0]["apiGroups"] != json!(["admin.secrets.floe.dev"])
        };
        let cluster_roles = objects.iter().filter(is_bound);
        let rules = cluster_roles.flat_map(|role| role["rules"].as_array().expect("rules").clone());
        rules
            .map(|rule| {
                (
                    rule["resources"].to_string(),
                    rule["resourceNames"].to_string(),
                )
            })
            .collect()
    };
    let pair = |resources: &str, names: &str| (resources.to_owned(), names.to_owned());
    let (reviews, cluster_name) = (
        pair(r#"["tokenreviews"]"#, "null"),
        pair(r#"["namespaces"]"#, r#"["kube-system"]"#),
    );
    assert_eq!(
        only_there(&in_namespace),
        [reviews.clone(), cluster_name.clone()]
    );
    let recorded = Helm::V4.objects(NAME, &merged(scoped.clone(), &crate::recorded()));
    assert_eq!(
        only_there(&recorded),
        [reviews.clone(), cluster_name.clone(), cluster_name]
    );
    let named = json!({"audit": {"output": "stdout", "clusterName": "prod"}});
    let named = Helm::V4.objects(NAME, &merged(scoped.clone(), &named));
    assert_eq!(only_there(&named), [reviews]);
    let without = Helm::V4.objects(
        NAME,
        &merged(scoped.clone(), &json!({"admin": {"enabled": false}})),
    );
    assert_eq!(only_there(&without), []);
    for component in ["webhook", "controller", "admin"] {
        let of = |objects: &[Value], place: &str| -> Vec<Value> {
            rules(objects, component)
                .into_iter()
                .filter(|(at, _)| at == place)
                .map(|(_, rule)| rule)
                .collect()
        };
        let mut cluster = of(&everywhere, "");
        cluster.retain(|rule| {
            rule["resources"] != json!(["tokenreviews"]) && rule["resourceNames"].is_null()
        });
        assert!(!cluster.is_empty(), "{component}");
        // With the names of namespaces, no component lists namespaces.
        for rule in &mut cluster {
            if rule["resources"] == json!(["namespaces"]) {
                rule["verbs"] = json!(["get"]);
            }
        }
        for place in ["a", "b"] {
            assert_eq!(of(&in_namespace, place), cluster, "{component} in {place}");
        }
        let own = (of(&everywhere, NAME), of(&in_namespace, NAME));
        assert_eq!(own.0, own.1, "{component}");
    }
    // The CA in the webhook configuration is the only field that is not rendered.
    let self_managed = Helm::V4.objects(
        NAME,
        &merged(scoped, &json!({"tls": {"mode": "self-managed"}})),
    );
    let wide: Vec<Value> = rules(&self_managed, "controller")
        .into_iter()
        .filter(|(at, _)| at.is_empty())
        .map(|(_, rule)| rule)
        .collect();
    let [rule]: [Value; 1] = wide.try_into().expect("one rule");
    assert_eq!(rule["resources"], json!(["mutatingwebhookconfigurations"]));
    assert_eq!(rule["resourceNames"], json!(["zz-floe-secrets-webhook"]));
}

#[test]
fn controller_gets_webhook_exclusions() {
    let args = |values: &Value| -> Vec<String> {
        let objects = Helm::V4.objects(NAME, values);
        let deployment = find_object(&objects, "Deployment", "floe-secrets-controller");
        let args = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
            .as_array()
            .expect("arguments")
            .iter();
        let names = [
            "--namespaces=",
            "--namespace-selector=",
            "--object-selector=",
        ];
        let args = args.map(|arg| arg.as_str().expect("text").to_owned());
        args.filter(|arg| names.iter().any(|name| arg.starts_with(name)))
            .collect()
    };
    assert!(args(&json!({})).is_empty());
    assert_eq!(
        args(&json!({"rbac": {"scope": "namespaces", "namespaces": ["a", "b"]}})),
        ["--namespaces=a,b"]
    );
    let expression = |key: &str, operator: &str, values: &Value| match values {
        Value::Null => json!({"key": key, "operator": operator}),
        values => json!({"key": key, "operator": operator, "values": values}),
    };
    let selector = json!({
        "matchLabels": {"team": "data", "example.com/stage": "prod"},
        "matchExpressions": [
            expression("region", "In", &json!(["eu", "us"])), expression("tier", "NotIn", &json!(["test"])),
            expression("owner", "Exists", &Value::Null), expression("skip", "DoesNotExist", &Value::Null),
        ],
    });
    let string = "example.com/stage=prod,team=data,region in (eu,us),tier notin (test),owner,!skip";
    assert_eq!(
        args(&json!({"webhook": {"namespaceSelector": selector, "objectSelector": selector}})),
        [
            format!("--namespace-selector={string}"),
            format!("--object-selector={string}")
        ]
    );
    assert_eq!(
        args(
            &json!({"webhook": {"objectSelector": {"matchExpressions": [{"key": "skip", "operator": "DoesNotExist"}]}}})
        ),
        ["--object-selector=!skip"]
    );
}

#[test]
fn external_webhook_has_permissions_and_certificate_without_pods() {
    let objects = Helm::V4.objects(
        NAME,
        &json!({"replicas": 0, "webhook": {"url": "https://[fd00::1]:8443"}}),
    );
    let kinds: BTreeSet<&str> = objects
        .iter()
        .filter(|object| object["metadata"]["labels"]["app.kubernetes.io/component"] == "webhook")
        .filter_map(|object| object["kind"].as_str())
        .collect();
    let rights = [
        "ClusterRole",
        "ClusterRoleBinding",
        "FlowSchema",
        "PriorityLevelConfiguration",
        "ServiceAccount",
    ];
    assert_eq!(kinds, BTreeSet::from(rights));
    let certificate = find_object(&objects, "Certificate", "floe-secrets-webhook-tls");
    assert_eq!(certificate["spec"]["ipAddresses"], json!(["fd00::1"]));
    let objects = Helm::V4.objects(
        NAME,
        &json!({"webhook": {"url": "https://hooks.example.com/x"}}),
    );
    let certificate = find_object(&objects, "Certificate", "floe-secrets-webhook-tls");
    let service = "floe-secrets-webhook.floe-secrets-webhook.svc";
    assert_eq!(
        certificate["spec"]["dnsNames"],
        json!([service, "hooks.example.com"])
    );
}

#[test]
fn plain_manifests_with_cert_manager_equal_default_chart() {
    let [kubectl] = program_paths(["kubectl"]);
    let built = std::process::Command::new(kubectl)
        .args(["kustomize", "manifests/webhook-cert-manager"])
        .current_dir(project_root())
        .output()
        .expect("kubectl runs");
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    let by_summary = |objects: Vec<Value>| -> BTreeMap<String, Value> {
        let summary = |object: &Value| format!("{} {}", object["kind"], object["metadata"]["name"]);
        objects
            .into_iter()
            .map(|object| (summary(&object), object))
            .collect()
    };
    let mut plain = by_summary(yaml(&String::from_utf8_lossy(&built.stdout)));
    let namespace = plain
        .remove(r#""Namespace" "floe-secrets-webhook""#)
        .expect("the namespace");
    assert_eq!(
        namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"],
        "restricted"
    );
    let rendered = Helm::V4
        .objects(NAME, &json!({}))
        .into_iter()
        .filter_map(|mut object| {
            let metadata = object["metadata"].as_object_mut().expect("metadata");
            let labels = metadata["labels"].as_object_mut().expect("labels");
            labels.remove("helm.sh/chart");
            labels.remove("app.kubernetes.io/managed-by");
            let hook = object["metadata"]["annotations"]["helm.sh/hook"].is_string();
            (!hook).then_some(object)
        });
    let rendered = by_summary(rendered.collect());
    assert_eq!(
        plain.keys().collect::<Vec<_>>(),
        rendered.keys().collect::<Vec<_>>()
    );
    for (summary, object) in rendered {
        assert_eq!(plain[&summary], object, "{summary}");
    }
}
