//! Requests to the port: reviews as the API server writes them, with changes; and bodies that are not reviews.

use http::Method;
use serde_json::{Value, json};

use crate::asking;
use crate::neighbours::beside_us;
use testbed::manifests::{
    container, find_container, patch_of, patched, pod, prefixed, review_of, sources, variables,
    with,
};
use testbed::shared_fixture::shared_fixture;
use testbed::stub_server::Stub;
use testbed::unique;

/// Review as the API server wrote it, replayed with changes.
#[tokio::test]
async fn review_is_decided_by_its_request_and_preserved() {
    let fixture = shared_fixture().await;
    let (cp, ns, other) = (
        fixture.cp,
        fixture.cp.namespace("replayed").await,
        fixture.cp.namespace("other").await,
    );
    cp.secret(&ns.name, "db-creds", &["k"], "x").await;
    cp.secret(&other.name, "elsewhere", &["k"], "x").await;
    let recorder = Stub::start(&cp.authority).await;
    let _registered = beside_us(cp, &recorder, "aa-recorder", &ns.name).await;
    let name = unique("recorded");
    cp.create_dry_run(&pod(&ns.name, &name, &asking()))
        .await
        .object();
    let request = recorder
        .calls()
        .into_iter()
        .find(|call| call.object_name() == name)
        .expect("it was recorded")
        .request;
    let original =
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
    let replay = async |change: &dyn Fn(&mut Value)| {
        let mut review = original.clone();
        change(&mut review["request"]);
        let answer = fixture
            .webhook
            .review("/admit/pods?timeout=5s", &review)
            .await;
        assert_eq!(answer["response"]["uid"], review["request"]["uid"]);
        (review["request"]["object"].clone(), answer)
    };
    let injected = |object: &Value, answer: &Value| {
        assert_eq!(answer["response"]["allowed"], true, "{answer}");
        let after = patched(object, answer);
        assert_eq!(sources(find_container(&after, "main")), ["secret/db-creds"]);
        // Without the added entries, the pod is unchanged.
        for operation in &patch_of(answer).0 {
            assert!(
                matches!(operation, json_patch::PatchOperation::Add(_)),
                "{operation:?}"
            );
        }
        after
    };

    let (object, answer) = replay(&|_| ()).await;
    injected(&object, &answer);

    // Older API servers leave the object's namespace empty; an author may write another one.
    for namespace in [json!(""), json!(null), json!(other.name)] {
        let (object, answer) =
            replay(&|request| request["object"]["metadata"]["namespace"] = namespace.clone()).await;
        injected(&object, &answer);
    }
    let (_, answer) = replay(&|request| {
        request["object"]["metadata"]["namespace"] = other.name.clone().into();
        request["object"]["metadata"]["annotations"] = prefixed(&json!({"env-from": "elsewhere"}));
    })
    .await;
    let message = answer["response"]["status"]["message"]
        .as_str()
        .expect("a message");
    assert!(
        message.contains(&format!("not found in namespace \"{}\"", ns.name)),
        "{message}"
    );

    // Fields of a future Kubernetes.
    let (object, answer) = replay(&|request| {
        let object = &mut request["object"];
        object["spec"]["fromTheFuture"] = json!({"a": [1, 1.5, null]});
        object["spec"]["containers"][0]["fromTheFuture"] = json!([{"b": "c"}]);
        object["spec"]["containers"][0]["env"] =
            json!([{"name": "X", "valueFrom": {"fromTheFuture": {"d": "e"}}}]);
        object["metadata"]["fromTheFuture"] = "f".into();
        request["fromTheFuture"] = json!({});
    })
    .await;
    let after = injected(&object, &answer);
    for place in [
        "/spec/fromTheFuture",
        "/spec/containers/0/fromTheFuture",
        "/spec/containers/0/env/0",
        "/metadata/fromTheFuture",
    ] {
        assert!(
            object
                .pointer(place)
                .is_some_and(|value| after.pointer(place) == Some(value)),
            "{place}"
        );
    }

    // Keys that no API server accepts.
    let (object, answer) = replay(&|request| {
        let hostile =
            json!({"a~b/c~1d": "x", "": "y", "~0": "z", "\u{0}\"\\": "\u{1f980}", "a/b/c": "d"});
        with(&mut request["object"]["metadata"]["annotations"], &hostile);
        with(
            &mut request["object"]["metadata"],
            &json!({"labels": hostile}),
        );
    })
    .await;
    let after = injected(&object, &answer);
    for map in ["annotations", "labels"] {
        for (key, value) in object["metadata"][map].as_object().expect("a map") {
            assert_eq!(&after["metadata"][map][key], value, "{map}: {key:?}");
        }
    }

    // Requests that this entry does not mutate.
    for (what, skipped, change) in [
        (
            "an update",
            "not_this_operation",
            json!({"operation": "UPDATE"}),
        ),
        (
            "a removal",
            "not_this_operation",
            json!({"operation": "DELETE", "object": null}),
        ),
        (
            "an operation to come",
            "not_this_operation",
            json!({"operation": "ADMIRE"}),
        ),
        ("no object", "not_this_operation", json!({"object": null})),
        (
            "a subresource",
            "not_this_kind",
            json!({"subResource": "ephemeralcontainers"}),
        ),
        (
            "another kind",
            "not_this_kind",
            json!({"resource": {"group": "apps", "version": "v1", "resource": "deployments"}}),
        ),
        (
            "a cluster's namespace",
            "exempt_namespace",
            json!({"namespace": "kube-system"}),
        ),
        (
            "our namespace",
            "exempt_namespace",
            json!({"namespace": "floe-secrets-webhook"}),
        ),
    ] {
        let (_, answer) = replay(&|request| with(request, &change)).await;
        let response = &answer["response"];
        assert_eq!(
            (
                &response["allowed"],
                &response["auditAnnotations"]["skipped"]
            ),
            (&json!(true), &json!(skipped)),
            "{what}"
        );
        assert!(
            response.get("patch").is_none() && response.get("patchType").is_none(),
            "{what}: {response}"
        );
    }
}

