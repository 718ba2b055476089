//! Tests of the Kubernetes backend over the fake API server.

use rstest::rstest;
use tokio::time::Instant;

use super::fake_api::{ApiFault, FakeApi, leaks};
use super::*;
use crate::backend::memory::query;
use crate::backend::{HealthState, KeyQuery, OptionalSecret};

mod limits;
mod values;

async fn fixture() -> (FakeApi, KubernetesBackend) {
    let api = FakeApi::start(&["jobs", "other"]).await;
    api.put(
        "jobs",
        "db",
        &[("user", fake_api::CANARY), ("password", fake_api::CANARY)],
    );
    let backend = KubernetesBackend::new(api.client(), None);
    (api, backend)
}

fn query_with_keys() -> BindQuery {
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
async fn existence_is_read_as_metadata_and_keys_cost_one_get() {
    let (api, backend) = fixture().await;
    assert_eq!(backend.bind(&query("jobs", "db")).await.unwrap().keys, None);
    let keys = backend
        .bind(&query_with_keys())
        .await
        .unwrap()
        .keys
        .unwrap();
    assert!(keys.iter().eq(["password", "user"]));
    let requests = api.seen();
    assert_eq!(requests.len(), 2);
    assert!(requests.iter().all(
        |request| request.path == "/api/v1/namespaces/jobs/secrets/db" && request.method == "GET"
    ));
    assert_eq!(requests[0].accept, ACCEPT_METADATA);
    assert_eq!(requests[1].accept, "application/json");
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
async fn faults_have_one_kind_and_are_not_quoted(#[case] fault: ApiFault, #[case] kind: ErrorKind) {
    let (api, backend) = fixture().await;
    api.always(Some(fault));
    for query in [query("jobs", "db"), query_with_keys()] {
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
    let (api, backend) = fixture().await;
    api.next(ApiFault::TooManyRequests(7));
    assert_eq!(
        backend
            .bind(&query_with_keys())
            .await
            .unwrap_err()
            .retry_after,
        Some(Duration::from_secs(7))
    );
}

#[tokio::test]
async fn missing_server_is_unavailable() {
    let (api, backend) = fixture().await;
    drop(api);
    // The drop does not wait for the task: the first call may still reach the old socket.
    let mut kinds = Vec::new();
    for _ in 0..3 {
        kinds.push(
            backend
                .bind(&query_with_keys())
                .await
                .map_err(|error| error.kind),
        );
    }
    assert_eq!(kinds.last(), Some(&Err(ErrorKind::Unavailable)));
}

#[tokio::test]
async fn missing_response_fails_at_the_deadline() {
    let (api, backend) = fixture().await;
    api.always(Some(ApiFault::NoResponse));
    let mut short_query = query_with_keys();
    short_query.deadline = short_query.arrived + Duration::from_millis(200);
    assert_eq!(
        backend.bind(&short_query).await.unwrap_err().kind,
        ErrorKind::Deadline
    );
    assert!(short_query.arrived.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn connection_without_response_is_closed() {
    let (api, backend) = fixture().await;
    api.next(ApiFault::NoResponse);
    let began = Instant::now();
    assert_eq!(
        backend.bind(&query_with_keys()).await.unwrap_err().kind,
        ErrorKind::Unavailable
    );
    assert!(began.elapsed() < Duration::from_secs(5));
    backend.bind(&query_with_keys()).await.unwrap();
}

#[rstest]
#[case("..")]
#[case("jobs/secrets/other")]
#[case("jobs?x=y")]
#[case("Jobs")]
#[case("")]
#[tokio::test]
async fn invalid_namespaces_are_rejected_without_a_request(#[case] namespace: &str) {
    let (api, backend) = fixture().await;
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
async fn namespaces_that_are_not_allowed_are_denied_without_a_request() {
    let (api, _) = fixture().await;
    let backend = KubernetesBackend::new(api.client(), Some(BTreeSet::from(["other".to_owned()])));
    let denied = ErrorKind::PermissionDenied;
    assert_eq!(
        backend.bind(&query_with_keys()).await.unwrap_err().kind,
        denied
    );
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
