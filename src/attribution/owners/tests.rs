//! Reads of owners from a scripted API server.

use rstest::rstest;

use super::super::test_support::{Script, object, owned};
use super::*;

fn reference(kind: &str, name: &str, uid: &str) -> OwnerReference {
    OwnerReference {
        kind: OwningKind::of_kind(kind),
        name: name.to_owned(),
        uid: uid.to_owned(),
    }
}

const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/jobs/deployments/api";

#[tokio::test]
async fn owner_is_read_once_and_remembered_after_its_deletion() {
    let script = Script::default();
    script.set(
        "/apis/apps/v1/namespaces/jobs/replicasets/api-1",
        owned("rs", "apps/v1", "Deployment", "api", "d"),
    );
    let owners = Owners::new(script.client());
    let wanted = reference("ReplicaSet", "api-1", "rs");
    let found = owners.owner("jobs", &wanted).await.unwrap();
    assert_eq!(found.controller, Some(reference("Deployment", "api", "d")));
    assert_eq!(found.created, "2026-11-28T12:00:00Z".parse().unwrap());
    script.clear();
    assert_eq!(owners.owner("jobs", &wanted).await, Ok(found));
    assert_eq!(script.calls(), 1);
}

#[tokio::test]
async fn namesake_is_not_the_owner() {
    let script = Script::default();
    script.set(DEPLOYMENT, object("new"));
    let owners = Owners::new(script.client());
    for _ in 0..2 {
        let found = owners
            .owner("jobs", &reference("Deployment", "api", "old"))
            .await;
        assert_eq!(found, Err(UnknownReason::OwnerGone));
    }
    assert_eq!(script.calls(), 1, "a uid does not come back");
    let found = owners
        .owner("jobs", &reference("Deployment", "api", "new"))
        .await;
    assert!(found.is_ok());
}

#[rstest]
#[case::no_kind(reference("Workflow", "x", "u"), UnknownReason::OwnerKind)]
#[case::path(reference("Job", "../../secrets/x", "u"), UnknownReason::OwnerGone)]
#[case::no_uid(reference("Job", "x", ""), UnknownReason::OwnerGone)]
#[case::absent(reference("Job", "x", "u"), UnknownReason::OwnerGone)]
#[tokio::test]
async fn other_references_lead_to_nobody(
    #[case] reference: OwnerReference,
    #[case] expected: UnknownReason,
) {
    let script = Script::default();
    let owners = Owners::new(script.client());
    let found = owners.owner("jobs", &reference).await;
    assert_eq!(found, Err(expected));
    let foreign = owners.owner("../jobs", &reference).await;
    assert!(foreign.is_err());
}

#[tokio::test]
async fn group_of_an_owner_counts() {
    let script = Script::default();
    script.set(
        DEPLOYMENT,
        owned("d", "example.com/v1", "Rollout", "api", "r"),
    );
    let owners = Owners::new(script.client());
    let found = owners
        .owner("jobs", &reference("Deployment", "api", "d"))
        .await;
    assert_eq!(found.unwrap().controller.as_ref().unwrap().kind, None);
}

#[tokio::test(start_paused = true)]
async fn reads_pause_after_one_that_failed() {
    let script = Script::default();
    script.fail(503);
    let owners = Owners::new(script.client());
    for number in 0..10 {
        let found = owners
            .owner("jobs", &reference("Job", "x", &format!("u{number}")))
            .await;
        assert_eq!(found, Err(UnknownReason::ApiUnavailable));
    }
    assert_eq!(script.calls(), 1);
    tokio::time::advance(PAUSE).await;
    script.clear();
    let found = owners.owner("jobs", &reference("Job", "x", "u")).await;
    assert_eq!(found, Err(UnknownReason::OwnerGone));
}

#[tokio::test(start_paused = true)]
async fn response_that_does_not_come_is_not_waited_for() {
    let script = Script::default();
    script.hang();
    let owners = Owners::new(script.client());
    let began = Instant::now();
    let found = owners.owner("jobs", &reference("Job", "x", "u")).await;
    assert_eq!(found, Err(UnknownReason::ApiUnavailable));
    assert_eq!(began.elapsed(), CALL_TIMEOUT);
}

#[tokio::test]
async fn forbidden_reads_are_briefly_remembered() {
    let script = Script::default();
    script.fail(403);
    let owners = Owners::new(script.client());
    for _ in 0..3 {
        let found = owners.owner("jobs", &reference("Job", "x", "u")).await;
        assert_eq!(found, Err(UnknownReason::OwnerForbidden));
    }
    assert_eq!(script.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn reads_are_limited() {
    let script = Script::default();
    let owners = Owners::new(script.client());
    let began = Instant::now();
    for number in 0..=MAX_CALLS_PER_SECOND {
        let uid = format!("u{number}");
        let found = owners
            .owner("jobs", &reference("Job", &format!("x{number}"), &uid))
            .await;
        assert_eq!(found, Err(UnknownReason::OwnerGone));
    }
    assert_eq!(began.elapsed(), Duration::from_secs(1));
}

#[tokio::test]
async fn objects_with_defaults_are_read_by_name() {
    let script = Script::default();
    script.set("/api/v1/namespaces/jobs", object("n"));
    script.set("/api/v1/namespaces/jobs/serviceaccounts/dbt", object("s"));
    let owners = Owners::new(script.client());
    for (kind, name) in [
        (DefaultsKind::Namespace, "jobs"),
        (DefaultsKind::ServiceAccount, "dbt"),
    ] {
        for _ in 0..2 {
            assert!(owners.defaults(kind, "jobs", name).await.is_ok());
        }
    }
    assert_eq!(script.calls(), 2);
    let found = owners.defaults(DefaultsKind::ServiceAccount, "jobs", "none");
    assert_eq!(found.await, Err(UnknownReason::OwnerGone));
}
