//! Askers by owners of a scripted API server and records of a store.

use super::super::owners::OwningKind;
use super::super::test_support::{Admitted, Script, StoredTrail, controller, object, owned};
use super::*;

struct Fixture {
    trail: StoredTrail,
    script: Script,
}

fn reference(kind: OwningKind, name: &str, uid: &str) -> OwnerReference {
    OwnerReference {
        kind: Some(kind),
        name: name.to_owned(),
        uid: uid.to_owned(),
    }
}

const REPLICA_SET: &str = "/apis/apps/v1/namespaces/jobs/replicasets/api-1";
const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/jobs/deployments/api";
const JOB: &str = "/apis/batch/v1/namespaces/jobs/jobs/etl-1";
const CRON_JOB: &str = "/apis/batch/v1/namespaces/jobs/cronjobs/etl";

/// Pod of a Deployment.
fn deployed() -> Admitted<'static> {
    Admitted::pod_of(reference(OwningKind::ReplicaSet, "api-1", "rs"))
}

/// Job of a `CronJob`.
fn scheduled() -> Admitted<'static> {
    Admitted::new("Job", "etl-1").owned_by(reference(OwningKind::CronJob, "etl", "cj"))
}

fn pod_of_job() -> Admitted<'static> {
    Admitted::pod_of(reference(OwningKind::Job, "etl-1", "job"))
}

/// Object whose time of creation is some seconds after noon.
fn created(mut object: serde_json::Value, seconds: i64) -> serde_json::Value {
    let time = crate::store::conformance::second(seconds);
    object["metadata"]["creationTimestamp"] = time.to_string().into();
    object
}

impl Fixture {
    fn new() -> Self {
        let script = Script::default();
        script.set(
            REPLICA_SET,
            owned("rs", "apps/v1", "Deployment", "api", "d"),
        );
        script.set(DEPLOYMENT, object("d"));
        script.set(JOB, owned("job", "batch/v1", "CronJob", "etl", "cj"));
        script.set(CRON_JOB, object("cj"));
        script.set("/api/v1/namespaces/jobs", object("n"));
        script.set("/api/v1/namespaces/jobs/serviceaccounts/dbt", object("s"));
        Self {
            trail: StoredTrail::new(),
            script,
        }
    }

    async fn admit(&mut self, seconds: i64, who: &str, object: Admitted<'_>, secrets: &[&str]) {
        self.trail.admit(seconds, who, &object, secrets).await;
    }

    /// Askers of the newest record, as `NAME POSITION`, a reason, or `-` for the requester.
    async fn askers(&self) -> Vec<String> {
        let resolver = Resolver {
            store: self.trail.store.clone(),
            owners: Owners::new(self.script.client()),
            controllers: Controllers::default(),
        };
        let event = self.trail.newest().await;
        let resolution = resolver.resolve(&event).await.unwrap();
        let text = |asked_by: &Option<AskedBy>| match asked_by {
            None => "-".to_owned(),
            Some(AskedBy::Requester { requester, source }) => {
                assert_eq!(requester.uid, format!("uid-{}", requester.username));
                format!("{} {}", requester.username, source.0)
            }
            Some(AskedBy::Unknown(reason)) => reason.as_str().to_owned(),
        };
        resolution.targets.iter().map(text).collect()
    }
}

#[tokio::test]
async fn secrets_of_one_deployment_have_their_own_askers() {
    let mut fixture = Fixture::new();
    fixture
        .admit(0, "alice", Admitted::new("Deployment", "api"), &["a"])
        .await;
    let changed = Admitted::changed("Deployment", "api");
    fixture.admit(1, "bob", changed, &["a", "b"]).await;
    fixture
        .admit(2, &controller("replicaset"), deployed(), &["b", "a", "c"])
        .await;
    assert_eq!(fixture.askers().await, ["bob 2", "alice 1", "not-named"]);
}

#[tokio::test]
async fn pod_of_an_old_revision_has_the_asker_of_that_revision() {
    let mut fixture = Fixture::new();
    fixture
        .admit(0, "alice", Admitted::new("Deployment", "api"), &["a"])
        .await;
    fixture
        .admit(600, "bob", Admitted::changed("Deployment", "api"), &[])
        .await;
    fixture
        .admit(900, &controller("replicaset"), deployed(), &["a"])
        .await;
    assert_eq!(fixture.askers().await, ["alice 1"]);
}

#[tokio::test]
async fn requester_that_is_not_a_controller_asked_itself() {
    let mut fixture = Fixture::new();
    fixture
        .admit(0, "alice", Admitted::new("Deployment", "api"), &["a"])
        .await;
    fixture.admit(2, "mallory", deployed(), &["a"]).await;
    assert_eq!(fixture.askers().await, ["-"]);
    assert_eq!(fixture.script.calls(), 0);
}

#[tokio::test]
async fn cron_job_is_followed_only_from_a_job_of_its_controller() {
    let mut fixture = Fixture::new();
    fixture
        .admit(0, "alice", Admitted::new("CronJob", "etl"), &["a"])
        .await;
    fixture
        .admit(1, &controller("cronjob"), scheduled(), &["a"])
        .await;
    assert_eq!(fixture.askers().await, ["alice 1"], "the Job");
    fixture
        .admit(2, &controller("job"), pod_of_job(), &["a"])
        .await;
    assert_eq!(fixture.askers().await, ["alice 1"], "its pod");

    // `kubectl create job --from=cronjob/etl`.
    let mut fixture = Fixture::new();
    fixture
        .admit(0, "alice", Admitted::new("CronJob", "etl"), &["a"])
        .await;
    fixture.admit(1, "bob", scheduled(), &["a"]).await;
    assert_eq!(fixture.askers().await, ["-"], "the Job");
    fixture
        .admit(2, &controller("job"), pod_of_job(), &["a"])
        .await;
    assert_eq!(fixture.askers().await, ["bob 2"], "its pod");
}

