//! Records of admissions, from the bytes of a review to the lines of the trail.

use std::io::{BufRead as _, BufReader, PipeReader, pipe};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::admission::policy::Policy;
use crate::admission::sources::{Source, Sources};
use crate::audit::record::Service;
use crate::audit::text::Text;
use crate::backend::memory::{Fault, MemoryBackend};
use crate::backend::{BackendError, ErrorKind};
use crate::clock::Clock;
use crate::defaults::{Defaults, DefaultsObject, DefaultsReader};
use crate::recorder::{ChainId, RecorderSettings};
use crate::telemetry::metrics::registry;
use injection::SecretSource;

/// Handler over the secret `db` of the namespace `jobs`, whose trail is written into a pipe.
struct Trail {
    handler: Handler,
    recorder: AuditRecorder,
    backend: Arc<MemoryBackend>,
    lines: PipeReader,
}

#[derive(Debug)]
struct NoDefaults;

#[async_trait]
impl DefaultsReader for NoDefaults {
    async fn namespace(&self, _: &str, _: Instant) -> Result<Option<DefaultsObject>, BackendError> {
        Ok(None)
    }

    async fn service_account(
        &self,
        _: &str,
        _: &str,
        _: Instant,
    ) -> Result<Option<DefaultsObject>, BackendError> {
        Ok(None)
    }
}

impl Trail {
    fn new(on_failure: OnAuditFailure) -> Self {
        let backend = Arc::new(MemoryBackend::new());
        backend.put("jobs", "db", &[("user", "u")]);
        let source = Source {
            binder: Arc::clone(&backend) as _,
            recent_names: None,
        };
        let sources = Sources::from([(SecretSource::Kubernetes, source)]);
        let policy = Policy {
            exempt_namespaces: ["kube-system".to_owned()].into(),
            ..Policy::default()
        };
        let defaults = Arc::new(Defaults::new(Arc::new(NoDefaults)));
        let pipeline = Arc::new(Pipeline::new(sources, defaults, policy));
        let (lines, out) = pipe().unwrap();
        let settings = RecorderSettings {
            cluster: Text::new("prod"),
            service: Service::default(),
            chain: ChainId::parse("pod-1/1").unwrap(),
        };
        let mut registry = registry();
        let recorder = AuditRecorder::start(settings, out, Clock::system(), &mut registry).unwrap();
        let handler = Handler::new(pipeline, AdmissionMetrics::register(&mut registry));
        Self {
            handler: handler.recorded_by(recorder.clone(), on_failure),
            recorder,
            backend,
            lines,
        }
    }

    /// Response to a request, which is completed to a review.
    async fn respond(&self, surface: Surface, request: &Value) -> Value {
        let review = json!({
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "request": request,
        });
        let received = Received {
            caller: Caller::new("10.0.0.2:40000".parse().unwrap(), true, false),
            ..Received::in_process(Some("timeout=5s"))
        };
        let review = review.to_string();
        let handling = self
            .handler
            .handle(surface, received, review.as_bytes(), Span::off());
        let response = handling.await.unwrap();
        serde_json::to_value(&response).unwrap()["response"].take()
    }

    /// Records of the admissions, without those of the trail itself.
    async fn end(self) -> Vec<Value> {
        self.recorder.stop(Duration::from_secs(30)).await;
        drop((self.handler, self.recorder));
        let lines = BufReader::new(self.lines).lines().map(Result::unwrap);
        let records = lines.map(|line| serde_json::from_str::<Value>(&line).unwrap());
        records
            .filter(|record| record["class"] != "system")
            .collect()
    }
}

/// Creation of a controller's pod with these annotations.
fn pod(annotations: &Value) -> Value {
    json!({
        "uid": "u-1",
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "namespace": "jobs",
        "operation": "CREATE",
        "userInfo": {
            "username": "system:serviceaccount:kube-system:replicaset-controller",
            "uid": "0b1d",
            "groups": ["system:authenticated"],
            "extra": {"authentication.kubernetes.io/credential-id": ["JTI=6f1c"]},
        },
        "object": {
            "metadata": {
                "generateName": "dbt-",
                "annotations": annotations,
                "ownerReferences": [
                    {"kind": "ConfigMap", "name": "other", "uid": "1"},
                    {"kind": "ReplicaSet", "name": "dbt-7c5f", "uid": "9e31", "controller": true},
                ],
            },
            "spec": {"containers": [{"name": "dbt"}]},
        },
    })
}

fn asking() -> Value {
    pod(&json!({"secrets.floe.dev/env-from": "db"}))
}

/// Patch of a response; an empty list if there is none.
fn patch(response: &Value) -> Value {
    let patch = response["patch"].as_str().unwrap_or("W10=");
    serde_json::from_slice(&STANDARD.decode(patch).unwrap()).unwrap()
}

/// Value of the annotation with the event in the patch.
fn event_of(response: &Value) -> Option<Value> {
    let patch = patch(response);
    let operations = patch.as_array().unwrap().iter();
    let mut events = operations
        .filter(|operation| operation["path"] == "/metadata/annotations/audit.floe.dev~1event");
    events.next().map(|operation| operation["value"].clone())
}

