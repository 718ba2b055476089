//! Shipped webhook configuration on a real API server: objects that are sent to the webhook, the entry that sends them,
//! and the consequences when the webhook is gone. The server is a stub that allows and records.

#![expect(
    clippy::too_many_lines,
    reason = "a test of one sequence, or a table of cases"
)]

use std::collections::BTreeSet;

use http::Method;
use serde_json::{Value, json};
use testbed::control_plane::{ControlPlane, Options};
use testbed::namespace::TestNamespace;
use testbed::objects::ApiResponse;
use testbed::stub_server::{Call, Stub};
use testbed::webhook::{self, NAMESPACE, Registration, shipped_configuration};
use testbed::{unique, wait_for};

const CONFIGURATION_PATH: &str =
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/zz-floe-secrets-webhook";
const PODS: &str = "CREATE /admit/pods";
const DEFAULTS: &str = "CREATE /admit/defaults/pods";

fn asking() -> Value {
    json!({"secrets.floe.dev/env-from": "snowflake-credentials"})
}

/// name | metadata | phase | calls in a plain namespace | calls in a namespace with defaults.
type Case = (
    &'static str,
    Value,
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
);

/// Pod with this metadata; `metadata` needs no name.
fn pod(namespace: &str, name: &str, metadata: &Value) -> Value {
    let mut metadata = metadata.as_object().expect("metadata").clone();
    metadata.insert("namespace".to_owned(), namespace.into());
    if !metadata.contains_key("generateName") {
        metadata.insert("name".to_owned(), name.into());
    }
    let spec = json!({"containers": [{"name": "main", "image": "none"}]});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
}

async fn labelled(cp: &ControlPlane, stem: &str) -> TestNamespace {
    cp.namespace_with(
        stem,
        &json!({"labels": {"secrets.floe.dev/inject": "enabled"}}),
    )
    .await
}

/// Creates a pod without storing it, and returns the entries that were called.
async fn calls_for(cp: &ControlPlane, stub: &Stub, pod: &Value) -> Vec<String> {
    let created = cp.create_dry_run(pod).await.object();
    assert_eq!(
        created.pointer("/status/phase"),
        Some(&json!("Pending")),
        "a new pod will run, whatever its phase was"
    );
    let metadata = &pod["metadata"];
    let name = metadata["name"]
        .as_str()
        .or_else(|| metadata["generateName"].as_str());
    stub.calls_about(name.expect("a name"))
}

/// Both ways of addressing the server; both are shipped features.
async fn both_ways(cp: &ControlPlane, test: impl AsyncFn(&str, &mut Stub)) {
    for way in ["url", "service"] {
        let mut stub = Stub::start(&cp.authority).await;
        let configuration = if way == "url" {
            stub.url_configuration()
        } else {
            stub.service_configuration()
        };
        let _registered = Registration::exclusive(cp, &configuration).await;
        test(way, &mut stub).await;
    }
}

