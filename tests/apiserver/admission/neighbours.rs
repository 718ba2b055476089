//! Other webhooks before and after this one, unusual pods, and the API server's application of the patch.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::asking;
use testbed::control_plane::ControlPlane;
use testbed::manifests::{
    container, container_named, find_container, patched, pod, prefixed, sources, variables, with,
};
use testbed::shared_fixture::shared_fixture;
use testbed::stub_server::Stub;
use testbed::unique;
use testbed::webhook::{Registration, limited_to_namespaces};

/// Webhook that adds a container of this name if there is none yet.
async fn adds_container(cp: &ControlPlane, name: &'static str) -> Stub {
    Stub::start_with(&cp.authority, move |request| {
        let containers = request["object"]["spec"]["containers"].as_array().expect("containers");
        if containers.iter().any(|container| container["name"] == name) {
            return json!({"allowed": true});
        }
        let patch = json!([{"op": "add", "path": "/spec/containers/-", "value": {"name": name, "image": "none"}}]);
        json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(patch.to_string())})
    })
    .await
}

/// Registers it for the pods of one namespace; the name determines whether it is called before or after the webhook
/// under test.
pub async fn beside_us(
    cp: &ControlPlane,
    stub: &Stub,
    name: &str,
    namespace: &str,
) -> Registration {
    let mut configuration = limited_to_namespaces(stub.url_configuration(), &[namespace]);
    configuration["metadata"]["name"] = unique(name).into();
    let entries = configuration["webhooks"].as_array_mut().expect("entries");
    entries.truncate(1);
    entries[0]
        .as_object_mut()
        .expect("an entry")
        .remove("matchConditions");
    entries[0]["name"] = "sidecar.tests.floe.dev".into();
    entries[0]["reinvocationPolicy"] = "Never".into();
    Registration::shared(cp, &configuration).await
}

#[tokio::test]
async fn sidecar_added_after_webhook_gets_secrets_only_by_name() {
    let fixture = shared_fixture().await;
    let (cp, ns) = (fixture.cp, fixture.cp.namespace("late").await);
    cp.secret(&ns.name, "db-creds", &["k"], "x").await;
    let stub = adds_container(cp, "late").await;
    let _registered = beside_us(cp, &stub, "zzz-sidecar", &ns.name).await;
    for (choice, late_has_it) in [
        (json!({}), false),
        (json!({"containers": "*"}), true),
        (json!({"containers": "m*"}), false),
    ] {
        let mut annotations = asking();
        with(&mut annotations, &prefixed(&choice));
        let name = unique("pod");
        let pod = cp
            .create_dry_run(&pod(&ns.name, &name, &annotations))
            .await
            .object();
        for (container, has_it) in [("main", true), ("late", late_has_it)] {
            let container = find_container(&pod, container);
            let expected: &[&str] = if has_it { &["secret/db-creds"] } else { &[] };
            assert_eq!(sources(container), expected, "{choice}");
            let expected: &[&str] = if has_it { &["KEY<db-creds/k"] } else { &[] };
            assert_eq!(variables(container), expected, "{choice}");
        }
        let calls = fixture.webhook.admissions("name", &name);
        let decisions: Vec<&str> = calls
            .iter()
            .filter_map(|line| line["decision"].as_str())
            .collect();
        assert_eq!(
            decisions,
            ["injected", if late_has_it { "injected" } else { "skipped" }],
            "{choice}"
        );
        assert_eq!(stub.calls_about(&name).len(), 1);
    }
}

#[tokio::test]
async fn sidecar_added_before_webhook_is_excluded_by_sidecar_list() {
    let fixture = shared_fixture().await;
    let (cp, ns) = (fixture.cp, fixture.cp.namespace("early").await);
    cp.secret(&ns.name, "db-creds", &["k"], "x").await;
    let stub = adds_container(cp, "istio-proxy").await;
    let _registered = beside_us(cp, &stub, "aa-sidecar", &ns.name).await;
    for (choice, sidecar) in [
        (json!({}), &[][..]),
        (json!({"containers": "*"}), &["secret/db-creds"]),
    ] {
        let mut annotations = asking();
        with(&mut annotations, &prefixed(&choice));
        let pod = cp
            .create_dry_run(&pod(&ns.name, &unique("pod"), &annotations))
            .await
            .object();
        assert_eq!(sources(find_container(&pod, "main")), ["secret/db-creds"]);
        assert_eq!(
            sources(find_container(&pod, "istio-proxy")),
            sidecar,
            "{choice}"
        );
    }
}

