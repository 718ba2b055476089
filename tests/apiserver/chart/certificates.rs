//! Certificates of the chart by real cert-manager: issued, put into the webhook configuration, renewed, and removed by
//! an uninstallation.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::{Value, json};

use testbed::cert_manager::CertManager;
use testbed::control_plane::{ControlPlane, Options};
use testbed::helm::{Helm, NAME, chart};
use testbed::load::LoadGenerator;
use testbed::manifests::{container, deployment, pod, prefixed};
use testbed::objects::send_as;
use testbed::process::{Folder, Process};
use testbed::soak::RotationSchedule;
use testbed::wait_for;
use testbed::webhook_process::Launch;

pub(crate) const CONFIGURATION: &str =
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/zz-floe-secrets-webhook";

/// Creates per second while certificates are renewed.
const RATE: u32 = 50;

/// Makes the release's Service resolve to this machine, with the port that the configuration names.
pub(crate) async fn lead_here(cp: &ControlPlane) {
    let service = format!("/api/v1/namespaces/{NAME}/services/{NAME}");
    cp.request(Method::DELETE, &service, None).await.object();
    let external = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": NAME, "namespace": NAME},
        "spec": {"type": "ExternalName", "externalName": "localhost"}});
    cp.create(&external).await.object();
}

pub(crate) fn decoded(secret: &Value, key: &str) -> Option<String> {
    let bytes = STANDARD
        .decode(secret["data"][key].as_str()?)
        .expect("base64");
    Some(String::from_utf8(bytes).expect("PEM"))
}

