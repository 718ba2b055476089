use rstest::rstest;
use secrecy::ExposeSecret;
use tokio::time::Instant;

use super::fake_api::{ApiFault, FakeApi, leaks};
use super::*;
use crate::backend::layers::circuit_breaker::{Breaker, BreakerSettings};
use crate::backend::limits::{LimitSettings, Limited, Limits};
use crate::backend::memory::query;
use crate::backend::{KeyQuery, OptionalSecret};

async fn subject() -> (FakeApi, KubernetesBackend) {
    let api = FakeApi::start(&["jobs", "other"]).await;
    api.put(
        "jobs",
        "db",
        &[("user", fake_api::CANARY), ("password", fake_api::CANARY)],
    );
    let backend = KubernetesBackend::new(api.client(), None);
    (api, backend)
}

/// The backend behind its limits.
async fn limited() -> (FakeApi, Limited<Breaker<KubernetesBackend>>) {
    let (api, backend) = subject().await;
    let breaker = Breaker::new(backend, BreakerSettings::default());
    let circuit = breaker.circuit();
    (
        api,
        Limited::new(breaker, Limits::new(LimitSettings::default()), circuit),
    )
}

fn keyed() -> BindQuery {
    BindQuery {
        keys: KeyQuery::all(),
        ..query("jobs", "db")
    }
}

fn name(text: &str) -> SecretName {
    text.parse().unwrap()
}

fn data(entries: &[(&str, &str)]) -> SecretData {
    entries
        .iter()
        .map(|(key, value)| (key.parse().unwrap(), SecretString::from(*value)))
        .collect()
}

#[tokio::test]
async fn existence_is_asked_for_metadata_alone_and_keys_cost_one_get() {
    let (api, backend) = subject().await;
    assert_eq!(backend.bind(&query("jobs", "db")).await.unwrap().keys, None);
    let keys = backend.bind(&keyed()).await.unwrap().keys.unwrap();
    assert!(keys.iter().eq(["password", "user"]));
    let seen = api.seen();
    assert_eq!(seen.len(), 2);
    assert!(
        seen.iter()
            .all(|seen| seen.path == "/api/v1/namespaces/jobs/secrets/db" && seen.method == "GET")
    );
    assert_eq!(seen[0].accept, wire::ACCEPT_METADATA);
    assert_eq!(seen[1].accept, "application/json");
}

