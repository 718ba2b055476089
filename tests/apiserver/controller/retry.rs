//! Refused pods are retried as soon as their secrets exist, at a bounded cost, and the retry leaves no trace in
//! templates.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::{events, metric, metric_is, refusal};
use testbed::audit::AuditLog;
use testbed::control_plane::{ControlPlane, Options};
use testbed::manifests::{container, deployment, job, prefixed, template};
use testbed::webhook::{
    Registration, controller_identity, limited_to_namespaces, webhook_identity,
};
use testbed::webhook_process::{Launch, WebhookProcess};
use testbed::{poll, wait_for, wait_within};

/// Waits for a pod with this label; panics with the events of its owner otherwise.
async fn a_pod(cp: &ControlPlane, namespace: &str, name: &str) {
    let there = poll(Duration::from_mins(3), || async {
        (!cp.pods(namespace, &format!("app={name}")).await.is_empty()).then_some(())
    });
    if there.await.is_none() {
        let refused = events(cp, namespace, "FailedCreate").await;
        let arrived = events(cp, namespace, "SecretsArrived").await;
        panic!("no pod of {name} in {namespace}\n{refused:#?}\n{arrived:#?}");
    }
}

/// Number of rejected pods of this kind of owner.
async fn tries(cp: &ControlPlane, namespace: &str, kind: &str) -> i64 {
    let refused = events(cp, namespace, "FailedCreate").await;
    let of = refused
        .iter()
        .filter(|event| event["involvedObject"]["kind"] == kind);
    of.map(|event| event["count"].as_i64().unwrap_or(1)).sum()
}

const NAMES: [&str; 4] = ["api", "load", "db", "agent"];

/// Field of each kind that creates pods.
const OWNERS: [(&str, &str); 4] = [
    ("ReplicaSet", "api-"),
    ("Job", "load"),
    ("StatefulSet", "db"),
    ("DaemonSet", "agent"),
];

fn daemon_set(name: &str, annotations: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": template(name, annotations, &json!([container()])),
        },
    })
}

/// The template refers to the secret already, as `--workloads-inject-template` writes it.
fn stateful_set(name: &str, annotations: &Value) -> Value {
    let mut container = container();
    container["envFrom"] = json!([{"secretRef": {"name": "late"}}]);
    json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name},
        "spec": {
            "serviceName": name, "selector": {"matchLabels": {"app": name}},
            "template": template(name, annotations, &json!([container])),
        },
    })
}

async fn replica_set(cp: &ControlPlane, namespace: &str) -> Value {
    let path = format!("/apis/apps/v1/namespaces/{namespace}/replicasets?labelSelector=app%3Dapi");
    let list = cp.request(Method::GET, &path, None).await.object();
    list["items"][0].clone()
}