#[tokio::test]
async fn cert_manager_issues_renews_and_leaves_nothing() {
    let cp = &ControlPlane::start(Options::default()).await;
    let _cert_manager = CertManager::start(cp).await;
    cp.create(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAME}}))
        .await
        .object();
    let secret = format!("/api/v1/namespaces/{NAME}/secrets/floe-secrets-webhook-tls");

    let launch = Launch::without_control_plane(&cp.authority, &cp.kubeconfig);
    let values = json!({"service": {"port": launch.port}});
    let install = ["install", NAME, &chart(), "--namespace", NAME];
    cp.helm(Helm::V4, &install, &values).await.expect_success();
    lead_here(cp).await;

    let pair = async || -> Option<(String, String, String)> {
        let response = cp.request(Method::GET, &secret, None).await;
        let secret = response.is_accepted().then_some(response.body)?;
        Some((
            decoded(&secret, "tls.crt")?,
            decoded(&secret, "tls.key")?,
            decoded(&secret, "ca.crt")?,
        ))
    };
    let (cert, key, ca) = wait_for("the certificate", pair).await;
    assert_ne!(cert, ca, "the certificate does not sign itself");
    let bundles = async || -> Option<Vec<String>> {
        let configuration = cp.request(Method::GET, CONFIGURATION, None).await.object();
        let entries = configuration["webhooks"]
            .as_array()
            .expect("entries")
            .clone();
        entries
            .iter()
            .map(|entry| Some(entry["clientConfig"]["caBundle"].as_str()?.to_owned()))
            .collect()
    };
    let injected = wait_for("the CA in every entry", bundles).await;
    assert_eq!(injected, vec![STANDARD.encode(&ca); 5]);

    // The webhook serves with it, with the permissions of the release, and the API server trusts it.
    let identity = cp.identity(NAME, NAME).await;
    let launch = launch.set("--kubeconfig", &identity.kubeconfig.display().to_string());
    launch.folder.write("tls.crt", &cert);
    launch.folder.write("tls.key", &key);
    let webhook = launch.with(&["--tls-poll", "1s"]).start().await;
    cp.secret("default", "db", &["k"], "v").await;
    let asks = pod("default", "asks", &prefixed(&json!({"env-from": "db"})));
    let source = |pod: &Value| {
        pod.pointer("/spec/containers/0/envFrom/0/secretRef/name")
            .cloned()
    };
    wait_for("a pod gets its secret", || async {
        let response = cp.create_dry_run(&asks).await;
        (response.is_accepted() && source(&response.body) == Some("db".into())).then_some(())
    })
    .await;

    // Renewed repeatedly under load; the files are updated as by the kubelet, key and certificate together.
    let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["create"]}]);
    let loader = cp.service_account("default", "loader", &rules).await;
    let stream = LoadGenerator::start(loader.client(), "default", "db", RATE);
    let pace = RotationSchedule::or_soak(RotationSchedule {
        rotations: 4,
        seconds: 1,
    });
    let certificate = format!(
        "/apis/cert-manager.io/v1/namespaces/{NAME}/certificates/floe-secrets-webhook-tls/status"
    );
    let issuing = json!([{"op": "add", "path": "/status/conditions/-", "value": {
        "type": "Issuing", "status": "True", "reason": "ManuallyTriggered", "message": "by a test",
        "lastTransitionTime": "2026-01-01T00:00:00Z"}}]);
    let client = cp.client();
    let mut serving = cert;
    for renewal in 1..=pace.rotations {
        send_as(
            &client,
            Method::PATCH,
            &certificate,
            Some(&issuing),
            "application/json-patch+json",
        )
        .await
        .object();
        let (renewed, key, _) = wait_for("another certificate", || async {
            let found = pair().await?;
            (found.0 != serving).then_some(found)
        })
        .await;
        webhook.launch.folder.write("tls.key", key);
        webhook.launch.folder.write("tls.crt", &renewed);
        serving = renewed;
        let line = format!("tls_reloads_total{{result=\"loaded\"}} {renewal}\n");
        wait_for("the new certificate serves", || async {
            let (_, metrics) = webhook.get("/metrics")?;
            metrics.contains(&line).then_some(())
        })
        .await;
        stream
            .wait_for_responses(RATE as usize * pace.seconds)
            .await;
    }
    let report = stream.stop().await;
    println!("{} renewals: {}", pace.rotations, report.summary());
    report.injects_all();

    // An upgrade removes nothing, with either Helm's way of applying.
    let before = bundles().await;
    cp.helm(
        Helm::V4,
        &[
            "upgrade",
            NAME,
            &chart(),
            "--namespace",
            NAME,
            "--reuse-values",
        ],
        &Value::Null,
    )
    .await
    .expect_success();
    assert_eq!(bundles().await, before);
    assert_eq!(pair().await.map(|pair| pair.2), Some(ca));

    cp.helm(
        Helm::V4,
        &["uninstall", NAME, "--namespace", NAME],
        &Value::Null,
    )
    .await
    .expect_success();
    nothing_left(cp).await;
    assert_eq!(
        cp.request(Method::GET, CONFIGURATION, None).await.status,
        404
    );
    // A pod with annotations is no longer rejected, because the webhook is not called.
    cp.create_dry_run(&asks).await.object();

    // From rendered files: cert-manager fills the rendered Secrets, which the next apply leaves unchanged.
    let template = [
        "template",
        NAME,
        &chart(),
        "--namespace",
        NAME,
        "--skip-tests",
    ];
    let rendered = cp
        .helm(Helm::V4, &template, &json!({}))
        .await
        .expect_success()
        .stdout;
    // Server-side, as the installation page has it: otherwise kubectl may try to create what cert-manager has just
    // created.
    let apply = ["apply", "--server-side", "--filename", "-"];
    cp.kubectl(&apply, &rendered).await.expect_success();
    let (again, ..) = wait_for("the certificate", pair).await;
    wait_for("the CA in every entry", bundles).await;
    cp.kubectl(&apply, &rendered).await.expect_success();
    assert_eq!(pair().await.map(|pair| pair.0), Some(again));
    cp.kubectl(&["delete", "--filename", "-"], &rendered)
        .await
        .expect_success();
    nothing_left(cp).await;
}

