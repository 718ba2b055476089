//! The controller on a real API server, by our own binary under exactly the shipped rights: who leads, what drifted,
//! and pods that come as soon as their secrets do.

#![expect(clippy::indexing_slicing, reason = "a serde_json::Value is indexed; in a test, a panic is an answer too")]

mod common;

use std::time::{Duration, Instant};

use common::control_plane::{ControlPlane, Options};
use common::served::{container, deployment, job, pod, prefixed, template};
use common::webhook::{NAMESPACE, Registration, controller_identity, narrowed_to, webhook_identity};
use common::webhook_process::{Launch, WebhookProcess};
use common::{wait_for, wait_within};
use http::Method;
use serde_json::{Value, json};

/// The value of a metric, by its name and labels after the prefix.
fn metric(process: &WebhookProcess, name: &str) -> Option<i64> {
    let (_, text) = process.get("/metrics")?;
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("floe_secrets_webhook_{name} ")))?;
    line.parse().ok()
}

async fn lease(cp: &ControlPlane) -> Value {
    let path = format!("/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/floe-secrets-controller");
    cp.request(Method::GET, &path, None).await.body
}

async fn events(cp: &ControlPlane, namespace: &str, reason: &str) -> Vec<Value> {
    let path = format!("/api/v1/namespaces/{namespace}/events?fieldSelector=reason%3D{reason}");
    cp.request(Method::GET, &path, None).await.object()["items"].as_array().cloned().unwrap_or_default()
}

#[tokio::test]
async fn one_leads_and_says_what_drifted_and_another_takes_over() {
    let cp = ControlPlane::start(Options { controller_manager: false, ..Options::default() }).await;
    let identity = controller_identity(&cp).await;
    let launch = || Launch::controller(&cp, &identity).with(&["--drift-interval", "2s"]);
    let ns = cp.namespace("drift").await;
    // No webhook is registered here: it is off.
    let asks = prefixed(&json!({"env-from": "db"}));
    cp.create(&pod(&ns.name, "bare", &asks)).await.object();
    cp.create(&pod(&ns.name, "plain", &json!({}))).await.object();

    let first = launch().start().await;
    wait_for("the first leads", || async { (metric(&first, "leader") == Some(1)).then_some(()) }).await;
    wait_for("the drifted pod is counted", || async {
        (metric(&first, "uninjected{kind=\"pod\"}") == Some(1)).then_some(())
    })
    .await;
    let said = cp.event(&ns.name, "Pod", "bare", "SecretsNotInjected").await;
    assert!(said.starts_with("container \"main\" runs without secret \"db\"; it was created or changed"), "{said}");
    // Again and again, it is one event that counts.
    let counted = wait_for("the event is counted", || async {
        let [event]: [Value; 1] = events(&cp, &ns.name, "SecretsNotInjected").await.try_into().expect("one event");
        (event["count"].as_i64() >= Some(3)).then_some(event)
    })
    .await;
    assert_eq!(counted["type"], "Warning");
    let log = first.log();
    let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let said = |line: &Value| line["message"] == "drift scan" && line["pods"] == 1 && line["workloads"] == 0;
    assert!(lines.iter().any(said), "{log}");

    // A second one waits.
    let second = launch().start().await;
    let holder = lease(&cp).await["spec"]["holderIdentity"].clone();
    let renewed = async || lease(&cp).await["spec"]["renewTime"].clone();
    for _ in 0..4 {
        let before = renewed().await;
        wait_for("the first renews the lease", || async { (renewed().await != before).then_some(()) }).await;
    }
    assert_eq!((metric(&first, "leader"), metric(&second, "leader")), (Some(1), Some(0)));
    assert_eq!(metric(&second, "uninjected{kind=\"pod\"}"), Some(0), "the figure is the leader's alone");
    assert_eq!(lease(&cp).await["spec"]["holderIdentity"], holder);

    // A crash: nobody gives anything up.
    let transitions = async || lease(&cp).await["spec"]["leaseTransitions"].as_i64().expect("a number");
    let before = transitions().await;
    first.kill();
    let killed = Instant::now();
    wait_for("the second takes over", || async { (metric(&second, "leader") == Some(1)).then_some(()) }).await;
    println!("taken over {:?} after kill -9", killed.elapsed());
    assert!(killed.elapsed() < Duration::from_secs(20), "{:?}", killed.elapsed());
    assert_eq!(transitions().await, before + 1);
    wait_for("the second scans", || async { (metric(&second, "uninjected{kind=\"pod\"}") == Some(1)).then_some(()) })
        .await;

    // In good order: the next one need not wait.
    let third = launch().start().await;
    let stopped = Instant::now();
    let status = second.stop().await;
    assert!(status.success(), "{status}");
    wait_for("the third leads", || async { (metric(&third, "leader") == Some(1)).then_some(()) }).await;
    println!("handed over {:?} after SIGTERM", stopped.elapsed());
    assert!(stopped.elapsed() < Duration::from_secs(10), "{:?}", stopped.elapsed());
    let status = third.stop().await;
    assert!(status.success(), "{status}");
    assert!(lease(&cp).await["spec"].get("holderIdentity").is_none(), "given up");
}