#[tokio::test]
async fn sidecar_of_tool_is_recognised_by_label_and_rejected_alone() {
    let fixture = shared_fixture().await;
    let (cp, ns) = (fixture.cp, fixture.cp.namespace("tools").await);
    cp.secret(&ns.name, "db-creds", &["k"], "x").await;
    for (labels, wait) in [
        (json!({"workflows.argoproj.io/workflow": "etl"}), &[][..]),
        (json!({"app": "etl"}), &["secret/db-creds"]),
    ] {
        let mut pod = pod(&ns.name, &unique("pod"), &asking());
        pod["metadata"]["labels"] = labels;
        pod["spec"]["containers"]
            .as_array_mut()
            .expect("a list")
            .push(json!({"name": "wait", "image": "none"}));
        let pod = cp.create_dry_run(&pod).await.object();
        assert_eq!(sources(find_container(&pod, "main")), ["secret/db-creds"]);
        assert_eq!(sources(find_container(&pod, "wait")), wait, "{pod:#}");
    }
    let mut alone = pod(&ns.name, "alone", &asking());
    alone["spec"]["containers"][0]["name"] = "queue-proxy".into();
    let refused = cp.kubectl(&["create", "-f", "-"], &alone.to_string()).await;
    let sentence = "The request is invalid: metadata.annotations[secrets.floe.dev/env-from]: the secrets that annotation \
                    secrets.floe.dev/env-from asks for would reach no container: all containers of the pod are on the \
                    operator's list of sidecars. Choose among them by secrets.floe.dev/containers: queue-proxy.\n";
    assert_eq!((refused.code, &*refused.stderr), (1, sentence));
    alone["metadata"]["annotations"]["secrets.floe.dev/containers"] = "queue-proxy".into();
    assert_eq!(
        sources(find_container(
            &cp.create_dry_run(&alone).await.object(),
            "queue-proxy"
        )),
        ["secret/db-creds"]
    );
}

/// The API server applies patches with a library of its own; the stored object is the result of RFC 6902 by another
/// one.
#[tokio::test]
async fn api_server_applies_patch_as_rfc_6902_requires() {
    let fixture = shared_fixture().await;
    let (cp, ns) = (fixture.cp, fixture.cp.namespace("patches").await);
    for name in ["a", "b", "c"] {
        cp.secret(&ns.name, name, &["k", "l"], "x").await;
    }
    // The stub sees each pod before the webhook does, as the API server writes it.
    let recorder = Stub::start(&cp.authority).await;
    let mut configuration = limited_to_namespaces(recorder.url_configuration(), &[&ns.name]);
    configuration["metadata"]["name"] = unique("aa-recorder").into();
    let _registered = Registration::shared(cp, &configuration).await;

    let short =
        json!({"env-from": "a,b", "refs": "a/k c/*", "env.ALIAS": "b/k", "init-containers": "*"});
    let annotations = prefixed(&short);
    let foreign_patch = |count: usize| -> Value {
        (0..count)
            .map(
                |n| json!({"name": format!("T{n}"), "value": if n == 1 { "$(ALIAS) $(FLOE_SECRET_A_K)" } else { "x" }}),
            )
            .collect()
    };
    let from = |names: &[&str]| -> Value {
        names
            .iter()
            .map(|name| json!({"secretRef": {"name": name}}))
            .collect()
    };
    let strange = json!({"a.b-c/d": "~0~1\"\\/\u{1f980}", "x/y": "", "plain": "a/b~c"});
    let mut bodies = Vec::new();
    for env in 0..4 {
        for sources in [&[][..], &["b"], &["x", "a"], &["b", "a", "b"], &["a", "b"]] {
            let mut main = container();
            if env > 0 {
                main["env"] = foreign_patch(env - 1);
            }
            if env != 1 || !sources.is_empty() {
                main["envFrom"] = from(sources);
            }
            let mut init = main.clone();
            init["name"] = "init".into();
            let mut pod = pod(&ns.name, &unique("varied"), &annotations);
            pod["spec"]["containers"] = json!([
                main,
                container_named("second"),
                container_named("istio-proxy")
            ]);
            pod["spec"]["initContainers"] = json!([init]);
            with(&mut pod["metadata"]["annotations"], &strange);
            if env % 2 == 0 {
                pod["metadata"]["labels"] = json!({"a.b/c": "d"});
            }
            bodies.push(pod);
        }
    }
    for pod in &bodies {
        let name = pod["metadata"]["name"].as_str().expect("a name");
        let stored = cp.create(pod).await.object();
        let calls = recorder.calls();
        let call = calls
            .iter()
            .find(|call| call.object_name() == name)
            .expect("it was recorded");
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": call.request});
        let response = fixture
            .webhook
            .review("/admit/pods?timeout=5s", &review)
            .await;
        let patched_object = patched(&call.request["object"], &response);
        assert_ne!(
            patched_object, call.request["object"],
            "something was patched"
        );
        // Each call has a uid of its own, and the stored object that of the call of the webhook.
        let event = "/metadata/annotations/audit.floe.dev~1event";
        let mut expected = patched_object;
        *expected.pointer_mut(event).expect("its event") = stored.pointer(event).cloned().into();
        for field in ["/spec", "/metadata/annotations", "/metadata/labels"] {
            let (stored, expected) = (stored.pointer(field), expected.pointer(field));
            assert_eq!(stored, expected, "{name}: {field}");
        }
    }
}

