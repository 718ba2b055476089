//! Webhook with exactly the permissions of the chart: they suffice, and none can be removed.

use http::Method;
use serde_json::{Value, json};

use crate::{existing, merged};
use testbed::control_plane::ControlPlane;
use testbed::helm::{Helm, NAME};
use testbed::manifests::{pod, prefixed, review_of};
use testbed::namespace::Identity;
use testbed::unique;
use testbed::webhook_process::Launch;

/// Applies the chart's RBAC objects of the webhook, as a release in a namespace of its own, after `change`, and returns
/// access with them.
async fn access(cp: &ControlPlane, values: &Value, change: impl Fn(&mut Value)) -> Identity {
    let release = unique("rights");
    let metadata = json!({"name": release});
    cp.create(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}))
        .await
        .object();
    for mut object in Helm::V4.objects(&release, &merged(existing(), values)) {
        let kind = object["kind"].as_str().expect("a kind").to_owned();
        let rights = kind == "ServiceAccount" || kind.contains("Role");
        if rights && object["metadata"]["labels"]["app.kubernetes.io/component"] == "webhook" {
            if kind.ends_with("Role") {
                change(&mut object);
            }
            cp.create(&object).await.object();
        }
    }
    cp.identity(&release, &format!("{release}-{NAME}")).await
}

/// Response to a pod that requests the secret `db`, with the namespace's defaults read first.
async fn response(
    cp: &ControlPlane,
    identity: &Identity,
    namespaces: &[&str],
    namespace: &str,
) -> Value {
    let launch = Launch::serve(cp, identity);
    let list = namespaces.join(",");
    let launch = if namespaces.is_empty() {
        launch
    } else {
        launch.with(&["--namespaces", &list])
    };
    let webhook = launch.start().await;
    let mut asks = pod(namespace, "asks", &prefixed(&json!({"env.A": "db/k"})));
    asks["spec"]["serviceAccountName"] = "default".into();
    webhook
        .review("/admit/defaults/pods", &review_of(&asks))
        .await["response"]
        .take()
}

#[tokio::test]
async fn webhook_needs_each_of_its_permissions() {
    let cp = ControlPlane::shared().await;
    let namespace = cp
        .namespace_with(
            "rights",
            &json!({"labels": {"secrets.floe.dev/inject": "enabled"}}),
        )
        .await;
    cp.secret(&namespace.name, "db", &["k"], "v").await;
    let all = access(cp, &json!({}), |_| {}).await;
    let allowed = response(cp, &all, &[], &namespace.name).await;
    assert_eq!(allowed["allowed"], true, "{allowed}");
    for gone in ["secrets", "namespaces", "serviceaccounts"] {
        let less = access(cp, &json!({}), |role| {
            let resources = role["rules"][0]["resources"]
                .as_array_mut()
                .expect("resources");
            assert_eq!(resources.len(), 3, "the rights that this test knows");
            resources.retain(|resource| resource != gone);
        })
        .await;
        let refused = response(cp, &less, &[], &namespace.name).await;
        assert_eq!(refused["allowed"], false, "without {gone}: {refused}");
        assert_eq!(refused["status"]["code"], 403, "without {gone}: {refused}");
    }
}

#[tokio::test]
async fn webhook_scoped_to_namespaces_reads_only_those() {
    let cp = ControlPlane::shared().await;
    let (mine, other) = (cp.namespace("mine").await, cp.namespace("other").await);
    for namespace in [&mine, &other] {
        cp.secret(&namespace.name, "db", &["k"], "v").await;
    }
    let values = json!({"rbac": {"scope": "namespaces", "namespaces": [mine.name]}});
    let identity = access(cp, &values, |_| {}).await;
    let allowed = response(cp, &identity, &[&mine.name], &mine.name).await;
    assert_eq!(allowed["allowed"], true, "{allowed}");
    // Whatever the arguments are, the API server allows reads in these namespaces only.
    for namespaces in [&[mine.name.as_str()][..], &[]] {
        let refused = response(cp, &identity, namespaces, &other.name).await;
        assert_eq!(
            (&refused["allowed"], &refused["status"]["code"]),
            (&json!(false), &json!(403)),
            "{refused}"
        );
    }
    for (namespace, readable) in [(&mine.name, true), (&other.name, false)] {
        let path = format!("/api/v1/namespaces/{namespace}/secrets/db");
        let client = identity.client();
        let read = testbed::objects::send(&client, Method::GET, &path, None).await;
        assert_eq!(read.is_accepted(), readable, "{namespace}: {read:?}");
    }
}
