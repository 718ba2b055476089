//! Facts that the simulated API server and the program rely on: owners of fields, in a review and in the stored object.

use http::Method;
use kube::Client;
use serde_json::{Value, json};

use super::author::{Field, LIST, Manifest, object, source};
use testbed::control_plane::ControlPlane;
use testbed::objects::{collection, path, send, send_as};
use testbed::stub_server::Stub;
use testbed::webhook::{Registration, limited_to_namespaces, with_max_timeout};

const ASKS: &str = "secrets.floe.dev/env-from";
const ADDED: &str = "added.example.com/by";

/// Adds a source to every workload's container, and an annotation.
fn adds(request: &Value) -> Value {
    use base64::Engine as _;
    let has = request["object"]["spec"]["template"]["spec"]["containers"][0]["envFrom"].is_array();
    let sources = json!({"op": "add", "path": "/spec/template/spec/containers/0/envFrom/-", "value": source("added")});
    let annotation = json!({"op": "add", "path": "/metadata/annotations/added.example.com~1by", "value": "webhook"});
    let patch = if has {
        json!([sources, annotation])
    } else {
        json!([annotation])
    };
    let patch = base64::engine::general_purpose::STANDARD.encode(patch.to_string());
    json!({"allowed": true, "patchType": "JSONPatch", "patch": patch})
}

/// Entry of the manager `m0`, which applies server-side.
fn entry(object: &Value) -> Value {
    let entries = object["metadata"]["managedFields"]
        .as_array()
        .expect("managed fields");
    let mut manager_entries = entries
        .iter()
        .filter(|entry| entry["manager"] == "m0" && entry["operation"] == "Apply");
    let entry = manager_entries
        .next()
        .cloned()
        .unwrap_or_else(|| panic!("no entry of m0: {object}"));
    assert_eq!(
        (manager_entries.next(), &entry["subresource"]),
        (None, &Value::Null)
    );
    entry
}

fn containers(entry: &Value) -> &Value {
    &entry["fieldsV1"]["f:spec"]["f:template"]["f:spec"]["f:containers"]
}

fn owns_sources(entry: &Value) -> bool {
    containers(entry)[r#"k:{"name":"main"}"#]
        .get("f:envFrom")
        .is_some()
}

fn annotations(entry: &Value) -> &Value {
    &entry["fieldsV1"]["f:metadata"]["f:annotations"]
}

struct FactsFixture {
    stub: Stub,
    _registered: Registration,
    client: Client,
    object: Value,
}

impl FactsFixture {
    async fn apply(&self) -> Value {
        let to = format!("{}?fieldManager=m0&force=true", path(&self.object));
        send_as(
            &self.client,
            Method::PATCH,
            &to,
            Some(&self.object),
            "application/apply-patch+yaml",
        )
        .await
        .object()
    }

    /// Sends a strategic merge patch as another manager.
    async fn update(&self, patch: &Value) -> Value {
        let to = format!("{}?fieldManager=other", path(&self.object));
        let form = "application/strategic-merge-patch+json";
        send_as(&self.client, Method::PATCH, &to, Some(patch), form)
            .await
            .object()
    }

    /// Entries in the last review: now and before.
    fn reviewed(&self) -> (Value, Value) {
        let name = self.object["metadata"]["name"].clone();
        let calls = self.stub.calls();
        let mut calls = calls
            .iter()
            .filter(|call| call.path.contains("workloads") && call.request["name"] == name);
        let request = &calls.next_back().expect("a review").request;
        (entry(&request["object"]), entry(&request["oldObject"]))
    }
}

#[tokio::test]
async fn field_owners_are_as_program_assumes() {
    let cp = ControlPlane::shared().await;
    let ns = cp.namespace("owners").await;
    let stub = Stub::start_with(&cp.authority, adds).await;
    let registered = Registration::shared(
        cp,
        &with_max_timeout(limited_to_namespaces(stub.url_configuration(), &[&ns.name])),
    )
    .await;
    let manifest = Manifest::from([
        (Field::Metadata(ASKS.to_owned()), json!("a")),
        (Field::EnvFrom, json!([source("x")])),
        (Field::Image, json!("one")),
    ]);
    let mut object = object("Deployment", "w", &manifest);
    object["metadata"]["namespace"] = json!(ns.name);
    let fixture = FactsFixture {
        stub,
        _registered: registered,
        client: cp.client(),
        object,
    };

    // A field that a webhook adds has no owner, and the changed list keeps its own.
    let stored = fixture.apply().await;
    assert_eq!(stored["metadata"]["annotations"][ADDED], "webhook");
    assert_eq!(
        Field::EnvFrom.get(&stored),
        Some(json!([source("x"), source("added")]))
    );
    assert!(
        !stored["metadata"]["managedFields"]
            .to_string()
            .contains(ADDED),
        "{stored}"
    );
    assert!(owns_sources(&entry(&stored)));

    // An update of another field leaves the entry as it is, in the review too.
    fixture
        .update(&json!({"metadata": {"annotations": {LIST: "x"}}}))
        .await;
    let (now, before) = fixture.reviewed();
    assert_eq!(now, before);

    // A field that an update changes is taken from the manager, whose time stays.
    fixture
        .update(&json!({"metadata": {"annotations": {ASKS: "b"}}}))
        .await;
    let (now, before) = fixture.reviewed();
    assert_eq!(
        (&now["time"], annotations(&now).get(format!("f:{ASKS}"))),
        (&before["time"], None),
        "{now}"
    );
    assert!(
        owns_sources(&now) && annotations(&before).get(format!("f:{ASKS}")).is_some(),
        "{before}"
    );

    // The manager's next apply has it again, before the review.
    fixture.apply().await;
    let (now, before) = fixture.reviewed();
    assert!(
        annotations(&now).get(format!("f:{ASKS}")).is_some() && now != before,
        "{now}"
    );

    // A replacement has no owners: those of repeated fields stay.
    let mut replacement = fixture.object.clone();
    replacement["spec"]["template"]["spec"]["containers"][0]["envFrom"] = json!([source("y")]);
    send(
        &fixture.client,
        Method::PUT,
        &path(&replacement),
        Some(&replacement),
    )
    .await
    .object();
    let (now, _) = fixture.reviewed();
    assert!(
        annotations(&now).get(format!("f:{ASKS}")).is_some() && !owns_sources(&now),
        "{now}"
    );
    drop(ns);
}

#[tokio::test]
async fn rollout_containers_are_one_field() {
    let cp = ControlPlane::shared().await;
    super::rollouts(cp).await;
    let ns = cp.namespace("owners-rollout").await;
    let mut object = object(
        "Rollout",
        "w",
        &Manifest::from([(Field::EnvFrom, json!([source("x")]))]),
    );
    object["metadata"]["namespace"] = json!(ns.name);
    let to = format!("{}/w?fieldManager=m0&force=true", collection(&object));
    let applied = send_as(
        &cp.client(),
        Method::PATCH,
        &to,
        Some(&object),
        "application/apply-patch+yaml",
    )
    .await
    .object();
    assert_eq!(*containers(&entry(&applied)), json!({}));
}
