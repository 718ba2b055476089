//! Retries against a scripted API server, in paused time.

use std::sync::Arc;
use std::time::Duration;

use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::*;
use crate::controller::retry::annotation::ANNOTATION;
use crate::controller::retry::limits::MAX_OWNERS_PER_NAMESPACE;
use crate::controller::retry::owner::OwnerKind;
use crate::controller::retry::queue::RetryQueue;

/// Writes that the API server received: time since the start, path, and body.
type Written = Arc<Mutex<Vec<(Duration, String, Value)>>>;

/// API server that accepts every write. `object_at` returns the object at a path, in full or its metadata, at a time
/// since the start.
fn serving(
    object_at: impl Fn(&str, bool, Duration) -> Option<Value> + Send + Sync + 'static,
) -> (ObjectApi, Written) {
    let written = Written::default();
    let (log, object_at, began) = (Arc::clone(&written), Arc::new(object_at), Instant::now());
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let (log, object_at, at) = (Arc::clone(&log), Arc::clone(&object_at), began.elapsed());
        async move {
            use http_body_util::BodyExt as _;
            let path = request.uri().path().to_owned();
            let full = !request.headers()["accept"]
                .to_str()
                .unwrap()
                .contains("PartialObjectMetadata");
            let is_read = request.method() == http::Method::GET;
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let not_found =
                json!({"kind": "Status", "apiVersion": "v1", "reason": "NotFound", "code": 404});
            let (status, body) = if is_read {
                object_at(&path, full, at).map_or_else(|| (404, not_found), |object| (200, object))
            } else {
                let object = serde_json::from_slice(&body).unwrap();
                log.lock().unwrap().push((at, path, object));
                (200, json!({}))
            };
            let response = http::Response::builder()
                .status(status)
                .body(Body::from(body.to_string().into_bytes()));
            Ok::<_, tower::BoxError>(response.unwrap())
        }
    });
    (
        ObjectApi::new(kube::Client::new(service, "default")),
        written,
    )
}

fn trigger(api: &ObjectApi, rules: Rules) -> RetryTrigger {
    RetryTrigger::new(
        api,
        rules,
        Scope::All,
        ControllerMetrics::default(),
        Clock::new(|| jiff::Timestamp::UNIX_EPOCH),
    )
}

fn owner(namespace: &str, name: &str) -> Owner {
    let (namespace, name) = (namespace.to_owned(), name.to_owned());
    Owner {
        uid: format!("{namespace}-{name}"),
        kind: OwnerKind::Job,
        namespace,
        name,
    }
}

/// Job with `annotations` on its template and `pods` active pods.
fn job(namespace: &str, name: &str, annotations: &Value, pods: i64) -> Value {
    let metadata = json!({"annotations": annotations, "labels": {"tier": name}});
    json!({
        "metadata": {"uid": format!("{namespace}-{name}"), "namespace": namespace, "name": name},
        "spec": {"template": {"metadata": metadata, "spec": {"containers": [{"name": "main"}]}}},
        "status": {"active": pods},
    })
}

fn namespace_object(name: &str, labels: &Value, annotations: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
        "metadata": {"name": name, "labels": labels, "annotations": annotations},
    })
}

/// Secret with one key, `other`.
fn secret_object(namespace: &str, name: &str, version: u64, full: bool) -> Value {
    let (kind, version_of) = if full {
        ("Secret", "v1")
    } else {
        ("PartialObjectMetadata", "meta.k8s.io/v1")
    };
    let metadata = json!({
        "name": name, "namespace": namespace, "uid": format!("{namespace}-{name}"),
        "resourceVersion": version.to_string(),
    });
    let mut object = json!({"kind": kind, "apiVersion": version_of, "metadata": metadata});
    if full {
        object["data"] = json!({"other": ""});
    }
    object
}

