//! Reads and writes of values, lists and health: the admin API.

use secrecy::ExposeSecret;

use super::*;

#[tokio::test]
async fn binary_value_is_rejected_by_its_key() {
    let (api, backend) = fixture().await;
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
async fn write_creates_then_patches_and_its_responses_have_no_values() {
    let (api, backend) = fixture().await;
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
            .all(|request| request.accept == ACCEPT_METADATA)
    );
}

#[tokio::test]
async fn write_is_retried_after_conflicts_a_few_times() {
    let (api, backend) = fixture().await;
    backend
        .set_secret("jobs", &name("new"), data(&[("a", "1")]), BTreeMap::new())
        .await
        .unwrap();
    let read = ApiFault::Slow(Duration::ZERO);
    for fault in [read, ApiFault::Status(409), read, ApiFault::Status(409)] {
        api.next(fault);
    }
    backend
        .set_secret("jobs", &name("new"), data(&[("a", "2")]), BTreeMap::new())
        .await
        .unwrap();
    for _ in 0..20 {
        api.next(read);
        api.next(ApiFault::Status(409));
    }
    let error = backend
        .set_secret("jobs", &name("new"), data(&[("a", "3")]), BTreeMap::new())
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Conflict);
}

#[tokio::test]
async fn concurrent_writes_keep_all_keys() {
    let (api, backend) = fixture().await;
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
async fn rejected_write_has_a_cause() {
    let (_api, backend) = fixture().await;
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
    let (api, backend) = fixture().await;
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
    assert!(api.seen().iter().all(
        |request| request.accept == ACCEPT_METADATA_LIST && request.path.contains("limit=500")
    ));
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
#[case(Some(ApiFault::NoResponse), HealthState::Unhealthy)]
#[tokio::test]
async fn health_check_is_one_request(#[case] fault: Option<ApiFault>, #[case] state: HealthState) {
    let (api, backend) = fixture().await;
    api.always(fault);
    let status = backend.health_check(Duration::from_millis(300)).await;
    assert_eq!(status.state, state, "{status:?}");
    assert!(!leaks(&status.message));
    assert_eq!(api.seen().len(), 1);
    assert_eq!(api.seen()[0].path, "/readyz");
}

#[tokio::test]
async fn missing_secrets_are_none_with_optional() {
    let (_api, backend) = fixture().await;
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
