//! `inject --cluster` on a real API server, with the permissions of the caller.

use std::path::Path;
use std::process::Command;

use floe_secrets_webhook::backend::kubernetes::fake_api::{ApiFault, FakeApi};
use serde_json::json;
use testbed::admission_client::kubeconfig_for;
use testbed::command_output::CommandOutput;
use testbed::control_plane::ControlPlane;
use testbed::process::Folder;

/// Runs `inject -f -` with this kubeconfig.
async fn inject(kubeconfig: &Path, manifest: &str, args: &[&str]) -> CommandOutput {
    let mut command = Command::new(env!("CARGO_BIN_EXE_floe-secrets-webhook"));
    command
        .args(["inject", "-f", "-", "--cluster", "--kubeconfig"])
        .arg(kubeconfig)
        .args(args);
    CommandOutput::run_async(command, manifest).await
}

fn pod(annotations: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p, annotations: {{{annotations}}}}}\nspec: {{containers: [{{name: main}}]}}\n"
    )
}

#[tokio::test]
async fn secrets_defaults_and_near_names_come_from_the_cluster() {
    let cp = ControlPlane::shared().await;
    let metadata = json!({
        "labels": {"secrets.floe.dev/inject": "enabled"},
        "annotations": {"secrets.floe.dev/env-from": "from-the-namespace"},
    });
    let ns = cp.namespace_with("inject", &metadata).await;
    for name in ["from-the-namespace", "snowflake"] {
        let data = json!({"password": "canary-in-the-cluster"});
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": ns.named(name), "stringData": data});
        cp.create(&secret).await.object();
    }

    let args = ["-n", ns.name.as_str()];
    let CommandOutput {
        code,
        stdout,
        stderr,
    } = inject(
        &cp.kubeconfig,
        &pod("secrets.floe.dev/refs: snowflake/*"),
        &args,
    )
    .await;
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(
        stdout.contains("name: FLOE_SECRET_SNOWFLAKE_PASSWORD\n"),
        "{stdout}"
    );
    assert!(
        stdout.contains("- secretRef:\n        name: from-the-namespace\n"),
        "{stdout}"
    );
    assert!(!stdout.contains("canary"), "{stdout}");

    let CommandOutput {
        code,
        stdout,
        stderr,
    } = inject(
        &cp.kubeconfig,
        &pod("secrets.floe.dev/refs: snowflak/password"),
        &args,
    )
    .await;
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(
        stderr.contains("secret \"snowflak\" not found in namespace"),
        "{stderr}"
    );
    assert!(
        stderr.contains("(backend kubernetes;") && stderr.contains("Did you mean \"snowflake\"?"),
        "{stderr}"
    );

    // Objects of the manifests count as existing, too.
    let secret = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: new, namespace: {}}}\nstringData: {{a: b}}\n---\n",
        ns.name
    );
    let manifest = secret.clone() + &pod("secrets.floe.dev/refs: new/a");
    let CommandOutput {
        code,
        stdout,
        stderr,
    } = inject(&cp.kubeconfig, &manifest, &args).await;
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(
        stdout.starts_with(&secret) && stdout.contains("name: FLOE_SECRET_NEW_A\n"),
        "{stdout}"
    );
}

