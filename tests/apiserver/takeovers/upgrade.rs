//! Workloads of the version before: this version restarts none of them, and each is converted with its own next change.

use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};

use crate::exported::older_record;
use crate::fixture::Fixture;
use crate::state::{LIST, RECORD, State, group_and_template, ours_on, references};
use testbed::{wait_for, wait_within};

const KINDS: [&str; 4] = ["Deployment", "StatefulSet", "DaemonSet", "CronJob"];
const CHANGES: [&str; 4] = ["annotation", "image", "restart", "apply"];

/// Wraps a patch of a pod template for its kind.
fn of_template(kind: &str, patch: &Value) -> Value {
    let template = json!({"template": patch});
    if kind == "CronJob" {
        json!({"jobTemplate": {"spec": template}})
    } else {
        template
    }
}

/// State after the version before: copies under their own names, and a record of them.
async fn make_older(fixture: &Fixture, kind: &'static str, name: &str) -> Value {
    let manifest = State::of(kind)
        .on_metadata(&[("env-from", "db")])
        .manifest(name);
    fixture
        .kubectl(&["apply", "-f", "-"], &manifest.to_string())
        .await
        .expect_success();
    let copies = json!({"metadata": {"annotations": {"secrets.floe.dev/env-from": "db"}}});
    let mut annotations = json!({RECORD: older_record(), LIST: "db"});
    if kind == "CronJob" {
        annotations = json!({RECORD: r#"{"copied":{"env-from":"db"}}"#});
    }
    let patch =
        json!({"metadata": {"annotations": annotations}, "spec": of_template(kind, &copies)});
    fixture.patch(kind, name, "", &patch).await.object();
    fixture.observed(kind, name).await
}

fn template<'a>(kind: &str, object: &'a Value) -> &'a Value {
    object
        .pointer(group_and_template(kind).1)
        .expect("a template")
}

/// Updates that affect neither the webhook's annotations nor the template.
async fn touch(fixture: &Fixture, kind: &'static str, name: &str, before: &Value) {
    let what = format!("{}/{name}", kind.to_lowercase());
    fixture
        .kubectl(&["label", &what, "touched=yes"], "")
        .await
        .expect_success();
    fixture
        .kubectl(&["annotate", &what, "touched=yes"], "")
        .await
        .expect_success();
    let status = json!({"status": {"conditions": []}});
    assert!(
        fixture
            .patch(kind, name, "/status", &status)
            .await
            .is_accepted(),
        "{what}"
    );
    let touched = fixture.stored(kind, name).await;
    assert_eq!(touched["spec"], before["spec"], "{what}");
    if matches!(kind, "Deployment" | "StatefulSet") {
        fixture
            .kubectl(&["scale", &what, "--replicas=2"], "")
            .await
            .expect_success();
    }
    let scaled = fixture.stored(kind, name).await;
    assert_eq!(template(kind, &scaled), template(kind, before), "{what}");
    assert_eq!(
        scaled["metadata"]["annotations"][RECORD], before["metadata"]["annotations"][RECORD],
        "{what}"
    );
}

async fn change(fixture: &Fixture, kind: &'static str, name: &str, change: &str) {
    let what = format!("{}/{name}", kind.to_lowercase());
    let output = match change {
        "annotation" => {
            fixture
                .kubectl(
                    &[
                        "annotate",
                        &what,
                        "--overwrite",
                        "secrets.floe.dev/env-from=s3",
                    ],
                    "",
                )
                .await
        }
        "image" => {
            fixture
                .kubectl(&["set", "image", &what, "main=two"], "")
                .await
        }
        "restart" if kind != "CronJob" => fixture.kubectl(&["rollout", "restart", &what], "").await,
        _ => {
            let manifest = State::of(kind)
                .image("two")
                .on_metadata(&[("env-from", "db")])
                .manifest(name);
            fixture
                .kubectl(&["apply", "-f", "-"], &manifest.to_string())
                .await
        }
    };
    // If nobody can know who listed a Secret for Reloader, a warning reports its removal from the list.
    let warnings = output.expect_success().stderr;
    let of_the_list = warnings.is_empty()
        || warnings.contains("\"db\" was removed from annotation secret.reloader");
    assert!(
        if change == "annotation" {
            of_the_list
        } else {
            warnings.is_empty()
        },
        "{what}: {change}: {warnings}"
    );
}