#[tokio::test]
async fn pod_is_sent_to_its_own_entry_or_none() {
    let cp = ControlPlane::shared().await;
    let (plain, defaults) = (cp.namespace("plain").await, labelled(cp, "defaults").await);
    let other = cp
        .namespace_with(
            "other",
            &json!({"labels": {"secrets.floe.dev/inject": "yes"}}),
        )
        .await;
    let mirror = json!({"kubernetes.io/config.mirror": "abc"});
    let mut asking_mirror = asking();
    asking_mirror["kubernetes.io/config.mirror"] = "abc".into();
    let near_misses =
        json!({"secrets.floe.development/env-from": "a", "x.secrets.floe.dev/env-from": "a"});

    let annotated = |annotations: Value| json!({"annotations": annotations});
    let cases: [Case; 18] = [
        ("nothing", json!({}), "", &[], &[DEFAULTS]),
        (
            "labels only",
            json!({"labels": {"app": "a"}}),
            "",
            &[],
            &[DEFAULTS],
        ),
        (
            "empty annotations",
            annotated(json!({})),
            "",
            &[],
            &[DEFAULTS],
        ),
        (
            "null annotations",
            annotated(json!(null)),
            "",
            &[],
            &[DEFAULTS],
        ),
        (
            "foreign annotations",
            annotated(json!({"a.b/c": "d"})),
            "",
            &[],
            &[DEFAULTS],
        ),
        (
            "annotations that look like ours",
            annotated(near_misses),
            "",
            &[],
            &[DEFAULTS],
        ),
        (
            "our label alone",
            json!({"labels": {"secrets.floe.dev/injected": "true"}}),
            "",
            &[],
            &[DEFAULTS],
        ),
        ("asks", annotated(asking()), "", &[PODS], &[DEFAULTS]),
        (
            "asks, with labels",
            json!({"annotations": asking(), "labels": {"a": "b"}}),
            "",
            &[PODS],
            &[DEFAULTS],
        ),
        (
            "asks, misspelt",
            annotated(json!({"secrets.floe.dev/envfrom": "a"})),
            "",
            &[PODS],
            &[DEFAULTS],
        ),
        (
            "opts out",
            annotated(json!({"secrets.floe.dev/inject": "false"})),
            "",
            &[PODS],
            &[],
        ),
        (
            "opts in",
            annotated(json!({"secrets.floe.dev/inject": "true"})),
            "",
            &[PODS],
            &[DEFAULTS],
        ),
        ("mirror pod", annotated(mirror), "", &[], &[]),
        (
            "mirror pod that asks",
            annotated(asking_mirror),
            "",
            &[],
            &[],
        ),
        // An exported pod that is created again will run, whatever its phase was.
        (
            "running",
            annotated(asking()),
            "Running",
            &[PODS],
            &[DEFAULTS],
        ),
        (
            "succeeded",
            annotated(asking()),
            "Succeeded",
            &[PODS],
            &[DEFAULTS],
        ),
        (
            "failed",
            annotated(asking()),
            "Failed",
            &[PODS],
            &[DEFAULTS],
        ),
        (
            "finished, without annotations",
            json!({}),
            "Failed",
            &[],
            &[DEFAULTS],
        ),
    ];
    both_ways(cp, async |way, stub| {
        for (what, metadata, phase, in_plain, in_defaults) in &cases {
            for (namespace, expected) in [
                (&plain, in_plain),
                (&defaults, in_defaults),
                (&other, in_plain),
            ] {
                for generated in [false, true] {
                    let name = unique("pod");
                    let mut metadata = metadata.clone();
                    if generated {
                        metadata["generateName"] = name.clone().into();
                    }
                    let mut pod = pod(&namespace.name, &name, &metadata);
                    if what.contains("mirror") {
                        // The API server requires mirror pods to be bound, and to use no token.
                        pod["spec"]["nodeName"] = "node".into();
                        pod["spec"]["automountServiceAccountToken"] = false.into();
                    }
                    if !phase.is_empty() {
                        pod["status"] = json!({"phase": phase});
                    }
                    let called = calls_for(cp, stub, &pod).await;
                    assert_eq!(
                        &called, expected,
                        "{way}: {what}, generated: {generated}, in {}",
                        namespace.name
                    );
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn pod_is_sent_at_creation_and_never_again() {
    let cp = ControlPlane::shared().await;
    let (plain, defaults) = (cp.namespace("plain").await, labelled(cp, "defaults").await);
    both_ways(cp, async |way, stub| {
        for namespace in [&plain, &defaults] {
            let name = unique("pod");
            let mut object = pod(&namespace.name, &name, &json!({"annotations": asking()}));
            object["metadata"]["finalizers"] = json!(["tests.floe.dev/stay"]);
            cp.create(&object).await.object();
            assert_eq!(stub.calls_about(&name).len(), 1, "{way}: the creation");

            let pods = format!("/api/v1/namespaces/{}/pods", namespace.name);
            let path = format!("{pods}/{name}");
            let ephemeral =
                json!({"spec": {"ephemeralContainers": [{"name": "debug", "image": "none", "targetContainerName": "main"}]}});
            let annotated = json!({"metadata": {"annotations": {"secrets.floe.dev/refs": "b"}, "labels": {"a": "b"}}});
            let bare = json!({"metadata": {"annotations": {"secrets.floe.dev/refs": null, "secrets.floe.dev/env-from": null}}});
            let status = json!({"status": {"phase": "Running"}});
            let resize = json!({"spec": {"containers": [{"name": "main", "resources": {"requests": {"cpu": "1m"}}}]}});
            let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name, "namespace": namespace.name},
                "target": {"apiVersion": "v1", "kind": "Node", "name": "node"}});
            let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction",
                "metadata": {"name": name, "namespace": namespace.name, "annotations": asking()}});
            let patched = |response: ApiResponse| assert!(response.is_accepted() || response.status == 422, "{response:?}");
            for body in [&annotated, &bare] {
                cp.request(Method::PATCH, &path, Some(body)).await.object();
            }
            let strategic = "application/strategic-merge-patch+json";
            let client = cp.client();
            // Enabled by default from 1.33 on.
            let subresources = [("ephemeralcontainers", &ephemeral), ("resize", &resize)];
            let known = if cp.minor_version().await < 33 { 1 } else { 2 };
            for (subresource, body) in subresources.into_iter().take(known) {
                let path = format!("{path}/{subresource}");
                patched(testbed::objects::send_as(&client, Method::PATCH, &path, Some(body), strategic).await);
            }
            cp.request(Method::POST, &format!("{path}/binding"), Some(&binding)).await.object();
            cp.request(Method::PATCH, &format!("{path}/status"), Some(&status)).await.object();
            cp.request(Method::POST, &format!("{path}/eviction"), Some(&eviction)).await.object();
            // The pod is being deleted, held by its finalizer: the update that removes the finalizer is not sent
            // either.
            let held = cp.request(Method::GET, &path, None).await.object();
            assert!(held["metadata"]["deletionTimestamp"].is_string(), "{held}");
            cp.request(Method::PATCH, &path, Some(&json!({"metadata": {"finalizers": null}}))).await.object();
            cp.request(Method::DELETE, &format!("{path}?gracePeriodSeconds=0"), None).await;
            assert_eq!(stub.calls_about(&name).len(), 1, "{way}: nothing after the creation");
        }
    })
    .await;
}

#[tokio::test]
async fn defaults_are_sent_where_they_are_written() {
    let cp = ControlPlane::shared().await;
    both_ways(cp, async |way, stub| {
        let stub = &*stub;
        let create = "CREATE /admit/sources".to_owned();
        let update = "UPDATE /admit/sources".to_owned();
        let ns = cp.namespace("accounts").await;

        // Same sequence for both kinds: without the webhook's keys, then with them, changed, then without.
        for kind in ["ServiceAccount", "Namespace"] {
            let name = unique("source");
            let metadata = match kind {
                "Namespace" => json!({"name": name, "labels": {"a": "b"}}),
                _ => ns.named(&name),
            };
            let mut object = json!({"apiVersion": "v1", "kind": kind, "metadata": metadata});
            cp.create(&object).await.object();
            let path = testbed::objects::path(&object);
            let change = async |metadata: Value| {
                cp.request(Method::PATCH, &path, Some(&json!({"metadata": metadata}))).await.object();
                stub.calls_about(&name)
            };
            let none: Vec<String> = Vec::new();
            assert_eq!(
                change(json!({"labels": {"c": "d"}, "annotations": {"e.f/g": "h"}})).await,
                none,
                "{way} {kind}"
            );
            assert_eq!(change(json!({"annotations": asking()})).await, [&*update], "{way} {kind}: added");
            assert_eq!(
                change(json!({"labels": {"c": "e"}})).await,
                vec![update.clone(); 2],
                "{way} {kind}: still there"
            );
            let removed = json!({"annotations": {"secrets.floe.dev/env-from": null}});
            assert_eq!(change(removed).await, vec![update.clone(); 3], "{way} {kind}: removed");
            assert_eq!(change(json!({"annotations": null})).await, vec![update.clone(); 3], "{way} {kind}: without");
            assert_eq!(change(json!({"labels": null})).await, vec![update.clone(); 3], "{way} {kind}: without labels");

            // Created with the webhook's keys.
            let name = unique("source");
            object["metadata"]["name"] = name.clone().into();
            object["metadata"]["annotations"] = asking();
            object["metadata"]["finalizers"] = json!(["tests.floe.dev/stay"]);
            cp.create(&object).await.object();
            assert_eq!(stub.calls_about(&name), [&*create], "{way} {kind}: created with them");
            // While it is deleted, the webhook is not called, and deletion completes.
            let path = testbed::objects::path(&object);
            cp.request(Method::DELETE, &path, None).await.object();
            wait_for("the object is being deleted", || async {
                cp.request(Method::GET, &path, None).await.object()["metadata"]["deletionTimestamp"]
                    .is_string()
                    .then_some(())
            })
            .await;
            let going = json!({"metadata": {"finalizers": null, "annotations": {"secrets.floe.dev/refs": "b"}}});
            let response = cp.request(Method::PATCH, &path, Some(&going)).await;
            assert!(response.is_accepted() || response.status == 404, "{response:?}");
            wait_for("the object is gone", || async {
                (cp.request(Method::GET, &path, None).await.status == 404).then_some(())
            })
            .await;
            assert_eq!(stub.calls_about(&name), [&*create], "{way} {kind}: not while it is deleted");
        }

        // Excluded namespaces, and those Namespace objects themselves, are not sent.
        for namespace in ["kube-system", "kube-node-lease"] {
            let name = unique("source");
            let metadata = json!({"name": name, "namespace": namespace, "annotations": asking()});
            cp.create_dry_run(&json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})).await.object();
            let path = format!("/api/v1/namespaces/{namespace}?dryRun=All");
            cp.request(Method::PATCH, &path, Some(&json!({"metadata": {"annotations": asking()}}))).await.object();
            assert!(stub.calls_about(&name).is_empty() && stub.calls_about(namespace).is_empty(), "{way}: {namespace}");
        }
    })
    .await;
}

