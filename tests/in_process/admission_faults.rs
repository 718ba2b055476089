//! Backend faults over real sockets: the webhook with a fake API server that fails on demand. Each fault has its
//! decision, in time, and no work continues afterwards.
#![cfg(feature = "test-util")]
#![expect(
    clippy::indexing_slicing,
    reason = "serde_json values are indexed; a panic fails the test"
)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use floe_secrets_webhook::admission::pipeline::{Pipeline, RequestContext};
use floe_secrets_webhook::admission::policy::Policy;
use floe_secrets_webhook::admission::sources::{Source, Sources};
use floe_secrets_webhook::admission::surface::Surface;
use floe_secrets_webhook::backend::kubernetes::fake_api::{ApiFault, FakeApi};
use floe_secrets_webhook::backend::layers::cached::RecentNames;
use floe_secrets_webhook::backend::memory::{Fault, MemoryBackend};
use floe_secrets_webhook::backend::{BackendError, BackendKind, ErrorKind};
use floe_secrets_webhook::defaults::{Defaults, DefaultsObject, DefaultsReader};
use futures::future::join_all;
use http::header::RETRY_AFTER;
use injection::{Annotations, PlanTarget, PodView, SecretSource};
use serde_json::{Value, json};
use testbed::admission_client::{WebhookResponse, kubeconfig_for, pod, review};
use testbed::in_process::HandlerFixture;
use testbed::pki::Authority;
use testbed::process::Folder;
use testbed::wait_within;
use testbed::webhook_process::{Launch, WebhookProcess};
use tokio::io::AsyncWriteExt;

/// Webhook and its fake API server.
struct Fixture {
    webhook: WebhookProcess,
    api: FakeApi,
    _folder: Folder,
}

impl Fixture {
    async fn new(args: &[&str]) -> Self {
        let api = FakeApi::start(&["jobs"]).await;
        let folder = Folder::new();
        let kubeconfig = kubeconfig_for(&folder, &api.url());
        let webhook = Launch::without_control_plane(&Authority::new("test-ca"), &kubeconfig)
            .with(args)
            .start()
            .await;
        Self {
            webhook,
            api,
            _folder: folder,
        }
    }

    /// Waits until no backend request is in flight.
    async fn is_at_rest(&self) {
        wait_within(Duration::from_secs(1), "no call is left behind", || async {
            (self.api.in_flight() == 0).then_some(())
        })
        .await;
        let seen = self.api.seen().len();
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(self.api.seen().len(), seen, "requests continue");
    }

    /// Review of a pod that requests this secret.
    async fn ask(&self, secret: &str, timeout: &str) -> WebhookResponse {
        self.webhook.admit(&asking(secret), timeout).await
    }
}

fn asking(secret: &str) -> Value {
    pod(&json!({"secrets.floe.dev/env-from": secret}))
}

/// Expected decision for a secret.
#[derive(Clone, Copy)]
struct ExpectedError {
    code: u64,
    reason: &'static str,
    label: &'static str,
    /// With `SECRET` in place of its name.
    sentence: &'static str,
}

const MISSING: ExpectedError = ExpectedError {
    code: 422,
    reason: "Invalid",
    label: "not_found",
    sentence: "secret \"SECRET\" not found in namespace \"jobs\" (backend kubernetes; asked for by annotation \
               secrets.floe.dev/env-from). Create it or correct the annotation.",
};
const FORBIDDEN: ExpectedError = ExpectedError {
    code: 403,
    reason: "Forbidden",
    label: "permission_denied",
    sentence: "the secrets backend kubernetes does not allow reading secret \"SECRET\" in namespace \"jobs\" (asked for \
               by annotation secrets.floe.dev/env-from). Ask the platform operator to let the webhook read it.",
};
const UNAVAILABLE: ExpectedError = ExpectedError {
    code: 503,
    reason: "ServiceUnavailable",
    label: "unavailable",
    sentence: "the secrets backend kubernetes is unavailable; secret \"SECRET\" in namespace \"jobs\" could not be \
               checked (asked for by annotation secrets.floe.dev/env-from). Try again in a moment; controllers do so \
               by themselves.",
};
const CREDENTIAL: ExpectedError = ExpectedError {
    label: "unauthenticated",
    ..UNAVAILABLE
};
const OVERLOADED: ExpectedError = ExpectedError {
    sentence: "the secrets backend kubernetes is overloaded; secret \"SECRET\" in namespace \"jobs\" could not be \
               checked (asked for by annotation secrets.floe.dev/env-from). Try again in a moment; controllers do so \
               by themselves.",
    ..UNAVAILABLE
};
const DEADLINE: ExpectedError = ExpectedError {
    label: "timeout",
    sentence: "the secrets backend kubernetes did not answer in time; secret \"SECRET\" in namespace \"jobs\" could \
               not be checked (asked for by annotation secrets.floe.dev/env-from). Try again in a moment; controllers \
               do so by themselves.",
    ..UNAVAILABLE
};
const UNREADABLE: ExpectedError = ExpectedError {
    code: 500,
    reason: "InternalError",
    label: "protocol",
    sentence: "the secrets backend kubernetes gave an unreadable answer about secret \"SECRET\" in namespace \"jobs\" \
               (asked for by annotation secrets.floe.dev/env-from). Tell the platform operator; the webhook's log says \
               more.",
};
const INVALID_DATA: ExpectedError = ExpectedError {
    sentence: "the secrets backend kubernetes refused the request for secret \"SECRET\" in namespace \"jobs\" (asked \
               for by annotation secrets.floe.dev/env-from). Tell the platform operator; the webhook's log says more.",
    ..UNREADABLE
};