/// Runs a container of the release as a process on this machine, with its own arguments and its ServiceAccount's
/// permissions.
pub(crate) async fn run(cp: &ControlPlane, deployment: &str, ports: [u16; 2]) -> (Process, Folder) {
    let path = format!("/apis/apps/v1/namespaces/{NAME}/deployments/{deployment}");
    let template = cp.request(Method::GET, &path, None).await.object()["spec"]["template"].take();
    let account = template["spec"]["serviceAccountName"]
        .as_str()
        .expect("an account");
    let identity = cp.identity(NAME, account).await;
    let folder = Folder::new();
    // Files that a kubelet would mount.
    let mounted = template["spec"]["volumes"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|volume| volume["name"] == "tls");
    if let Some(name) = mounted.and_then(|volume| volume["secret"]["secretName"].as_str()) {
        let path = format!("/api/v1/namespaces/{NAME}/secrets/{name}");
        let secret = cp.request(Method::GET, &path, None).await.object();
        for key in ["tls.crt", "tls.key"] {
            folder.write(key, decoded(&secret, key).expect("the pair"));
        }
    }
    let local_value = |argument: &str| match argument.split_once('=') {
        Some((flag @ ("--tls-cert" | "--tls-key"), file)) => {
            format!(
                "{flag}={}/{}",
                folder.path().display(),
                file.rsplit('/').next().expect("a file")
            )
        }
        Some(("--listen", _)) => format!("--listen=127.0.0.1:{}", ports[0]),
        Some(("--ops-listen", _)) => format!("--ops-listen=127.0.0.1:{}", ports[1]),
        // Shorter than in the chart, so that the test does not wait.
        Some(("--ca-grace", _)) => "--ca-grace=1s".to_owned(),
        _ => argument
            .replace("$(POD_NAMESPACE)", NAME)
            .replace("$(POD_NAME)", "pod"),
    };
    let args = template["spec"]["containers"][0]["args"]
        .as_array()
        .expect("arguments")
        .iter();
    // The collector does not run here.
    let ships = |argument: &str| {
        ["--audit-collector", "--audit-token", "--audit-spool"]
            .iter()
            .any(|flag| argument.starts_with(flag))
    };
    let mut args: Vec<String> = args
        .map(|argument| argument.as_str().expect("text"))
        .filter(|argument| !ships(argument))
        .map(local_value)
        .collect();
    args.extend([
        "--kubeconfig".to_owned(),
        identity.kubeconfig.display().to_string(),
    ]);
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_floe-secrets-webhook"));
    (
        Process::start(deployment, folder.path(), program, &args, &[]),
        folder,
    )
}

/// Chart as it might have been before it had the entries that fail open.
fn older_chart() -> Folder {
    let folder = Folder::new();
    let copied = std::process::Command::new("cp")
        .args(["-R", &format!("{}/.", chart())])
        .arg(folder.path())
        .output();
    assert!(copied.expect("cp runs").status.success());
    let path = folder
        .path()
        .join("templates/mutatingwebhookconfiguration.yaml");
    let text = std::fs::read_to_string(&path).expect("the template");
    let names = ["workloads", "defaults.workloads", "sources"]
        .map(|name| format!("- name: {name}.secrets.floe.dev"));
    let kept: Vec<&str> = text
        .split("\n\n")
        .filter(|entry| !names.iter().any(|name| entry.contains(name)))
        .collect();
    assert_eq!(
        kept.len() + names.len(),
        text.split("\n\n").count(),
        "each entry is a paragraph"
    );
    std::fs::write(&path, kept.join("\n\n")).expect("the copy can be written");
    folder
}

