//! Reviews of an attacker: small, valid on the wire, and made so that everything derived from them grows.

pub mod generator;

use serde_json::{Value, json};

/// Review of an attacker, with its path.
#[derive(Clone)]
pub struct HostileReview {
    /// Description for the message of a failure.
    pub description: String,
    /// Path with its query.
    pub path: String,
    pub body: String,
}

/// Text as a JSON string.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// Review of a pod's creation in the namespace `jobs`.
fn pod_review(annotations: &Value, spec: &str) -> String {
    review(
        "jobs",
        "",
        "pods",
        "CREATE",
        &format!(r#"{{"metadata":{{"annotations":{annotations}}},"spec":{spec}}}"#),
        "null",
    )
}

fn review(
    namespace: &str,
    group: &str,
    resource: &str,
    operation: &str,
    object: &str,
    old: &str,
) -> String {
    let namespace = quoted(namespace);
    format!(
        r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{{"uid":"00000000-0000-0000-0000-000000000000","resource":{{"group":"{group}","version":"v1","resource":"{resource}"}},"namespace":{namespace},"operation":"{operation}","userInfo":{{"username":"system:serviceaccount:jobs:tenant"}},"object":{object},"oldObject":{old}}}}}"#
    )
}

fn list(count: usize, item: impl Fn(usize) -> String) -> String {
    (0..count).map(item).collect::<Vec<_>>().join(",")
}