/// How long it takes until a pod with this label is there.
async fn until_pod(cp: &ControlPlane, namespace: &str, name: &str, since: Instant) -> Duration {
    wait_within(Duration::from_mins(3), &format!("a pod of {name} in {namespace}"), || async {
        (!cp.pods(namespace, &format!("app={name}")).await.is_empty()).then_some(())
    })
    .await;
    since.elapsed()
}

/// How often the pods of this kind of owner were refused.
async fn tries(cp: &ControlPlane, namespace: &str, kind: &str) -> i64 {
    let refused = events(cp, namespace, "FailedCreate").await;
    let of = refused.iter().filter(|event| event["involvedObject"]["kind"] == kind);
    of.map(|event| event["count"].as_i64().unwrap_or(1)).sum()
}

fn stateful_set(name: &str, annotations: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name},
        "spec": {
            "serviceName": name, "selector": {"matchLabels": {"app": name}},
            "template": template(name, annotations, &json!([container()])),
        },
    })
}

async fn replica_set(cp: &ControlPlane, namespace: &str) -> Value {
    let path = format!("/apis/apps/v1/namespaces/{namespace}/replicasets?labelSelector=app%3Dapi");
    let list = cp.request(Method::GET, &path, None).await.object();
    list["items"][0].clone()
}

