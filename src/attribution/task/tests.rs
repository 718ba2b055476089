//! Attribution of a store while records arrive, fail and are repeated.

use std::sync::atomic::{AtomicI64, Ordering};

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use super::super::owners::{OwnerReference, OwningKind};
use super::super::test_support::{Admitted, Script, StoredTrail, controller, object, owned};
use super::*;
use crate::audit::asked_by::UnknownReason;
use crate::store::conformance::second;
use crate::store::{AttributionStore as _, RecordAttribution};

struct Fixture {
    trail: StoredTrail,
    script: Script,
    registry: Registry,
    metrics: AttributionMetrics,
    /// Seconds after noon.
    now: Arc<AtomicI64>,
}

impl Fixture {
    fn new() -> Self {
        let script = Script::default();
        for number in 0..3 {
            let path = format!("/apis/apps/v1/namespaces/jobs/replicasets/api-{number}");
            let uid = format!("rs-{number}");
            script.set(&path, owned(&uid, "apps/v1", "Deployment", "api", "d"));
        }
        script.set("/apis/apps/v1/namespaces/jobs/deployments/api", object("d"));
        let mut registry = Registry::default();
        Self {
            trail: StoredTrail::new(),
            script,
            metrics: AttributionMetrics::register(&mut registry),
            registry,
            now: Arc::default(),
        }
    }

    fn driver(&self) -> Driver {
        let now = Arc::clone(&self.now);
        Driver::new(
            self.trail.store.clone(),
            Owners::new(self.script.client()),
            Controllers::default(),
            self.metrics.clone(),
            Clock::new(move || second(now.load(Ordering::Relaxed))),
        )
    }

    async fn admit_workload(&mut self, seconds: i64) -> LinePosition {
        let workload = Admitted::new("Deployment", "api");
        self.trail.admit(seconds, "alice", &workload, &["a"]).await
    }

    async fn admit_pod(&mut self, seconds: i64, replica_set: usize) -> LinePosition {
        let line = self.pod(seconds, replica_set);
        self.trail.append(&[line]).await
    }

    /// Line of a pod.
    fn pod(&mut self, seconds: i64, replica_set: usize) -> String {
        let pod = Admitted::pod_of(OwnerReference {
            kind: Some(OwningKind::ReplicaSet),
            name: format!("api-{replica_set}"),
            uid: format!("rs-{replica_set}"),
        });
        let requester = controller("replicaset");
        self.trail.line(seconds, &requester, &pod, &["a"])
    }

    /// Stores pods. Returns the positions of them.
    async fn admit_pods(&mut self, count: usize) -> Vec<LinePosition> {
        let lines: Vec<String> = (0..count).map(|number| self.pod(1, number % 3)).collect();
        let last = self.trail.append(&lines).await;
        let count = u64::try_from(count).unwrap();
        (last.0 - count + 1..=last.0).map(LinePosition).collect()
    }

    async fn known(&self, position: LinePosition) -> RecordAttribution {
        let known = self.trail.store.attributions(&[position]).await;
        known.unwrap().remove(0)
    }

    async fn askers(&self, position: LinePosition) -> String {
        let known = self.known(position).await;
        if known.is_pending {
            return "pending".to_owned();
        }
        match &known.targets[0].asked_by {
            AskedBy::Requester { requester, .. } => requester.username.clone(),
            AskedBy::Unknown(reason) => reason.as_str().to_owned(),
        }
    }