#[tokio::test]
async fn pods_are_created_as_soon_as_their_secrets_exist() {
    let cp = ControlPlane::shared().await;
    let webhook = Launch::serve(cp, &webhook_identity(cp).await).start().await;
    let (with, without) = (
        cp.namespace("retried").await,
        cp.namespace("left-alone").await,
    );
    let narrowed = limited_to_namespaces(
        webhook.service_configuration(),
        &[&with.name, &without.name],
    );
    let _registration = Registration::shared(cp, &narrowed).await;
    let identity = controller_identity(cp).await;
    let controller = Launch::controller(cp, &identity)
        .with(&["--exempt-namespaces", &without.name])
        .start()
        .await;
    metric_is(&controller, "leader", 1).await;
    cp.create(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node"}}))
        .await
        .object();

    // Order of Helm if the Secret comes from elsewhere: first the workloads.
    let asks = prefixed(&json!({"env-from": "late"}));
    let containers = json!([container()]);
    for namespace in [&with.name, &without.name] {
        for object in [
            deployment("api", &asks, &containers),
            job("load", &asks, &containers),
            stateful_set("db", &asks),
            daemon_set("agent", &asks),
        ] {
            cp.kubectl_apply(namespace, &object).await.expect_success();
        }
    }
    let expected = "new pods wait for secret \"late\"";
    for (kind, name) in OWNERS {
        let message = cp.event(&with.name, kind, name, "AwaitingSecrets").await;
        assert!(message.starts_with(expected), "{message}");
    }
    metric_is(&controller, "retry_pending_owners", 4).await;
    // Until the back-off is long: each pause is twice the one before.
    for kind in ["ReplicaSet", "StatefulSet", "DaemonSet"] {
        wait_within(
            Duration::from_mins(2),
            &format!("a dozen tries of the {kind} without retries"),
            || async { (tries(cp, &without.name, kind).await > 12).then_some(()) },
        )
        .await;
    }
    assert!(cp.pods(&with.name, "app=api").await.is_empty());

    for namespace in [&with.name, &without.name] {
        cp.secret(namespace, "late", &["k"], "x").await;
    }
    futures::future::join_all(NAMES.map(|name| a_pod(cp, &with.name, name))).await;
    let created = &cp.pods(&with.name, "app=api").await[0];
    assert_eq!(
        created["spec"]["containers"][0]["envFrom"],
        json!([{"secretRef": {"name": "late"}}])
    );

    // Every owner has an event that it no longer waits. Retried owners have the Secret's uid in their annotation; the
    // controller of another one may have retried by itself at that moment.
    let path = format!("/api/v1/namespaces/{}/secrets/late", with.name);
    let uid = cp.request(Method::GET, &path, None).await.object()["metadata"]["uid"].clone();
    let mut retried = Vec::new();
    for (kind, name) in OWNERS {
        let message = cp.event(&with.name, kind, name, "SecretsArrived").await;
        let how = message
            .strip_prefix("secret \"late\" can be injected now; ")
            .expect("what arrived")
            .to_owned();
        match how.as_str() {
            "pods are tried again at once" => retried.push(kind),
            how => assert_eq!(how, "its controller has tried again by itself"),
        }
    }
    println!("retried: {retried:?}");
    assert!(
        !retried.is_empty(),
        "after a dozen tries the pauses are ten times as long as a look takes\n{}",
        controller.log()
    );
    if retried.contains(&"ReplicaSet") {
        assert_eq!(
            replica_set(cp, &with.name).await["metadata"]["annotations"]["retry.floe.dev/requested-for"],
            uid
        );
    } else {
        let mark = json!({"metadata": {"annotations": {"retry.floe.dev/requested-for": uid}}});
        let name = replica_set(cp, &with.name).await["metadata"]["name"]
            .as_str()
            .expect("a name")
            .to_owned();
        let path = format!("/apis/apps/v1/namespaces/{}/replicasets/{name}", with.name);
        cp.request(Method::PATCH, &path, Some(&mark)).await.object();
    }
    let untouched = replica_set(cp, &without.name).await;
    assert!(
        untouched["metadata"]["annotations"]
            .get("retry.floe.dev/requested-for")
            .is_none(),
        "{untouched}"
    );

    // Another leader does not know which owners this one retried.
    assert!(controller.stop().await.success());
    let controller = Launch::controller(cp, &identity)
        .with(&["--exempt-namespaces", &without.name])
        .start()
        .await;
    metric_is(&controller, "leader", 1).await;
    repeat_changes_nothing(cp, &controller, &with.name).await;
    rollback_is_harmless(cp, &with.name).await;
    assert!(controller.stop().await.success());
}

/// Repeated refusals of an owner that wants pods and cannot have them for another reason.
async fn repeat_changes_nothing(cp: &ControlPlane, controller: &WebhookProcess, namespace: &str) {
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "full", "namespace": namespace},
        "spec": {"hard": {"pods": "0"}},
    });
    cp.create(&quota).await.object();
    let path = format!("/api/v1/namespaces/{namespace}/resourcequotas/full");
    wait_for("the quota is in effect", || async {
        let quota = cp.request(Method::GET, &path, None).await.object();
        quota["status"]["used"]["pods"].is_string().then_some(())
    })
    .await;
    cp.kubectl(
        &["-n", namespace, "scale", "deployment/api", "--replicas=2"],
        "",
    )
    .await
    .expect_success();
    let settled = wait_for(
        "the ReplicaSet wants another pod, and has said so",
        || async {
            let set = replica_set(cp, namespace).await;
            let failing = set["status"]["conditions"]
                .as_array()?
                .iter()
                .any(|c| c["type"] == "ReplicaFailure");
            (failing && set["spec"]["replicas"] == 2).then_some(set)
        },
    )
    .await;
    let unchanged =
        || metric(controller, "retries_triggered_total{result=\"unchanged\"}").unwrap_or(0);
    let metadata = &settled["metadata"];
    // One after the other: two that arrive together are one scan.
    for name in ["again-1", "again-2"] {
        let before = unchanged();
        let refused = "Error creating: admission webhook \"pods.secrets.floe.dev\" denied the request: as before";
        let event = json!({
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": name, "namespace": namespace},
            "involvedObject": {
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "namespace": namespace,
                "name": metadata["name"], "uid": metadata["uid"],
            },
            "reason": "FailedCreate", "message": refused, "type": "Warning",
            "source": {"component": "replicaset-controller"},
        });
        cp.create(&event).await.object();
        wait_for("another scan of the controller", || async {
            (unchanged() > before).then_some(())
        })
        .await;
    }
    let after = replica_set(cp, namespace).await;
    assert_eq!(
        after["metadata"]["resourceVersion"],
        metadata["resourceVersion"]
    );
    cp.request(Method::DELETE, &path, None).await.object();
    cp.kubectl(
        &["-n", namespace, "scale", "deployment/api", "--replicas=1"],
        "",
    )
    .await
    .expect_success();
}

