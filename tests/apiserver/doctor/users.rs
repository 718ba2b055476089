//! Users with few permissions, or none.

use serde_json::{Value, json};

use crate::fixture::{Fixture, doctor, run};
use testbed::helm::NAME;
use testbed::objects::yaml;
use testbed::process::Folder;
use testbed::tools::project_root;

/// Roles of the documentation, for this user.
fn documented() -> Vec<Value> {
    let page = std::fs::read_to_string(project_root().join("docs/operations/DOCTOR.md"))
        .expect("the page");
    let block = page
        .split("```yaml\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .expect("a block of YAML");
    yaml(block)
}

#[tokio::test]
async fn checks_without_permission_are_skipped() {
    let fixture = Fixture::new().await;
    let trust = fixture.doctor().await.fix("ca-bundle");
    fixture.run_fix(&trust).await;
    fixture.wait_for_failed_checks(&[]).await;
    let cp = &fixture.cp;

    // A user with the documented role can check everything except the certificate, which is in a Secret.
    let user = cp.service_account("default", "operator", &json!([])).await;
    for object in documented() {
        cp.create(&object).await.object();
    }
    let bind = |name: &str| {
        format!(
            "kubectl create clusterrolebinding {name} --clusterrole={name} --user={}",
            user.username
        )
    };
    fixture.run_fix(&bind("floe-secrets-doctor")).await;
    let report = doctor(&user.kubeconfig, &[])
        .await
        .expect(&[("certificate", "not-checked"), ("trust", "not-checked")]);
    let seen = report.of("certificate")["message"].as_str().expect("text");
    assert!(seen.contains("cannot get resource \"secrets\""), "{seen}");

    // A missing permission is named with the command that grants it.
    let less = json!({"rules": documented()[0]["rules"].as_array().expect("rules").iter()
        .filter(|rule| rule["resources"] != json!(["endpointslices"]))
        .collect::<Vec<_>>()});
    let role = "/apis/rbac.authorization.k8s.io/v1/clusterroles/floe-secrets-doctor";
    cp.request(http::Method::PATCH, role, Some(&less))
        .await
        .object();
    let lacking = [
        ("caller-permissions", "not-checked"),
        ("certificate", "not-checked"),
        ("trust", "not-checked"),
    ];
    let report = testbed::wait_for("the permission is removed", || async {
        let report = doctor(&user.kubeconfig, &[]).await;
        (report.of("caller-permissions")["status"] != "ok").then_some(report)
    })
    .await
    .expect(&lacking);
    assert_eq!(
        report.of("caller-permissions")["message"],
        format!(
            "{} may not list endpointslices.discovery.k8s.io in namespace {NAME}; what needs it is not checked",
            user.username
        )
    );
    fixture.run_fix(&report.fix("caller-permissions")).await;
    testbed::wait_for("the permission is in effect", || async {
        let report = doctor(&user.kubeconfig, &[]).await;
        (report.of("caller-permissions")["status"] == "ok").then_some(())
    })
    .await;

    // Pods in other namespaces are not the webhook's, or do not exist.
    let elsewhere = doctor(&fixture.cp.kubeconfig, &["--namespace", "kube-system"]).await;
    elsewhere.expect(&[("admission", "not-checked")]);
    let nowhere = doctor(&fixture.cp.kubeconfig, &["-n", "nowhere", "--drift=false"]).await;
    let nowhere = nowhere.expect(&[
        ("admission", "not-checked"),
        ("drift", "not-checked"),
        ("ineffective-annotations", "not-checked"),
    ]);
    assert_eq!(
        nowhere.of("admission")["message"],
        "there is no namespace nowhere to try it in"
    );
    let quiet = doctor(&fixture.cp.kubeconfig, &["--probe=false"]).await;
    quiet.expect(&[("admission", "not-checked")]);

    // A user without permissions, and an API server that is not reachable.
    let unprivileged = cp.service_account("default", "stranger", &json!([])).await;
    let sightless = doctor(&unprivileged.kubeconfig, &[]).await;
    assert_eq!(
        (sightless.output.code, &sightless.json["healthy"]),
        (2, &json!(false)),
        "{:#}",
        sightless.json
    );
    assert_eq!(
        sightless.output.stderr,
        "nothing of the installation could be looked at: see caller-permissions\n"
    );
    let folder = Folder::new();
    let config = std::fs::read_to_string(&cp.kubeconfig)
        .expect("the kubeconfig")
        .replace(&cp.server, "https://127.0.0.1:1");
    let away = folder.write("kubeconfig", config);
    let output = run(&away, &[]).await;
    assert_eq!((output.code, output.stdout.as_str()), (2, ""));
    assert_eq!(output.stderr, "error: the API server cannot be reached\n");
}
