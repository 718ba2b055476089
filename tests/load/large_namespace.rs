//! Peak memory of `explain`, `rotation` and `scan` in a namespace of 20,000 pods: they page, and keep only names.
//!
//! Takes minutes and is meaningful for the release binary alone: `make footprint` builds and sets that one.

#![expect(clippy::indexing_slicing, reason = "a failing helper fails its test")]

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt};
use http::Method;
use kube::Client;
use serde_json::{Value, json};
use testbed::control_plane::{ControlPlane, Options};
use testbed::manifests::pod;
use testbed::objects::{collection, send, send_as};
use testbed::print_line;
use testbed::webhook_process::program;

const PODS: usize = 20_000;
/// Pods that use the Secret.
const USERS: usize = 10_000;
/// Pods among them whose containers run, since before the Secret's creation.
const RUNNING: usize = 4_000;
/// Pods among them with the same owner, so that there are more owners than the program reads.
const PODS_OF_OWNER: usize = 4;
/// Limit of concurrent creates.
const MAX_CONCURRENT: usize = 64;
/// Budget in KiB.
const MAX_RESIDENT: u64 = 64 << 10;

/// Pod with the fields that a pod of a cluster has: a few containers, variables, labels.
fn large_pod(namespace: &str, number: usize) -> Value {
    let secret = if number < USERS { "db" } else { "other" };
    let mut pod = pod(
        namespace,
        &format!("pod-{number}"),
        &json!({"team": "data"}),
    );
    let variables: Vec<Value> = (0..30)
        .map(
            |n| json!({"name": format!("VARIABLE_{n}"), "value": format!("value of variable {n}")}),
        )
        .collect();
    let container = json!({"name": "main", "image": "registry.example.com/team/program:1.2.3", "env": variables,
        "envFrom": [{"secretRef": {"name": secret}}]});
    let helper = json!({"name": "helper", "image": "registry.example.com/team/helper:1.2.3", "env": variables});
    pod["spec"]["containers"] = json!([container, helper]);
    if number < USERS {
        let name = format!("owner-{}", number / PODS_OF_OWNER);
        // No controller runs, so that the owners need not exist.
        pod["metadata"]["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet",
            "name": name, "uid": name, "controller": true}]);
    }
    pod
}

/// Creates a pod, and writes the status that a kubelet would write for one that runs.
async fn create_pod(client: Client, namespace: &str, number: usize) {
    let pod = large_pod(namespace, number);
    let pods = collection(&pod);
    send(&client, Method::POST, &pods, Some(&pod))
        .await
        .object();
    if number >= RUNNING {
        return;
    }
    let containers: Vec<Value> = ["main", "helper"]
        .into_iter()
        .map(|name| {
            json!({"name": name, "image": "none", "imageID": "none", "ready": true, "restartCount": 0,
                "state": {"running": {"startedAt": "2020-01-01T00:00:00Z"}}})
        })
        .collect();
    let status = json!({"status": {"phase": "Running", "containerStatuses": containers}});
    let path = format!("{pods}/pod-{number}/status");
    let merge = "application/merge-patch+json";
    send_as(&client, Method::PATCH, &path, Some(&status), merge)
        .await
        .object();
}

/// Exit code, standard output and peak memory in KiB of a command.
fn run(cp: &ControlPlane, args: &[&str]) -> (i32, String, u64) {
    let mut command = Command::new(program());
    command.args(args).arg("--kubeconfig").arg(&cp.kubeconfig);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    let child = command.spawn().expect("the program starts");
    let status = format!("/proc/{}/status", child.id());
    let watching = std::thread::spawn(move || {
        let mut peak = 0;
        while let Ok(status) = std::fs::read_to_string(&status) {
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let kib =
                line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
            let Some(kib) = kib else { break };
            peak = kib.max(peak);
            std::thread::sleep(Duration::from_millis(5));
        }
        peak
    });
    let output = child.wait_with_output().expect("the program ends");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let peak = watching.join().expect("no panic");
    (output.status.code().unwrap_or(-1), text, peak)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes and needs the release binary: make footprint"]
async fn commands_page_through_20_000_pods() {
    let cp = ControlPlane::start(Options {
        controller_manager: false,
        ..Options::default()
    })
    .await;
    let namespace = cp.namespace("crowd").await;
    let n = namespace.name.as_str();
    cp.secret(n, "db", &["password"], "v").await;
    let client = cp.client();
    let began = Instant::now();
    let creates = (0..PODS).map(|number| create_pod(client.clone(), n, number));
    stream::iter(creates)
        .buffer_unordered(MAX_CONCURRENT)
        .collect::<()>()
        .await;
    print_line(&format!("{PODS} pods made in {:.0?}", began.elapsed()));
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "main", "image": "none"}]}});
    let spec = json!({"selector": {"matchLabels": {"a": "b"}}, "template": template});
    let metadata = namespace.named("api");
    let workload =
        json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": metadata, "spec": spec});
    send(
        &client,
        Method::POST,
        &collection(&workload),
        Some(&workload),
    )
    .await
    .object();
    for args in [
        &["rotation", "secret/db", "-n", n, "-o", "json"][..],
        &["explain", "daemonset/api", "-n", n, "-o", "json"],
        &["scan", "-n", n, "-o", "json"],
    ] {
        let began = Instant::now();
        let (code, stdout, peak) = tokio::task::block_in_place(|| run(&cp, args));
        print_line(&format!(
            "{}: {:.1?}, at most {peak} KiB",
            args[0],
            began.elapsed()
        ));
        let expected = i32::from(args[0] == "rotation");
        assert_eq!(code, expected, "{}", args[0]);
        assert!(peak <= MAX_RESIDENT, "{} took {peak} KiB", args[0]);
        if args[0] == "rotation" {
            let found: Value = serde_json::from_str(&stdout).expect("JSON");
            assert_eq!(found["counts"]["pods"], USERS);
            assert_eq!(found["counts"]["old"], RUNNING);
            assert_eq!(found["pods"][RUNNING - 1]["value"], "old");
        }
    }
    // Not deleted one by one.
    std::mem::forget(namespace);
}