#[rstest]
#[case(ApiFault::Status(400), ErrorKind::Invalid)]
#[case(ApiFault::Status(401), ErrorKind::Unauthenticated)]
#[case(ApiFault::Status(403), ErrorKind::PermissionDenied)]
#[case(ApiFault::Status(404), ErrorKind::Protocol)]
#[case(ApiFault::PageNotFound, ErrorKind::Protocol)]
#[case(ApiFault::TooManyRequests(1), ErrorKind::RateLimited)]
#[case(ApiFault::Status(500), ErrorKind::Unavailable)]
#[case(ApiFault::Garbage, ErrorKind::Protocol)]
#[case(ApiFault::Truncated, ErrorKind::Protocol)]
#[case(ApiFault::BrokenOff, ErrorKind::Unavailable)]
#[case(ApiFault::OtherObject, ErrorKind::Protocol)]
#[case(ApiFault::Endless, ErrorKind::Protocol)]
#[tokio::test]
async fn faults_have_one_meaning_and_quote_nothing(
    #[case] fault: ApiFault,
    #[case] kind: ErrorKind,
) {
    let (api, backend) = subject().await;
    api.always(Some(fault));
    for query in [query("jobs", "db"), keyed()] {
        let error = backend.bind(&query).await.unwrap_err();
        assert_eq!(error.kind, kind, "{error:?}");
        assert!(
            !leaks(&format!("{error} {error:?} {:?}", error.cause)),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn retry_after_is_passed_on() {
    let (api, backend) = subject().await;
    api.next(ApiFault::TooManyRequests(7));
    assert_eq!(
        backend.bind(&keyed()).await.unwrap_err().retry_after,
        Some(Duration::from_secs(7))
    );
}

#[tokio::test]
async fn no_server_is_unavailable() {
    let (api, backend) = subject().await;
    drop(api);
    // The task's end is not awaited by the drop: the first call may still meet the old socket.
    let mut kinds = Vec::new();
    for _ in 0..3 {
        kinds.push(backend.bind(&keyed()).await.map_err(|error| error.kind));
    }
    assert_eq!(kinds.last(), Some(&Err(ErrorKind::Unavailable)));
}

#[tokio::test]
async fn silence_ends_at_the_deadline() {
    let (api, backend) = subject().await;
    api.always(Some(ApiFault::Never));
    let mut hasty = keyed();
    hasty.deadline = hasty.arrived + Duration::from_millis(200);
    assert_eq!(
        backend.bind(&hasty).await.unwrap_err().kind,
        ErrorKind::Deadline
    );
    assert!(hasty.arrived.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn long_silence_is_a_dead_connection() {
    let (api, backend) = subject().await;
    api.next(ApiFault::Never);
    let began = Instant::now();
    assert_eq!(
        backend.bind(&keyed()).await.unwrap_err().kind,
        ErrorKind::Unavailable
    );
    assert!(began.elapsed() < Duration::from_secs(5));
    backend.bind(&keyed()).await.unwrap();
}

#[tokio::test]
async fn a_burst_shares_a_few_connections_and_is_answered_to_the_last() {
    let (api, limited) = limited().await;
    api.always(Some(ApiFault::Slow(Duration::from_millis(5))));
    let queries = ["a", "b", "c", "d"].map(|namespace| {
        api.put(namespace, "db", &[]);
        query(namespace, "db")
    });
    let answers =
        futures::future::join_all((0..200).map(|at| limited.bind(&queries[at % 4]))).await;
    assert!(answers.iter().all(Result::is_ok));
    assert!(
        (2..=24).contains(&api.most_in_flight()),
        "{}",
        api.most_in_flight()
    );
}

#[tokio::test]
async fn those_who_leave_make_room_for_those_who_wait() {
    let (api, backend) = limited().await;
    api.always(Some(ApiFault::Never));
    let patient = query("jobs", "db");
    let leaving = futures::future::join_all((0..100).map(|_| backend.bind(&patient)));
    assert!(timeout(Duration::from_millis(300), leaving).await.is_err());
    api.always(None);
    timeout(Duration::from_secs(2), backend.bind(&patient))
        .await
        .expect("there is room")
        .unwrap();
}

#[rstest]
#[case("..")]
#[case("jobs/secrets/other")]
#[case("jobs?x=y")]
#[case("Jobs")]
#[case("")]
#[tokio::test]
async fn only_a_namespace_reaches_the_url(#[case] namespace: &str) {
    let (api, backend) = subject().await;
    assert_eq!(
        backend
            .bind(&query(namespace, "db"))
            .await
            .unwrap_err()
            .kind,
        ErrorKind::Invalid
    );
    assert_eq!(
        backend.list_secrets(namespace, "").await.unwrap_err().kind,
        ErrorKind::Invalid
    );
    assert!(api.seen().is_empty());
}

#[tokio::test]
async fn other_namespaces_than_the_allowed_are_refused_without_a_request() {
    let (api, _) = subject().await;
    let backend = KubernetesBackend::new(api.client(), Some(BTreeSet::from(["other".to_owned()])));
    let denied = ErrorKind::PermissionDenied;
    assert_eq!(backend.bind(&keyed()).await.unwrap_err().kind, denied);
    assert_eq!(
        backend.get_all("jobs", &name("db")).await.unwrap_err().kind,
        denied
    );
    assert_eq!(
        backend
            .set_secret("jobs", &name("x"), data(&[]), BTreeMap::new())
            .await
            .unwrap_err()
            .kind,
        denied
    );
    assert_eq!(
        backend.list_secrets("jobs", "").await.unwrap_err().kind,
        denied
    );
    assert!(api.seen().is_empty());
    assert_eq!(
        backend.bind(&query("other", "db")).await.unwrap_err().kind,
        ErrorKind::NotFound
    );
}

#[tokio::test]
async fn a_value_that_is_no_text_is_refused_by_name() {
    let (api, backend) = subject().await;
    api.put("jobs", "mixed", &[("user", "u")]);
    let body = serde_json::json!({"data": {"keystore": "/w=="}}).to_string();
    let patch = Request::patch("/api/v1/namespaces/jobs/secrets/mixed")
        .header("content-type", "application/merge-patch+json")
        .body(Body::from(body.into_bytes()))
        .unwrap();
    backend.client.send(patch).await.unwrap();
    let user = backend
        .get_secret("jobs", &name("mixed"), &"user".parse().unwrap())
        .await
        .unwrap();
    assert_eq!(user.expose_secret(), "u");
    let error = backend
        .get_secret("jobs", &name("mixed"), &"keystore".parse().unwrap())
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert_eq!(
        error.cause.unwrap().to_string(),
        "the value of key \"keystore\" is not UTF-8 text"
    );
    assert_eq!(
        backend
            .get_all("jobs", &name("mixed"))
            .await
            .unwrap_err()
            .kind,
        ErrorKind::Invalid
    );
}

#[tokio::test]
async fn a_write_creates_then_patches_and_its_answers_hold_no_values() {
    let (api, backend) = subject().await;
    let metadata = BTreeMap::from([("owner".to_owned(), "ada".to_owned())]);
    backend
        .set_secret(
            "jobs",
            &name("new"),
            data(&[("a", "1"), ("b", "2")]),
            metadata,
        )
        .await
        .unwrap();
    backend
        .set_secret("jobs", &name("new"), data(&[("b", "3")]), BTreeMap::new())
        .await
        .unwrap();
    let secret = api.stored("jobs", "new").unwrap();
    assert_eq!(secret["type"], "Opaque");
    assert_eq!(
        secret["data"],
        serde_json::json!({"a": "MQ==", "b": "Mw=="})
    );
    assert_eq!(
        secret["metadata"]["annotations"]["metadata.secrets.floe.dev/owner"],
        "ada"
    );
    assert_eq!(
        secret["metadata"]["labels"]["app.kubernetes.io/managed-by"],
        "floe-secrets-webhook"
    );
    assert!(
        api.seen()
            .iter()
            .all(|seen| seen.accept == wire::ACCEPT_METADATA)
    );
}

#[tokio::test]
async fn a_write_that_met_others_is_begun_again_a_few_times() {
    let (api, backend) = subject().await;
    backend
        .set_secret("jobs", &name("new"), data(&[("a", "1")]), BTreeMap::new())
        .await
        .unwrap();
    let look = ApiFault::Slow(Duration::ZERO);
    for fault in [look, ApiFault::Status(409), look, ApiFault::Status(409)] {
        api.next(fault);
    }
    backend
        .set_secret("jobs", &name("new"), data(&[("a", "2")]), BTreeMap::new())
        .await
        .unwrap();
    for _ in 0..20 {
        api.next(look);
        api.next(ApiFault::Status(409));
    }
    let error = backend
        .set_secret("jobs", &name("new"), data(&[("a", "3")]), BTreeMap::new())
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Conflict);
}

#[tokio::test]
async fn concurrent_writers_lose_nothing() {
    let (api, backend) = subject().await;
    let target = name("new");
    let (left, right) = tokio::join!(
        backend.set_secret("jobs", &target, data(&[("a", "1")]), BTreeMap::new()),
        backend.set_secret("jobs", &target, data(&[("b", "2")]), BTreeMap::new()),
    );
    left.unwrap();
    right.unwrap();
    assert_eq!(
        api.stored("jobs", "new").unwrap()["data"],
        serde_json::json!({"a": "MQ==", "b": "Mg=="})
    );
}

#[tokio::test]
async fn a_write_says_why_it_cannot_be() {
    let (_api, backend) = subject().await;
    let target = name("new");
    let error = backend
        .set_secret("nowhere", &target, data(&[]), BTreeMap::new())
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    assert_eq!(
        error.cause.unwrap().to_string(),
        "there is no such namespace"
    );
    let metadata = BTreeMap::from([("a/b".to_owned(), String::new())]);
    let error = backend
        .set_secret("jobs", &target, data(&[]), metadata)
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    let error = backend
        .set_secret("jobs", &name("db"), data(&[]), BTreeMap::new())
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Conflict);
}

#[tokio::test]
async fn lists_are_read_in_pages_of_metadata() {
    let (api, backend) = subject().await;
    for at in 0..1203 {
        api.put("other", &format!("s{at:04}"), &[("key", fake_api::CANARY)]);
    }
    let names = backend.list_secrets("other", "s").await.unwrap();
    assert_eq!(names.len(), 1203);
    assert!(names.is_sorted());
    assert_eq!(
        backend.list_secrets("other", "s000").await.unwrap().len(),
        10
    );
    assert_eq!(api.seen().len(), 6);
    assert!(
        api.seen().iter().all(
            |seen| seen.accept == wire::ACCEPT_METADATA_LIST && seen.path.contains("limit=500")
        )
    );
    assert!(
        backend
            .list_secrets("nowhere", "")
            .await
            .unwrap()
            .is_empty()
    );
}

#[rstest]
#[case(None, HealthState::Healthy)]
#[case(Some(ApiFault::Status(403)), HealthState::Healthy)]
#[case(Some(ApiFault::Status(401)), HealthState::Unhealthy)]
#[case(Some(ApiFault::TooManyRequests(1)), HealthState::Degraded)]
#[case(Some(ApiFault::Status(500)), HealthState::Unhealthy)]
#[case(Some(ApiFault::PageNotFound), HealthState::Unhealthy)]
#[case(Some(ApiFault::Never), HealthState::Unhealthy)]
#[tokio::test]
async fn health_is_one_cheap_question(#[case] fault: Option<ApiFault>, #[case] state: HealthState) {
    let (api, backend) = subject().await;
    api.always(fault);
    let status = backend.health_check(Duration::from_millis(300)).await;
    assert_eq!(status.state, state, "{status:?}");
    assert!(!leaks(&status.message));
    assert_eq!(api.seen().len(), 1);
    assert_eq!(api.seen()[0].path, "/readyz");
}

#[tokio::test]
async fn what_is_missing_is_none_where_the_spec_says_so() {
    let (_api, backend) = subject().await;
    let key = "gone".parse().unwrap();
    assert!(
        backend
            .get_secret("jobs", &name("db"), &key)
            .await
            .optional()
            .unwrap()
            .is_none()
    );
    assert!(
        backend
            .get_secret("jobs", &name("nope"), &key)
            .await
            .optional()
            .unwrap()
            .is_none()
    );
    assert!(
        backend
            .get_all("jobs", &name("nope"))
            .await
            .optional()
            .unwrap()
            .is_none()
    );
}
