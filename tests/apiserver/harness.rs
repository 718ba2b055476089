//! Tests of the test bed: it starts, keeps tests apart, and leaves nothing behind.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use testbed::control_plane::{ControlPlane, Options};
use testbed::process::{Folder, Process};
use testbed::wait_for;

/// Set for the child process that [`killed_test_leaves_nothing`] kills.
const CHILD: &str = "FLOE_HARNESS_CHILD";

#[tokio::test]
async fn control_plane_starts_without_controller_manager_and_with_more_flags() {
    let flags = vec!["--max-requests-inflight=7".to_owned(), "-v=1".to_owned()]; // -v=1 logs all flags
    let started = Instant::now();
    let cp = ControlPlane::start(Options {
        controller_manager: false,
        apiserver_flags: flags,
    })
    .await;
    eprintln!("without controller manager: {:?}", started.elapsed());
    assert!(
        cp.apiserver_log()
            .contains(r#"--max-requests-inflight="7""#)
    );

    let ns = cp.namespace("bare").await;
    let spec = json!({"containers": [{"name": "main", "image": "none"}]});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": ns.named("pod"), "spec": spec});
    cp.create(&pod).await.object();

    let (pids, folder) = (cp.process_ids(), cp.folder.path().to_owned());
    drop(cp);
    assert!(
        pids.iter().all(|pid| !alive(*pid)),
        "dropping it ends its processes"
    );
    assert!(!folder.exists(), "dropping it removes its folder");
}

#[tokio::test]
async fn ordinary_service_account_has_only_its_own_permissions() {
    let started = Instant::now();
    let cp = ControlPlane::shared().await;
    eprintln!("with controller manager: {:?}", started.elapsed());
    let ns = cp.namespace("rights").await;
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]}]);
    let loader = cp.service_account(&ns.name, "loader", &rules).await;

    let whoami = cp
        .kubectl_as(&loader.kubeconfig, &["auth", "whoami", "-o=json"], "")
        .await
        .expect_success();
    assert!(
        whoami.stdout.contains(&format!("\"{}\"", loader.username)),
        "{}",
        whoami.stdout
    );
    let metadata = ns.named("made");
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}).to_string();
    cp.kubectl_as(&loader.kubeconfig, &["create", "-f=-"], &object)
        .await
        .expect_success();
    let refused = cp
        .kubectl_as(&loader.kubeconfig, &["get", "secrets", "-n", &ns.name], "")
        .await;
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("Forbidden"), "{}", refused.stderr);
}

#[tokio::test]
async fn controllers_create_pods() {
    let cp = ControlPlane::shared().await;
    let ns = cp.namespace("jobs").await;
    let template = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "none"}]}});
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": ns.named("job"), "spec": {"template": template}});
    cp.create(&job).await.object();
    let pods = format!("/api/v1/namespaces/{}/pods", ns.name);
    wait_for("the job's pod", || async {
        let pods = cp.request(http::Method::GET, &pods, None).await.object();
        pods["items"]
            .as_array()
            .filter(|pods| pods.len() == 1)
            .map(drop)
    })
    .await;
}

#[tokio::test]
async fn process_receives_signals_and_reports_exit_status() {
    let folder = Folder::new();
    let start = |name: &str, script: &str| {
        Process::start(
            name,
            folder.path(),
            Path::new("/bin/sh"),
            &["-c".to_owned(), script.to_owned()],
            &[],
        )
    };
    let polite = start(
        "polite",
        "trap 'echo bye; exit 7' TERM; echo hello; while :; do sleep 0.05; done",
    );
    wait_for("hello", || async {
        polite.log().contains("hello").then_some(())
    })
    .await;
    let status = polite
        .stop(Duration::from_secs(10))
        .await
        .expect("the program ends");
    assert_eq!(status.code(), Some(7));
    assert_eq!(polite.log(), "hello\nbye\n");

    let stubborn = start(
        "stubborn",
        "trap '' TERM; echo hello; while :; do sleep 0.05; done",
    );
    wait_for("hello", || async {
        stubborn.log().contains("hello").then_some(())
    })
    .await;
    assert!(stubborn.stop(Duration::from_millis(300)).await.is_none());
    stubborn.kill();
    assert!(!alive(stubborn.pid()));

    let absent = Process::start(
        "absent",
        folder.path(),
        Path::new("/nowhere/program"),
        &[],
        &[],
    );
    let status = wait_for("a program that is not there ends", || async {
        absent.exit_status()
    })
    .await;
    assert_eq!(status.code(), Some(127));
    assert!(
        absent.tail().contains("/nowhere/program"),
        "{}",
        absent.tail()
    );
}

#[tokio::test]
async fn failed_control_plane_start_has_reason() {
    let flags = vec!["--no-such-flag".to_owned()];
    let attempt = tokio::spawn(ControlPlane::start(Options {
        controller_manager: false,
        apiserver_flags: flags,
    }));
    let panic = attempt.await.err().expect("it panics").into_panic();
    let message = panic.downcast_ref::<String>().expect("with a message");
    assert!(
        message.contains("unknown flag: --no-such-flag"),
        "{message}"
    );
}

#[test]
fn killed_test_leaves_nothing() {
    let folder = Folder::new();
    let report = folder.path().join("report");
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "child_runs_until_killed", "--ignored"])
        .env(CHILD, &report)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the test runs itself");
    let lines = until("the child's report", || {
        assert!(
            child.try_wait().expect("a child of this process").is_none(),
            "the child ended by itself"
        );
        let lines: Vec<String> = std::fs::read_to_string(&report)
            .ok()?
            .lines()
            .map(str::to_owned)
            .collect();
        (lines.last()? == "complete").then_some(lines)
    });
    child.kill().expect("the child is killed");
    child.wait().expect("the child is gone");

    let [left, pids @ .., _] = lines.as_slice() else {
        panic!("{lines:?}")
    };
    assert_eq!(pids.len(), 3, "{lines:?}");
    for pid in pids {
        until("the processes have ended", || {
            (!alive(pid.parse().ok()?)).then_some(())
        });
    }
    until("the folder is removed", || {
        (!Path::new(left).exists()).then_some(())
    });
}

#[tokio::test]
#[ignore = "only for killed_test_leaves_nothing, which runs it"]
async fn child_runs_until_killed() {
    #[expect(
        clippy::disallowed_methods,
        reason = "the parent configures its child by the environment"
    )]
    let Some(report) = std::env::var_os(CHILD) else {
        return;
    };
    let cp = ControlPlane::shared().await;
    let pids: Vec<String> = cp.process_ids().iter().map(u32::to_string).collect();
    std::fs::write(
        report,
        format!(
            "{}\n{}\ncomplete",
            cp.folder.path().display(),
            pids.join("\n")
        ),
    )
    .expect("reports");
    std::future::pending::<()>().await;
}

fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_mins(2);
    loop {
        if let Some(response) = probe() {
            return response;
        }
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Whether the process exists and is not a zombie.
fn alive(pid: u32) -> bool {
    let status = Command::new("ps")
        .args(["-o", "stat=", "-p", &pid.to_string()])
        .output()
        .expect("ps runs")
        .stdout;
    !matches!(status.first(), None | Some(b'Z'))
}