/// `kubectl rollout undo` copies a ReplicaSet's annotations to its Deployment.
async fn rollback_is_harmless(cp: &ControlPlane, namespace: &str) {
    let path = format!("/apis/apps/v1/namespaces/{namespace}/deployments/api");
    let first = cp.request(Method::GET, &path, None).await.object();
    let change = json!({"spec": {"template": {"metadata": {"annotations": {"version": "2"}}}}});
    cp.request(Method::PATCH, &path, Some(&change))
        .await
        .object();
    let sets = format!("/apis/apps/v1/namespaces/{namespace}/replicasets?labelSelector=app%3Dapi");
    let count = async || {
        let list = cp.request(Method::GET, &sets, None).await.object();
        list["items"].as_array().map_or(0, Vec::len)
    };
    wait_for("the second ReplicaSet", || async {
        (count().await == 2).then_some(())
    })
    .await;
    cp.kubectl(&["-n", namespace, "rollout", "undo", "deployment/api"], "")
        .await
        .expect_success();
    let undone = wait_for("the rollback is seen", || async {
        let now = cp.request(Method::GET, &path, None).await.object();
        (now["status"]["observedGeneration"] == now["metadata"]["generation"]).then_some(now)
    })
    .await;
    assert_eq!(
        undone["spec"]["template"], first["spec"]["template"],
        "the template has no trace of the retry"
    );
    let copied = &undone["metadata"]["annotations"]["retry.floe.dev/requested-for"];
    assert!(
        copied.is_string(),
        "that is what a rollback copies: {undone}"
    );
    // The Deployment's controller copies this to its ReplicaSet, and so has seen all earlier changes.
    let change = json!({"metadata": {"annotations": {"seen": "yes"}}});
    cp.request(Method::PATCH, &path, Some(&change))
        .await
        .object();
    wait_for(
        "the rolled back ReplicaSet has the Deployment's new annotation",
        || async {
            let list = cp.request(Method::GET, &sets, None).await.object();
            let seen = |set: &Value| set["metadata"]["annotations"]["seen"] == "yes";
            list["items"].as_array()?.iter().any(seen).then_some(())
        },
    )
    .await;
    assert_eq!(count().await, 2, "no rollout follows");
    cp.pod_of(namespace, "app=api").await;
}