#[tokio::test]
async fn injected_pod_has_a_record_and_its_event() {
    let trail = Trail::new(OnAuditFailure::Ignore);
    let response = trail.respond(Surface::Pods, &asking()).await;
    assert_eq!(response["allowed"], true);
    assert_eq!(event_of(&response), Some(json!("u-1")));
    let records = trail.end().await;
    assert_eq!(records.len(), 1);
    let record = &records[0];
    let expected = json!({
        "action": "pod.admit",
        "class": "injection",
        "decision": "injected",
        "outcome": "success",
        "reason": "ok",
        "actor": {
            "credential_id": "JTI=6f1c",
            "type": "kubernetes",
            "uid": "0b1d",
            "username": "system:serviceaccount:kube-system:replicaset-controller",
        },
        "object": {
            "generate_name": "dbt-",
            "kind": "Pod",
            "namespace": "jobs",
            "owner": {"kind": "ReplicaSet", "name": "dbt-7c5f", "uid": "9e31"},
        },
        "request": {"admission_uid": "u-1", "method": "CREATE", "route": "pods"},
        "source": {"channel": "verified", "ip": "10.0.0.2", "kind": "apiserver"},
        "targets": [{"backend": "kubernetes", "name": "db", "namespace": "jobs", "origin": "template"}],
    });
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(record[field], *value, "{field} of {record}");
    }
    assert!(record["duration_us"].is_u64(), "{record}");
}

#[tokio::test]
async fn pod_that_has_its_entries_has_a_record_and_nothing_but_its_event_is_added() {
    let trail = Trail::new(OnAuditFailure::Ignore);
    let mut request = asking();
    request["object"]["spec"]["containers"][0]["envFrom"] = json!([{"secretRef": {"name": "db"}}]);
    let response = trail.respond(Surface::Pods, &request).await;
    assert_eq!(response["auditAnnotations"]["skipped"], "already_injected");
    assert_eq!(event_of(&response), Some(json!("u-1")));
    assert_eq!(patch(&response).as_array().unwrap().len(), 1, "{response}");
    let record = &trail.end().await[0];
    assert_eq!(record["reason"], "already_injected", "{record}");
    assert_eq!(record["targets"][0]["name"], "db");
    assert_eq!(record["outcome"], "success");
}

#[tokio::test]
async fn event_that_is_there_is_left_alone_and_recorded() {
    let trail = Trail::new(OnAuditFailure::Ignore);
    let mut request = asking();
    request["object"]["metadata"]["annotations"]["audit.floe.dev/event"] = json!("forged");
    let response = trail.respond(Surface::Pods, &request).await;
    assert_eq!(event_of(&response), None);
    assert_eq!(trail.end().await[0]["request"]["found_event"], "forged");
}

#[rstest]
#[case::missing(json!({"secrets.floe.dev/env-from": "none"}), None, "denied", "not_found", 422, 1)]
#[case::malformed(json!({"secrets.floe.dev/evn-from": "db"}), None, "denied", "invalid", 422, 0)]
#[case::outage(json!({"secrets.floe.dev/env-from": "db"}), Some(Fault::Fail(ErrorKind::Unavailable)), "error", "unavailable", 503, 1)]
#[tokio::test]
async fn refused_pod_has_a_record(
    #[case] annotations: Value,
    #[case] fault: Option<Fault>,
    #[case] outcome: &str,
    #[case] reason: &str,
    #[case] status: u16,
    #[case] targets: usize,
) {
    let trail = Trail::new(OnAuditFailure::Refuse);
    trail.backend.always(fault);
    let response = trail.respond(Surface::Pods, &pod(&annotations)).await;
    assert_eq!(response["allowed"], false);
    let record = &trail.end().await[0];
    assert_eq!(record["decision"], "denied");
    assert_eq!(
        (&record["outcome"], &record["reason"], &record["status"]),
        (&json!(outcome), &json!(reason), &json!(status))
    );
    let named = record["targets"].as_array().map_or(0, Vec::len);
    assert_eq!(named, targets, "{record}");
}

#[tokio::test]
async fn pod_that_asks_for_nothing_and_dry_run_have_no_record() {
    let trail = Trail::new(OnAuditFailure::Refuse);
    let mut dry_run = asking();
    dry_run["dryRun"] = json!(true);
    let mut exempt = asking();
    exempt["namespace"] = json!("kube-system");
    for request in [pod(&json!({"a": "b"})), dry_run, exempt] {
        let response = trail.respond(Surface::Pods, &request).await;
        assert_eq!(event_of(&response), None, "{request}");
    }
    assert_eq!(trail.end().await, Vec::<Value>::new());
}