#[tokio::test]
async fn forged_record_changes_nothing() {
    let fixture = shared_fixture().await;
    let (cp, ns) = (fixture.cp, fixture.cp.namespace("forged").await);
    cp.secret(&ns.name, "db-creds", &["k"], "x").await;
    let everything = r#"{"containers":{"main":{"envFrom":["db-creds"],"env":["KEY"]}}}"#;
    for record in [
        everything,
        r#"{"containers":{"other":{"envFrom":["db-creds"]}}}"#,
        "{}",
        "[",
        "true",
        "",
    ] {
        let mut forged = pod(&ns.name, &unique("forged"), &asking());
        forged["metadata"]["labels"] = json!({"secrets.floe.dev/injected": "true"});
        forged["metadata"]["annotations"]["secrets.floe.dev/injected"] = record.into();
        let pod = cp.create_dry_run(&forged).await.object();
        assert_eq!(
            sources(find_container(&pod, "main")),
            ["secret/db-creds"],
            "{record}"
        );
        assert_eq!(
            variables(find_container(&pod, "main")),
            ["KEY<db-creds/k"],
            "{record}"
        );
        let written: Value = serde_json::from_str(
            pod["metadata"]["annotations"]["secrets.floe.dev/injected"]
                .as_str()
                .expect("the record"),
        )
        .expect("JSON");
        let expected: Value = serde_json::from_str(everything).expect("JSON");
        assert_eq!(written["containers"], expected["containers"], "{record}");
    }
    // A nonexistent owner changes nothing.
    let mut owned = pod(&ns.name, "owned", &prefixed(&json!({"env-from": "absent"})));
    owned["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "made-up", "uid": "11111111-2222-3333-4444-555555555555",
        "controller": true, "blockOwnerDeletion": false,
    }]);
    let response = cp.create_dry_run(&owned).await;
    assert_eq!(response.status, 422, "{response:?}");
    let [line] = fixture
        .webhook
        .admissions("owner", "ReplicaSet/made-up")
        .try_into()
        .expect("one call");
    assert_eq!(
        line["user"], "floe-admin",
        "the requester is the one of the API server: {line}"
    );
}

#[tokio::test]
async fn unusual_pods_are_handled_as_pods() {
    let fixture = shared_fixture().await;
    let (cp, ns) = (fixture.cp, fixture.cp.namespace("odd").await);
    cp.secret(&ns.name, "db-creds", &["k"], "x").await;

    let mut windows = pod(&ns.name, "windows", &asking());
    with(
        &mut windows["spec"],
        &json!({"os": {"name": "windows"}, "nodeSelector": {"kubernetes.io/os": "windows"}}),
    );
    let made = cp.create(&windows).await.object();
    assert_eq!(sources(find_container(&made, "main")), ["secret/db-creds"]);
    assert_eq!(made["spec"]["os"]["name"], "windows");

    // The kubelet's copy of a static pod may not name a Secret, and the API server rejects one that does.
    let mut mirror = pod(&ns.name, "mirror", &asking());
    mirror["metadata"]["annotations"]["kubernetes.io/config.mirror"] = "abc".into();
    with(
        &mut mirror["spec"],
        &json!({"nodeName": "node", "automountServiceAccountToken": false}),
    );
    let made = cp.create(&mirror).await.object();
    assert!(
        made["spec"]["containers"][0].get("envFrom").is_none(),
        "{made}"
    );
    mirror["metadata"]["name"] = "mirror-2".into();
    mirror["spec"]["containers"][0]["envFrom"] = json!([{"secretRef": {"name": "db-creds"}}]);
    let refused = cp.create(&mirror).await;
    assert!(
        refused
            .message()
            .contains("a mirror pod may not reference secrets"),
        "{refused:?}"
    );

    // Largest object that etcd accepts.
    let mut large = pod(&ns.name, "large", &asking());
    large["metadata"]["annotations"]["example.com/large"] = "a".repeat(250 << 10).into();
    large["spec"]["containers"][0]["env"] =
        json!([{"name": "LARGE", "value": "$(X) \u{1f980}".repeat(130_000)}]);
    assert!(
        large.to_string().len() > 1_400_000,
        "{}",
        large.to_string().len()
    );
    let made = cp.create(&large).await.object();
    assert_eq!(sources(find_container(&made, "main")), ["secret/db-creds"]);
    let [line] = fixture
        .webhook
        .admissions("name", "large")
        .try_into()
        .expect("one call");
    println!(
        "a pod of {} bytes: {} us",
        large.to_string().len(),
        line["duration_us"]
    );
}
