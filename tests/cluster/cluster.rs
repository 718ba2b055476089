//! Values that running containers see. On a real node, with the webhook's own pods installed by the plain manifests.
//!
//! `make test-cluster` installs the webhook and sets `KUBECTL` (a kubectl that reaches the cluster) and `BUSYBOX_IMAGE`
//! (an image with a shell that its nodes have). These tests are ignored otherwise: they need root or a cluster.

#![expect(
    clippy::indexing_slicing,
    reason = "serde_json values are indexed; a panic fails the test"
)]

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testbed::command_output::CommandOutput;

/// Time limit of every wait; a Job whose secret is created late waits out a back-off.
const WAIT_TIMEOUT: Duration = Duration::from_mins(2);

#[expect(
    clippy::disallowed_methods,
    reason = "the script that starts these tests sets the cluster"
)]
fn setting(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; run `make test-cluster`"))
}

/// Runs kubectl; panics with its output if it fails.
fn kubectl(args: &[&str], stdin: &str) -> String {
    let output = try_kubectl(args, stdin);
    assert_eq!(output.code, 0, "kubectl {args:?}: {}", output.stderr);
    output.stdout
}

fn try_kubectl(args: &[&str], stdin: &str) -> CommandOutput {
    let mut command = Command::new(setting("KUBECTL"));
    command.args(args);
    CommandOutput::run(command, stdin)
}

/// Polls until there is a value.
fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + WAIT_TIMEOUT;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < end, "not within {WAIT_TIMEOUT:?}: {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Namespace of one test, deleted on drop.
struct Namespace(String);

impl Namespace {
    fn new(stem: &str, metadata: &Value) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "{stem}-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let mut namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata});
        namespace["metadata"]["name"] = name.as_str().into();
        kubectl(&["create", "-f", "-"], &namespace.to_string());
        let made = Self(name);
        wait_for("the namespace's service account", || {
            made.try_get("serviceaccount/default")
        });
        made
    }

    fn apply(&self, object: &Value) -> String {
        kubectl(&["-n", &self.0, "apply", "-f", "-"], &object.to_string())
    }

    fn try_get(&self, what: &str) -> Option<Value> {
        let output = try_kubectl(&["-n", &self.0, "get", what, "-o", "json"], "");
        (output.code == 0).then(|| serde_json::from_str(&output.stdout).expect("JSON"))
    }

    fn secret(&self, name: &str, data: &Value) {
        self.apply(&json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}));
    }

    /// Waits until the Job is complete.
    fn complete(&self, job: &str) {
        wait_for(&format!("job {job} to complete"), || {
            let status = self.try_get(&format!("job/{job}"))?["status"].clone();
            assert_eq!(status["failed"].as_u64().unwrap_or(0), 0, "{status}");
            (status["succeeded"] == 1).then_some(())
        });
    }

    /// Lines that a container printed, in order.
    fn logs(&self, what: &str, container: &str) -> Vec<String> {
        let mut lines: Vec<String> = kubectl(&["-n", &self.0, "logs", what, "-c", container], "")
            .lines()
            .map(str::to_owned)
            .collect();
        lines.sort();
        lines
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        try_kubectl(&["delete", "namespace", &self.0, "--wait=false"], "");
    }
}

/// Container that prints the variables whose names begin with the prefix, and then runs `more`.
fn printer(name: &str, pattern: &str, more: &str) -> Value {
    json!({
        "name": name, "image": setting("BUSYBOX_IMAGE"), "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", format!("env | grep -E '^({pattern})'; {more}")],
    })
}

fn template(annotations: &Value, containers: &Value, init: &Value) -> Value {
    json!({
        "metadata": {"annotations": annotations},
        "spec": {
            "restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
            "containers": containers, "initContainers": init,
        },
    })
}

fn job(name: &str, template: &Value) -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
        "spec": {"backoffLimit": 0, "template": template},
    })
}

const VARIABLE_PREFIXES: &str = "SNOWFLAKE_|FLOE_SECRET_|AWS_|DBT_";

/// Bulk, reference, `name/*`, reference without a key, and alias, in one pod.
fn every_way() -> Value {
    json!({
        "secrets.floe.dev/env-from": "snowflake-credentials",
        "secrets.floe.dev/refs": "db-creds/pass-word, api-token, all-of/*",
        "secrets.floe.dev/env.AWS_ACCESS_KEY_ID": "s3/access.key",
    })
}