/// Asserts that the workload is converted: the template inherits, its pods get the same as before, and no copy is left.
async fn is_converted(fixture: &Fixture, kind: &'static str, name: &str, secret: &str) {
    let stored = fixture.stored(kind, name).await;
    let own = ours_on(template(kind, &stored));
    assert_eq!(
        own,
        (json!({}), json!({"env-from": secret})),
        "{kind} {name}"
    );
    let annotations = &stored["metadata"]["annotations"];
    let (list, record) = match kind {
        "CronJob" => (Value::Null, Value::Null),
        _ => (
            json!(secret),
            json!(json!({"restart": {"list": [secret]}}).to_string()),
        ),
    };
    assert_eq!(
        (&annotations[LIST], &annotations[RECORD]),
        (&list, &record),
        "{kind} {name}"
    );
}

async fn pod_gets(fixture: &Fixture, kind: &'static str, name: &str, secret: &str) {
    let pod = fixture
        .new_pod(template(kind, &fixture.stored(kind, name).await))
        .await
        .object();
    assert_eq!(references(&pod), [secret], "{kind} {name}");
}

#[tokio::test]
async fn workload_of_previous_version_is_converted_when_it_changes() {
    let mut fixture = Fixture::unregistered("upgrade").await;
    let all: Vec<(&'static str, &str, String)> = KINDS
        .iter()
        .flat_map(|kind| CHANGES.map(|change| (*kind, change, format!("web-{change}"))))
        .collect();
    let older = join_all(
        all.iter()
            .map(|(kind, _, name)| make_older(&fixture, kind, name)),
    )
    .await;
    let webhook = fixture.launch(|launch| launch).await;
    let configuration = webhook.service_configuration();
    fixture.register(vec![webhook], configuration).await;
    join_all(
        all.iter()
            .zip(&older)
            .map(async |((kind, wanted, name), before)| {
                touch(&fixture, kind, name, before).await;
                pod_gets(&fixture, kind, name, "db").await;
                change(&fixture, kind, name, wanted).await;
                let secret = if *wanted == "annotation" { "s3" } else { "db" };
                is_converted(&fixture, kind, name, secret).await;
                pod_gets(&fixture, kind, name, secret).await;
            }),
    )
    .await;
}

/// Program of the version before.
#[expect(
    clippy::disallowed_methods,
    reason = "the environment sets the path of that program"
)]
fn older_program() -> std::path::PathBuf {
    std::env::var_os("OLDER_WEBHOOK_BIN")
        .expect("OLDER_WEBHOOK_BIN names the program of the version before")
        .into()
}

/// One configuration whose entries of pods are served by one webhook, and those of workloads by another.
fn split(pods: &Value, workloads: &Value) -> Value {
    let mut configuration = pods.clone();
    let entries = configuration["webhooks"].as_array_mut().expect("entries");
    for (entry, other) in entries
        .iter_mut()
        .zip(workloads["webhooks"].as_array().expect("entries"))
    {
        if entry["clientConfig"]["service"]["path"]
            .as_str()
            .is_some_and(|path| path.ends_with("/workloads"))
        {
            *entry = other.clone();
        }
    }
    configuration
}

/// Command of the page that removes the annotation from all templates.
fn command() -> String {
    let page =
        std::fs::read_to_string(testbed::tools::project_root().join("docs/operations/INSTALL.md"));
    let page = page.expect("INSTALL.md");
    let mut blocks = page
        .split("```sh\n")
        .skip(1)
        .filter_map(|block| block.split("```").next());
    blocks
        .find(|block| block.contains("secrets.floe.dev/inherited"))
        .expect("a command")
        .to_owned()
}