#[tokio::test]
async fn namespace_label_changes_entry_of_its_pods() {
    let cp = ControlPlane::shared().await;
    let ns = cp.namespace("relabelled").await;
    let stub = Stub::start(&cp.authority).await;
    let _registered = Registration::exclusive(cp, &stub.url_configuration()).await;
    let path = format!("/api/v1/namespaces/{}", ns.name);
    for (label, expected) in [
        (json!(null), PODS),
        (json!("enabled"), DEFAULTS),
        (json!("disabled"), PODS),
    ] {
        let labels = json!({"metadata": {"labels": {"secrets.floe.dev/inject": label}}});
        cp.request(Method::PATCH, &path, Some(&labels))
            .await
            .object();
        // The API server reads namespaces from its cache.
        wait_for("the label is in effect", || async {
            let called = calls_for(
                cp,
                &stub,
                &pod(&ns.name, &unique("pod"), &json!({"annotations": asking()})),
            )
            .await;
            assert_eq!(called.len(), 1, "{called:?}");
            (called == [expected]).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn only_annotated_pods_are_rejected_without_webhook() {
    let cp = ControlPlane::shared().await;
    cp.apply(&webhook::manifest("namespace.yaml")).await;
    let (plain, defaults) = (cp.namespace("plain").await, labelled(cp, "defaults").await);
    both_ways(cp, async |way, stub| {
        stub.stop().await;
        let nothing = json!({});
        let asks = json!({"annotations": asking()});
        let opted_out = json!({"annotations": {"secrets.floe.dev/inject": "false"}});

        // namespace | metadata | admitted
        for (namespace, metadata, admitted) in [
            ("default", &nothing, true),
            ("kube-system", &nothing, true),
            ("kube-system", &asks, true),
            ("kube-node-lease", &asks, true),
            ("kube-public", &nothing, true),
            (NAMESPACE, &nothing, true),
            (NAMESPACE, &asks, true),
            (&plain.name, &nothing, true),
            (&plain.name, &asks, false),
            (&defaults.name, &nothing, false),
            (&defaults.name, &asks, false),
            (&defaults.name, &opted_out, true),
        ] {
            ensure_default_account(cp, namespace).await;
            let mut pod = pod(namespace, &unique("pod"), metadata);
            // Avoids warnings of Pod Security in the webhook's own namespace.
            pod["spec"]["securityContext"] =
                json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
            pod["spec"]["containers"][0]["securityContext"] =
                json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
            let response = cp.create_dry_run(&pod).await;
            assert_eq!(
                response.is_accepted(),
                admitted,
                "{way}: in {namespace}: {metadata}: {response:?}"
            );
            if !admitted {
                assert_eq!(response.status, 500, "{response:?}");
                assert!(
                    response.message().contains("failed calling webhook"),
                    "{response:?}"
                );
            }
        }
        // Defaults can still be written, and everything except the creation of pods works.
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": "loader", "namespace": defaults.name, "annotations": asking()}});
        cp.create_dry_run(&account).await.object();
        let path = format!("/api/v1/namespaces/{}?dryRun=All", defaults.name);
        cp.request(
            Method::PATCH,
            &path,
            Some(&json!({"metadata": {"annotations": asking()}})),
        )
        .await
        .object();

        stub.restart().await;
        let called = calls_for(cp, stub, &pod(&plain.name, &unique("pod"), &asks)).await;
        assert_eq!(called, [PODS], "{way}: it works again at once");
    })
    .await;
}

/// Creates the account: without a node nothing creates it in every system namespace at once.
async fn ensure_default_account(cp: &ControlPlane, namespace: &str) {
    let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/default");
    wait_for("the namespace's default ServiceAccount", || async {
        cp.request(Method::GET, &path, None)
            .await
            .is_accepted()
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn job_is_sent_before_its_pod() {
    let cp = ControlPlane::shared().await;
    let ns = cp.namespace("jobs").await;
    let stub = Stub::start(&cp.authority).await;
    let _registered = Registration::exclusive(cp, &stub.url_configuration()).await;
    let template = json!({"metadata": {"annotations": asking()},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "none"}]}});
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": ns.named("load"), "spec": {"template": template}});
    cp.create(&job).await.object();
    let call = wait_for("the job's pod is sent", || async {
        stub.calls().into_iter().nth(1)
    })
    .await;
    assert_eq!(call.summary(), PODS);
    assert_eq!(
        call.request["userInfo"]["username"],
        "system:serviceaccount:kube-system:job-controller"
    );
    assert_eq!(
        stub.calls().iter().map(Call::summary).collect::<Vec<_>>(),
        ["CREATE /admit/workloads", PODS]
    );
}

/// Kind with a pod template, and the template's path.
const WORKLOADS: [(&str, &str, &str); 6] = [
    ("apps/v1", "Deployment", "/spec/template"),
    ("apps/v1", "StatefulSet", "/spec/template"),
    ("apps/v1", "DaemonSet", "/spec/template"),
    ("batch/v1", "Job", "/spec/template"),
    ("batch/v1", "CronJob", "/spec/jobTemplate/spec/template"),
    ("argoproj.io/v1alpha1", "Rollout", "/spec/template"),
];

fn workload(namespace: &str, name: &str, (version, kind, _): (&str, &str, &str)) -> Value {
    let restart = if version == "batch/v1" {
        "Never"
    } else {
        "Always"
    };
    let template = json!({"metadata": {"labels": {"app": name}},
        "spec": {"restartPolicy": restart, "containers": [{"name": "main", "image": "none"}]}});
    let selector = json!({"matchLabels": {"app": name}});
    let spec = match kind {
        "Job" => json!({"suspend": true, "template": template}),
        "CronJob" => {
            json!({"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": template}}})
        }
        "DaemonSet" => json!({"selector": selector, "template": template}),
        "StatefulSet" => {
            json!({"replicas": 0, "serviceName": "none", "selector": selector, "template": template})
        }
        _ => json!({"replicas": 0, "selector": selector, "template": template}),
    };
    json!({"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec})
}

#[tokio::test]
async fn workload_is_sent_to_its_own_entry_or_none() {
    let cp = ControlPlane::shared().await;
    cp.install_rollouts().await;
    let (plain, defaults) = (cp.namespace("plain").await, labelled(cp, "defaults").await);
    let stub = Stub::start(&cp.authority).await;
    let _registered = Registration::exclusive(cp, &stub.url_configuration()).await;
    for kind in WORKLOADS {
        let (_, name_of_kind, template) = kind;
        for (namespace, path, always) in [
            (&plain.name, "/admit/workloads", false),
            (&defaults.name, "/admit/defaults/workloads", true),
        ] {
            let create = format!("CREATE {path}");
            let expected_calls = |annotated: bool| {
                if annotated || always {
                    vec![create.clone()]
                } else {
                    Vec::new()
                }
            };
            for place in ["", template, "/spec/jobTemplate"] {
                let name = unique("workload");
                let mut object = workload(namespace, &name, kind);
                // Only a CronJob has a jobTemplate.
                let Some(place) = object.pointer_mut(place) else {
                    continue;
                };
                place["metadata"]["annotations"] = asking();
                cp.create_dry_run(&object).await.object();
                assert_eq!(
                    stub.calls_about(&name),
                    expected_calls(true),
                    "{name_of_kind} in {namespace}"
                );
            }
            let name = unique("workload");
            let mut object = workload(namespace, &name, kind);
            object["metadata"]["annotations"] = json!({"secrets.floe.development/env-from": "a"});
            cp.create_dry_run(&object).await.object();
            assert_eq!(
                stub.calls_about(&name),
                expected_calls(false),
                "{name_of_kind} in {namespace}"
            );
        }
    }
}

#[tokio::test]
async fn workload_is_sent_while_annotated_and_when_annotations_are_removed() {
    let cp = ControlPlane::shared().await;
    let ns = cp.namespace("plain").await;
    let stub = Stub::start(&cp.authority).await;
    let _registered = Registration::exclusive(cp, &stub.url_configuration()).await;
    for kind in WORKLOADS
        .into_iter()
        .filter(|(_, kind, _)| *kind != "Rollout")
    {
        let (_, name_of_kind, _) = kind;
        let name = unique("workload");
        let mut object = workload(&ns.name, &name, kind);
        object["metadata"]["finalizers"] = json!(["tests.floe.dev/stay"]);
        cp.create(&object).await.object();
        let path = testbed::objects::path(&object);
        // Controllers write in between, and then the API server repeats the call.
        let by_us = || {
            let matching_calls = stub.calls().into_iter().filter(|call| {
                let admin = call.request["userInfo"]["username"] == "floe-admin";
                admin && call.object_name() == name && call.summary() == "UPDATE /admit/workloads"
            });
            matching_calls.count()
        };
        let is_seen = async |metadata: Value| {
            let before = by_us();
            cp.request(Method::PATCH, &path, Some(&json!({"metadata": metadata})))
                .await
                .object();
            by_us() > before
        };
        // A Job is sent when it is created, and never again.
        let updates = name_of_kind != "Job";
        let removed = json!({"annotations": {"secrets.floe.dev/env-from": null}});
        assert!(
            !is_seen(json!({"labels": {"a": "b"}})).await,
            "{name_of_kind}: without them"
        );
        assert_eq!(
            is_seen(json!({"annotations": asking()})).await,
            updates,
            "{name_of_kind}: added"
        );
        assert_eq!(
            is_seen(json!({"labels": {"a": "c"}})).await,
            updates,
            "{name_of_kind}: still there"
        );
        let seen = by_us();
        for subresource in ["status", "scale"] {
            let body = if subresource == "scale" {
                json!({"spec": {"replicas": 0}})
            } else {
                json!({"status": {}})
            };
            let path = format!("{path}/{subresource}");
            let response = cp.request(Method::PATCH, &path, Some(&body)).await;
            assert!(
                response.is_accepted() || response.status == 404,
                "{name_of_kind}/{subresource}: {response:?}"
            );
        }
        assert_eq!(by_us(), seen, "{name_of_kind}: never a subresource");
        assert_eq!(is_seen(removed).await, updates, "{name_of_kind}: gone");
        assert!(
            !is_seen(json!({"labels": null})).await,
            "{name_of_kind}: without them again"
        );
        assert_eq!(
            is_seen(json!({"annotations": asking()})).await,
            updates,
            "{name_of_kind}: back"
        );
        let seen = by_us();
        cp.request(Method::DELETE, &path, None).await.object();
        let going = json!({"metadata": {"finalizers": null, "labels": {"x": "y"}}});
        let response = cp.request(Method::PATCH, &path, Some(&going)).await;
        assert!(
            response.is_accepted() || response.status == 404,
            "{response:?}"
        );
        assert_eq!(by_us(), seen, "{name_of_kind}: not while it is deleted");
    }
}

/// Resources of the rules, whatever the conditions are.
#[test]
fn rules_exclude_secrets_replicasets_and_subresources() {
    let configuration = shipped_configuration();
    let mut named = BTreeSet::new();
    for entry in configuration["webhooks"].as_array().expect("entries") {
        for rule in entry["rules"].as_array().expect("rules") {
            for list in ["apiGroups", "apiVersions", "resources", "operations"] {
                let values = rule[list].as_array().expect("a list");
                assert!(
                    values
                        .iter()
                        .all(|value| !value.as_str().expect("text").contains('*')),
                    "a wildcard: {rule}"
                );
            }
            for resource in rule["resources"].as_array().expect("resources") {
                let resource = resource.as_str().expect("text");
                assert!(!resource.contains('/'), "a subresource: {rule}");
                named.insert(resource);
            }
            let deletes = rule["operations"]
                .as_array()
                .expect("operations")
                .contains(&json!("DELETE"));
            assert!(!deletes, "deleting never depends on the webhook: {rule}");
        }
    }
    let workloads = [
        "cronjobs",
        "daemonsets",
        "deployments",
        "jobs",
        "rollouts",
        "statefulsets",
    ];
    assert_eq!(
        named,
        BTreeSet::from(["namespaces", "pods", "serviceaccounts"])
            .union(&workloads.into())
            .copied()
            .collect()
    );
}

#[test]
fn entries_keep_rules_of_the_file() {
    let configuration = shipped_configuration();
    let entries = configuration["webhooks"].as_array().expect("entries");
    let names: Vec<&str> = entries
        .iter()
        .filter_map(|entry| entry["name"].as_str())
        .collect();
    assert_eq!(
        names,
        [
            "pods.secrets.floe.dev",
            "workloads.secrets.floe.dev",
            "defaults.pods.secrets.floe.dev",
            "defaults.workloads.secrets.floe.dev",
            "sources.secrets.floe.dev",
        ]
    );
    for entry in entries {
        // Only the creation of a pod waits for the webhook.
        let fails = entry["name"]
            .as_str()
            .is_some_and(|name| name.contains("pods."));
        assert_eq!(
            entry["failurePolicy"],
            if fails { "Fail" } else { "Ignore" },
            "{entry}"
        );
        assert!(
            entry["clientConfig"].get("caBundle").is_none(),
            "the certificate's issuer owns caBundle: {entry}"
        );
        assert_eq!(entry["reinvocationPolicy"], "IfNeeded");
        assert_eq!(entry["sideEffects"], "NoneOnDryRun");
        assert_eq!(entry["timeoutSeconds"], 5);
        assert_eq!(entry["admissionReviewVersions"], json!(["v1"]));
        let conditions = entry["matchConditions"].as_array().expect("conditions");
        for condition in conditions {
            let expression = condition["expression"].as_str().expect("an expression");
            assert!(!expression.contains("namespaceObject"), "{expression}");
        }
    }
}

#[tokio::test]
async fn other_kinds_are_never_sent_even_with_annotations() {
    let cp = ControlPlane::shared().await;
    let stub = Stub::start(&cp.authority).await;
    let ns = labelled(cp, "others").await;
    let _registered = Registration::exclusive(cp, &stub.url_configuration()).await;
    let mut metadata = ns.named("other");
    metadata["annotations"] = asking();
    let template = json!({"metadata": {"labels": {"a": "b"}, "annotations": asking()},
        "spec": {"containers": [{"name": "main", "image": "none"}]}});
    let selector = json!({"matchLabels": {"a": "b"}});
    for object in [
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}),
        json!({"apiVersion": "v1", "kind": "PodTemplate", "metadata": metadata, "template": template}),
        json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": metadata,
            "spec": {"replicas": 0, "selector": selector, "template": template}}),
    ] {
        cp.create_dry_run(&object).await.object();
    }
    assert!(stub.calls().is_empty(), "{:?}", stub.calls());
}