fn every_secret(ns: &Namespace) {
    ns.secret(
        "snowflake-credentials",
        &json!({"SNOWFLAKE_USER": "loader", "SNOWFLAKE_PASSWORD": "p w=d"}),
    );
    ns.secret(
        "db-creds",
        &json!({"pass-word": "db$(HOME)", "unasked": "never"}),
    );
    ns.secret("api-token", &json!({"value": "t0ken"}));
    ns.secret("all-of", &json!({"one": "1", "Two.x": "2"}));
    ns.secret("s3", &json!({"access.key": "AKIA"}));
}

const EVERY_VALUE: [&str; 7] = [
    "AWS_ACCESS_KEY_ID=AKIA",
    "FLOE_SECRET_ALL_OF_ONE=1",
    "FLOE_SECRET_ALL_OF_TWO_X=2",
    "FLOE_SECRET_API_TOKEN=t0ken",
    "FLOE_SECRET_DB_CREDS_PASS_WORD=db$(HOME)",
    "SNOWFLAKE_PASSWORD=p w=d",
    "SNOWFLAKE_USER=loader",
];

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn job_container_has_every_value_by_name() {
    let ns = Namespace::new("job", &json!({}));
    every_secret(&ns);
    let containers = json!([printer("main", VARIABLE_PREFIXES, "true")]);
    ns.apply(&job(
        "load",
        &template(&every_way(), &containers, &json!([])),
    ));
    ns.complete("load");
    assert_eq!(ns.logs("job/load", "main"), EVERY_VALUE);
}

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn cron_job_container_has_every_value_by_name() {
    let ns = Namespace::new("cron", &json!({}));
    every_secret(&ns);
    let containers = json!([printer("main", VARIABLE_PREFIXES, "true")]);
    let template = template(&every_way(), &containers, &json!([]));
    ns.apply(&json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "nightly"},
        // The schedule creates the Job: once a minute is the shortest interval.
        "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"backoffLimit": 0, "template": template}}},
    }));
    let name = wait_for("the CronJob's Job", || {
        let jobs = ns.try_get("jobs")?;
        Some(
            jobs["items"].get(0)?["metadata"]["name"]
                .as_str()?
                .to_owned(),
        )
    });
    ns.complete(&name);
    assert_eq!(ns.logs(&format!("job/{name}"), "main"), EVERY_VALUE);
}

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn selected_init_containers_and_native_sidecars_have_values() {
    let ns = Namespace::new("init", &json!({}));
    ns.secret("db", &json!({"password": "v"}));
    let annotations = json!({
        "secrets.floe.dev/refs": "db/password",
        "secrets.floe.dev/containers": "main",
        "secrets.floe.dev/init-containers": "migrate,side*",
    });
    let mut sidecar = printer(
        "sidecar",
        VARIABLE_PREFIXES,
        "trap exit TERM; while :; do sleep 1; done",
    );
    sidecar["restartPolicy"] = "Always".into();
    let init = json!([
        printer("migrate", VARIABLE_PREFIXES, "true"),
        printer("other", VARIABLE_PREFIXES, "true"),
        sidecar
    ]);
    let containers = json!([
        printer("main", VARIABLE_PREFIXES, "true"),
        printer("beside", VARIABLE_PREFIXES, "true")
    ]);
    ns.apply(&job("load", &template(&annotations, &containers, &init)));
    ns.complete("load");
    let seen = ["FLOE_SECRET_DB_PASSWORD=v"];
    for container in ["main", "migrate", "sidecar"] {
        assert_eq!(ns.logs("job/load", container), seen, "{container}");
    }
    for container in ["beside", "other"] {
        assert!(ns.logs("job/load", container).is_empty(), "{container}");
    }
}

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn author_values_win_in_the_container() {
    let ns = Namespace::new("author", &json!({}));
    ns.secret(
        "ours",
        &json!({"SNOWFLAKE_A": "ours", "SNOWFLAKE_B": "ours", "SNOWFLAKE_C": "ours"}),
    );
    ns.secret("theirs", &json!({"SNOWFLAKE_B": "theirs"}));
    ns.secret("db", &json!({"password": "v"}));
    let annotations =
        json!({"secrets.floe.dev/env-from": "ours", "secrets.floe.dev/refs": "db/password"});
    let mut main = printer("main", VARIABLE_PREFIXES, "true");
    main["envFrom"] = json!([{"secretRef": {"name": "theirs"}}]);
    main["env"] = json!([
        {"name": "SNOWFLAKE_C", "value": "literal"},
        {"name": "DBT_URL", "value": "db://u:$(FLOE_SECRET_DB_PASSWORD)@h"},
    ]);
    ns.apply(&job(
        "load",
        &template(&annotations, &json!([main]), &json!([])),
    ));
    ns.complete("load");
    let expected = [
        "DBT_URL=db://u:v@h",
        "FLOE_SECRET_DB_PASSWORD=v",
        "SNOWFLAKE_A=ours",
        "SNOWFLAKE_B=theirs",
        "SNOWFLAKE_C=literal",
    ];
    assert_eq!(ns.logs("job/load", "main"), expected);
}

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn job_runs_once_its_late_secret_exists() {
    let ns = Namespace::new("late", &json!({}));
    let annotations = json!({"secrets.floe.dev/env.DBT_TOKEN": "late/token"});
    let containers = json!([printer("main", VARIABLE_PREFIXES, "true")]);
    ns.apply(&job(
        "load",
        &template(&annotations, &containers, &json!([])),
    ));
    let sentence = format!(
        "secret \"late\" not found in namespace \"{}\" (backend kubernetes; asked for by annotation \
         secrets.floe.dev/env.DBT_TOKEN). Create it or correct the annotation.",
        ns.0
    );
    wait_for("the refusal in the Job's events", || {
        let events = ns.try_get("events")?;
        let is_message = |event: &Value| {
            event["reason"] == "FailedCreate"
                && event["message"]
                    .as_str()
                    .is_some_and(|m| m.contains(&sentence))
        };
        events["items"]
            .as_array()?
            .iter()
            .any(is_message)
            .then_some(())
    });
    let status = ns.try_get("job/load").expect("the Job")["status"].clone();
    assert_eq!(status["failed"].as_u64().unwrap_or(0), 0, "{status}");
    assert!(
        status["conditions"].as_array().is_none_or(Vec::is_empty),
        "{status}"
    );
    ns.secret("late", &json!({"token": "here"}));
    ns.complete("load");
    assert_eq!(ns.logs("job/load", "main"), ["DBT_TOKEN=here"]);
}

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn namespace_defaults_reach_pods_without_annotations() {
    let metadata = json!({
        "labels": {"secrets.floe.dev/inject": "enabled"},
        "annotations": {"secrets.floe.dev/env-from": "snowflake-credentials"},
    });
    let ns = Namespace::new("defaults", &metadata);
    ns.secret(
        "snowflake-credentials",
        &json!({"SNOWFLAKE_USER": "loader"}),
    );
    let mut plain = template(
        &json!({}),
        &json!([printer("main", VARIABLE_PREFIXES, "true")]),
        &json!([]),
    );
    plain
        .as_object_mut()
        .expect("a template")
        .remove("metadata");
    ns.apply(&job("load", &plain));
    ns.complete("load");
    assert_eq!(ns.logs("job/load", "main"), ["SNOWFLAKE_USER=loader"]);
}

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn admitted_pod_waits_for_missing_secret_and_then_runs() {
    let ns = Namespace::new("warn", &json!({}));
    let annotations =
        json!({"secrets.floe.dev/env-from": "late", "secrets.floe.dev/on-missing": "warn"});
    let containers = json!([printer("main", VARIABLE_PREFIXES, "true")]);
    ns.apply(&job(
        "load",
        &template(&annotations, &containers, &json!([])),
    ));
    wait_for("the container waits for its configuration", || {
        let pods = ns.try_get("pods")?;
        let waiting = &pods["items"].get(0)?["status"]["containerStatuses"].get(0)?["state"]["waiting"]
            ["reason"];
        (waiting == "CreateContainerConfigError").then_some(())
    });
    ns.secret("late", &json!({"SNOWFLAKE_USER": "late"}));
    ns.complete("load");
    assert_eq!(ns.logs("job/load", "main"), ["SNOWFLAKE_USER=late"]);
}

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn controller_pods_run_with_one_leader() {
    let get = |what: &[&str]| -> Value {
        let args = [&["-n", "floe-secrets-webhook", "get", "-o", "json"], what].concat();
        serde_json::from_str(&kubectl(&args, "")).expect("JSON")
    };
    wait_for("the controller's replicas", || {
        let status = get(&["deployment/floe-secrets-controller"])["status"].clone();
        (status["readyReplicas"] == 2).then_some(())
    });
    let holder = wait_for("a leader", || {
        get(&["lease/floe-secrets-controller"])["spec"]["holderIdentity"]
            .as_str()
            .map(str::to_owned)
    });
    let pods = get(&["pods", "-l", "app.kubernetes.io/component=controller"]);
    let names: Vec<&str> = pods["items"]
        .as_array()
        .expect("pods")
        .iter()
        .filter_map(|pod| pod["metadata"]["name"].as_str())
        .collect();
    assert!(
        names.iter().any(|name| holder.starts_with(name)),
        "{holder} leads, and there are {names:?}"
    );
}

