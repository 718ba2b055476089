//! Drift is counted, and reported by events on the objects.

use http::Method;
use serde_json::{Value, json};

use crate::{events, metric_is};
use testbed::control_plane::{ControlPlane, Options};
use testbed::manifests::{container_named, deployment, pod, prefixed, sources, with};
use testbed::stub_server::Stub;
use testbed::wait_for;
use testbed::webhook::{
    Registration, controller_identity, limited_to_namespaces, webhook_identity,
};
use testbed::webhook_process::Launch;

#[tokio::test]
async fn drift_is_counted_and_reported_in_one_event() {
    let cp = ControlPlane::start(Options {
        controller_manager: false,
        ..Options::default()
    })
    .await;
    let ns = cp.namespace("drift").await;
    // No webhook is registered here.
    cp.create(&pod(
        &ns.name,
        "bare",
        &prefixed(&json!({"env-from": "db"})),
    ))
    .await
    .object();
    cp.create(&pod(&ns.name, "plain", &json!({})))
        .await
        .object();
    let identity = controller_identity(&cp).await;
    let controller = Launch::controller(&cp, &identity)
        .with(&["--drift-interval", "1s"])
        .start()
        .await;
    metric_is(&controller, "uninjected{kind=\"pod\"}", 1).await;
    let event_message = cp
        .event(&ns.name, "Pod", "bare", "SecretsNotInjected")
        .await;
    assert_eq!(
        event_message,
        "container \"main\" runs without secret \"db\"; it was created or changed without the webhook: delete the \
         pod, so that its controller makes a new one"
    );
    // After repeated scans there is one event with a count.
    let counted = wait_for("the event is counted", || async {
        let [event]: [Value; 1] = events(&cp, &ns.name, "SecretsNotInjected")
            .await
            .try_into()
            .expect("one event");
        (event["count"].as_i64() >= Some(3)).then_some(event)
    })
    .await;
    assert_eq!(counted["type"], "Warning");
    let log = controller.log();
    let lines: Vec<Value> = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let event_message = |line: &Value| {
        line["message"] == "drift scan" && line["pods"] == 1 && line["workloads"] == 0
    };
    assert!(lines.iter().any(event_message), "{log}");
    // Fixed objects are no longer counted.
    let path = format!(
        "/api/v1/namespaces/{}/pods/bare?gracePeriodSeconds=0",
        ns.name
    );
    cp.request(Method::DELETE, &path, None).await.object();
    metric_is(&controller, "uninjected{kind=\"pod\"}", 0).await;
}

/// Webhook that is called after the one under test and removes `envFrom` from pods with a label.
fn remover(request: &Value) -> Value {
    use base64::Engine as _;
    let container = &request["object"]["spec"]["containers"][0];
    if container.get("envFrom").is_none() {
        return json!({"allowed": true});
    }
    let patch = json!([{"op": "remove", "path": "/spec/containers/0/envFrom"}]).to_string();
    let patch = base64::engine::general_purpose::STANDARD.encode(patch);
    json!({"allowed": true, "patchType": "JSONPatch", "patch": patch})
}

/// Configuration of that webhook, with a name that sorts last.
fn later(stub: &Stub, namespace: &str, label: &str, reinvocation: &str) -> Value {
    let mut later = stub.url_configuration();
    later["metadata"]["name"] = format!("zzz-{}", testbed::unique("later")).into();
    let mut entry = later["webhooks"][0].take();
    for field in ["matchConditions", "namespaceSelector"] {
        entry.as_object_mut().expect("an entry").remove(field);
    }
    let fields = json!({
        "name": "later.tests.floe.dev",
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "objectSelector": {"matchLabels": {"later": label}},
        "reinvocationPolicy": reinvocation,
    });
    with(&mut entry, &fields);
    later["webhooks"] = json!([entry]);
    later
}