#[tokio::test]
async fn pods_come_as_soon_as_their_secrets_do() {
    let cp = ControlPlane::shared().await;
    let webhook = Launch::serve(cp, &webhook_identity(cp).await).start().await;
    let (with, without) = (cp.namespace("nudged").await, cp.namespace("left-alone").await);
    let narrowed = narrowed_to(webhook.by_url(), &[&with.name, &without.name]);
    let _registration = Registration::shared(cp, &narrowed).await;
    let identity = controller_identity(cp).await;
    let controller = Launch::controller(cp, &identity).with(&["--exempt-namespaces", &without.name]).start().await;
    wait_for("it leads", || async { (metric(&controller, "leader") == Some(1)).then_some(()) }).await;

    // As Helm does it when the Secret comes from elsewhere: first what needs it.
    let asks = prefixed(&json!({"env-from": "late"}));
    let containers = json!([container()]);
    for namespace in [&with.name, &without.name] {
        for object in
            [deployment("api", &asks, &containers), job("load", &asks, &containers), stateful_set("db", &asks)]
        {
            cp.kubectl_apply(namespace, &object).await.succeeded();
        }
    }
    let expected = "new pods wait for secret \"late\"";
    for (kind, name) in [("ReplicaSet", "api-"), ("Job", "load"), ("StatefulSet", "db")] {
        let said = cp.event(&with.name, kind, name, "AwaitingSecrets").await;
        assert!(said.starts_with(expected), "{said}");
    }
    wait_for("all three wait", || async { (metric(&controller, "nudge_waiting") == Some(3)).then_some(()) }).await;
    // Until the pauses between tries are long: each is twice the one before.
    wait_within(Duration::from_mins(2), "a dozen tries of the ReplicaSet that nobody nudges", || async {
        (tries(cp, &without.name, "ReplicaSet").await > 12).then_some(())
    })
    .await;
    assert!(cp.pods(&with.name, "app=api").await.is_empty());

    for namespace in [&with.name, &without.name] {
        cp.secret(namespace, "late", &["k"], "x").await;
    }
    let since = Instant::now();
    let names = ["api", "load", "db"];
    let all = |namespace: String| {
        futures::future::join_all(names.map(|name| {
            let namespace = namespace.clone();
            async move { until_pod(cp, &namespace, name, since).await }
        }))
    };
    let (nudged, alone) = futures::future::join(all(with.name.clone()), all(without.name.clone())).await;
    for (name, (nudged, alone)) in names.iter().zip(nudged.iter().zip(&alone)) {
        println!("{name}: first pod {nudged:?} after its Secret with the nudge, {alone:?} without");
    }
    for took in nudged {
        assert!(took < Duration::from_secs(5), "{took:?}\n{}", controller.log());
    }
    let created = &cp.pods(&with.name, "app=api").await[0];
    assert_eq!(created["spec"]["containers"][0]["envFrom"], json!([{"secretRef": {"name": "late"}}]));

    // The owner says so, and carries the Secret's uid.
    let path = format!("/api/v1/namespaces/{}/secrets/late", with.name);
    let uid = cp.request(Method::GET, &path, None).await.object()["metadata"]["uid"].clone();
    for (kind, name) in [("ReplicaSet", "api-"), ("Job", "load"), ("StatefulSet", "db")] {
        let said = cp.event(&with.name, kind, name, "SecretsArrived").await;
        assert!(said.starts_with("secret \"late\" can be injected now"), "{said}");
    }
    assert_eq!(replica_set(cp, &with.name).await["metadata"]["annotations"]["nudge.floe.dev/secret"], uid);
    let untouched = replica_set(cp, &without.name).await;
    assert!(untouched["metadata"]["annotations"].get("nudge.floe.dev/secret").is_none(), "{untouched}");

    a_repeat_changes_nothing(cp, &controller, &with.name).await;
    a_rollback_is_harmless(cp, &with.name).await;
    assert!(controller.stop().await.success());
}

/// Refusals that are told again, of an owner that wants pods and cannot have them for another reason.
async fn a_repeat_changes_nothing(cp: &ControlPlane, controller: &WebhookProcess, namespace: &str) {
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "full", "namespace": namespace},
        "spec": {"hard": {"pods": "0"}},
    });
    cp.create(&quota).await.object();
    let path = format!("/api/v1/namespaces/{namespace}/resourcequotas/full");
    wait_for("the quota counts", || async {
        let quota = cp.request(Method::GET, &path, None).await.object();
        quota["status"]["used"]["pods"].is_string().then_some(())
    })
    .await;
    cp.kubectl(&["-n", namespace, "scale", "deployment/api", "--replicas=2"], "").await.succeeded();
    let settled = wait_for("the ReplicaSet wants another pod, and has said so", || async {
        let set = replica_set(cp, namespace).await;
        let failing = set["status"]["conditions"].as_array()?.iter().any(|c| c["type"] == "ReplicaFailure");
        (failing && set["spec"]["replicas"] == 2).then_some(set)
    })
    .await;
    let before = metric(controller, "nudges_total{result=\"unchanged\"}").unwrap_or(0);
    let metadata = &settled["metadata"];
    for name in ["again-1", "again-2"] {
        let refused = "Error creating: admission webhook \"pods.secrets.floe.dev\" denied the request: as before";
        let event = json!({
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": name, "namespace": namespace},
            "involvedObject": {
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "namespace": namespace,
                "name": metadata["name"], "uid": metadata["uid"],
            },
            "reason": "FailedCreate", "message": refused, "type": "Warning", "source": {"component": "test"},
        });
        cp.create(&event).await.object();
    }
    wait_for("the controller has looked at it again", || async {
        (metric(controller, "nudges_total{result=\"unchanged\"}")? >= before + 2).then_some(())
    })
    .await;
    let after = replica_set(cp, namespace).await;
    assert_eq!(after["metadata"]["resourceVersion"], metadata["resourceVersion"]);
    cp.request(Method::DELETE, &path, None).await.object();
    cp.kubectl(&["-n", namespace, "scale", "deployment/api", "--replicas=1"], "").await.succeeded();
}