/// Pods of a Deployment's newest template that have the Secret.
async fn await_pod(fixture: &Fixture, image: &str) {
    // The controller's back-off doubles with each rejection.
    wait_within(
        Duration::from_mins(5),
        &format!("a pod of image {image}"),
        || async {
            let pods = fixture
                .kubectl(&["get", "pods", "-o", "json"], "")
                .await
                .expect_success();
            let pods: Value = serde_json::from_str(&pods.stdout).expect("JSON");
            let pod = pods["items"]
                .as_array()?
                .iter()
                .find(|pod| pod["spec"]["containers"][0]["image"] == image)?
                .clone();
            (references(&pod) == ["db"]).then_some(())
        },
    )
    .await;
}

async fn await_refusal(fixture: &Fixture, image: &str) {
    wait_for("the pod is refused by the version before", || async {
        let stored = fixture.observed("Deployment", "web").await;
        assert_eq!(
            template("Deployment", &stored)["spec"]["containers"][0]["image"],
            image
        );
        let conditions = stored["status"]["conditions"].as_array()?;
        let is_rejection = |condition: &&Value| {
            let message = condition["message"].as_str().unwrap_or_default();
            condition["type"] == "ReplicaFailure" && message.contains("secrets.floe.dev/inherited")
        };
        conditions.iter().find(is_rejection).map(drop)
    })
    .await;
}

#[tokio::test]
#[ignore = "needs the program of the version before, by OLDER_WEBHOOK_BIN, and jq"]
async fn both_versions_serve_one_configuration_and_roll_back_by_one_command() {
    let mut fixture = Fixture::unregistered("versions").await;
    let older = fixture
        .launch(|launch| launch.running(older_program()))
        .await;
    let newer = fixture.launch(|launch| launch).await;
    let (by_older, by_newer) = (older.service_configuration(), newer.service_configuration());
    fixture.register(vec![older, newer], by_older.clone()).await;
    let manifest = |image| {
        State::of("Deployment")
            .image(image)
            .on_metadata(&[("env-from", "db")])
            .manifest("web")
    };
    fixture
        .kubectl(&["apply", "-f", "-"], &manifest("one").to_string())
        .await
        .expect_success();
    let first = fixture.observed("Deployment", "web").await;
    assert_eq!(
        ours_on(template("Deployment", &first)),
        (json!({"env-from": "db"}), Value::Null)
    );
    await_pod(&fixture, "one").await;

    // In the middle of the upgrade: the new version gets the workload, the one before its pod.
    fixture
        .register(Vec::new(), split(&by_older, &by_newer))
        .await;
    fixture
        .kubectl(&["label", "deployment/web", "touched=yes"], "")
        .await
        .expect_success();
    assert_eq!(
        fixture.stored("Deployment", "web").await["spec"],
        first["spec"]
    );
    fixture
        .kubectl(&["apply", "-f", "-"], &manifest("two").to_string())
        .await
        .expect_success();
    is_converted(&fixture, "Deployment", "web", "db").await;
    await_refusal(&fixture, "two").await;
    fixture.register(Vec::new(), by_newer.clone()).await;
    await_pod(&fixture, "two").await;

    // The other combination.
    fixture
        .register(Vec::new(), split(&by_newer, &by_older))
        .await;
    fixture
        .kubectl(
            &["label", "deployment/web", "touched=again", "--overwrite"],
            "",
        )
        .await
        .expect_success();

    // Rollback.
    fixture.register(Vec::new(), by_older).await;
    let refused = fixture
        .new_pod(template(
            "Deployment",
            &fixture.stored("Deployment", "web").await,
        ))
        .await;
    assert!(
        refused.message().contains("secrets.floe.dev/inherited"),
        "{}",
        refused.message()
    );
    let ran = fixture.cp.shell(&command()).await.expect_success();
    assert!(
        ran.stdout.contains("deployment.apps/web replaced"),
        "{}",
        ran.stdout
    );
    let back = fixture.observed("Deployment", "web").await;
    assert_eq!(
        ours_on(template("Deployment", &back)),
        (json!({"env-from": "db"}), Value::Null)
    );
    assert_eq!(
        references(
            &fixture
                .new_pod(template("Deployment", &back))
                .await
                .object()
        ),
        ["db"]
    );
    fixture
        .kubectl(&["apply", "-f", "-"], &manifest("three").to_string())
        .await
        .expect_success();
    await_pod(&fixture, "three").await;
}