#[tokio::test]
async fn drift_by_outage_or_later_webhook_is_found() {
    let cp = ControlPlane::start(Options {
        controller_manager: false,
        ..Options::default()
    })
    .await;
    let ns = cp.namespace("off").await;
    cp.secret(&ns.name, "db", &["k"], "x").await;
    let named = |name: &str, later: &str| {
        let mut pod = pod(&ns.name, name, &prefixed(&json!({"env-from": "db"})));
        pod["metadata"]["labels"] = json!({"later": later});
        pod
    };
    let create = async |name: &str, later: &str| {
        let created = cp.create(&named(name, later)).await.object();
        sources(&created["spec"]["containers"][0])
    };
    let controller = Launch::controller(&cp, &controller_identity(&cp).await);
    let controller = controller.with(&["--drift-interval", "1s"]).start().await;
    let found = async |pods| metric_is(&controller, "uninjected{kind=\"pod\"}", pods).await;
    let nothing = [""; 0];

    assert_eq!(create("before-it-was-registered", "no").await, nothing);
    found(1).await;
    let webhook = Launch::serve(&cp, &webhook_identity(&cp).await)
        .start()
        .await;
    let registered = Registration::shared(&cp, &webhook.service_configuration()).await;
    assert_eq!(create("served", "no").await, ["secret/db"]);

    let stub = Stub::start_with(&cp.authority, remover).await;
    let _once = Registration::shared(&cp, &later(&stub, &ns.name, "once", "Never")).await;
    let _again = Registration::shared(&cp, &later(&stub, &ns.name, "again", "IfNeeded")).await;
    assert_eq!(
        create("mended", "once").await,
        ["secret/db"],
        "the webhook is called again, and fixes it"
    );
    assert_eq!(
        create("stripped", "again").await,
        nothing,
        "the later webhook wins"
    );
    found(2).await;
    let event_message = cp
        .event(&ns.name, "Pod", "stripped", "SecretsNotInjected")
        .await;
    assert!(
        event_message.starts_with("container \"main\" runs without secret \"db\""),
        "{event_message}"
    );

    // Scaled to zero replicas, the shipped configuration admits none of them; an operator's `Ignore` does.
    webhook.kill();
    let refused = cp.create(&named("refused", "no")).await;
    assert!(
        refused.message().contains("failed calling webhook"),
        "{refused:?}"
    );
    drop(registered);
    let mut ignoring = limited_to_namespaces(webhook.service_configuration(), &[&ns.name]);
    for entry in ignoring["webhooks"].as_array_mut().expect("entries") {
        entry["failurePolicy"] = "Ignore".into();
    }
    let _ignoring = Registration::shared(&cp, &ignoring).await;
    assert_eq!(create("while-it-was-down", "no").await, nothing);
    found(3).await;
}

#[tokio::test]
async fn warnings_of_pods_are_reported_once_on_their_controller() {
    let cp = ControlPlane::shared().await;
    let ns = cp.namespace("warned").await;
    cp.secret(&ns.name, "db", &["k"], "x").await;
    let webhook = Launch::serve(cp, &webhook_identity(cp).await).start().await;
    let _registered = Registration::shared(
        cp,
        &limited_to_namespaces(webhook.service_configuration(), &[&ns.name]),
    )
    .await;
    let asks = prefixed(&json!({"env.TOKEN": "db/k", "containers": "main,job-*"}));
    let mut main = container_named("main");
    main["env"] = json!([{"name": "TOKEN", "value": "the author's"}]);
    let mut api = deployment("api", &asks, &json!([main]));
    api["spec"]["replicas"] = 2.into();
    let controller = Launch::controller(cp, &controller_identity(cp).await);
    let controller = controller.with(&["--drift-interval", "1s"]).start().await;
    metric_is(&controller, "leader", 1).await;

    let scans =
        || crate::metric(&controller, "drift_scans_total{result=\"complete\"}").unwrap_or(0);
    cp.kubectl_apply(&ns.name, &api).await.expect_success();
    let event_message = cp
        .event(&ns.name, "ReplicaSet", "api-", "InjectionWarnings")
        .await;
    assert_eq!(
        event_message,
        "its pods were admitted with warnings: container \"main\" already sets TOKEN; it was left as it is; \"job-*\" \
         (annotation secrets.floe.dev/containers) matches no container"
    );
    let before = scans();
    wait_for("two more scans", || async {
        (scans() >= before + 2).then_some(())
    })
    .await;
    let [event]: [Value; 1] = events(cp, &ns.name, "InjectionWarnings")
        .await
        .try_into()
        .expect("one event");
    assert_eq!(
        (&event["type"], &event["count"]),
        (&json!("Warning"), &json!(1)),
        "logged only once"
    );
    assert_eq!(event["involvedObject"]["apiVersion"], "apps/v1");
}