#[rstest::rstest]
#[case::not_there(None, MISSING)]
#[case::bad_request(Some(ApiFault::Status(400)), INVALID_DATA)]
#[case::unauthorized(Some(ApiFault::Status(401)), CREDENTIAL)]
#[case::forbidden(Some(ApiFault::Status(403)), FORBIDDEN)]
#[case::page_not_found(Some(ApiFault::PageNotFound), UNREADABLE)]
#[case::too_many(Some(ApiFault::Status(429)), OVERLOADED)]
#[case::too_many_for_a_second(Some(ApiFault::TooManyRequests(1)), OVERLOADED)]
#[case::too_many_for_a_minute(Some(ApiFault::TooManyRequests(60)), OVERLOADED)]
#[case::internal(Some(ApiFault::Status(500)), UNAVAILABLE)]
#[case::no_json(Some(ApiFault::Garbage), UNREADABLE)]
#[case::half_a_secret(Some(ApiFault::Truncated), UNREADABLE)]
#[case::broken_off(Some(ApiFault::BrokenOff), UNAVAILABLE)]
#[case::another_secret(Some(ApiFault::OtherObject), UNREADABLE)]
#[case::endless(Some(ApiFault::Endless), UNREADABLE)]
#[case::silent(Some(ApiFault::NoResponse), DEADLINE)]
#[tokio::test]
async fn each_fault_has_its_decision_in_time(
    #[case] fault: Option<ApiFault>,
    #[case] message: ExpectedError,
) {
    let fixture = Fixture::new(&[]).await;
    fixture.api.always(fault);
    // An endless response is read up to its limit before it is rejected: that takes CPU time.
    let patience: &[u64] = if matches!(fault, Some(ApiFault::Endless)) {
        &[5]
    } else {
        &[1, 2, 5]
    };
    for &patience in patience {
        let (secret, timeout) = (format!("secret-{patience}"), format!("{patience}s"));
        let reply = fixture.ask(&secret, &timeout).await;
        // Time by the program's own clock: the test may be waiting for a processor.
        let reported = fixture.webhook.admissions("reason", message.label);
        let took = reported
            .last()
            .and_then(|line| line["duration_us"].as_u64())
            .expect("an admission in the log");
        assert!(
            took < patience * 1_000_000,
            "{took} us: the API server gave up after {timeout}"
        );

        let response = reply.response();
        let sentence = message.sentence.replace("SECRET", &secret);
        let status = &response["status"];
        assert_eq!(response["allowed"], false);
        assert_eq!(
            (&status["code"], &status["reason"]),
            (&json!(message.code), &json!(message.reason)),
            "{response}"
        );
        assert_eq!(status["message"], sentence);
        assert_eq!(response["auditAnnotations"]["refused"], message.label);
        let causes = (message.code == 422).then(|| {
            let field = "metadata.annotations[secrets.floe.dev/env-from]";
            json!({"causes": [{"reason": "FieldValueNotFound", "message": sentence, "field": field}]})
        });
        assert_eq!(status.get("details"), causes.as_ref());
        assert!(
            response["patch"].is_null() && response["warnings"].is_null(),
            "{response}"
        );
        assert!(
            !reply.text.contains("retryAfter") && !reply.headers.contains_key(RETRY_AFTER),
            "{}",
            reply.text
        );
        fixture.is_at_rest().await;
    }
    let counted = fixture.webhook.counter_value(
        "admission_requests",
        &[&format!("reason=\"{}\"", message.label)],
    );
    assert_eq!(counted, patience.len() as u64);
}