/// In a cluster of its own: an installation is the first change in a cluster.
#[tokio::test]
async fn readme_commands_install_and_remove() {
    let cp = &ControlPlane::start(Options::default()).await;
    let [install, remove] = readme_commands();
    let installed = cp.shell(&install).await.expect_success();
    assert!(
        !installed.stderr.contains("Warning"),
        "Pod Security or a deprecation: {}",
        installed.stderr
    );

    // The webhook configuration is in force and the webhook does not run: its own pods must be admitted.
    let pods = format!(
        "/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=app.kubernetes.io/component%3Dwebhook"
    );
    wait_for("the Deployment's two pods", || async {
        let pods = cp.request(Method::GET, &pods, None).await.object();
        pods["items"]
            .as_array()
            .filter(|pods| pods.len() == 2)
            .map(drop)
    })
    .await;
    let asks = pod("default", "asks", &json!({"annotations": asking()}));
    wait_for("the webhook configuration is in force", || async {
        (cp.create_dry_run(&asks).await.status == 500).then_some(())
    })
    .await;
    let bundles = async || {
        let configuration = cp
            .request(Method::GET, CONFIGURATION_PATH, None)
            .await
            .object();
        let entries = configuration["webhooks"]
            .as_array()
            .expect("entries")
            .clone();
        entries
            .iter()
            .filter_map(|entry| {
                entry["clientConfig"]["caBundle"]
                    .as_str()
                    .map(str::to_owned)
            })
            .collect()
    };
    let before: Vec<String> = bundles().await;
    assert_eq!(before.len(), 5, "every entry has one");

    // Applied again in every way that users and tools have: no conflict, no change, and the caBundle stays.
    for flags in [
        &["--dry-run=server"][..],
        &[],
        &["--server-side", "--force-conflicts"],
        &["--server-side"],
    ] {
        let again = cp
            .kubectl(&[&["apply", "-k", "manifests/webhook"], flags].concat(), "")
            .await
            .expect_success();
        assert!(
            !again.stderr.contains("Warning"),
            "{flags:?}: {}",
            again.stderr
        );
        assert_eq!(bundles().await, before, "{flags:?}");
    }
    let unchanged = cp
        .kubectl(&["diff", "--server-side", "-k", "manifests/webhook"], "")
        .await;
    assert_eq!(
        unchanged.code, 0,
        "{}{}",
        unchanged.stdout, unchanged.stderr
    );

    cp.shell(&remove).await.expect_success();
    let left = cp
        .kubectl(
            &[
                "get",
                "-k",
                "manifests/webhook",
                "--ignore-not-found",
                "-o=name",
            ],
            "",
        )
        .await;
    assert_eq!(left.stdout, "", "{left:?}");
    wait_for("pods that ask are admitted again", || async {
        cp.create_dry_run(&asks).await.is_accepted().then_some(())
    })
    .await;
}