/// Splits the path of an object into namespace, plural and name; the path of a Namespace has only the first.
fn split_path(path: &str) -> (String, String, String) {
    let after = path
        .split_once("/namespaces/")
        .map_or("", |(_, after)| after);
    let mut parts = after.splitn(3, '/').map(str::to_owned);
    let mut part = || parts.next().unwrap_or_default();
    (part(), part(), part())
}

/// Annotations with the webhook's prefix.
fn annotations(short: &Value) -> Value {
    let pairs = short.as_object().unwrap().iter();
    pairs
        .map(|(key, value)| (format!("secrets.floe.dev/{key}"), value.clone()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// List of `count` secrets that do not exist.
fn missing_secrets(stem: &str, count: usize) -> String {
    (0..count)
        .map(|number| format!("{stem}-{number}"))
        .collect::<Vec<_>>()
        .join(",")
}

/// Number of namespaces with one Job each, whose secret is created later.
const TENANTS: u64 = 5;

/// Time at which a tenant's secret is created.
fn created_at(tenant: u64) -> Duration {
    Duration::from_secs(20) + Duration::from_millis(7300) * u32::try_from(tenant).unwrap()
}

/// One hostile tenant has 1,000 refused Jobs that wait for a key of a Secret, which it rewrites every 2 s. Another one
/// has Jobs that refer to 64 secrets each. In addition, 50 events per second are about owners that do not exist.
fn hostile(path: &str, full: bool, at: Duration) -> Option<Value> {
    let (namespace, plural, name) = split_path(path);
    match (namespace.as_str(), plural.as_str()) {
        (_, "") => Some(namespace_object(&namespace, &json!({}), &json!({}))),
        (_, "jobs") if name.starts_with("unknown") => None,
        ("rewriter", "jobs") => Some(job(
            &namespace,
            &name,
            &annotations(&json!({"refs": "late/key"})),
            0,
        )),
        ("rewriter", "secrets") => Some(secret_object(&namespace, &name, at.as_secs() / 2, full)),
        ("collector", "jobs") => Some(job(
            &namespace,
            &name,
            &annotations(&json!({"env-from": missing_secrets(&name, 64)})),
            0,
        )),
        ("collector", _) => None,
        (_, "jobs") => Some(job(
            &namespace,
            &name,
            &annotations(&json!({"env-from": "late"})),
            0,
        )),
        (tenant, "secrets") => {
            let tenant = tenant.strip_prefix("tenant-").unwrap().parse().unwrap();
            (at >= created_at(tenant)).then(|| secret_object(&namespace, &name, 1, full))
        }
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn retry_is_triggered_within_five_seconds_despite_hostile_tenants() {
    let (api, written) = serving(hostile);
    let trigger = trigger(&api, Rules::default());
    let queue = RetryQueue::new(&trigger);
    let script = async {
        for tenant in 0..TENANTS {
            queue.enqueue(owner(&format!("tenant-{tenant}"), "load"));
        }
        // Events about unknown owners, and events of the controllers' own retries, every 20 ms.
        for number in 0..2800 {
            queue.enqueue(owner("rewriter", &format!("unknown-{number}")));
            queue.enqueue(owner("rewriter", &format!("load-{}", number % 1000)));
            queue.enqueue(owner("collector", &format!("load-{}", number % 1000)));
            sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = queue.run() => unreachable!("the queue runs until it is dropped"),
        () = script => {}
    }
    let waiting = trigger.pending().len();
    assert!(
        (40..=2 * MAX_OWNERS_PER_NAMESPACE).contains(&waiting),
        "hostile tenants get their share, and no more: {waiting}"
    );
    assert!(
        trigger
            .metrics
            .retries
            .get_or_create(&rejected_label())
            .get()
            > 1000,
        "owners over the limit are dropped and counted"
    );
    let written = written.lock().unwrap();
    for tenant in 0..TENANTS {
        let path = format!("/apis/batch/v1/namespaces/tenant-{tenant}/jobs/load");
        let triggered: Vec<Duration> = written
            .iter()
            .filter(|(_, to, _)| *to == path)
            .map(|(at, ..)| *at)
            .collect();
        let [triggered] = triggered.as_slice() else {
            panic!("tenant {tenant}: {triggered:?}")
        };
        let delay = triggered.saturating_sub(created_at(tenant));
        assert!(
            *triggered >= created_at(tenant) && delay <= Duration::from_secs(5),
            "tenant {tenant}: {delay:?}"
        );
    }
}

fn rejected_label() -> crate::controller::metrics::RetryLabels {
    crate::controller::metrics::RetryLabels {
        result: RetryResult::Full,
    }
}

/// Published events: owner, reason and message.
fn events(written: &Written) -> Vec<[String; 3]> {
    let written = written.lock().unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let event = |event: &Value| {
        [
            text(&event["involvedObject"]["name"]),
            text(&event["reason"]),
            text(&event["message"]),
        ]
    };
    written
        .iter()
        .filter(|(_, path, _)| path.ends_with("/events"))
        .map(|(.., object)| event(object))
        .collect()
}

/// Enqueues owners of namespace `jobs`, and runs the queue for `seconds`.
async fn run_for(trigger: &RetryTrigger, names: &[&str], seconds: u64) {
    let queue = RetryQueue::new(trigger);
    for name in names {
        queue.enqueue(owner("jobs", name));
    }
    tokio::select! {
        () = queue.run() => unreachable!("the queue runs until it is dropped"),
        () = sleep(Duration::from_secs(seconds)) => {}
    }
}

#[tokio::test(start_paused = true)]
async fn owner_whose_controller_retried_by_itself_is_reported_as_no_longer_waiting() {
    // The pod of `load` is created together with the secret, before a retry is triggered. `scaled-down` never gets its
    // secret, and no longer needs a pod.
    let (api, written) = serving(|path, full, at| {
        let (namespace, plural, name) = split_path(path);
        let late = at >= Duration::from_secs(10);
        match plural.as_str() {
            "" => Some(namespace_object(&namespace, &json!({}), &json!({}))),
            "jobs" => Some(job(
                &namespace,
                &name,
                &annotations(&json!({"env-from": name})),
                i64::from(late),
            )),
            "secrets" if name == "load" && late => Some(secret_object(&namespace, &name, 1, full)),
            _ => None,
        }
    });
    let trigger = trigger(&api, Rules::default());
    run_for(&trigger, &["load", "scaled-down"], 100).await;
    assert_eq!(trigger.pending().len(), 0);
    let events = events(&written);
    let reasons: Vec<[&str; 2]> = events
        .iter()
        .map(|[name, reason, _]| [name.as_str(), reason.as_str()])
        .collect();
    let expected = [
        ["load", "AwaitingSecrets"],
        ["scaled-down", "AwaitingSecrets"],
        ["load", "SecretsArrived"],
    ];
    assert_eq!(
        reasons, expected,
        "one event, and none about the owner that still has no secret"
    );
    assert_eq!(
        events[2][2],
        "secret \"load\" can be injected now; its controller has tried again by itself"
    );
    assert!(
        written
            .lock()
            .unwrap()
            .iter()
            .all(|(_, path, _)| path.ends_with("/events")),
        "no retry is triggered"
    );
}

#[tokio::test(start_paused = true)]
async fn retry_that_is_refused_is_triggered_again() {
    // The owner has the annotation that was written last, as on a real API server.
    let values = Arc::new(Mutex::new(Vec::<String>::new()));
    let written_values = Arc::clone(&values);
    let (api, written) = serving(move |path, full, _| {
        let (namespace, plural, name) = split_path(path);
        match plural.as_str() {
            "" => Some(namespace_object(&namespace, &json!({}), &json!({}))),
            "jobs" => {
                let mut job = job(
                    &namespace,
                    &name,
                    &annotations(&json!({"env-from": "late"})),
                    0,
                );
                if let Some(value) = written_values.lock().unwrap().last() {
                    job["metadata"]["annotations"] = json!({ANNOTATION: value});
                }
                Some(job)
            }
            "secrets" => Some(secret_object(&namespace, &name, 1, full)),
            _ => None,
        }
    });
    let trigger = trigger(&api, Rules::default());
    let queue = RetryQueue::new(&trigger);
    let mut triggered = Vec::new();
    let began = Instant::now();
    let refusals = async {
        // The pod is refused every second, for as long as the trigger is recorded.
        while began.elapsed() < Duration::from_mins(5) {
            queue.enqueue(owner("jobs", "load"));
            sleep(Duration::from_secs(1)).await;
            for (at, path, object) in written.lock().unwrap().drain(..) {
                if path.ends_with("/jobs/load") {
                    triggered.push(at.as_secs());
                    values.lock().unwrap().push(
                        object["metadata"]["annotations"][ANNOTATION]
                            .as_str()
                            .unwrap()
                            .to_owned(),
                    );
                }
            }
        }
    };
    tokio::select! {
        () = queue.run() => unreachable!("the queue runs until it is dropped"),
        () = refusals => {}
    }
    let [first, second, third, fourth] = triggered.as_slice() else {
        panic!("{triggered:?}")
    };
    // A round may pass after an interval is over.
    let intervals = [second - first, third - second, fourth - third];
    assert!(
        intervals
            .iter()
            .zip([5, 20, 80])
            .all(|(interval, least)| (least..=least + 3).contains(interval)),
        "{intervals:?}"
    );
    let uid = "jobs-late";
    assert_eq!(
        *values.lock().unwrap(),
        [uid, &format!("{uid}/1"), uid, &format!("{uid}/1")]
    );
}

#[tokio::test(start_paused = true)]
async fn owner_awaits_at_most_64_secrets_with_those_of_the_defaults() {
    let (api, written) = serving(|path, _, _| {
        let (namespace, plural, name) = split_path(path);
        let defaults = annotations(&json!({"env-from": missing_secrets("default", 60)}));
        match plural.as_str() {
            "" => Some(namespace_object(
                &namespace,
                &json!({"secrets.floe.dev/inject": "enabled"}),
                &defaults,
            )),
            "jobs" => {
                let own: usize = name.strip_prefix("own-").unwrap().parse().unwrap();
                let refs: Vec<String> = (0..own).map(|number| format!("own-{number}/k")).collect();
                Some(job(
                    &namespace,
                    &name,
                    &annotations(&json!({"refs": refs.join(",")})),
                    0,
                ))
            }
            _ => None,
        }
    });
    let trigger = trigger(&api, Rules::default());
    run_for(&trigger, &["own-4", "own-5"], 30).await;
    let waiting: Vec<String> = events(&written)
        .into_iter()
        .map(|[name, ..]| name)
        .collect();
    assert_eq!(waiting, ["own-4"]);
}

#[tokio::test(start_paused = true)]
async fn owners_outside_of_the_selectors_do_not_wait() {
    let (api, written) = serving(|path, _, _| {
        let (namespace, plural, name) = split_path(path);
        match plural.as_str() {
            "" => Some(namespace_object(
                &namespace,
                &json!({"team": "a"}),
                &json!({}),
            )),
            "jobs" => Some(job(
                &namespace,
                &name,
                &annotations(&json!({"env-from": "late"})),
                0,
            )),
            _ => None,
        }
    });
    let rules = |selected: &str, objects: &str| Rules {
        selected: selected.parse().unwrap(),
        objects: objects.parse().unwrap(),
        ..Rules::default()
    };
    for (selected, objects, expected) in [
        ("team=a", "tier=load", 1),
        ("team!=a", "", 0),
        ("", "tier in (other)", 0),
        ("team", "", 2),
    ] {
        written.lock().unwrap().clear();
        run_for(
            &trigger(&api, rules(selected, objects)),
            &["load", "nightly"],
            30,
        )
        .await;
        assert_eq!(events(&written).len(), expected, "{selected:?} {objects:?}");
    }
}