/// Hundreds of awaited secrets cost the API server 50 reads per second, however many owners wait.
#[tokio::test]
async fn awaited_secrets_are_read_at_most_fifty_times_per_second() {
    let audit = AuditLog::new();
    // Without controllers, only the webhook's controller reads Secrets.
    let cp = ControlPlane::start(audit.options(false)).await;
    let identity = controller_identity(&cp).await;
    let controller = Launch::controller(&cp, &identity).start().await;
    metric_is(&controller, "leader", 1).await;
    let ns = cp.namespace("many").await;
    let asking = async |name: &str, secrets: usize| {
        let names: Vec<String> = (0..secrets)
            .map(|number| format!("{name}-{number}"))
            .collect();
        let mut job = job(
            name,
            &prefixed(&json!({"env-from": names.join(",")})),
            &json!([container()]),
        );
        job["metadata"]["namespace"] = ns.name.as_str().into();
        let job = cp.create(&job).await.object();
        cp.create(&refusal(&job)).await.object();
        names
    };
    asking("greedy", 65).await;
    for number in 0..80 {
        asking(&format!("owner-{number}"), 1).await;
    }
    let ten = asking("ten", 10).await;
    metric_is(&controller, "retry_pending_owners", 81).await;
    let waiting = wait_for("all events", || async {
        let waiting = events(&cp, &ns.name, "AwaitingSecrets").await;
        (waiting.len() >= 81).then_some(waiting)
    })
    .await;
    assert_eq!(waiting.len(), 81);
    assert!(
        waiting
            .iter()
            .all(|event| event["involvedObject"]["name"] != "greedy"),
        "that is too much for one owner"
    );

    for name in &ten {
        cp.secret(&ns.name, name, &["k"], "x").await;
    }
    metric_is(
        &controller,
        "retries_triggered_total{result=\"triggered\"}",
        1,
    )
    .await;
    let reads = wait_for("a thousand reads", || async {
        let mut requests = audit.requests_by(&identity.username);
        let counted_resources = ["secrets", "jobs.batch", "namespaces", "serviceaccounts"];
        requests.retain(|request| {
            request.verb == "get" && counted_resources.contains(&request.resource.as_str())
        });
        (requests.len() >= 1000).then_some(requests)
    })
    .await;
    let mut at: Vec<jiff::Timestamp> = reads.iter().map(|request| request.at).collect();
    at.sort();
    let within = |seconds: i64| {
        let end = |from: &jiff::Timestamp| *from + jiff::SignedDuration::from_secs(seconds);
        let count = |from: &jiff::Timestamp| {
            at.iter()
                .filter(|time| (*from..end(from)).contains(time))
                .count()
        };
        at.iter().map(count).max().expect("reads")
    };
    println!(
        "at most {} reads within 1 s, {} within 10 s",
        within(1),
        within(10)
    );
    assert!(within(10) <= 510, "{}", within(10));
    assert!(
        within(10) > 150,
        "so many secrets make it look all the time: {}",
        within(10)
    );
}

