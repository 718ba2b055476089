//! Callers of the admission port: objects rendered for each way to close it, and requests that an open port rejects.

use http::Method;
use serde_json::{Value, json};

use crate::{existing, merged};
use testbed::command_output::CommandOutput;
use testbed::control_plane::ControlPlane;
use testbed::helm::{Helm, NAME, chart, find_object};
use testbed::manifests::{patched, pod, prefixed, review_of, variables};
use testbed::objects::yaml;
use testbed::process::Folder;
use testbed::tools::{program_paths, project_root};
use testbed::webhook::webhook_identity;
use testbed::webhook_process::Launch;

/// Names in the chart of the ways to close the port.
const SETTINGS: &str = "tls.clientCA, networkPolicy.podCIDRs or networkPolicy.admission.from";

fn closed_by_range() -> Value {
    json!({"networkPolicy": {"podCIDRs": ["10.244.0.0/16"]}})
}

/// Value of the rendered webhook's `--trusted-callers`.
fn trusted(values: &Value) -> String {
    let objects = Helm::V4.objects(NAME, values);
    let container =
        &find_object(&objects, "Deployment", NAME)["spec"]["template"]["spec"]["containers"][0];
    let args = container["args"]
        .as_array()
        .expect("arguments")
        .iter()
        .filter_map(Value::as_str);
    let [flag]: [&str; 1] = args
        .filter(|arg| arg.starts_with("--trusted-callers="))
        .collect::<Vec<_>>()
        .try_into()
        .expect("it is told once");
    flag.to_owned()
}

#[test]
fn callers_are_trusted_only_if_port_is_closed() {
    let from = json!([{"ipBlock": {"cidr": "172.16.0.0/28"}}]);
    let ca = |kind: &str| json!({"tls": {"clientCA": {kind: "api-server-ca"}}});
    for (values, expected) in [
        (json!({}), false),
        (closed_by_range(), true),
        (
            json!({"networkPolicy": {"podCIDRs": ["fd00:10:244::/56"]}}),
            true,
        ),
        (
            json!({"networkPolicy": {"admission": {"from": from}}}),
            true,
        ),
        (ca("secretName"), true),
        (ca("configMapName"), true),
        // No policy applies to pods in the nodes' network.
        (json!({"hostNetwork": true}), false),
        (
            merged(ca("secretName"), &json!({"hostNetwork": true})),
            true,
        ),
        (json!({"networkPolicy": {"enabled": false}}), false),
        (
            merged(
                ca("secretName"),
                &json!({"networkPolicy": {"enabled": false}}),
            ),
            true,
        ),
        // Metrics and egress do not affect this port.
        (
            json!({"networkPolicy": {"metrics": {"from": from}, "egress": {"apiServer": from}}}),
            false,
        ),
    ] {
        assert_eq!(
            trusted(&values),
            format!("--trusted-callers={expected}"),
            "{values}"
        );
    }
}

#[test]
fn policy_without_effect_is_rejected() {
    let from = json!([{"ipBlock": {"cidr": "172.16.0.0/28"}}]);
    for (name, policy) in [
        ("podCIDRs", json!({"podCIDRs": ["10.244.0.0/16"]})),
        ("admission.from", json!({"admission": {"from": from}})),
    ] {
        for (more, says) in [
            (
                json!({"networkPolicy": {"enabled": false}}),
                "Set networkPolicy.enabled=true, or take",
            ),
            (json!({"hostNetwork": true}), "tls.clientCA works there too"),
        ] {
            let values = merged(json!({"networkPolicy": policy}), &more);
            let output = Helm::V4.template(NAME, &values);
            let is_named = output
                .stderr
                .contains(&format!("networkPolicy.{name} is set"));
            assert!(
                output.code != 0 && is_named && output.stderr.contains(says),
                "{values}: {}",
                output.stderr
            );
        }
    }
}