fn readme_commands() -> [String; 2] {
    let readme = webhook::manifest("README.md");
    let blocks = readme
        .split("```sh\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next());
    let blocks: Vec<String> = blocks.map(str::to_owned).collect();
    blocks.try_into().expect("two blocks of commands")
}

#[tokio::test]
async fn webhook_requests_have_their_own_queue() {
    let cp = ControlPlane::shared().await;
    let _turn = Registration::lock_exclusive().await;
    let webhook = webhook::webhook_identity(cp).await.client();
    let group = "/apis/flowcontrol.apiserver.k8s.io/v1";
    let uid = async |resource: &str| {
        let path = format!("{group}/{resource}/floe-secrets-webhook");
        cp.request(Method::GET, &path, None).await.object()["metadata"]["uid"]
            .as_str()
            .expect("a uid")
            .to_owned()
    };
    let (schema, level) = (
        uid("flowschemas").await,
        uid("prioritylevelconfigurations").await,
    );
    wait_for("the FlowSchema is in effect", || async {
        let request = http::Request::get("/api/v1/namespaces/default/secrets/none")
            .body(kube::client::Body::empty());
        let response = webhook
            .send(request.expect("a request"))
            .await
            .expect("a response");
        assert_eq!(response.status(), 404);
        let header = |name: &str| {
            response
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
        };
        let used = (
            header("x-kubernetes-pf-flowschema-uid"),
            header("x-kubernetes-pf-prioritylevel-uid"),
        );
        (used == (Some(schema.as_str()), Some(level.as_str()))).then_some(())
    })
    .await;
}

#[tokio::test]
async fn shipped_permissions_are_get_only() {
    let cp = ControlPlane::shared().await;
    let _turn = Registration::lock_exclusive().await;
    let webhook = webhook::webhook_identity(cp).await;
    for (verb, resource, allowed) in [
        ("get", "secrets", "yes"),
        ("get", "namespaces", "yes"),
        ("get", "serviceaccounts", "yes"),
        ("list", "secrets", "no"),
        ("watch", "secrets", "no"),
        ("create", "secrets", "no"),
        ("update", "secrets", "no"),
        ("delete", "secrets", "no"),
        ("get", "pods", "no"),
        ("get", "configmaps", "no"),
        ("create", "serviceaccounts/token", "no"),
        ("list", "namespaces", "no"),
    ] {
        let can = ["auth", "can-i", verb, resource, "--all-namespaces", "-q"];
        let output = cp.kubectl_as(&webhook.kubeconfig, &can, "").await;
        assert_eq!(
            output.code == 0,
            allowed == "yes",
            "{verb} {resource}: {output:?}"
        );
    }
}
