//! Commands of the page about the API server's client certificate, literally, on a real API server.

use serde_json::{Value, json};

use testbed::control_plane::{ControlPlane, Options};
use testbed::manifests::{pod, prefixed};
use testbed::process::Folder;
use testbed::tools::project_root;
use testbed::wait_for;
use testbed::webhook::{Registration, SERVICE_HOST, webhook_identity};
use testbed::webhook_process::Launch;

/// Blocks of the page in this language.
fn blocks(language: &str) -> Vec<String> {
    let page = project_root().join("docs/operations/API-SERVER-CERTIFICATE.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let opening = format!("```{language}\n");
    let blocks = page
        .split(&opening)
        .skip(1)
        .filter_map(|rest| rest.split("```").next());
    blocks.map(str::to_owned).collect()
}

#[tokio::test]
async fn api_server_authenticates_and_other_callers_are_rejected() {
    let folder = Folder::new();
    let [openssl, _values]: [String; 2] = blocks("sh").try_into().expect("two blocks of commands");
    let made = std::process::Command::new("sh")
        .args(["-euc", &openssl])
        .current_dir(folder.path())
        .output();
    let made = made.expect("sh runs");
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );

    let launch_port = testbed::free_ports::<1>()[0];
    let [admission, clients]: [String; 2] = blocks("yaml").try_into().expect("two files");
    let folder_path = folder.path().display().to_string();
    let admission = folder.write(
        "configuration.yaml",
        admission.replace("/etc/kubernetes/admission", &folder_path),
    );
    // The Service here has another port than 443, which the page instructs to add.
    assert!(clients.contains(SERVICE_HOST));
    let clients = clients.replace("/etc/kubernetes/admission", &folder_path);
    folder.write(
        "clients.yaml",
        clients.replace(SERVICE_HOST, &format!("{SERVICE_HOST}:{launch_port}")),
    );
    let flag = format!("--admission-control-config-file={}", admission.display());
    let cp = &ControlPlane::start(Options {
        controller_manager: false,
        apiserver_flags: vec![flag],
    })
    .await;

    let identity = webhook_identity(cp).await;
    let mut launch =
        Launch::serve(cp, &identity).set("--listen", &format!("127.0.0.1:{launch_port}"));
    launch.port = launch_port;
    let ca = folder.path().join("client-ca.crt").display().to_string();
    let webhook = launch.with(&["--tls-client-ca", &ca]).start().await;
    cp.secret("default", "db", &["k"], "v").await;
    let asks = pod("default", "asks", &prefixed(&json!({"env-from": "db"})));
    let source = |pod: &Value| {
        pod.pointer("/spec/containers/0/envFrom/0/secretRef/name")
            .cloned()
    };
    {
        let _registered = Registration::exclusive(cp, &webhook.service_configuration()).await;
        let admitted = cp.create_dry_run(&asks).await.object();
        assert_eq!(source(&admitted), Some("db".into()));
    }
    // By URL the host is another one, for which the API server has no certificate.
    let _registered = Registration::exclusive(cp, &webhook.url_configuration()).await;
    let response = cp.create_dry_run(&asks).await;
    assert_eq!(response.status, 500, "{response:?}");
    let page = std::fs::read_to_string(project_root().join("docs/operations/RUNBOOK.md"))
        .expect("the runbook");
    let expected_error = "tls: certificate required";
    assert!(
        response.message().contains(expected_error) && page.contains(expected_error),
        "{response:?}"
    );
    wait_for("the failed handshake is counted", || async {
        let (_, metrics) = webhook.get("/metrics")?;
        metrics
            .contains(r#"tls_handshake_failures_total{port="admission"}"#)
            .then_some(())
    })
    .await;
}