/// Notes of an installation, from a dry run.
fn notes(values: &Value) -> String {
    let args = [
        "install",
        NAME,
        &chart(),
        "--namespace",
        NAME,
        "--dry-run=client",
    ];
    let notes_text = Helm::V4
        .run(&args, &merged(existing(), values))
        .expect_success()
        .stdout;
    let (_, notes) = notes_text.split_once("NOTES:").expect("notes");
    // Joined into one line, independent of line breaks.
    notes.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn notes_warn_while_port_is_open() {
    let open = notes(&json!({}));
    for says in [
        "WARNING: any pod of the cluster can send reviews to the webhook's port",
        "whether a Secret of a given name exists in a given namespace",
        "name/* in secrets.floe.dev/refs is refused for everybody",
        SETTINGS,
    ] {
        assert!(open.contains(says), "no {says:?} in {open}");
    }
    assert!(
        notes(&json!({"hostNetwork": true})).contains("With hostNetwork only tls.clientCA helps.")
    );
    let closed = notes(&closed_by_range());
    assert!(
        !closed.contains("WARNING") && closed.contains("only where the cluster's network enforces"),
        "{closed}"
    );
    let ca = notes(&json!({"tls": {"clientCA": {"secretName": "api-server-ca"}}}));
    assert!(
        !ca.contains("WARNING") && !ca.contains("enforces policies"),
        "{ca}"
    );
}

fn kustomize(folder: &str) -> CommandOutput {
    let [kubectl] = program_paths(["kubectl"]);
    let mut command = std::process::Command::new(kubectl);
    command.args(["kustomize", folder]);
    CommandOutput::run(command, "")
}

/// The policies for the plain manifests, on their page and in `hack/install.sh`, are those of the chart.
#[test]
fn plain_manifests_close_port_as_chart_does() {
    let rendered = Helm::V4.objects(NAME, &merged(existing(), &closed_by_range()));
    let expected =
        (
            find_object(&rendered, "NetworkPolicy", NAME)["spec"].clone(),
            find_object(&rendered, "Deployment", NAME)["spec"]["template"]["spec"]["containers"][0]
                ["args"]
                .clone(),
        );
    let page = std::fs::read_to_string(project_root().join("manifests/webhook/README.md"))
        .expect("the page");
    let block = page
        .split("```yaml\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .expect("a block of YAML");
    let folder = Folder::new();
    let link = folder.path().join("manifests");
    let copied = std::process::Command::new("cp")
        .arg("-R")
        .arg(project_root().join("manifests"))
        .arg(&link)
        .output();
    assert!(copied.expect("cp runs").status.success());
    folder.write("kustomization.yaml", block);
    let by_page = kustomize(&folder.path().display().to_string())
        .expect_success()
        .stdout;

    let [kubectl] = program_paths(["kubectl"]);
    let script =
        "k() { \"$KUBECTL\" \"$@\"; }; source hack/lib/callers.sh; manifests_for 10.244.0.0/16";
    let by_script = std::process::Command::new("bash")
        .args(["-euc", script])
        .env("ROOT", project_root())
        .env("KUBECTL", kubectl)
        .current_dir(project_root())
        .output()
        .expect("bash runs");
    assert!(
        by_script.status.success(),
        "{}",
        String::from_utf8_lossy(&by_script.stderr)
    );
    for text in [
        by_page,
        String::from_utf8_lossy(&by_script.stdout).into_owned(),
    ] {
        let objects = yaml(&text);
        let policy = &find_object(&objects, "NetworkPolicy", NAME)["spec"];
        let args = &find_object(&objects, "Deployment", NAME)["spec"]["template"]["spec"]["containers"]
            [0]["args"];
        assert_eq!((policy, args), (&expected.0, &expected.1));
    }
}

/// Webhook with the arguments of the chart, with and without a closed port, called without a client certificate.
#[tokio::test]
async fn star_reference_is_accepted_only_behind_closed_port() {
    let cp = ControlPlane::shared().await;
    let namespace = cp.namespace("callers").await;
    cp.secret(&namespace.name, "db", &["user", "word"], "v")
        .await;
    let identity = webhook_identity(cp).await;
    let asks = |annotations: &Value| pod(&namespace.name, "asks", &prefixed(annotations));
    for (values, closed) in [(json!({}), false), (closed_by_range(), true)] {
        let mut launch = Launch::serve(cp, &identity);
        launch
            .args
            .retain(|argument| !argument.starts_with("--trusted-callers"));
        let webhook = launch.with(&[&trusted(&values)]).start().await;
        let response = async |annotations: &Value| {
            webhook
                .review("/admit/pods", &review_of(&asks(annotations)))
                .await
        };
        // Rejected in neither case.
        for annotations in [
            json!({"env-from": "db"}),
            json!({"refs": "db/user"}),
            json!({"env.USER": "db/user"}),
        ] {
            let review = response(&annotations).await;
            assert_eq!(
                review["response"]["allowed"], true,
                "{closed} {annotations}: {review}"
            );
        }
        let every = json!({"refs": "db/*"});
        let review = response(&every).await;
        if closed {
            assert_eq!(review["response"]["allowed"], true, "{review}");
            let injected = patched(&asks(&every), &review);
            let names = variables(&injected["spec"]["containers"][0]);
            assert_eq!(
                names,
                ["FLOE_SECRET_DB_USER<db/user", "FLOE_SECRET_DB_WORD<db/word"]
            );
        } else {
            assert_eq!(review["response"]["allowed"], false, "{review}");
            let message = review["response"]["status"]["message"]
                .as_str()
                .expect("a message");
            assert!(message.contains(SETTINGS), "{message}");
            assert!(
                !review.to_string().contains("word"),
                "a key's name is disclosed: {review}"
            );
        }
    }
    // The API server accepts the rendered objects.
    let objects = Helm::V4.objects(NAME, &closed_by_range());
    let mut policy = find_object(&objects, "NetworkPolicy", NAME).clone();
    policy["metadata"]["namespace"] = namespace.name.clone().into();
    cp.create(&policy).await.object();
    let path = testbed::objects::path(&policy);
    let stored = cp.request(Method::GET, &path, None).await.object();
    assert_eq!(
        stored["spec"]["ingress"][0]["from"],
        policy["spec"]["ingress"][0]["from"]
    );
}