/// Review of a Job whose template asks for a secret.
fn job(operation: &str) -> Value {
    let object = json!({
        "metadata": {"name": "dbt", "annotations": {}},
        "spec": {"template": {
            "metadata": {"annotations": {"secrets.floe.dev/env-from": "db"}},
            "spec": {"containers": [{"name": "dbt"}]},
        }},
    });
    json!({
        "uid": "u-2",
        "resource": {"group": "batch", "version": "v1", "resource": "jobs"},
        "namespace": "jobs",
        "name": "dbt",
        "operation": operation,
        "userInfo": {"username": "alice"},
        "object": object,
        "oldObject": if operation == "UPDATE" { object.clone() } else { Value::Null },
    })
}

#[tokio::test]
async fn workload_has_a_record_if_its_annotations_are_new() {
    let trail = Trail::new(OnAuditFailure::Ignore);
    let created = trail.respond(Surface::Workloads, &job("CREATE")).await;
    assert_eq!(created["allowed"], true, "{created}");
    trail.respond(Surface::Workloads, &job("UPDATE")).await;
    let records = trail.end().await;
    assert_eq!(records.len(), 1, "an update leaves the annotations alone");
    let record = &records[0];
    assert_eq!(record["action"], "workload.admit");
    assert_eq!(record["actor"]["username"], "alice");
    assert_eq!(
        record["object"],
        json!({"kind": "Job", "name": "dbt", "namespace": "jobs"})
    );
    assert_eq!(record["targets"][0]["origin"], "template");
    assert_eq!(event_of(&created), None, "a template never has an event");
}

#[tokio::test]
async fn change_that_asks_for_nothing_any_more_has_a_record_without_targets() {
    let trail = Trail::new(OnAuditFailure::Ignore);
    let mut workload = job("UPDATE");
    workload["resource"] = json!({"group": "apps", "version": "v1", "resource": "deployments"});
    workload["object"]["spec"]["template"]["metadata"] = json!({});
    let response = trail.respond(Surface::Workloads, &workload).await;
    assert_eq!(response["allowed"], true, "{response}");
    let defaults = json!({
        "uid": "u-3",
        "resource": {"group": "", "version": "v1", "resource": "serviceaccounts"},
        "namespace": "jobs",
        "name": "dbt",
        "operation": "UPDATE",
        "userInfo": {"username": "alice"},
        "object": {"metadata": {"name": "dbt"}},
        "oldObject": {"metadata": {"name": "dbt", "annotations": {"secrets.floe.dev/env-from": "db"}}},
    });
    trail.respond(Surface::Sources, &defaults).await;
    let records = trail.end().await;
    assert_eq!(records.len(), 2, "{records:?}");
    for (record, action) in records.iter().zip(["workload.admit", "defaults.admit"]) {
        assert_eq!(record["action"], action);
        assert_eq!(record["outcome"], "success");
        assert!(record.get("targets").is_none(), "{record}");
    }
}

#[tokio::test]
async fn defaults_have_a_record_of_policy() {
    let trail = Trail::new(OnAuditFailure::Ignore);
    let object =
        json!({"metadata": {"name": "jobs", "annotations": {"secrets.floe.dev/env-from": "db"}}});
    let review = |old: Value| {
        json!({
            "uid": "u-3",
            "resource": {"group": "", "version": "v1", "resource": "namespaces"},
            "namespace": "jobs",
            "name": "jobs",
            "operation": "UPDATE",
            "userInfo": {"username": "alice"},
            "object": object,
            "oldObject": old,
        })
    };
    trail
        .respond(
            Surface::Sources,
            &review(json!({"metadata": {"name": "jobs"}})),
        )
        .await;
    trail
        .respond(Surface::Sources, &review(object.clone()))
        .await;
    let records = trail.end().await;
    assert_eq!(records.len(), 1);
    assert_eq!(records[0]["action"], "defaults.admit");
    assert_eq!(records[0]["class"], "policy");
    assert_eq!(records[0]["decision"], "validated");
    assert_eq!(records[0]["targets"][0]["origin"], "namespace");
}

#[rstest]
#[case::ignored(OnAuditFailure::Ignore, true)]
#[case::refused(OnAuditFailure::Refuse, false)]
#[tokio::test]
async fn admission_without_a_record_is_as_the_operator_chose(
    #[case] on_failure: OnAuditFailure,
    #[case] allowed: bool,
) {
    let trail = Trail::new(on_failure);
    trail.recorder.stop(Duration::from_secs(30)).await;
    let response = trail.respond(Surface::Pods, &asking()).await;
    assert_eq!(response["allowed"], allowed);
    assert_eq!(event_of(&response), None, "no event without a record");
    if !allowed {
        assert_eq!(response["status"]["code"], 503);
        assert_eq!(response["auditAnnotations"]["refused"], "not_recorded");
        assert_eq!(response["patch"], Value::Null);
    }
    let denied = pod(&json!({"secrets.floe.dev/env-from": "none"}));
    let response = trail.respond(Surface::Pods, &denied).await;
    assert_eq!(response["auditAnnotations"]["refused"], "not_found");
    let idle = trail.respond(Surface::Pods, &pod(&json!({}))).await;
    assert_eq!(
        idle["allowed"], true,
        "objects that ask for nothing need no record"
    );
}