#[tokio::test]
async fn slow_backend_response_within_deadline_is_used() {
    let fixture = Fixture::new(&[]).await;
    for (patience, slow) in [(1, 200), (2, 600), (5, 2500)] {
        let secret = format!("secret-{patience}");
        fixture.api.put("jobs", &secret, &[]);
        fixture
            .api
            .always(Some(ApiFault::Slow(Duration::from_millis(slow))));
        let response = fixture
            .ask(&secret, &format!("{patience}s"))
            .await
            .response();
        assert!(
            response["allowed"] == true && response["patch"].is_string(),
            "{response}"
        );
    }
    fixture.is_at_rest().await;
}

#[tokio::test]
async fn retry_after_is_respected_within_deadline() {
    let fixture = Fixture::new(&[]).await;
    fixture.api.put("jobs", "db", &[]);
    fixture.api.next(ApiFault::TooManyRequests(1));
    let response = fixture.ask("db", "1s").await.response();
    // A wait that does not fit is not started: it would end as a timeout.
    assert_eq!(
        response["auditAnnotations"]["refused"], "unavailable",
        "{response}"
    );
    fixture.api.next(ApiFault::TooManyRequests(1));
    let began = Instant::now();
    let response = fixture.ask("db", "5s").await.response();
    assert_eq!(response["allowed"], true, "{response}");
    assert!(
        began.elapsed() >= Duration::from_secs(1),
        "that was too soon"
    );
}

#[rstest::rstest]
#[case::unauthorized(ApiFault::Status(401), "unauthenticated", "is unavailable")]
#[case::too_many(ApiFault::TooManyRequests(60), "unavailable", "is overloaded")]
#[case::internal(ApiFault::Status(500), "unavailable", "is unavailable")]
#[case::silent(ApiFault::NoResponse, "timeout", "did not answer in time")]
#[tokio::test]
async fn operator_can_admit_without_decision_of_backend(
    #[case] fault: ApiFault,
    #[case] label: &str,
    #[case] met: &str,
) {
    let fixture = Fixture::new(&["--on-unavailable", "admit"]).await;
    fixture.api.always(Some(fault));
    let response = fixture.ask("db", "1s").await.response();
    let uid = response["uid"].clone();
    let message = format!(
        "admitted without its secrets: the secrets backend kubernetes {met}; secret \"db\" in namespace \"jobs\" could not \
         be checked (asked for by annotation secrets.floe.dev/env-from)"
    );
    let complete = json!({
        "uid": uid, "allowed": true, "warnings": [message],
        "auditAnnotations": {"event-id": uid, "degraded": label},
    });
    assert_eq!(response, complete);
}

/// The operator may allow a missing decision, not a negative one.
#[rstest::rstest]
#[case::not_there(None, 422)]
#[case::forbidden(Some(ApiFault::Status(403)), 403)]
#[case::half_a_secret(Some(ApiFault::Truncated), 500)]
#[tokio::test]
async fn negative_decision_is_not_overridden(#[case] fault: Option<ApiFault>, #[case] code: u16) {
    let fixture = Fixture::new(&["--on-unavailable", "admit"]).await;
    fixture.api.always(fault);
    let response = fixture.ask("db", "1s").await.response();
    assert_eq!(
        (&response["allowed"], &response["status"]["code"]),
        (&json!(false), &json!(code))
    );
}

#[tokio::test]
async fn certain_errors_are_reported_before_uncertain_ones() {
    let fixture = Fixture::new(&[]).await;
    for fault in [
        ApiFault::Status(403),
        ApiFault::Status(500),
        ApiFault::Garbage,
        ApiFault::NoResponse,
    ] {
        fixture.api.about("failing", fault);
        let response = fixture.ask("failing, gone", "1s").await.response();
        assert_eq!(
            response["status"]["message"],
            MISSING.sentence.replace("SECRET", "gone"),
            "{fault:?}"
        );
    }
}

/// Combination of two backend errors: the one that a human must fix is reported.
#[tokio::test]
async fn refusal_precedes_fault_and_all_causes_are_reported() {
    let fixture = Fixture::new(&[]).await;
    fixture.api.about("forbidden", ApiFault::Status(403));
    fixture.api.about("dead", ApiFault::Status(500));
    let response = fixture.ask("dead, forbidden", "1s").await.response();
    assert_eq!(response["status"]["code"], 403);
    let sentences = format!(
        "{} {}",
        UNAVAILABLE.sentence.replace("SECRET", "dead"),
        FORBIDDEN.sentence.replace("SECRET", "forbidden")
    );
    assert_eq!(response["status"]["message"], sentences);
}

