//! Load of one tenant does not noticeably delay another.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::stream::{self, StreamExt as _};
use http::Method;
use serde_json::{Value, json};

use crate::{events, metric, metric_is};
use testbed::control_plane::{ControlPlane, Options};
use testbed::manifests::{container, deployment, job, prefixed};
use testbed::objects::{send, send_as};
use testbed::webhook::{Registration, controller_identity, webhook_identity};
use testbed::webhook_process::Launch;
use testbed::{wait_for, wait_within};

/// Number of refused Jobs of the hostile tenant.
const JOBS: usize = 1000;

/// Number of those that wait for a key of the one Secret; the others wait for a secret that is never created.
const JOBS_WAITING_FOR_KEY: usize = 900;

/// Number of Deployments of the other tenant, each with a Secret that is created late.
const LATE_DEPLOYMENTS: usize = 5;

/// Number of objects with large metadata.
const LARGE_OBJECTS: usize = 140;

/// Time limit from a Secret's creation to the pod that waited for it.
const RETRY_TIMEOUT: Duration = Duration::from_secs(5);

/// Suspended Job with a quarter of a megabyte of annotations.
fn large(namespace: &str, number: usize) -> Value {
    let mut large = job(
        &format!("large-{number}"),
        &json!({}),
        &json!([container()]),
    );
    large["metadata"]["namespace"] = namespace.into();
    large["metadata"]["annotations"] = json!({"filler": "x".repeat(250_000)});
    large["spec"]["suspend"] = true.into();
    large
}

/// Job whose pods are refused.
fn refused(namespace: &str, number: usize) -> Value {
    let asks = if number < JOBS_WAITING_FOR_KEY {
        json!({"refs": "rewritten/key"})
    } else {
        json!({"env-from": "never"})
    };
    let mut job = job(
        &format!("refused-{number}"),
        &prefixed(&asks),
        &json!([container()]),
    );
    job["metadata"]["namespace"] = namespace.into();
    job["spec"]["backoffLimit"] = 100.into();
    job
}

/// Event about a refused pod of a Job that does not exist.
fn unknown(namespace: &str, number: usize) -> Value {
    let owner = json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"namespace": namespace, "name": format!("unknown-{number}"), "uid": format!("unknown-{number}")},
    });
    crate::refusal(&owner)
}

async fn create_all(cp: &ControlPlane, path: &str, objects: impl Iterator<Item = Value>) {
    let client = cp.client();
    stream::iter(objects)
        .for_each_concurrent(8, |object| {
            let client = client.clone();
            async move {
                send(&client, Method::POST, path, Some(&object))
                    .await
                    .object();
            }
        })
        .await;
}

#[tokio::test]
async fn hostile_tenant_delays_no_other() {
    let cp = ControlPlane::start(Options::default()).await;
    let webhook = Launch::serve(&cp, &webhook_identity(&cp).await)
        .start()
        .await;
    let (harm, honest) = (cp.namespace("harm").await, cp.namespace("honest").await);
    let jobs = format!("/apis/batch/v1/namespaces/{}/jobs", harm.name);
    create_all(
        &cp,
        &jobs,
        (0..LARGE_OBJECTS).map(|number| large(&harm.name, number)),
    )
    .await;
    // Created before the webhook is registered: the other tenant's drift.
    let mut lost = deployment("lost", &json!({}), &json!([container()]));
    lost["metadata"]["annotations"] = prefixed(&json!({"env-from": "db"}));
    lost["spec"]["replicas"] = 0.into();
    cp.kubectl_apply(&honest.name, &lost).await.expect_success();
    let _registration = Registration::shared(&cp, &webhook.service_configuration()).await;
    let controller = Launch::controller(&cp, &controller_identity(&cp).await);
    let controller = controller.with(&["--drift-interval", "2s"]).start().await;
    metric_is(&controller, "leader", 1).await;
    cp.secret(&harm.name, "rewritten", &["other"], "x").await;
    create_all(
        &cp,
        &jobs,
        (0..JOBS).map(|number| refused(&harm.name, number)),
    )
    .await;

    let (over, flooded) = (AtomicBool::new(false), AtomicUsize::new(0));
    let rewriting = async {
        let (client, path) = (
            cp.client(),
            format!("/api/v1/namespaces/{}/secrets/rewritten", harm.name),
        );
        for number in 0.. {
            let change = json!({"metadata": {"annotations": {"number": number.to_string()}}});
            send_as(
                &client,
                Method::PATCH,
                &path,
                Some(&change),
                "application/merge-patch+json",
            )
            .await
            .object();
            tokio::time::sleep(Duration::from_secs(2)).await;
            if over.load(Ordering::Relaxed) {
                return;
            }
        }
    };
    let flooding = async {
        let (client, path) = (
            cp.client(),
            format!("/api/v1/namespaces/{}/events", harm.name),
        );
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        while !over.load(Ordering::Relaxed) {
            ticks.tick().await;
            let event = unknown(&harm.name, flooded.fetch_add(1, Ordering::Relaxed));
            send(&client, Method::POST, &path, Some(&event))
                .await
                .object();
        }
    };
    let living = async {
        wait_for("the share of the tenant is full", || async {
            (metric(&controller, "retry_pending_owners")? >= 90).then_some(())
        })
        .await;
        for number in 0..LATE_DEPLOYMENTS {
            let asks = prefixed(&json!({"env-from": format!("secret-{number}")}));
            let late = deployment(&format!("late-{number}"), &asks, &json!([container()]));
            cp.kubectl_apply(&honest.name, &late).await.expect_success();
        }
        // Until the back-off is far longer than the time limit.
        let tried = |event: &Value| event["count"].as_i64() > Some(12);
        wait_for("a dozen tries of each", || async {
            let refused = events(&cp, &honest.name, "FailedCreate").await;
            (refused.iter().filter(|event| tried(event)).count() >= LATE_DEPLOYMENTS).then_some(())
        })
        .await;
        for number in 0..LATE_DEPLOYMENTS {
            let name = format!("late-{number}");
            cp.event(&honest.name, "ReplicaSet", &name, "AwaitingSecrets")
                .await;
            cp.secret(&honest.name, &format!("secret-{number}"), &["k"], "x")
                .await;
            wait_within(RETRY_TIMEOUT, &format!("the pod of {name}"), || async {
                (!cp.pods(&honest.name, &format!("app={name}"))
                    .await
                    .is_empty())
                .then_some(())
            })
            .await;
        }
        metric_is(&controller, "uninjected{kind=\"workload\"}", 1).await;
        assert_eq!(
            metric(&controller, "drift_scans_total{result=\"failed\"}").unwrap_or(0),
            0,
            "{}",
            controller.log()
        );
        over.store(true, Ordering::Relaxed);
    };
    futures::future::join3(rewriting, flooding, living).await;
    let count = |result| {
        metric(
            &controller,
            &format!("retries_triggered_total{{result=\"{result}\"}}"),
        )
        .unwrap_or(0)
    };
    println!(
        "{} events of unknown owners; {} owners waiting, {} turned away, {} told",
        flooded.load(Ordering::Relaxed),
        metric(&controller, "retry_pending_owners").unwrap_or(0),
        count("full"),
        count("triggered")
    );
    assert!(count("full") > 0, "excess lines are dropped and counted");
    assert!(
        count("triggered") > 0,
        "with pauses of 20 s and more, not all of them tried again by themselves"
    );
    assert!(
        controller.exit_status().is_none() && !controller.log().contains("cannot watch events")
    );
}