fn containers(count: usize, name: impl Fn(usize) -> String) -> String {
    format!(
        "[{}]",
        list(count, |n| format!(r#"{{"name":{}}}"#, quoted(&name(n))))
    )
}

/// Pod that requests a secret and has this many labels.
fn labelled(count: usize) -> String {
    let labels = list(count, |n| format!(r#""label-{n}":"""#));
    format!(
        r#"{{"metadata":{{"annotations":{{"secrets.floe.dev/env-from":"a"}},"labels":{{{labels}}}}},"spec":{{"containers":[{{"name":"c"}}]}}}}"#
    )
}

/// Review of slightly less than this many bytes, whose last variable has a number as its value.
fn wrong_type(bytes: usize) -> String {
    // Each variable takes 30 bytes, with its comma; the text around them takes less than 20 of them.
    let variables = list(bytes / 30 - 20, |n| {
        format!(r#"{{"name":"V{n:06}","value":""}}"#)
    });
    let spec = format!(
        r#"{{"containers":[{{"name":"c","env":[{variables},{{"name":"PORT","value":54327}}]}}]}}"#
    );
    pod_review(&json!({"secrets.floe.dev/env-from": "a"}), &spec)
}

/// Reviews that once took a replica down or disclosed names.
pub fn known_attacks() -> Vec<HostileReview> {
    let hostile = |description: &str, body| HostileReview {
        description: description.to_owned(),
        path: "/admit/pods?timeout=5s".to_owned(),
        body,
    };
    let secrets = list(250, |n| format!("secret-{n}"));
    let globs = list(256, |n| format!("*{}b{n}", "a".repeat(240)));
    let long = "a".repeat(20_000);
    let object =
        json!({"metadata": {"annotations": {"secrets.floe.dev/env-from": secrets}}}).to_string();
    let references = list(256, |n| format!("{}-{n:03}", "s".repeat(190)));
    let old_limit = json!({
        "secrets.floe.dev/containers": list(256, |n| format!("none-{n}")), "secrets.floe.dev/env-from": "a",
    });
    vec![
        hostile(
            "256 globs against a container's name of 20 kB",
            pod_review(
                &json!({"secrets.floe.dev/containers": globs, "secrets.floe.dev/env-from": "a"}),
                &format!(r#"{{"containers":{}}}"#, containers(1, |_| long.clone())),
            ),
        ),
        hostile(
            "256 names that match nothing, and a container's name of 95 kB",
            pod_review(
                &old_limit,
                &format!(
                    r#"{{"containers":{}}}"#,
                    containers(1, |_| "c".repeat(95_000))
                ),
            ),
        ),
        hostile(
            "256 references for each of 64 containers, whether they exist or not",
            pod_review(
                &json!({"secrets.floe.dev/refs": references, "secrets.floe.dev/on-missing": "warn"}),
                &format!(
                    r#"{{"containers":{}}}"#,
                    containers(64, |n| format!("c{n}"))
                ),
            ),
        ),
        hostile(
            "a namespace of 1 MB and 250 secrets",
            review(&"n".repeat(970_000), "", "pods", "CREATE", &object, "null"),
        ),
        HostileReview {
            path: "/admit/pods?timeout=9223372036854775807s".to_owned(),
            ..hostile(
                "a timeout of 292 billion years",
                pod_review(&json!({"secrets.floe.dev/env-from": "a"}), "{}"),
            )
        },
        hostile(
            "400,000 labels",
            review("jobs", "", "pods", "CREATE", &labelled(400_000), "null"),
        ),
        hostile(
            "a field of another type, looked for to be named",
            wrong_type(255 << 10),
        ),
        hostile(
            "a field of another type in a review that is not searched",
            wrong_type(3 << 20),
        ),
        hostile(
            "a forged review for another tenant's keys",
            review(
                "victim",
                "",
                "pods",
                "CREATE",
                &json!({
                    "metadata": {"annotations": {"secrets.floe.dev/refs": "credentials/*"}},
                    "spec": {"containers": [{"name": "c"}]},
                })
                .to_string(),
                "null",
            ),
        ),
        hostile(
            "an inherited annotation of 64 KiB",
            pod_review(
                &json!({"secrets.floe.dev/inherited": format!("{{{}}}", list(3_000, |n| format!(r#""env.V{n}":"db/k""#)))}),
                &format!(r#"{{"containers":{}}}"#, containers(1, |_| "c".to_owned())),
            ),
        ),
        statements_of_thousands(),
    ]
}

/// Update that removes 24,000 entries of a record, each of which may be an author's statement.
fn statements_of_thousands() -> HostileReview {
    let count = 12_000;
    let object = |reload: &str| {
        let names = |stem: &str| (0..count).map(|n| format!("{stem}{n}")).collect::<Vec<_>>();
        let record = json!({"containers": {"c0": {"env": names("V"), "envFrom": names("s-")}}, "template": true});
        let container = json!({
            "name": "c0",
            "env": names("V").iter().map(|name| json!({"name": name})).collect::<Vec<_>>(),
            "envFrom": names("s-").iter().map(|name| json!({"secretRef": {"name": name}})).collect::<Vec<_>>(),
        });
        let applied = json!({"spec": {"template": {"spec": {"containers": [
            {"name": "c0", "env": (0..10_000).map(|n| json!({"name": format!("W{n}")})).collect::<Vec<_>>()},
        ]}}}});
        let fields = json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {r#"k:{"name":"c0"}"#: {
            "f:env": (0..200).map(|n| (format!("k:{{\"name\":\"X{n}\"}}"), json!({}))).collect::<serde_json::Map<_, _>>(),
        }}}}}});
        let managed: Vec<Value> = (0..32)
            .map(|n| json!({"manager": format!("m{n}"), "operation": "Apply", "fieldsV1": fields}))
            .collect();
        json!({
            "metadata": {
                "annotations": {
                    "secrets.floe.dev/reload": reload,
                    "kubectl.kubernetes.io/last-applied-configuration": applied.to_string(),
                },
                "managedFields": managed,
            },
            "spec": {"template": {
                "metadata": {"annotations": {"secrets.floe.dev/injected": record.to_string()}},
                "spec": {"containers": [container]},
            }},
        })
        .to_string()
    };
    let body = review(
        "jobs",
        "apps",
        "deployments",
        "UPDATE",
        &object("off"),
        &object("auto"),
    );
    HostileReview {
        description: "24,000 recorded entries, 10,000 stated ones and 32 managers".to_owned(),
        path: "/admit/workloads?timeout=5s".to_owned(),
        body,
    }
}