#[tokio::test]
async fn disconnected_caller_cancels_its_work() {
    let fixture = Fixture::new(&[]).await;
    fixture.api.always(Some(ApiFault::NoResponse));
    let mut connections = Vec::new();
    for at in 0..5 {
        let body = review(&asking(&format!("secret-{at}"))).to_string();
        let mut connection = fixture.webhook.connect_tls().await;
        let head = format!(
            "POST /admit/pods?timeout=30s HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        connection
            .write_all(format!("{head}{body}").as_bytes())
            .await
            .expect("it is read");
        connection.flush().await.expect("it is read");
        connections.push(connection);
    }
    let in_flight = || async { (fixture.api.in_flight() > 0).then_some(()) };
    wait_within(Duration::from_secs(5), "the backend is asked", in_flight).await;
    drop(connections);
    fixture.is_at_rest().await;
}

/// Two hundred hanging reviews, and among them some that need no backend.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hanging_reviews_block_no_others() {
    let fixture = Fixture::new(&[]).await;
    fixture.api.put("jobs", "known", &[]);
    assert_eq!(fixture.ask("known", "5s").await.response()["allowed"], true);
    fixture.api.always(Some(ApiFault::NoResponse));
    let hanging =
        join_all((0..200).map(async |at| fixture.ask(&format!("secret-{at}"), "10s").await));
    let quick = async {
        wait_within(Duration::from_secs(10), "reviews hang", || async {
            (fixture.api.in_flight() > 0).then_some(())
        })
        .await;
        let mut slowest = Duration::ZERO;
        for at in 0..20 {
            let began = Instant::now();
            let requested = if at % 2 == 0 {
                pod(&json!({}))
            } else {
                asking("known")
            };
            let response = fixture.webhook.admit(&requested, "5s").await.response();
            assert_eq!(response["allowed"], true, "{response}");
            slowest = slowest.max(began.elapsed());
        }
        (slowest, fixture.api.in_flight())
    };
    let (replies, (slowest, still)) = tokio::join!(hanging, quick);
    eprintln!(
        "20 reviews answered while 200 hung, the slowest after {slowest:?}; calls then under way: {still}"
    );
    assert!(
        still > 0,
        "the other requests completed earlier: nothing is tested"
    );
    let codes: Vec<Value> = replies
        .iter()
        .map(|reply| reply.response()["status"]["code"].clone())
        .collect();
    assert!(codes.iter().all(|code| *code == 503), "{codes:?}");
    fixture.is_at_rest().await;
}

