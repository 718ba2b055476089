//! Audit trail of the webhook on a real API server with its controllers: every admitted pod has its record, refusals and
//! authors have theirs, and the trail of a process that was killed and started again is intact.

#![expect(clippy::indexing_slicing, reason = "a failing helper fails its test")]

use std::process::Command;

use floe_secrets_webhook::audit::verify::{TrailFindingKind, Verdict, VerifyOptions, verify};
use serde_json::{Value, json};
use testbed::command_output::CommandOutput;
use testbed::control_plane::ControlPlane;
use testbed::manifests::{container, deployment, pod, prefixed};
use testbed::namespace::TestNamespace;
use testbed::wait_for;
use testbed::webhook::{Registration, limited_to_namespaces, webhook_identity};
use testbed::webhook_process::{Launch, WebhookProcess};

const EVENT: &str = "audit.floe.dev/event";

/// Arguments for a trail.
const ON: &[&str] = &["--audit", "stdout"];

async fn serve(
    cp: &ControlPlane,
    namespace: &TestNamespace,
    args: &[&str],
) -> (WebhookProcess, Registration) {
    let launch = Launch::serve(cp, &webhook_identity(cp).await)
        .with(&["--shutdown-delay", "0s", "--audit-cluster-name", "test"])
        .with(args);
    let webhook = launch.start().await;
    let configuration = limited_to_namespaces(webhook.service_configuration(), &[&namespace.name]);
    let registration = Registration::shared(cp, &configuration).await;
    (webhook, registration)
}

/// Records of admissions in a log.
fn records(log: &str) -> Vec<Value> {
    let lines = log.lines().map(serde_json::from_str::<Value>);
    let records = lines.map(|line| line.expect("each line is JSON"));
    records
        .filter(|line| line["chain"].is_object() && line["class"] != "system")
        .collect()
}

fn asking() -> Value {
    prefixed(&json!({"env-from": "db"}))
}

/// Live pods of the namespace.
async fn pods(cp: &ControlPlane, namespace: &TestNamespace) -> Vec<Value> {
    let listed = cp
        .kubectl(&["-n", &namespace.name, "get", "pods", "-o", "json"], "")
        .await
        .expect_success();
    let listed: Value = serde_json::from_str(&listed.stdout).expect("JSON");
    listed["items"].as_array().cloned().unwrap_or_default()
}

/// Log of a webhook that has ended.
async fn ended(webhook: WebhookProcess) -> (std::path::PathBuf, String, tempfile::TempDir) {
    webhook.terminate();
    wait_for("the webhook's end", || async { webhook.exit_status() }).await;
    // The folder of the process is gone with it.
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("webhook.log");
    let log = webhook.log();
    std::fs::write(&path, &log).expect("a copy of the log");
    (path, log, folder)
}