/// The controller of an owner may retry after the secret was created and before the owner is annotated: then it has its
/// pods, and an event reports that it no longer waits.
#[tokio::test]
async fn owner_retried_by_its_controller_gets_event() {
    // Without controllers, the test creates the pod.
    let cp = ControlPlane::start(Options {
        controller_manager: false,
        ..Options::default()
    })
    .await;
    let identity = controller_identity(&cp).await;
    let controller = Launch::controller(&cp, &identity).start().await;
    metric_is(&controller, "leader", 1).await;
    let ns = cp.namespace("retried").await;
    let mut job = job(
        "load",
        &prefixed(&json!({"env-from": "late"})),
        &json!([container()]),
    );
    job["metadata"]["namespace"] = ns.name.as_str().into();
    let job = cp.create(&job).await.object();
    cp.create(&refusal(&job)).await.object();
    let message = cp.event(&ns.name, "Job", "load", "AwaitingSecrets").await;
    assert!(
        message.starts_with("new pods wait for secret \"late\""),
        "{message}"
    );

    let status = json!({"status": {"active": 1, "startTime": "2026-01-01T00:00:00Z"}});
    let path = format!("/apis/batch/v1/namespaces/{}/jobs/load/status", ns.name);
    cp.request(Method::PATCH, &path, Some(&status))
        .await
        .object();
    cp.secret(&ns.name, "late", &["k"], "x").await;
    let message = cp.event(&ns.name, "Job", "load", "SecretsArrived").await;
    assert_eq!(
        message,
        "secret \"late\" can be injected now; its controller has tried again by itself"
    );
    metric_is(&controller, "retry_pending_owners", 0).await;
    let path = format!("/apis/batch/v1/namespaces/{}/jobs/load", ns.name);
    let live = cp.request(Method::GET, &path, None).await.object();
    assert!(
        live["metadata"].get("annotations").is_none(),
        "the owner was not annotated: {live}"
    );
}

/// With `eventTime`, the API server accepts an event in one namespace about an object in another.
#[tokio::test]
async fn event_in_another_namespace_is_ignored() {
    let audit = AuditLog::new();
    let cp = ControlPlane::start(audit.options(false)).await;
    let identity = controller_identity(&cp).await;
    let controller = Launch::controller(&cp, &identity).start().await;
    metric_is(&controller, "leader", 1).await;
    let (victim, attacker) = (cp.namespace("victim").await, cp.namespace("attacker").await);
    let asking = async |namespace: &str, name: &str| {
        let mut job = job(
            name,
            &prefixed(&json!({"env-from": "late"})),
            &json!([container()]),
        );
        job["metadata"]["namespace"] = namespace.into();
        cp.create(&job).await.object()
    };
    let aim = asking(&victim.name, "aim").await;
    let mut forged = refusal(&aim);
    for (field, value) in [
        ("eventTime", json!("2026-01-01T00:00:00.000000Z")),
        ("reportingComponent", json!("job-controller")),
        ("reportingInstance", json!("x")),
        ("action", json!("x")),
        ("source", json!({})),
    ] {
        forged[field] = value;
    }
    forged["metadata"]["namespace"] = attacker.name.as_str().into();
    let stored = cp.create(&forged).await.object();
    assert_ne!(
        stored["metadata"]["namespace"], stored["involvedObject"]["namespace"],
        "the API server takes it"
    );
    let mut unsigned = refusal(&asking(&victim.name, "unsigned").await);
    unsigned["source"]["component"] = "somebody".into();
    cp.create(&unsigned).await.object();

    // The watch is in order: once this event is known, those before it have been seen.
    cp.create(&refusal(&asking(&attacker.name, "own").await))
        .await
        .object();
    cp.event(&attacker.name, "Job", "own", "AwaitingSecrets")
        .await;
    wait_for("the read of the one owner is in the audit log", || async {
        audit
            .requests_by(&identity.username)
            .iter()
            .any(|request| request.name == "own")
            .then_some(())
    })
    .await;
    let read: Vec<_> = audit
        .requests_by(&identity.username)
        .into_iter()
        .filter(|request| request.resource == "jobs.batch" && request.verb == "get")
        .collect();
    assert!(read.iter().all(|request| request.name == "own"), "{read:?}");
    assert!(
        events(&cp, &victim.name, "AwaitingSecrets")
            .await
            .is_empty()
    );
}