#[tokio::test]
async fn job_without_a_record_may_be_anybodys() {
    let mut fixture = Fixture::new();
    fixture
        .admit(0, "alice", Admitted::new("CronJob", "etl"), &["a"])
        .await;
    fixture
        .admit(2, &controller("job"), pod_of_job(), &["a"])
        .await;
    assert_eq!(fixture.askers().await, ["no-record"]);
}

#[tokio::test]
async fn job_with_a_generated_name_is_found_by_its_prefix() {
    let mut fixture = Fixture::new();
    let mut job = object("job");
    job["metadata"]["generateName"] = "etl-".into();
    fixture.script.set(JOB, job);
    fixture
        .admit(0, "alice", Admitted::new("Job", "etl-*"), &["a"])
        .await;
    fixture
        .admit(2, &controller("job"), pod_of_job(), &["a"])
        .await;
    assert_eq!(fixture.askers().await, ["alice 1"]);
    fixture
        .admit(3, "bob", Admitted::new("Job", "etl-*"), &["a"])
        .await;
    assert_eq!(fixture.askers().await, ["ambiguous"]);
}

#[tokio::test]
async fn namesake_of_a_deleted_workload_is_not_attributed_to_its_author() {
    let mut fixture = Fixture::new();
    fixture
        .admit(0, "alice", Admitted::new("Deployment", "api"), &["a"])
        .await;
    fixture.script.set(DEPLOYMENT, created(object("d"), 60));
    fixture
        .admit(61, &controller("replicaset"), deployed(), &["a"])
        .await;
    assert_eq!(fixture.askers().await, ["no-record"]);
}

#[tokio::test]
async fn owner_that_is_gone_leads_to_nobody() {
    let mut fixture = Fixture::new();
    fixture
        .admit(0, "alice", Admitted::new("Deployment", "api"), &["a"])
        .await;
    fixture
        .admit(1, &controller("replicaset"), deployed(), &["a"])
        .await;
    fixture.script.set(DEPLOYMENT, object("another"));
    assert_eq!(fixture.askers().await, ["owner-gone"]);
    fixture.script.fail(403);
    assert_eq!(fixture.askers().await, ["owner-forbidden"]);
    fixture.script.fail(500);
    assert_eq!(fixture.askers().await, ["api-unavailable"]);
}

#[tokio::test]
async fn owners_without_an_author_lead_to_nobody() {
    let mut fixture = Fixture::new();
    fixture.script.set(REPLICA_SET, object("rs"));
    fixture
        .admit(1, &controller("replicaset"), deployed(), &["a"])
        .await;
    assert_eq!(fixture.askers().await, ["no-owner"]);
    let workflow = owned("rs", "example.com/v1", "Workflow", "x", "w");
    fixture.script.set(REPLICA_SET, workflow);
    assert_eq!(fixture.askers().await, ["owner-kind"]);
    // A circle.
    let circle = owned("rs", "apps/v1", "ReplicaSet", "api-1", "rs");
    fixture.script.set(REPLICA_SET, circle);
    assert_eq!(fixture.askers().await, ["too-many-owners"]);
}

#[tokio::test]
async fn defaults_are_asked_for_by_their_author() {
    let mut fixture = Fixture::new();
    fixture
        .admit(0, "alice", Admitted::new("Namespace", "jobs"), &["a"])
        .await;
    fixture
        .admit(1, "bob", Admitted::new("ServiceAccount", "dbt"), &["b"])
        .await;
    let secrets = ["a@namespace", "b@serviceaccount", "c@namespace", "d"];
    fixture
        .admit(2, "carol", Admitted::new("Pod", "bare"), &secrets)
        .await;
    assert_eq!(
        fixture.askers().await,
        ["alice 1", "bob 2", "not-named", "-"]
    );
    fixture
        .admit(3, &controller("replicaset"), deployed(), &secrets)
        .await;
    let expected = ["alice 1", "bob 2", "not-named", "no-record"];
    assert_eq!(fixture.askers().await, expected);
}

#[tokio::test]
async fn defaults_of_a_later_namesake_are_not_those_of_the_pod() {
    let mut fixture = Fixture::new();
    fixture
        .admit(0, "alice", Admitted::new("ServiceAccount", "dbt"), &["a"])
        .await;
    let bare = Admitted::new("Pod", "bare");
    fixture.admit(2, "carol", bare, &["a@serviceaccount"]).await;
    let account = "/api/v1/namespaces/jobs/serviceaccounts/dbt";
    fixture.script.set(account, created(object("s2"), 60));
    assert_eq!(fixture.askers().await, ["owner-gone"]);
}

#[tokio::test]
async fn line_of_another_form_has_no_secrets() {
    let fixture = Fixture::new();
    let resolver = Resolver {
        store: fixture.trail.store.clone(),
        owners: Owners::new(fixture.script.client()),
        controllers: Controllers::default(),
    };
    for line in [
        "",
        "[]",
        r#"{"targets":7,"object":[],"actor":{"username":{}}}"#,
    ] {
        let event = UnattributedEvent {
            position: crate::store::LinePosition(1),
            since: None,
            line: line.to_owned(),
        };
        let resolution = resolver.resolve(&event).await.unwrap();
        assert!(resolution.targets.is_empty() && !resolution.may_change());
    }
}