/// `kubectl rollout undo` copies a ReplicaSet's annotations to its Deployment.
async fn a_rollback_is_harmless(cp: &ControlPlane, namespace: &str) {
    let path = format!("/apis/apps/v1/namespaces/{namespace}/deployments/api");
    let first = cp.request(Method::GET, &path, None).await.object();
    let patch = json!({"spec": {"template": {"metadata": {"annotations": {"version": "2"}}}}});
    cp.request(Method::PATCH, &path, Some(&patch)).await.object();
    let sets = format!("/apis/apps/v1/namespaces/{namespace}/replicasets?labelSelector=app%3Dapi");
    let count = async || {
        let list = cp.request(Method::GET, &sets, None).await.object();
        list["items"].as_array().map_or(0, Vec::len)
    };
    wait_for("the second ReplicaSet", || async { (count().await == 2).then_some(()) }).await;
    cp.kubectl(&["-n", namespace, "rollout", "undo", "deployment/api"], "").await.succeeded();
    let undone = wait_for("the rollback is seen", || async {
        let now = cp.request(Method::GET, &path, None).await.object();
        (now["status"]["observedGeneration"] == now["metadata"]["generation"]).then_some(now)
    })
    .await;
    assert_eq!(undone["spec"]["template"], first["spec"]["template"], "nothing of the nudge is in the template");
    let copied = &undone["metadata"]["annotations"]["nudge.floe.dev/secret"];
    assert!(copied.is_string(), "that is what a rollback copies: {undone}");
    // The Deployment's controller brings this to its ReplicaSet, and so has seen all that was before.
    let patch = json!({"metadata": {"annotations": {"seen": "yes"}}});
    let marked = cp.request(Method::PATCH, &path, Some(&patch)).await.object();
    assert_eq!(marked["metadata"]["generation"], undone["metadata"]["generation"]);
    wait_for("the rolled back ReplicaSet has the Deployment's new annotation", || async {
        let list = cp.request(Method::GET, &sets, None).await.object();
        let seen = |set: &Value| set["metadata"]["annotations"]["seen"] == "yes";
        list["items"].as_array()?.iter().any(seen).then_some(())
    })
    .await;
    assert_eq!(count().await, 2, "no rollout follows");
    cp.pod_of(namespace, "app=api").await;
}

#[tokio::test]
async fn the_rights_are_those_that_it_needs() {
    let cp = ControlPlane::shared().await;
    let controller = controller_identity(cp).await;
    for (verb, resource, allowed) in [
        ("get", "secrets", true),
        ("list", "secrets", false),
        ("watch", "secrets", false),
        ("patch", "secrets", false),
        ("list", "pods", true),
        ("watch", "pods", false),
        ("patch", "pods", false),
        ("delete", "pods", false),
        ("patch", "replicasets.apps", true),
        ("update", "replicasets.apps", false),
        ("patch", "deployments.apps", false),
        ("patch", "cronjobs.batch", false),
        ("list", "serviceaccounts", false),
        ("delete", "events", false),
        ("create", "serviceaccounts/token", false),
        ("create", "leases.coordination.k8s.io", false),
    ] {
        let can = ["auth", "can-i", verb, resource, "--all-namespaces", "-q"];
        let answer = cp.kubectl_as(&controller.kubeconfig, &can, "").await;
        assert_eq!(answer.code == 0, allowed, "{verb} {resource}: {answer:?}");
    }
}