/// Objects, permissions and arguments of the chart, and the webhook: nothing else issues the certificate.
#[tokio::test]
async fn self_managed_certificates_need_no_issuer() {
    let cp = &ControlPlane::start(Options::default()).await;
    cp.create(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAME}}))
        .await
        .object();
    let [port, ops, controller_ops] = testbed::free_ports();
    let values = json!({"tls": {"mode": "self-managed"}, "service": {"port": port}});
    let older = older_chart();
    let install = [
        "install",
        NAME,
        &older.path().display().to_string(),
        "--namespace",
        NAME,
    ];
    cp.helm(Helm::V4, &install, &values).await.expect_success();
    lead_here(cp).await;

    let (controller, _controller_files) =
        run(cp, "floe-secrets-controller", [0, controller_ops]).await;
    let (webhook, _webhook_files) = run(cp, NAME, [port, ops]).await;
    cp.secret("default", "db", &["k"], "v").await;
    let asks = pod("default", "asks", &prefixed(&json!({"env-from": "db"})));
    let injected = async || {
        let ended = controller.exit_status().or_else(|| webhook.exit_status());
        assert!(
            ended.is_none(),
            "{ended:?}\n{}\n{}",
            controller.tail(),
            webhook.tail()
        );
        let response = cp.create_dry_run(&asks).await;
        let source = response
            .body
            .pointer("/spec/containers/0/envFrom/0/secretRef/name")
            .cloned();
        (response.is_accepted() && source == Some("db".into())).then_some(())
    };
    wait_for("a pod gets its secret", injected).await;

    // Helm removes neither the certificate nor the CA. Nothing is rejected while a new entry has no CA yet.
    let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["create"]}]);
    let loader = cp.service_account("default", "loader", &rules).await;
    let mut workload = deployment(
        "asks",
        &prefixed(&json!({"env-from": "db"})),
        &json!([container()]),
    );
    workload["metadata"]["namespace"] = "default".into();
    let upgrade = [
        "upgrade",
        NAME,
        &chart(),
        "--namespace",
        NAME,
        "--reuse-values",
    ];
    let changed = [&upgrade[..], &["--set", "webhook.timeoutSeconds=6"]].concat();
    // Not behind the first: to remove an entry again, Helm 4 would have to own all of it. So entries are only ever
    // added.
    let back = ["rollback", NAME, "2", "--namespace", NAME];
    for args in [&upgrade[..], &changed, &back] {
        let stream = LoadGenerator::start(loader.client(), "default", "db", RATE);
        stream.wait_for_responses(10).await;
        cp.helm(Helm::V4, args, &Value::Null).await.expect_success();
        cp.create_dry_run(&workload).await.object();
        wait_for("every entry has the CA", || async {
            let live = cp.request(Method::GET, CONFIGURATION, None).await.object();
            let entries = live["webhooks"].as_array()?;
            let trusted = entries
                .iter()
                .all(|entry| entry["clientConfig"]["caBundle"].is_string());
            (trusted && entries.len() == 5).then_some(())
        })
        .await;
        stream.wait_for_responses(10).await;
        stream.stop().await.injects_all();
        assert!(injected().await.is_some(), "after {args:?}");
    }
    cp.helm(
        Helm::V4,
        &["uninstall", NAME, "--namespace", NAME],
        &Value::Null,
    )
    .await
    .expect_success();
    // The controller still runs, and may not create its objects again.
    let kinds = "secrets,leases,deployments,services,roles,rolebindings";
    let left = cp
        .kubectl(&["-n", NAME, "get", kinds, "--output=name"], "")
        .await
        .expect_success();
    assert_eq!(left.stdout, "");
    cp.create_dry_run(&asks).await.object();
}

pub(crate) async fn nothing_left(cp: &ControlPlane) {
    let kinds = "secrets,certificates,issuers,certificaterequests,deployments,services,leases";
    wait_for("nothing is left", || async {
        let args = [
            "-n",
            NAME,
            "get",
            kinds,
            "--output=name",
            "--ignore-not-found",
        ];
        cp.kubectl(&args, "")
            .await
            .expect_success()
            .stdout
            .is_empty()
            .then_some(())
    })
    .await;
}