/// The one-node cluster has no `StorageClass`, so the claim of `admin` is not bound there.
#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn admission_serves_while_admin_waits_for_its_volume() {
    let get = |what: &str| -> Value {
        let args = ["-n", "floe-secrets-webhook", "get", what, "-o", "json"];
        serde_json::from_str(&kubectl(&args, "")).expect("JSON")
    };
    let waits = |event: &Value| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        text(&event["involvedObject"]["name"]).starts_with("floe-secrets-webhook-admin-")
            && text(&event["message"]).contains("unbound immediate PersistentVolumeClaims")
    };
    wait_for("admin runs, or reports what it waits for", || {
        let runs = get("deployment/floe-secrets-webhook-admin")["status"]["readyReplicas"] == 1;
        let events = get("events");
        let mut events = events["items"].as_array()?.iter();
        (runs || events.any(waits)).then_some(())
    });
    let ns = Namespace::new("volume", &json!({}));
    ns.secret("db", &json!({"password": "v"}));
    let annotations = json!({"secrets.floe.dev/refs": "db/password"});
    let containers = json!([printer("main", VARIABLE_PREFIXES, "true")]);
    ns.apply(&job(
        "load",
        &template(&annotations, &containers, &json!([])),
    ));
    ns.complete("load");
    assert_eq!(ns.logs("job/load", "main"), ["FLOE_SECRET_DB_PASSWORD=v"]);
}

