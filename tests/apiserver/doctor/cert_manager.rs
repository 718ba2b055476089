//! Certificate of the chart by real cert-manager, and the reported reasons if it cannot be issued.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::fixture::{DoctorReport, doctor};
use testbed::cert_manager::CertManager;
use testbed::control_plane::{ControlPlane, Options};
use testbed::helm::{Helm, NAME, chart};
use testbed::webhook_process::Launch;
use testbed::{wait_for, wait_within};

async fn wait_for_failed_checks(cp: &ControlPlane, status: &str, seen: &str) -> DoctorReport {
    let what = format!("cert-manager: {status}: {seen}");
    wait_within(Duration::from_mins(2), &what, || async {
        let report = doctor(&cp.kubeconfig, &["--probe=false", "--drift=false"]).await;
        let check = report.of("cert-manager").clone();
        (check["status"] == status && check["message"] == seen).then_some(report)
    })
    .await
}

/// `serve`, with the permissions of the release, logs the same reason while it has no usable certificate.
async fn serve_logs_reason(cp: &ControlPlane, why: &str) {
    let identity = cp.identity(NAME, NAME).await;
    let launch = || {
        let launch = Launch::without_control_plane(&cp.authority, &identity.kubeconfig);
        launch.with(&[
            "--tls-certificate",
            "floe-secrets-webhook-tls",
            "--tls-poll",
            "1s",
        ])
    };
    // Without files it exits, and the last line has the reason.
    let none = launch();
    std::fs::remove_file(none.folder.path().join("tls.crt")).expect("the file");
    let none = none.spawn();
    wait_for("it ends", || async { none.exit_status() }).await;
    assert!(
        none.log().contains(why) && none.log().contains("tls.crt"),
        "{}",
        none.log()
    );

    // Expired files.
    let now = time::OffsetDateTime::from_unix_timestamp(jiff::Timestamp::now().as_second())
        .expect("a time");
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    (params.not_before, params.not_after) =
        (now - Duration::from_mins(1), now + Duration::from_secs(10));
    let short = launch();
    cp.authority.issue(params).write(&short.folder, "tls");
    let short = short.start().await;
    let body = wait_for("/readyz has the reason", || async {
        let (status, body) = short.get("/readyz")?;
        (status == 503 && body.contains(why)).then_some(body)
    })
    .await;
    assert!(body.contains("certificate expired at "), "{body}");
    let lines = short
        .log()
        .lines()
        .filter(|line| line.contains(why))
        .count();
    assert_eq!(lines, 1, "once, and not with every scan: {}", short.log());
    assert!(short.log().contains("no usable certificate"));
}

#[tokio::test]
async fn reason_of_unready_certificate_is_reported() {
    let cp = &ControlPlane::start(Options::default()).await;
    let cert_manager = CertManager::start(cp).await;
    cp.create(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAME}}))
        .await
        .object();
    cp.helm(
        Helm::V4,
        &["install", NAME, &chart(), "--namespace", NAME],
        &json!({}),
    )
    .await
    .expect_success();
    let this = "certificate floe-secrets-webhook-tls in namespace floe-secrets-webhook";
    let ready = format!("{this} is Ready");
    wait_for_failed_checks(cp, "ok", &ready).await;
    // The CA injector follows.
    wait_within(
        Duration::from_mins(2),
        "the certificate is trusted",
        || async {
            let report = doctor(&cp.kubeconfig, &["--probe=false", "--drift=false"]).await;
            ["certificate", "trust"]
                .iter()
                .all(|check| report.of(check)["status"] == "ok")
                .then_some(())
        },
    )
    .await;

    // The issuer is deleted, and then renewal is due.
    cp.kubectl(
        &[
            "-n",
            NAME,
            "delete",
            "issuer",
            "floe-secrets-webhook-tls-ca",
        ],
        "",
    )
    .await
    .expect_success();
    cp.kubectl(
        &["-n", NAME, "delete", "secret", "floe-secrets-webhook-tls"],
        "",
    )
    .await
    .expect_success();
    let why = format!("{this} is not Ready: issuer floe-secrets-webhook-tls-ca not found");
    let report = wait_for_failed_checks(cp, "failure", &why).await;
    serve_logs_reason(cp, &why).await;
    let mend = report.fix("cert-manager");
    assert_eq!(
        mend,
        "helm upgrade floe-secrets-webhook charts/floe-secrets-webhook -n floe-secrets-webhook --reuse-values --force-conflicts"
    );
    let args: Vec<&str> = mend.split_whitespace().skip(1).collect();
    cp.helm(Helm::V4, &args, &Value::Null)
        .await
        .expect_success();
    wait_for_failed_checks(cp, "ok", &ready).await;

    // The issuer's own error is the cause.
    cp.kubectl(
        &[
            "-n",
            NAME,
            "delete",
            "certificate",
            "floe-secrets-webhook-tls-ca",
        ],
        "",
    )
    .await
    .expect_success();
    cp.kubectl(
        &[
            "-n",
            NAME,
            "delete",
            "secret",
            "floe-secrets-webhook-tls-ca",
            "floe-secrets-webhook-tls",
        ],
        "",
    )
    .await
    .expect_success();
    let report = wait_within(
        Duration::from_mins(2),
        "the issuer is not Ready",
        || async {
            let report = doctor(&cp.kubeconfig, &["--probe=false", "--drift=false"]).await;
            let seen = report.of("cert-manager")["message"].as_str()?.to_owned();
            seen.contains("issuer floe-secrets-webhook-tls-ca is not Ready: ")
                .then_some(report)
        },
    )
    .await;
    println!("{}", report.of("cert-manager"));
    assert_eq!(report.of("cert-manager")["status"], "failure");

    // The Certificate itself is deleted; then cert-manager is.
    cp.kubectl(
        &[
            "-n",
            NAME,
            "delete",
            "certificate",
            "floe-secrets-webhook-tls",
        ],
        "",
    )
    .await
    .expect_success();
    wait_for_failed_checks(cp, "failure", &format!("{this} not found")).await;
    drop(cert_manager);
    cp.kubectl(
        &[
            "delete",
            "customresourcedefinition",
            "certificates.cert-manager.io",
            "issuers.cert-manager.io",
            "clusterissuers.cert-manager.io",
            "certificaterequests.cert-manager.io",
        ],
        "",
    )
    .await
    .expect_success();
    let gone = wait_within(Duration::from_mins(1), "the group is gone", || async {
        let report = doctor(&cp.kubeconfig, &["--probe=false", "--drift=false"]).await;
        let seen = report.of("cert-manager")["message"].as_str()?.to_owned();
        seen.contains("the cluster has no cert-manager")
            .then_some(report)
    })
    .await;
    assert_eq!(gone.output.code, 1);
    assert_eq!(
        cp.request(Method::GET, "/apis/cert-manager.io/v1", None)
            .await
            .status,
        404
    );
}