/// Maps that are missing or null, on the path where a pod need not have annotations.
#[tokio::test]
async fn missing_maps_are_created_before_use() {
    let fixture = shared_fixture().await;
    let defaults = prefixed(&json!({"env-from": "db-creds", "env.KEY": "db-creds/k"}));
    let metadata =
        json!({"labels": {"secrets.floe.dev/inject": "enabled"}, "annotations": defaults});
    let ns = fixture.cp.namespace_with("absent", &metadata).await;
    fixture.cp.secret(&ns.name, "db-creds", &["k"], "x").await;
    let mut review = review_of(&pod(&ns.name, "p", &json!({})));
    let maps = [
        json!({}),
        json!({"annotations": null, "labels": null}),
        json!({"annotations": {}, "labels": {}}),
        json!({"labels": {"a/b": "c"}}),
    ];
    let lists = [
        json!({}),
        json!({"env": null, "envFrom": null}),
        json!({"env": [], "envFrom": []}),
    ];
    for metadata in &maps {
        for lists in &lists {
            let mut main = container();
            with(&mut main, lists);
            review["request"]["object"] =
                json!({"metadata": metadata, "spec": {"containers": [main]}});
            let answer = fixture
                .webhook
                .review("/admit/defaults/pods?timeout=5s", &review)
                .await;
            let after = patched(&review["request"]["object"], &answer);
            assert_eq!(
                sources(find_container(&after, "main")),
                ["secret/db-creds"],
                "{metadata} {lists}"
            );
            assert_eq!(
                variables(find_container(&after, "main")),
                ["KEY<db-creds/k"],
                "{metadata} {lists}"
            );
            assert_eq!(
                after["metadata"]["labels"]["secrets.floe.dev/injected"],
                "true"
            );
            assert!(after["metadata"]["annotations"]["secrets.floe.dev/injected"].is_string());
        }
    }
}

#[tokio::test]
async fn invalid_review_is_answered_without_failure() {
    let fixture = shared_fixture().await;
    let webhook = &fixture.webhook;
    let head = r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview""#;
    let large = format!(
        r#"{head},"request":{{"uid":"u","object":{{"a":"{}"}}}}}}"#,
        "a".repeat(9 << 20)
    );
    let cases: [(Method, &str, String, u16); 11] = [
        (Method::POST, "/admit/pods", format!("{head}}}"), 400),
        (
            Method::POST,
            "/admit/pods",
            format!(r#"{head},"request":null}}"#),
            400,
        ),
        (
            Method::POST,
            "/admit/pods",
            format!(r#"{head},"request":{{"uid":""}}}}"#),
            400,
        ),
        (Method::POST, "/admit/sources", String::new(), 400),
        (
            Method::POST,
            "/admit/defaults/pods",
            "<html>".to_owned(),
            400,
        ),
        (Method::POST, "/admit/pods", large, 413),
        (Method::POST, "/", format!("{head}}}"), 404),
        (Method::POST, "/admit/pods/", format!("{head}}}"), 404),
        (Method::POST, "/admit/nothing", format!("{head}}}"), 404),
        (Method::GET, "/admit/pods", String::new(), 405),
        (Method::GET, "/metrics", String::new(), 404),
    ];
    for (method, path, body, status) in cases {
        let (answered, message) = webhook.send(method.clone(), path, body).await;
        assert_eq!(answered, status, "{method} {path}: {message}");
    }
    // Every body with a uid gets a response with that uid.
    for broken in [
        r#""object":{"metadata":{"annotations":"canary-text"}}}}"#,
        r#""object":{"spec":{"containers":[{"na"#,
        r#""operation":7}}"#,
        r#""object":{"spec":{"containers":{"name":"canary-text"}}}}}"#,
    ] {
        let (status, message) = webhook
            .send(
                Method::POST,
                "/admit/pods",
                format!(r#"{head},"request":{{"uid":"u-1",{broken}"#),
            )
            .await;
        assert_eq!(status, 200, "{broken}: {message}");
        let answer: Value = serde_json::from_str(&message).expect("an AdmissionReview");
        let response = &answer["response"];
        assert_eq!(
            (&response["uid"], &response["allowed"]),
            (&json!("u-1"), &json!(false)),
            "{broken}"
        );
        assert_eq!(
            (&response["status"]["code"], &response["status"]["reason"]),
            (&json!(400), &json!("BadRequest"))
        );
        assert!(!message.contains("canary-text"), "{message}");
    }
    let (_, metrics) = webhook.get("/metrics").expect("metrics");
    assert!(metrics.contains(r#"reason="unreadable""#), "{metrics}");
    assert!(!webhook.log().contains("canary-text"));
    // The server still works.
    fixture
        .cp
        .create_dry_run(&pod(
            "default",
            "alive",
            &prefixed(&json!({"refs": "env:a/b"})),
        ))
        .await
        .object();
}