/// Workloads before their secret, as with Helm if the secret comes from elsewhere.
#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn workloads_created_before_their_secret_are_ready_within_five_seconds() {
    let ns = Namespace::new("first", &json!({}));
    let asks = json!({"secrets.floe.dev/env-from": "late"});
    let sleeps = json!([printer(
        "main",
        VARIABLE_PREFIXES,
        "trap exit TERM; while :; do sleep 1; done"
    )]);
    for (kind, name) in [
        ("Deployment", "api"),
        ("StatefulSet", "db"),
        ("DaemonSet", "agent"),
    ] {
        let labels = json!({"app": name});
        ns.apply(&json!({
            "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels, "annotations": asks},
                    "spec": {"terminationGracePeriodSeconds": 1, "containers": sleeps},
                },
            },
        }));
    }
    // Until the back-off is long: each pause is twice the one before.
    for kind in ["ReplicaSet", "StatefulSet", "DaemonSet"] {
        wait_for(
            &format!("a dozen tries of the {kind}, and the word that it waits"),
            || {
                let events = ns.try_get("events")?;
                let of = |reason: &str| -> i64 {
                    let all = events["items"].as_array().into_iter().flatten();
                    let these = all.filter(|event| {
                        event["reason"] == reason && event["involvedObject"]["kind"] == kind
                    });
                    these
                        .map(|event| event["count"].as_i64().unwrap_or(1))
                        .sum()
                };
                (of("FailedCreate") > 12 && of("AwaitingSecrets") > 0).then_some(())
            },
        );
    }
    ns.secret("late", &json!({"SNOWFLAKE_USER": "late"}));
    let since = Instant::now();
    let mut took = Vec::new();
    for (what, ready) in [
        ("deployment/api", "readyReplicas"),
        ("statefulset/db", "readyReplicas"),
        ("daemonset/agent", "numberReady"),
    ] {
        wait_for(&format!("{what} to be ready"), || {
            (ns.try_get(what)?["status"][ready] == 1).then_some(())
        });
        took.push((what, since.elapsed()));
    }
    println!("ready after the Secret: {took:?}");
    assert!(
        took.iter().all(|(_, took)| *took < Duration::from_secs(5)),
        "{took:?}"
    );
    assert_eq!(ns.logs("deployment/api", "main"), ["SNOWFLAKE_USER=late"]);
}