#[tokio::test]
async fn each_pod_that_asks_has_one_record_and_the_rest_has_none() {
    let cp = ControlPlane::shared().await;
    let namespace = cp.namespace("audited").await;
    cp.secret(&namespace.name, "db", &["user"], "canary-value")
        .await;
    let (webhook, registration) = serve(cp, &namespace, ON).await;

    let mut workload = deployment("dbt", &asking(), &json!([container()]));
    workload["spec"]["replicas"] = json!(3);
    cp.kubectl_apply(&namespace.name, &workload)
        .await
        .expect_success();
    cp.create(&pod(&namespace.name, "bare", &asking()))
        .await
        .object();
    cp.create(&pod(&namespace.name, "plain", &json!({})))
        .await
        .object();
    let mut forged = asking();
    forged[EVENT] = "forged".into();
    cp.create(&pod(&namespace.name, "forged", &forged))
        .await
        .object();
    cp.create_dry_run(&pod(&namespace.name, "dry", &asking()))
        .await
        .object();
    let missing = prefixed(&json!({"env-from": "none"}));
    let refused = cp.create(&pod(&namespace.name, "refused", &missing)).await;
    assert!(!refused.is_accepted());
    let live = wait_for("the pods", || async {
        let live = pods(cp, &namespace).await;
        (live.len() == 6).then_some(live)
    })
    .await;
    drop(registration);
    let (path, log, _folder) = ended(webhook).await;

    let records = records(&log);
    let uses = |uid: &str| {
        let is_use = |record: &&Value| {
            record["request"]["admission_uid"] == uid && record["outcome"] == "success"
        };
        records.iter().filter(is_use).count()
    };
    let mut marked = 0;
    for pod in &live {
        let name = pod["metadata"]["name"].as_str().expect("a name");
        let event = pod["metadata"]["annotations"][EVENT].as_str();
        match (name, event) {
            ("plain", None) => {}
            ("forged", Some(event)) => assert_eq!((event, uses(event)), ("forged", 0)),
            (_, Some(event)) => {
                assert_eq!(uses(event), 1, "{name}: {records:?}");
                marked += 1;
            }
            (_, None) => panic!("{name} has no event"),
        }
    }
    assert_eq!(marked, 4, "three of the Deployment, and the bare one");
    let of = |action: &str, outcome: &str| {
        let matches = |record: &&Value| record["action"] == action && record["outcome"] == outcome;
        records.iter().filter(matches).collect::<Vec<_>>()
    };
    let authors = of("workload.admit", "success");
    assert_eq!(authors.len(), 1, "{authors:?}");
    assert_eq!(authors[0]["object"]["name"], "dbt");
    assert!(authors[0]["actor"]["username"].is_string(), "{authors:?}");
    let denied = of("pod.admit", "denied");
    assert_eq!(denied.len(), 1, "{denied:?}");
    assert_eq!(denied[0]["targets"][0]["name"], "none");
    assert_eq!(
        of("pod.admit", "success").len(),
        5,
        "neither the plain pod nor the dry run"
    );
    assert_eq!(of("pod.admit", "success")[0]["cluster"], "test");
    assert!(!log.contains("canary-value"));

    let mut command = Command::new(env!("CARGO_BIN_EXE_floe-secrets-webhook"));
    command.args(["audit", "verify"]).arg(&path);
    let verified = CommandOutput::run(command, "").expect_success();
    assert!(
        verified.stdout.contains("\nintact: "),
        "{}",
        verified.stdout
    );
    assert!(!verified.stdout.contains("note:"), "{}", verified.stdout);
}

#[tokio::test]
async fn killed_process_leaves_an_intact_chain_without_a_farewell() {
    let cp = ControlPlane::shared().await;
    let namespace = cp.namespace("killed").await;
    cp.secret(&namespace.name, "db", &["user"], "x").await;
    let (webhook, registration) = serve(cp, &namespace, ON).await;
    cp.create(&pod(&namespace.name, "before", &asking()))
        .await
        .object();
    wait_for("the record", || async {
        (records(&webhook.log()).len() == 1).then_some(())
    })
    .await;
    webhook.kill();
    wait_for("the webhook's end", || async { webhook.exit_status() }).await;
    let webhook = webhook.restart().await;
    cp.create(&pod(&namespace.name, "after", &asking()))
        .await
        .object();
    drop(registration);
    let (_, log, _folder) = ended(webhook).await;
    let report = verify(log.lines(), VerifyOptions::default());
    assert_eq!(report.verdict(), Verdict::Intact, "{report:?}");
    assert_eq!((report.chains.len(), records(&log).len()), (2, 2), "{log}");
    let notes: Vec<_> = report.findings.iter().map(|finding| finding.kind).collect();
    assert_eq!(notes, [TrailFindingKind::NoFarewell]);
}

#[tokio::test]
async fn no_trail_is_written_if_it_is_off() {
    let cp = ControlPlane::shared().await;
    let namespace = cp.namespace("unaudited").await;
    cp.secret(&namespace.name, "db", &["user"], "x").await;
    let (webhook, registration) = serve(cp, &namespace, &["--audit", "off"]).await;
    let created = cp
        .create(&pod(&namespace.name, "bare", &asking()))
        .await
        .object();
    assert!(
        created["metadata"]["annotations"].get(EVENT).is_none(),
        "{created}"
    );
    drop(registration);
    let (_, log, _folder) = ended(webhook).await;
    assert!(records(&log).is_empty(), "{log}");
    assert!(!log.contains("system.start"));
}