/// Bodies that are not reviews, or too large.
#[tokio::test]
async fn garbage_is_answered_and_not_quoted() {
    let fixture = Fixture::new(&[]).await;
    let no_uid = fixture
        .webhook
        .post("/admit/pods?timeout=5s", r#"{"kind":"nonsense-7f3a"}"#)
        .await;
    assert_eq!(no_uid.status, 400);
    let body = r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u-1","object":7}}"#;
    let with_uid = fixture
        .webhook
        .post("/admit/pods?timeout=5s", body)
        .await
        .response();
    assert_eq!(
        (&with_uid["uid"], &with_uid["status"]["code"]),
        (&json!("u-1"), &json!(400))
    );
    let too_long = fixture
        .webhook
        .post("/admit/pods?timeout=5s", vec![b' '; 9 << 20])
        .await;
    assert_eq!(too_long.status, 413);
    for text in [no_uid.text, too_long.text, fixture.webhook.log()] {
        assert!(!text.contains("nonsense-7f3a"), "{text}");
    }
}

// === cache, on paused time ===

fn rejects_with(response: &Value) -> &Value {
    &response["status"]["code"]
}

fn env_from(secret: &str) -> Value {
    json!({"secrets.floe.dev/env-from": secret})
}

#[tokio::test(start_paused = true)]
async fn cache_returns_stale_binding_while_backend_is_down() {
    let fixture = HandlerFixture::new(Policy::default());
    fixture.backend.put("jobs", "db", &[]);
    assert_eq!(fixture.admit(&env_from("db")).await["allowed"], true);
    for fault in [Fault::Fail(ErrorKind::Unavailable), Fault::Hang] {
        fixture.backend.always(Some(fault));
        let known = fixture.admit(&env_from("db")).await;
        assert!(
            known["allowed"] == true && known["patch"].is_string(),
            "{known}"
        );
        assert_eq!(
            fixture.admit(&env_from("other")).await["allowed"],
            false,
            "nothing is known of that one"
        );
        // After the 30 s in which the backend is not called, within the 10 min in which a stale binding is used.
        tokio::time::advance(Duration::from_mins(2)).await;
        let stale = fixture.admit(&env_from("db")).await;
        assert!(
            stale["allowed"] == true && stale["patch"].is_string(),
            "{stale}"
        );
    }
    tokio::time::advance(Duration::from_mins(7)).await;
    let too_old = fixture.admit(&env_from("db")).await;
    assert_eq!(
        (
            rejects_with(&too_old),
            &too_old["auditAnnotations"]["refused"]
        ),
        (&json!(503), &json!("timeout"))
    );
}

/// A positive lookup is valid for 30 s; the kubelet enforces the rest.
#[tokio::test(start_paused = true)]
async fn deleted_secret_is_noticed_within_half_a_minute() {
    let fixture = HandlerFixture::new(Policy::default());
    fixture.backend.put("jobs", "db", &[]);
    assert_eq!(fixture.admit(&env_from("db")).await["allowed"], true);
    fixture.backend.remove("jobs", "db");
    tokio::time::advance(Duration::from_secs(29)).await;
    assert_eq!(fixture.admit(&env_from("db")).await["allowed"], true);
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(rejects_with(&fixture.admit(&env_from("db")).await), 422);
    // An outage does not restore it.
    fixture
        .backend
        .always(Some(Fault::Fail(ErrorKind::Unavailable)));
    assert_eq!(rejects_with(&fixture.admit(&env_from("db")).await), 503);
}

/// A negative lookup, and an expansion, rest on a read during the review.
#[tokio::test(start_paused = true)]
async fn refusals_and_expansions_are_never_cached() {
    let fixture = HandlerFixture::new(Policy::default());
    let all = json!({"secrets.floe.dev/refs": "db/*"});
    let one = json!({"secrets.floe.dev/refs": "db/token"});
    assert_eq!(rejects_with(&fixture.admit(&all).await), 422);
    fixture.backend.put("jobs", "db", &[("user", "u")]);
    let expanded = testbed::in_process::patched(pod(&all), &fixture.admit(&all).await);
    assert_eq!(variables(&expanded), ["FLOE_SECRET_DB_USER"]);
    assert_eq!(rejects_with(&fixture.admit(&one).await), 422);
    fixture.backend.put("jobs", "db", &[("token", "t")]);
    assert_eq!(fixture.admit(&one).await["allowed"], true);
    let expanded = testbed::in_process::patched(pod(&all), &fixture.admit(&all).await);
    assert_eq!(variables(&expanded), ["FLOE_SECRET_DB_TOKEN"]);
    // In an outage an expansion has no decision: the former keys are not evidence of the current ones.
    fixture
        .backend
        .always(Some(Fault::Fail(ErrorKind::Unavailable)));
    assert_eq!(rejects_with(&fixture.admit(&all).await), 503);
    assert_eq!(fixture.admit(&one).await["allowed"], true);
}

fn variables(pod: &Value) -> Vec<&str> {
    let env = pod["spec"]["containers"][0]["env"]
        .as_array()
        .expect("variables");
    env.iter()
        .filter_map(|entry| entry["name"].as_str())
        .collect()
}

// === defaults, on paused time ===

/// Scripted namespace "jobs" with its label, and its ServiceAccounts.
#[derive(Debug)]
struct Script {
    namespace: Mutex<DefaultsObject>,
    accounts: Mutex<BTreeMap<String, DefaultsObject>>,
    fails: Mutex<bool>,
}

fn source(annotations: &[(&str, &str)]) -> DefaultsObject {
    let prefixed_pairs = annotations
        .iter()
        .map(|(key, value)| (format!("secrets.floe.dev/{key}"), (*value).to_owned()));
    DefaultsObject {
        annotations: Annotations::from_pairs(prefixed_pairs),
        enabled: true,
        ..DefaultsObject::default()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Script {
    fn new(namespace: DefaultsObject) -> Arc<Self> {
        Arc::new(Self {
            namespace: Mutex::new(namespace),
            accounts: Mutex::default(),
            fails: Mutex::default(),
        })
    }

    fn account(&self, annotations: &[(&str, &str)]) {
        lock(&self.accounts).insert("default".to_owned(), source(annotations));
    }

    fn fail(&self, fails: bool) {
        *lock(&self.fails) = fails;
    }

    fn answer<T>(&self, namespace: &str, found: T) -> Result<T, BackendError> {
        let failure = BackendError::new(
            ErrorKind::Unavailable,
            BackendKind::Kubernetes,
            namespace,
            None,
        );
        if *lock(&self.fails) {
            Err(failure)
        } else {
            Ok(found)
        }
    }
}

#[async_trait]
impl DefaultsReader for Script {
    async fn namespace(
        &self,
        name: &str,
        _: tokio::time::Instant,
    ) -> Result<Option<DefaultsObject>, BackendError> {
        self.answer(name, Some(lock(&self.namespace).clone()))
    }

    async fn service_account(
        &self,
        namespace: &str,
        name: &str,
        _: tokio::time::Instant,
    ) -> Result<Option<DefaultsObject>, BackendError> {
        self.answer(namespace, lock(&self.accounts).get(name).cloned())
    }
}

/// Fixture with the secrets "of-namespace", "of-account" and "of-pod".
fn governed(script: &Arc<Script>) -> HandlerFixture {
    let fixture = HandlerFixture::with_defaults(Policy::default(), script.clone());
    for name in ["of-namespace", "of-account", "of-pod"] {
        fixture.backend.put("jobs", name, &[]);
    }
    fixture
}

/// Secret of a pod with these annotations.
async fn given(fixture: &HandlerFixture, annotations: &Value) -> Option<String> {
    let response = fixture.admit_on(Surface::DefaultsPods, annotations).await;
    assert_eq!(response["allowed"], true, "{response}");
    let patched = testbed::in_process::patched(pod(annotations), &response);
    patched["spec"]["containers"][0]["envFrom"][0]["secretRef"]["name"]
        .as_str()
        .map(str::to_owned)
}

#[tokio::test(start_paused = true)]
async fn pod_gets_defaults_of_account_created_after_its_workload() {
    let script = Script::new(source(&[]));
    let fixture = governed(&script);
    assert_eq!(given(&fixture, &json!({})).await, None);
    script.account(&[("env-from", "of-account")]);
    assert_eq!(
        given(&fixture, &json!({})).await.as_deref(),
        Some("of-account")
    );
    // An account without defaults, and one that gets some a moment later.
    script.account(&[]);
    tokio::time::advance(Duration::from_secs(31)).await;
    assert_eq!(given(&fixture, &json!({})).await, None);
    script.account(&[("env-from", "of-account")]);
    assert_eq!(
        given(&fixture, &json!({})).await.as_deref(),
        Some("of-account")
    );
}

#[tokio::test(start_paused = true)]
async fn stale_defaults_are_used_in_outage_unless_empty() {
    let script = Script::new(source(&[("env-from", "of-namespace")]));
    script.account(&[]);
    let fixture = governed(&script);
    assert_eq!(
        given(&fixture, &json!({})).await.as_deref(),
        Some("of-namespace")
    );
    assert_eq!(
        given(&fixture, &env_from("of-pod")).await.as_deref(),
        Some("of-pod")
    );
    script.fail(true);
    fixture
        .backend
        .always(Some(Fault::Fail(ErrorKind::Unavailable)));
    for _ in 0..2 {
        tokio::time::advance(Duration::from_mins(4)).await;
        assert_eq!(
            given(&fixture, &json!({})).await.as_deref(),
            Some("of-namespace")
        );
        assert_eq!(
            given(&fixture, &env_from("of-pod")).await.as_deref(),
            Some("of-pod")
        );
    }
    tokio::time::advance(Duration::from_mins(3)).await;
    let late = fixture.admit_on(Surface::DefaultsPods, &json!({})).await;
    assert_eq!(rejects_with(&late), 503, "{late}");

    // The last read had no defaults: that may have changed.
    let script = Script::new(source(&[]));
    script.account(&[]);
    let fixture = governed(&script);
    assert_eq!(given(&fixture, &json!({})).await, None);
    script.fail(true);
    assert_eq!(
        given(&fixture, &env_from("of-pod")).await.as_deref(),
        Some("of-pod"),
        "this pod has its own annotation"
    );
    let unsure = fixture.admit_on(Surface::DefaultsPods, &json!({})).await;
    assert_eq!(rejects_with(&unsure), 503, "{unsure}");
    let sentence = "the secrets backend kubernetes is unavailable; secrets in namespace \"jobs\" could not be checked";
    assert!(
        unsure["status"]["message"]
            .as_str()
            .expect("a message")
            .starts_with(sentence),
        "{unsure}"
    );
    let opted_out = json!({"secrets.floe.dev/inject": "false"});
    assert_eq!(
        given(&fixture, &opted_out).await,
        None,
        "no default can concern it"
    );
}

/// A caller may name any namespace on any path.
#[tokio::test(start_paused = true)]
async fn defaults_of_unlabelled_namespace_never_apply() {
    let script = Script::new(DefaultsObject {
        enabled: false,
        ..source(&[("env-from", "of-namespace")])
    });
    script.account(&[("env-from", "of-account")]);
    let fixture = governed(&script);
    assert_eq!(given(&fixture, &json!({})).await, None);
    assert_eq!(
        given(&fixture, &env_from("of-pod")).await.as_deref(),
        Some("of-pod")
    );
    lock(&script.namespace).enabled = true;
    assert_eq!(
        given(&fixture, &json!({})).await.as_deref(),
        Some("of-account"),
        "the label counts at once"
    );
}

#[tokio::test(start_paused = true)]
async fn too_large_defaults_are_rejected_with_message() {
    let script = Script::new(source(&[
        ("env-from", &"a,".repeat(32_768)),
        ("reload", "off"),
    ]));
    let fixture = governed(&script);
    let refused = fixture
        .admit_on(Surface::DefaultsPods, &env_from("of-pod"))
        .await;
    let sentence = "annotation secrets.floe.dev/env-from of namespace \"jobs\": together the defaults of this object come \
                    to 65553 bytes; at most 65536 are read. Ask for fewer secrets here, or by shorter annotations";
    assert_eq!(rejects_with(&refused), 422, "{refused}");
    assert!(
        refused["status"]["message"]
            .as_str()
            .expect("a message")
            .starts_with(sentence),
        "{refused}"
    );
    assert_eq!(
        given(&fixture, &json!({"secrets.floe.dev/inject": "false"})).await,
        None
    );
    // Rejected where they are written, too.
    let message = fixture
        .respond(
            Surface::Sources,
            changed("CREATE", &"a,".repeat(32_768)).as_bytes(),
        )
        .await
        .expect("a review");
    assert_eq!(rejects_with(&message), 422, "{message}");
    assert!(
        message["status"]["message"]
            .as_str()
            .expect("a message")
            .contains("at most 65536 are read"),
        "{message}"
    );
}

#[tokio::test(start_paused = true)]
async fn defaults_of_account_in_unlabelled_namespace_cause_warning() {
    let script = Script::new(DefaultsObject {
        enabled: false,
        ..source(&[])
    });
    let fixture = governed(&script);
    let account = changed("CREATE", "any");
    let message = fixture
        .respond(Surface::Sources, account.as_bytes())
        .await
        .expect("a review");
    let missing_label = "the secrets.floe.dev/ annotations of service account \"default\" have no effect without the \
                 label secrets.floe.dev/inject=enabled: kubectl label namespace jobs secrets.floe.dev/inject=enabled";
    assert_eq!(
        (&message["allowed"], &message["warnings"]),
        (&json!(true), &json!([missing_label])),
        "{message}"
    );
    assert_eq!(
        message["auditAnnotations"]["warnings"], missing_label,
        "{message}"
    );
    lock(&script.namespace).other_label = Some("Enabled".to_owned());
    let message = fixture
        .respond(Surface::Sources, account.as_bytes())
        .await
        .expect("a review");
    let near = "have no effect, because the label says \"Enabled\"";
    assert!(
        message["warnings"][0]
            .as_str()
            .expect("a warning")
            .contains(near),
        "{message}"
    );
    lock(&script.namespace).enabled = true;
    let message = fixture
        .respond(Surface::Sources, account.as_bytes())
        .await
        .expect("a review");
    assert_eq!(
        (&message["allowed"], message.get("warnings")),
        (&json!(true), None),
        "{message}"
    );
    // An unavailable backend does not block writes of defaults.
    lock(&script.namespace).enabled = false;
    script.fail(true);
    let message = fixture
        .respond(Surface::Sources, account.as_bytes())
        .await
        .expect("a review");
    assert_eq!(
        (&message["allowed"], message.get("warnings")),
        (&json!(true), None),
        "{message}"
    );
}

/// Review of a ServiceAccount "default" in "jobs" that requests `secrets`.
fn changed(operation: &str, secrets: &str) -> String {
    let account = json!({"metadata": {"name": "default", "namespace": "jobs",
        "annotations": {"secrets.floe.dev/env-from": secrets}}});
    let resource = json!({"group": "", "version": "v1", "resource": "serviceaccounts"});
    let request = json!({"uid": "u-1", "operation": operation, "namespace": "jobs", "name": "default",
        "resource": resource, "object": account, "oldObject": null});
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request})
        .to_string()
}

#[tokio::test(start_paused = true)]
async fn reviewed_change_of_default_applies_at_once() {
    let script = Script::new(source(&[]));
    script.account(&[("env-from", "of-account")]);
    let fixture = governed(&script);
    assert_eq!(
        given(&fixture, &json!({})).await.as_deref(),
        Some("of-account")
    );
    script.account(&[("env-from", "of-pod")]);
    assert_eq!(
        given(&fixture, &json!({})).await.as_deref(),
        Some("of-account"),
        "for half a minute"
    );
    for operation in ["CREATE", "UPDATE"] {
        script.account(&[(
            "env-from",
            if operation == "CREATE" {
                "of-namespace"
            } else {
                "of-pod"
            },
        )]);
        let message = fixture
            .respond(Surface::Sources, changed(operation, "any").as_bytes())
            .await
            .expect("a review");
        assert_eq!(message["allowed"], true, "{message}");
        let expected = if operation == "CREATE" {
            "of-namespace"
        } else {
            "of-pod"
        };
        assert_eq!(given(&fixture, &json!({})).await.as_deref(), Some(expected));
    }
}

// === near names ===

/// Recent names that count their lookups.
#[derive(Debug, Default)]
struct Counting(AtomicUsize);

impl RecentNames for Counting {
    fn recent_names(&self, namespace: &str) -> Vec<String> {
        assert_eq!(namespace, "jobs");
        self.0.fetch_add(1, Ordering::SeqCst);
        vec!["snowflake".to_owned()]
    }
}

#[tokio::test(start_paused = true)]
async fn near_names_are_looked_up_once_per_review_for_missing_secrets() {
    let (backend, names) = (
        Arc::new(MemoryBackend::new()),
        Arc::new(Counting::default()),
    );
    let defaults = Defaults::new(Script::new(source(&[])));
    let kubernetes = Source {
        binder: backend.clone(),
        recent_names: Some(names.clone()),
    };
    let sources = Sources::from([(SecretSource::Kubernetes, kubernetes)]);
    let pipeline = Pipeline::new(sources, Arc::new(defaults), Policy::default());
    let text = pod(&env_from(
        "snowflakes, snowflak, snowflaek, snowflakee, snowflakey, unlike",
    ))
    .to_string();
    let pod: PodView<'_> = serde_json::from_str(&text).expect("a pod");
    let ask = async || {
        let now = tokio::time::Instant::now();
        let context = RequestContext::untraced(now, now + Duration::from_secs(5));
        pipeline
            .decide(Surface::Pods, PlanTarget::Pod, "jobs", &pod, context)
            .await
            .expect_err("nothing is there")
    };
    for kind in [
        ErrorKind::Unavailable,
        ErrorKind::Deadline,
        ErrorKind::PermissionDenied,
    ] {
        backend.always(Some(Fault::Fail(kind)));
        ask().await;
        assert_eq!(names.0.load(Ordering::SeqCst), 0, "{kind:?}");
    }
    backend.always(None);
    let reported = floe_secrets_webhook::admission::error::sentences(&ask().await).join("\n");
    assert_eq!(names.0.load(Ordering::SeqCst), 1);
    assert_eq!(
        reported.matches("Did you mean \"snowflake\"").count(),
        5,
        "{reported}"
    );
}

// === the log ===

/// A collector of the log that stops reading blocks nothing else.
#[tokio::test]
async fn unread_log_blocks_no_admission() {
    let api = FakeApi::start(&["jobs"]).await;
    api.put("jobs", "db", &[]);
    let folder = Folder::new();
    let kubeconfig = kubeconfig_for(&folder, &api.url());
    let launch = Launch::without_control_plane(&Authority::new("test-ca"), &kubeconfig).with(&[
        "--shutdown-delay",
        "0s",
        "--log",
        "trace,rustls=trace,hyper=trace,h2=trace",
    ]);
    let log = launch.folder.path().join("floe-secrets-webhook.log");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&log)
            .status()
            .expect("mkfifo starts")
            .success()
    );
    // Open for both, so that neither the writer waits nor a read reaches the end.
    let mut pipe = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&log)
        .expect("the pipe");
    let webhook = launch.start().await;
    let dropped = |metrics: &str| {
        let sample = metrics
            .lines()
            .find_map(|line| line.strip_prefix("floe_secrets_webhook_log_lines_dropped_total "));
        sample
            .and_then(|sample| sample.parse::<f64>().ok())
            .unwrap_or_default()
    };
    // Handshakes produce long lines; the buffer is bounded, so lines are dropped in the end.
    let (mut reviews, mut lost) = (0, 0.0);
    while lost < 1.0 {
        for _ in 0..50 {
            let response = webhook.admit(&asking("db"), "10s").await.response();
            assert_eq!(response["allowed"], true, "{response}");
        }
        reviews += 50;
        assert_eq!(webhook.get("/livez").map(|(status, _)| status), Some(200));
        let (_, metrics) = webhook.get("/metrics").expect("the ops port responds");
        lost = dropped(&metrics);
        assert!(reviews < 20_000, "nothing is dropped: is the log written?");
    }
    eprintln!("{lost} lines dropped after {reviews} reviews");

    // After reading continues, the log reports the dropped lines.
    let text = tokio::task::spawn_blocking(move || {
        use std::io::Read as _;
        let (mut text, mut part) = (Vec::new(), vec![0; 1 << 16]);
        while !String::from_utf8_lossy(&text).contains("log lines were dropped") {
            let read = pipe.read(&mut part).expect("the pipe");
            text.drain(..text.len().saturating_sub(part.len()));
            text.extend_from_slice(&part[..read]);
        }
        String::from_utf8_lossy(&text).into_owned()
    });
    let text = tokio::time::timeout(Duration::from_mins(1), text)
        .await
        .expect("the log has the message")
        .expect("no panic");
    assert!(
        text.lines()
            .any(|line| line.contains("log lines were dropped") && line.contains("\"lines\":"))
    );
    assert!(webhook.stop().await.success());
}
