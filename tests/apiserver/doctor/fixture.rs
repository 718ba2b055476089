//! Installation: the chart, the webhook with the release's permissions, and the status that a kubelet and the
//! Deployment controller would report for its pods, which do not run here.

use std::path::Path;
use std::process::Command;

use http::Method;
use serde_json::{Value, json};

use testbed::command_output::CommandOutput;
use testbed::control_plane::{ControlPlane, Options};
use testbed::helm::{Helm, NAME, chart};
use testbed::wait_for;
use testbed::webhook_process::{Launch, WebhookProcess};

/// Output of a run.
pub struct DoctorReport {
    pub output: CommandOutput,
    pub json: Value,
}

impl DoctorReport {
    /// Check and status of everything that is not ok, in order.
    pub fn failed_checks(&self) -> Vec<(String, String)> {
        let checks = self.json["checks"].as_array().expect("checks").iter();
        let checks = checks.filter(|check| check["status"] != "ok");
        checks
            .map(|check| (text(&check["check"]), text(&check["status"])))
            .collect()
    }

    /// Message of one check.
    #[track_caller]
    pub fn of(&self, id: &str) -> &Value {
        let found = self.json["checks"]
            .as_array()
            .expect("checks")
            .iter()
            .find(|check| check["check"] == id);
        found.unwrap_or_else(|| panic!("no {id} in {:#}", self.json))
    }

    /// Recommended fix of one check.
    #[track_caller]
    pub fn fix(&self, id: &str) -> String {
        text(&self.of(id)["fix"])
    }

    /// Asserts that exactly these checks are not ok.
    #[track_caller]
    pub fn expect(self, failed_checks: &[(&str, &str)]) -> Self {
        let failed_checks: Vec<(String, String)> = failed_checks
            .iter()
            .map(|(check, status)| ((*check).to_owned(), (*status).to_owned()))
            .collect();
        assert_eq!(
            self.failed_checks(),
            failed_checks,
            "{:#}\n{}",
            self.json,
            self.output.stderr
        );
        let failed = failed_checks.iter().any(|(_, status)| status == "failure");
        assert_eq!(self.output.code, i32::from(failed), "{:#}", self.json);
        self
    }
}

#[track_caller]
fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("not a string: {value}"))
        .to_owned()
}

/// Runs the program.
pub async fn run(kubeconfig: &Path, args: &[&str]) -> CommandOutput {
    let mut command = Command::new(env!("CARGO_BIN_EXE_floe-secrets-webhook"));
    command
        .arg("doctor")
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(args);
    CommandOutput::run_async(command, "").await
}

/// Runs `doctor` with JSON output.
pub async fn doctor(kubeconfig: &Path, args: &[&str]) -> DoctorReport {
    let output = run(kubeconfig, &[&["-o", "json"], args].concat()).await;
    let json =
        serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    DoctorReport { output, json }
}

/// Writes the status of both Deployments as their controllers would report it.
pub async fn available(cp: &ControlPlane) {
    let path = |name: &str| format!("/apis/apps/v1/namespaces/{NAME}/deployments/{name}/status");
    let status = json!({"status": {"replicas": 2, "readyReplicas": 2, "availableReplicas": 2, "updatedReplicas": 2}});
    for name in [NAME, "floe-secrets-controller"] {
        cp.request(Method::PATCH, &path(name), Some(&status))
            .await
            .object();
    }
}

/// Deployment of Reloader.
pub async fn reloader(cp: &ControlPlane) {
    cp.create(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "reloader"}}))
        .await
        .object();
    let labels = json!({"app": "reloader-reloader"});
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "reloader-reloader", "namespace": "reloader", "labels": labels},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": {
            "containers": [{"name": "reloader", "image": "ghcr.io/stakater/reloader:v1.4.0"}]}}},
    });
    cp.create(&deployment).await.object();
    let status = json!({"status": {"replicas": 1, "availableReplicas": 1, "readyReplicas": 1}});
    let path = "/apis/apps/v1/namespaces/reloader/deployments/reloader-reloader/status";
    cp.request(Method::PATCH, path, Some(&status))
        .await
        .object();
}