    fn counted(&self, result: &str) -> u64 {
        let mut text = String::new();
        encode(&mut text, &self.registry).unwrap();
        let series = format!("audit_attributed_total{{result=\"{result}\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&series));
        line.expect("the series").parse().unwrap()
    }
}

#[tokio::test]
async fn records_are_attributed_as_they_are_stored() {
    let mut fixture = Fixture::new();
    fixture.admit_workload(0).await;
    let stop = CancellationToken::new();
    let task = tokio::spawn(run(
        fixture.trail.store.clone(),
        fixture.script.client(),
        Controllers::default(),
        fixture.metrics.clone(),
        Clock::new(|| second(9)),
        stop.clone(),
    ));
    for number in 0..3 {
        let position = fixture.admit_pod(1, number).await;
        let attributed = async {
            while fixture.askers(position).await == "pending" {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let limit = Duration::from_secs(30);
        tokio::time::timeout(limit, attributed).await.unwrap();
        assert_eq!(fixture.askers(position).await, "alice");
    }
    stop.cancel();
    task.await.unwrap();
    assert_eq!(fixture.counted("known"), 3);
}

#[tokio::test]
async fn unanswered_records_are_repeated_and_given_up() {
    let mut fixture = Fixture::new();
    fixture.admit_workload(0).await;
    let position = fixture.admit_pod(1, 0).await;
    fixture.script.fail(500);
    let mut driver = fixture.driver();
    driver.attribute_new().await.unwrap();
    assert_eq!(fixture.askers(position).await, "pending");
    fixture.now.store(599, Ordering::Relaxed);
    driver.repeat().await.unwrap();
    assert_eq!(fixture.askers(position).await, "pending");
    fixture.now.store(600, Ordering::Relaxed);
    driver.repeat().await.unwrap();
    assert_eq!(fixture.askers(position).await, "api-unavailable");
    assert_eq!(fixture.counted("unknown"), 1);
    fixture.script.recover();
    driver.repeat().await.unwrap();
    assert_eq!(fixture.askers(position).await, "api-unavailable");
}

#[tokio::test]
async fn record_of_the_author_may_arrive_later() {
    let mut fixture = Fixture::new();
    let position = fixture.admit_pod(1, 0).await;
    let mut driver = fixture.driver();
    driver.attribute_new().await.unwrap();
    assert_eq!(fixture.askers(position).await, "pending");
    fixture.admit_workload(0).await;
    fixture.now.store(30, Ordering::Relaxed);
    driver.repeat().await.unwrap();
    assert_eq!(fixture.askers(position).await, "alice");
}

#[tokio::test]
async fn restart_goes_on_with_what_was_pending() {
    let mut fixture = Fixture::new();
    fixture.admit_workload(0).await;
    let position = fixture.admit_pod(1, 0).await;
    fixture.script.fail(500);
    fixture.driver().attribute_new().await.unwrap();
    fixture.now.store(700, Ordering::Relaxed);
    fixture.script.recover();
    // The time since the first attempt is over, and one more is made.
    fixture.driver().attribute_new().await.unwrap();
    assert_eq!(fixture.askers(position).await, "alice");
}

#[tokio::test]
async fn restart_does_not_begin_the_time_again() {
    let mut fixture = Fixture::new();
    let position = fixture.admit_pod(1, 0).await;
    fixture.driver().attribute_new().await.unwrap();
    fixture.now.store(600, Ordering::Relaxed);
    fixture.driver().attribute_new().await.unwrap();
    assert_eq!(
        fixture.askers(position).await,
        UnknownReason::NoRecord.as_str()
    );
}

#[tokio::test]
async fn pages_of_a_backlog_are_all_attributed() {
    let mut fixture = Fixture::new();
    fixture.admit_workload(0).await;
    let positions = fixture.admit_pods(2 * MAX_UNATTRIBUTED + 7).await;
    let mut driver = fixture.driver();
    driver.attribute_new().await.unwrap();
    for position in positions {
        assert_eq!(fixture.askers(position).await, "alice");
    }
    assert!(fixture.script.calls() <= 6, "{}", fixture.script.calls());
}

#[tokio::test]
async fn one_look_back_is_at_one_page() {
    let mut fixture = Fixture::new();
    fixture.admit_pods(MAX_UNATTRIBUTED + 7).await;
    let mut driver = fixture.driver();
    driver.attribute_new().await.unwrap();
    fixture.now.store(600, Ordering::Relaxed);
    let pending = async || {
        let store = &fixture.trail.store;
        let events = store.unattributed(LinePosition::default()).await;
        events.unwrap().len()
    };
    driver.repeat().await.unwrap();
    assert_eq!(pending().await, 7);
    driver.repeat().await.unwrap();
    assert_eq!(pending().await, 0);
}

#[tokio::test]
async fn known_askers_of_a_pending_record_are_written() {
    let mut fixture = Fixture::new();
    fixture.admit_workload(0).await;
    let pod = Admitted::pod_of(OwnerReference {
        kind: Some(OwningKind::ReplicaSet),
        name: "api-0".to_owned(),
        uid: "rs-0".to_owned(),
    });
    let requester = controller("replicaset");
    let secrets = ["b", "a"];
    let position = fixture.trail.admit(1, &requester, &pod, &secrets).await;
    fixture.driver().attribute_new().await.unwrap();
    let known = fixture.known(position).await;
    assert!(known.is_pending);
    let targets: Vec<u32> = known.targets.iter().map(|target| target.target).collect();
    assert_eq!(targets, [1]);
}
