//! Retries against a scripted API server, in paused time.

use kube::client::Body;
use serde_json::Value;
use tokio::time::sleep;

use super::*;
use crate::controller::retry::owner::OwnerKind;
use crate::controller::retry::pending;
use crate::controller::retry::queue::RetryQueue;

/// What the API server was asked to write, and how long after the start.
type Written = Arc<Mutex<Vec<(Duration, String, Value)>>>;

/// An API server: `answer` says what there is at a path at a time; every write is taken.
fn serving(
    answer: impl Fn(&str, bool, Duration) -> Option<Value> + Send + Sync + 'static,
) -> (ObjectApi, Written) {
    let written = Written::default();
    let (log, answer, began) = (Arc::clone(&written), Arc::new(answer), Instant::now());
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let (log, answer, at) = (Arc::clone(&log), Arc::clone(&answer), began.elapsed());
        async move {
            use http_body_util::BodyExt as _;
            let path = request.uri().path().to_owned();
            let whole = !request.headers()["accept"]
                .to_str()
                .unwrap()
                .contains("PartialObjectMetadata");
            let is_read = request.method() == http::Method::GET;
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let not_found =
                json!({"kind": "Status", "apiVersion": "v1", "reason": "NotFound", "code": 404});
            let (status, body) = if is_read {
                answer(&path, whole, at).map_or_else(|| (404, not_found), |object| (200, object))
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
    RetryTrigger::new(api, rules, Scope::All, ControllerMetrics::default(), || {
        jiff::Timestamp::UNIX_EPOCH
    })
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

/// A Job with these annotations on its pods; it has no pod, or one.
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

/// A Secret with one key, `other`.
fn secret_object(namespace: &str, name: &str, version: u64, whole: bool) -> Value {
    let (kind, version_of) = if whole {
        ("Secret", "v1")
    } else {
        ("PartialObjectMetadata", "meta.k8s.io/v1")
    };
    let metadata = json!({
        "name": name, "namespace": namespace, "uid": format!("{namespace}-{name}"),
        "resourceVersion": version.to_string(),
    });
    let mut object = json!({"kind": kind, "apiVersion": version_of, "metadata": metadata});
    if whole {
        object["data"] = json!({"other": ""});
    }
    object
}

/// `/…/namespaces/NAMESPACE/PLURAL/NAME`, or a namespace alone.
fn place(path: &str) -> (String, String, String) {
    let after = path
        .split_once("/namespaces/")
        .map_or("", |(_, after)| after);
    let mut parts = after.splitn(3, '/').map(str::to_owned);
    let mut part = || parts.next().unwrap_or_default();
    (part(), part(), part())
}

fn asks(short: &Value) -> Value {
    let pairs = short.as_object().unwrap().iter();
    pairs
        .map(|(key, value)| (format!("secrets.floe.dev/{key}"), value.clone()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// So many other secrets, none of which there is.
fn many(stem: &str, count: usize) -> String {
    (0..count)
        .map(|number| format!("{stem}-{number}"))
        .collect::<Vec<_>>()
        .join(",")
}

/// The honest namespaces, and when the secret of each arrives.
const TENANTS: u64 = 5;

fn arrives(tenant: u64) -> Duration {
    Duration::from_secs(20) + Duration::from_millis(7300) * u32::try_from(tenant).unwrap()
}

/// A tenant with 1,000 refused Jobs that wait for a key of a Secret, which it rewrites every 2 s; another one whose Jobs
/// ask for 64 secrets each; and 50 events a second about owners that do not exist.
fn hostile(path: &str, whole: bool, at: Duration) -> Option<Value> {
    let (namespace, plural, name) = place(path);
    match (namespace.as_str(), plural.as_str()) {
        (_, "") => Some(namespace_object(&namespace, &json!({}), &json!({}))),
        (_, "jobs") if name.starts_with("unknown") => None,
        ("rewriter", "jobs") => Some(job(
            &namespace,
            &name,
            &asks(&json!({"refs": "late/key"})),
            0,
        )),
        ("rewriter", "secrets") => Some(secret_object(&namespace, &name, at.as_secs() / 2, whole)),
        ("collector", "jobs") => Some(job(
            &namespace,
            &name,
            &asks(&json!({"env-from": many(&name, 64)})),
            0,
        )),
        ("collector", _) => None,
        (_, "jobs") => Some(job(
            &namespace,
            &name,
            &asks(&json!({"env-from": "late"})),
            0,
        )),
        (tenant, "secrets") => {
            let tenant = tenant.strip_prefix("tenant-").unwrap().parse().unwrap();
            (at >= arrives(tenant)).then(|| secret_object(&namespace, &name, 1, whole))
        }
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_others_do_an_owner_is_told_within_five_seconds() {
    let (api, written) = serving(hostile);
    let trigger = trigger(&api, Rules::default());
    let queue = RetryQueue::new(&trigger);
    let script = async {
        for tenant in 0..TENANTS {
            queue.enqueue(owner(&format!("tenant-{tenant}"), "load"));
        }
        // Events of unknown owners, and the controllers' own retries, every 20 ms.
        for number in 0..2800 {
            queue.enqueue(owner("rewriter", &format!("unknown-{number}")));
            queue.enqueue(owner("rewriter", &format!("load-{}", number % 1000)));
            queue.enqueue(owner("collector", &format!("load-{}", number % 1000)));
            sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = queue.run() => unreachable!("it never ends"),
        () = script => {}
    }
    let waiting = trigger.pending().len();
    assert!(
        (40..=2 * pending::MAX_OWNERS_PER_NAMESPACE).contains(&waiting),
        "the others have their shares, and no more: {waiting}"
    );
    assert!(
        trigger.metrics.retries.get_or_create(&turned_away()).get() > 1000,
        "what is too much is dropped and counted"
    );
    let written = written.lock().unwrap();
    for tenant in 0..TENANTS {
        let path = format!("/apis/batch/v1/namespaces/tenant-{tenant}/jobs/load");
        let told: Vec<Duration> = written
            .iter()
            .filter(|(_, to, _)| *to == path)
            .map(|(at, ..)| *at)
            .collect();
        let [told] = told.as_slice() else {
            panic!("tenant {tenant}: {told:?}")
        };
        let took = told.saturating_sub(arrives(tenant));
        assert!(
            *told >= arrives(tenant) && took <= Duration::from_secs(5),
            "tenant {tenant}: {took:?}"
        );
    }
}

fn turned_away() -> crate::controller::metrics::RetryLabels {
    crate::controller::metrics::RetryLabels {
        result: RetryResult::Full,
    }
}

/// The events that were written: owner, reason and message.
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

/// Lets owners of namespace `jobs` arrive, and looks after them for so long.
async fn looked_after(trigger: &RetryTrigger, names: &[&str], seconds: u64) {
    let queue = RetryQueue::new(trigger);
    for name in names {
        queue.enqueue(owner("jobs", name));
    }
    tokio::select! {
        () = queue.run() => unreachable!("it never ends"),
        () = sleep(Duration::from_secs(seconds)) => {}
    }
}

#[tokio::test(start_paused = true)]
async fn an_owner_whose_controller_tried_again_by_itself_is_no_longer_said_to_wait() {
    // Its pod is made as soon as the secret is there, before anybody is told; the other one is scaled down instead.
    let (api, written) = serving(|path, whole, at| {
        let (namespace, plural, name) = place(path);
        let late = at >= Duration::from_secs(10);
        match plural.as_str() {
            "" => Some(namespace_object(&namespace, &json!({}), &json!({}))),
            "jobs" => Some(job(
                &namespace,
                &name,
                &asks(&json!({"env-from": name})),
                i64::from(late),
            )),
            "secrets" if name == "load" && late => Some(secret_object(&namespace, &name, 1, whole)),
            _ => None,
        }
    });
    let trigger = trigger(&api, Rules::default());
    looked_after(&trigger, &["load", "scaled-down"], 100).await;
    assert_eq!(trigger.pending().len(), 0);
    let said = events(&written);
    let reasons: Vec<[&str; 2]> = said
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
        "once, and not about who still has no secret"
    );
    assert_eq!(
        said[2][2],
        "secret \"load\" can be injected now; its controller has tried again by itself"
    );
    assert!(
        written
            .lock()
            .unwrap()
            .iter()
            .all(|(_, path, _)| path.ends_with("/events")),
        "nobody is told"
    );
}

#[tokio::test(start_paused = true)]
async fn an_owner_whose_next_try_is_refused_all_the_same_is_told_again() {
    // Its mark is what was written last, as on a real server.
    let marks = Arc::new(Mutex::new(Vec::<String>::new()));
    let known = Arc::clone(&marks);
    let (api, written) = serving(move |path, whole, _| {
        let (namespace, plural, name) = place(path);
        match plural.as_str() {
            "" => Some(namespace_object(&namespace, &json!({}), &json!({}))),
            "jobs" => {
                let mut job = job(&namespace, &name, &asks(&json!({"env-from": "late"})), 0);
                if let Some(mark) = known.lock().unwrap().last() {
                    job["metadata"]["annotations"] = json!({ANNOTATION: mark});
                }
                Some(job)
            }
            "secrets" => Some(secret_object(&namespace, &name, 1, whole)),
            _ => None,
        }
    });
    let trigger = trigger(&api, Rules::default());
    let queue = RetryQueue::new(&trigger);
    let mut told = Vec::new();
    let began = Instant::now();
    let refusals = async {
        // Refused once in a second, for as long as it is remembered that it was told.
        while began.elapsed() < Duration::from_mins(5) {
            queue.enqueue(owner("jobs", "load"));
            sleep(Duration::from_secs(1)).await;
            for (at, path, object) in written.lock().unwrap().drain(..) {
                if path.ends_with("/jobs/load") {
                    told.push(at.as_secs());
                    marks.lock().unwrap().push(
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
        () = queue.run() => unreachable!("it never ends"),
        () = refusals => {}
    }
    let [first, second, third, fourth] = told.as_slice() else {
        panic!("{told:?}")
    };
    // A round may pass until the pause is seen to be over.
    let pauses = [second - first, third - second, fourth - third];
    assert!(
        pauses
            .iter()
            .zip([5, 20, 80])
            .all(|(pause, least)| (least..=least + 3).contains(pause)),
        "{pauses:?}"
    );
    let uid = "jobs-late";
    assert_eq!(
        *marks.lock().unwrap(),
        [uid, &format!("{uid}/1"), uid, &format!("{uid}/1")]
    );
}

#[tokio::test(start_paused = true)]
async fn an_owner_may_ask_for_64_secrets_with_those_of_the_defaults() {
    let (api, written) = serving(|path, _, _| {
        let (namespace, plural, name) = place(path);
        let defaults = asks(&json!({"env-from": many("default", 60)}));
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
                    &asks(&json!({"refs": refs.join(",")})),
                    0,
                ))
            }
            _ => None,
        }
    });
    let trigger = trigger(&api, Rules::default());
    looked_after(&trigger, &["own-4", "own-5"], 30).await;
    let waiting: Vec<String> = events(&written)
        .into_iter()
        .map(|[name, ..]| name)
        .collect();
    assert_eq!(waiting, ["own-4"]);
}

#[tokio::test(start_paused = true)]
async fn what_the_operator_left_out_is_not_waited_for() {
    let (api, written) = serving(|path, _, _| {
        let (namespace, plural, name) = place(path);
        match plural.as_str() {
            "" => Some(namespace_object(
                &namespace,
                &json!({"team": "a"}),
                &json!({}),
            )),
            "jobs" => Some(job(
                &namespace,
                &name,
                &asks(&json!({"env-from": "late"})),
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
        looked_after(
            &trigger(&api, rules(selected, objects)),
            &["load", "nightly"],
            30,
        )
        .await;
        assert_eq!(events(&written).len(), expected, "{selected:?} {objects:?}");
    }
}