#[tokio::test]
async fn generated_name_of_manifests_precedes_older_cluster_secret() {
    let cp = ControlPlane::shared().await;
    let ns = cp.namespace("inject").await;
    let old = json!({"apiVersion": "v1", "kind": "Secret", "metadata": ns.named("db"), "stringData": {"old": "b"}});
    cp.create(&old).await.object();
    let generated = format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: db-5h2f8k9t7m, namespace: {}}}\nstringData: {{user: b}}\n",
        ns.name
    );
    let args = ["-n", ns.name.as_str()];
    let asks = pod("secrets.floe.dev/refs: db/user");
    let CommandOutput {
        code,
        stdout,
        stderr,
    } = inject(&cp.kubeconfig, &(asks.clone() + &generated), &args).await;
    assert_eq!(code, 0, "{stderr}");
    assert!(
        stdout.contains("          name: db-5h2f8k9t7m\n"),
        "{stdout}"
    );
    assert!(
        stderr.contains(
            "secret \"db\" is \"db-5h2f8k9t7m\", as kustomize named it in these manifests"
        ),
        "{stderr}"
    );
    // The generated name is not stored, so it differs from a secret of the cluster.
    let CommandOutput { code, stderr, .. } = inject(&cp.kubeconfig, &asks, &args).await;
    assert_eq!(code, 1);
    assert!(
        stderr.contains("secret \"db\" in namespace") && stderr.contains("has no key \"user\""),
        "{stderr}"
    );
}

#[tokio::test]
async fn missing_secret_in_another_namespace_of_manifests_gets_hint() {
    let cp = ControlPlane::shared().await;
    let ns = cp.namespace("inject").await;
    let other = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: elsewhere}\n";
    let manifest = pod("secrets.floe.dev/refs: db/user") + other;
    let CommandOutput {
        code,
        stdout,
        stderr,
    } = inject(&cp.kubeconfig, &manifest, &["-n", ns.name.as_str()]).await;
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(
        stderr.contains("A Secret of that name is known in namespace \"elsewhere\""),
        "{stderr}"
    );
}

#[tokio::test]
async fn only_objects_that_caller_may_read_count() {
    let cp = ControlPlane::shared().await;
    let ns = cp.namespace("inject").await;
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": ns.named("snowflake"), "stringData": {"a": "b"}});
    cp.create(&secret).await.object();
    let manifest = pod("secrets.floe.dev/refs: snowflake/a");
    let args = ["-n", ns.name.as_str()];

    let nobody = cp.service_account(&ns.name, "nobody", &json!([])).await;
    let CommandOutput {
        code,
        stdout,
        stderr,
    } = inject(&nobody.kubeconfig, &manifest, &args).await;
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(
        stderr.contains("does not allow reading secret \"snowflake\"")
            && stderr.contains("your own rights"),
        "{stderr}"
    );

    let rules = json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]);
    let reader = cp.service_account(&ns.name, "reader", &rules).await;
    let CommandOutput {
        code,
        stdout,
        stderr,
    } = inject(&reader.kubeconfig, &manifest, &args).await;
    assert_eq!(code, 0, "{stderr}");
    assert!(
        stdout.contains("name: FLOE_SECRET_SNOWFLAKE_A\n"),
        "{stdout}"
    );
    assert!(
        stderr.contains("warning: ") && stderr.contains("the namespace could not be read"),
        "{stderr}"
    );
}

#[tokio::test]
async fn unusable_kubeconfig_is_named() {
    let CommandOutput {
        code,
        stdout,
        stderr,
    } = inject(
        Path::new("/nowhere/config"),
        &pod("secrets.floe.dev/refs: a"),
        &[],
    )
    .await;
    assert_eq!((code, stdout.as_str()), (2, ""));
    assert!(
        stderr.starts_with("error: the kubeconfig /nowhere/config cannot be read"),
        "{stderr}"
    );
}

/// If the cluster cannot be read completely, nothing is printed.
#[tokio::test]
async fn unreadable_namespace_injects_nothing() {
    let api = FakeApi::start(&["jobs"]).await;
    api.put("jobs", "snowflake", &[("a", "b")]);
    api.always(Some(ApiFault::Status(500)));
    let folder = Folder::new();
    let kubeconfig = kubeconfig_for(&folder, &api.url());
    let CommandOutput {
        code,
        stdout,
        stderr,
    } = inject(
        &kubeconfig,
        &pod("secrets.floe.dev/refs: snowflake/a"),
        &["-n", "jobs"],
    )
    .await;
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(
        stderr.contains("defaults of the namespace and service account could not be read"),
        "{stderr}"
    );
}