/// Makes the release's Service resolve to this machine.
pub async fn service_here(cp: &ControlPlane) {
    let service = format!("/api/v1/namespaces/{NAME}/services/{NAME}");
    cp.request(Method::DELETE, &service, None).await.object();
    let external = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": NAME, "namespace": NAME},
        "spec": {"type": "ExternalName", "externalName": "localhost"}});
    cp.create(&external).await.object();
}

/// Healthy installation with the user's own certificate, except that its CA is not configured yet.
pub struct Fixture {
    pub cp: ControlPlane,
    pub webhook: WebhookProcess,
    _controller: WebhookProcess,
}

impl Fixture {
    pub async fn new() -> Self {
        let cp = ControlPlane::start(Options {
            controller_manager: false,
            ..Options::default()
        })
        .await;
        cp.create(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAME}}))
            .await
            .object();
        let launch = Launch::without_control_plane(&cp.authority, &cp.kubeconfig);
        // Recommended installation: with the port closed to pods.
        let values = json!({"tls": {"mode": "existing"}, "service": {"port": launch.port},
            "networkPolicy": {"podCIDRs": ["10.244.0.0/16"]}, "admin": {"enabled": false}});
        cp.helm(
            Helm::V4,
            &["install", NAME, &chart(), "--namespace", NAME],
            &values,
        )
        .await
        .expect_success();
        service_here(&cp).await;
        available(&cp).await;
        reloader(&cp).await;

        let read =
            |file: &str| std::fs::read_to_string(launch.folder.path().join(file)).expect("a file");
        let data = json!({"tls.crt": read("tls.crt"), "tls.key": read("tls.key"), "ca.crt": cp.authority.pem()});
        let metadata = json!({"name": "floe-secrets-webhook-tls", "namespace": NAME});
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "kubernetes.io/tls",
            "stringData": data});
        cp.create(&secret).await.object();

        let identity = cp.identity(NAME, NAME).await;
        let webhook = launch
            .set("--kubeconfig", &identity.kubeconfig.display().to_string())
            .start()
            .await;
        let identity = cp.identity(NAME, "floe-secrets-controller").await;
        let controller = Launch::controller(&cp, &identity).start().await;
        let fixture = Self {
            cp,
            webhook,
            _controller: controller,
        };
        fixture.wait_for_leader().await;
        fixture
    }

    /// Waits until the controller has the lease.
    async fn wait_for_leader(&self) {
        let lease = format!(
            "/apis/coordination.k8s.io/v1/namespaces/{NAME}/leases/floe-secrets-controller"
        );
        wait_for("a controller leads", || async {
            let lease = self.cp.request(Method::GET, &lease, None).await.object();
            lease["spec"]["holderIdentity"].is_string().then_some(())
        })
        .await;
    }

    /// Runs `doctor` as the administrator.
    pub async fn doctor(&self) -> DoctorReport {
        doctor(&self.cp.kubeconfig, &[]).await
    }

    /// Runs a recommended command in the project's folder.
    pub async fn run_fix(&self, command: &str) {
        match command.strip_prefix("helm ") {
            Some(args) => {
                let args: Vec<&str> = args.split_whitespace().collect();
                self.cp
                    .helm(Helm::V4, &args, &Value::Null)
                    .await
                    .expect_success();
            }
            None => drop(self.cp.shell(command).await.expect_success()),
        }
    }

    /// Waits until exactly these checks are not ok: the API server applies changes with a delay.
    pub async fn wait_for_failed_checks(&self, failed_checks: &[(&str, &str)]) -> DoctorReport {
        let mut last = None;
        let deadline = std::time::Instant::now() + testbed::WAIT_TIMEOUT;
        while std::time::Instant::now() < deadline {
            let report = self.doctor().await;
            let is: Vec<(String, String)> = report.failed_checks();
            if is
                .iter()
                .map(|(check, status)| (check.as_str(), status.as_str()))
                .eq(failed_checks.iter().copied())
            {
                return report.expect(failed_checks);
            }
            last = Some(report);
        }
        last.expect("one run").expect(failed_checks)
    }
}
