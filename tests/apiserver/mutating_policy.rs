//! `policy mutating` on a real API server that calls no webhook: printed, applied by kubectl, and the pods that follow.

#![expect(clippy::indexing_slicing, reason = "a failing helper fails its test")]

use std::process::Command;

use serde_json::{Value, json};
use testbed::command_output::CommandOutput;
use testbed::control_plane::ControlPlane;
use testbed::manifests::{find_container, pod, prefixed, sources};
use testbed::namespace::TestNamespace;
use testbed::wait_for;
use tokio::sync::OnceCell;

fn policy_command(args: &[&str]) -> CommandOutput {
    let mut command = Command::new(env!("CARGO_BIN_EXE_floe-secrets-webhook"));
    command.args(["policy", "mutating"]).args(args);
    CommandOutput::run(command, "")
}

/// Namespace of an API server that has the policies.
struct Fixture {
    cp: &'static ControlPlane,
    ns: TestNamespace,
}

impl Fixture {
    async fn new() -> Self {
        static APPLIED: OnceCell<()> = OnceCell::const_new();
        let cp = ControlPlane::shared().await;
        let ns = cp.namespace("policy").await;
        APPLIED.get_or_init(|| apply_policies(cp, &ns)).await;
        Self { cp, ns }
    }

    async fn created(&self, pod: &Value) -> Value {
        self.cp.create_dry_run(pod).await.object()
    }

    #[track_caller]
    fn rejected(&self, pod: &Value, message: &str) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let response = self.cp.create_dry_run(pod).await;
            assert!(!response.is_accepted(), "{caller}: accepted");
            let found = response.message();
            assert!(found.contains(message), "{caller}: {found}");
        }
    }

    fn pod(&self, annotations: &Value, containers: &Value) -> Value {
        let mut pod = pod(&self.ns.name, "p", &prefixed(annotations));
        pod["spec"]["containers"] = containers.clone();
        pod
    }

    fn pod_of(&self, annotations: &Value) -> Value {
        self.pod(annotations, &json!([{"name": "main", "image": "none"}]))
    }
}

/// Applies what the command prints, and waits until it is in force.
async fn apply_policies(cp: &ControlPlane, ns: &TestNamespace) {
    let printed = policy_command(&[]).expect_success();
    let applied = cp
        .kubectl(&["apply", "-f", "-"], &printed.stdout)
        .await
        .expect_success();
    assert!(!applied.stderr.contains("Warning"), "{}", applied.stderr);
    let refused = pod(&ns.name, "p", &prefixed(&json!({"refs": "db"})));
    wait_for("the ValidatingAdmissionPolicy is in force", || async {
        (!cp.create_dry_run(&refused).await.is_accepted()).then_some(())
    })
    .await;
    let requesting = pod(&ns.name, "p", &prefixed(&json!({"env-from": "db"})));
    wait_for("the MutatingAdmissionPolicy is in force", || async {
        cp.create_dry_run(&requesting)
            .await
            .is_accepted()
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn secrets_come_before_the_authors_sources() {
    let fixture = Fixture::new().await;
    let containers = json!([
        {"name": "a", "image": "none", "envFrom": [{"secretRef": {"name": "mine"}}, {"prefix": "X_", "secretRef": {"name": "db"}}]},
        {"name": "b", "image": "none", "envFrom": [{"secretRef": {"name": "api"}}]},
        {"name": "c", "image": "none", "envFrom": []},
        {"name": "d", "image": "none"},
        {"name": "istio-proxy", "image": "none"},
    ]);
    let annotations = json!({"env-from": "\n- db\n-  kubernetes:api,db\t\r\n"});
    let created = fixture
        .created(&fixture.pod(&annotations, &containers))
        .await;
    let expected: [(&str, &[&str]); 5] = [
        (
            "a",
            &["secret/db", "secret/api", "secret/mine", "X_+secret/db"],
        ),
        ("b", &["secret/db", "secret/api"]),
        ("c", &["secret/db", "secret/api"]),
        ("d", &["secret/db", "secret/api"]),
        ("istio-proxy", &[]),
    ];
    for (name, secrets) in expected {
        assert_eq!(
            sources(find_container(&created, name)),
            secrets,
            "container {name}"
        );
    }
    assert_eq!(
        created["spec"]["containers"][0]["envFrom"][3]["prefix"],
        "X_"
    );
}

#[tokio::test]
async fn containers_are_sidecars_only_with_the_label() {
    let fixture = Fixture::new().await;
    let containers = json!([{"name": "main", "image": "none"}, {"name": "wait", "image": "none"}]);
    let mut pod = fixture.pod(&json!({"env-from": "db"}), &containers);
    let created = fixture.created(&pod).await;
    assert_eq!(sources(find_container(&created, "wait")), ["secret/db"]);

    pod["metadata"]["labels"] = json!({"workflows.argoproj.io/workflow": "etl"});
    let created = fixture.created(&pod).await;
    assert_eq!(sources(find_container(&created, "main")), ["secret/db"]);
    assert!(sources(find_container(&created, "wait")).is_empty());
}

#[tokio::test]
async fn pods_without_requests_are_left_alone() {
    let fixture = Fixture::new().await;
    for annotations in [
        json!({}),
        json!({"inject": "true"}),
        json!({"inject": "false", "env-from": "db", "refs": "x"}),
    ] {
        let created = fixture.created(&fixture.pod_of(&annotations)).await;
        assert!(
            sources(find_container(&created, "main")).is_empty(),
            "{annotations}"
        );
    }
}

#[tokio::test]
async fn requests_beyond_the_policy_are_rejected() {
    let fixture = Fixture::new().await;
    let many: Vec<String> = (0..17).map(|n| format!("s{n}")).collect();
    let rejected = [
        (
            json!({"env-from": "db", "refs": "db/k", "on-missing": "warn"}),
            "not served in this cluster, which injects secrets without the webhook: secrets.floe.dev/",
        ),
        (
            json!({"inherited": "{}"}),
            "secrets.floe.dev/inherited. Remove them",
        ),
        (
            json!({"env-from": "db", "refs": "db/k"}),
            "secrets.floe.dev/refs. Remove them",
        ),
        (
            json!({"env-from": "db", "inject": "yes"}),
            "inject must be true or false",
        ),
        (json!({"env-from": " ,\n- "}), "names no secret"),
        (json!({"env-from": many.join(" ")}), "more than 16 secrets"),
        (json!({"env-from": "infisical:db"}), "no name of a Secret"),
        (json!({"env-from": "Db"}), "no name of a Secret"),
        (json!({"env-from": "a".repeat(254)}), "no name of a Secret"),
    ];
    for (annotations, message) in rejected {
        fixture
            .rejected(&fixture.pod_of(&annotations), message)
            .await;
    }
    let containers = |names: &[String]| -> Value {
        let one = |name| json!({"name": name, "image": "none"});
        names.iter().map(one).collect()
    };
    let request = json!({"env-from": "db"});
    let pod = fixture.pod(&request, &containers(&many));
    fixture.rejected(&pod, "more than 16 containers").await;
    let pod = fixture.pod(&request, &containers(&["envoy".to_owned()]));
    fixture.rejected(&pod, "on the list of sidecars").await;
}

#[tokio::test]
async fn limits_are_reached_by_16_secrets_in_16_containers() {
    let fixture = Fixture::new().await;
    let names: Vec<String> = (0..16).map(|n| format!("s{n}")).collect();
    let one = |n: &String| {
        let own: Vec<Value> = (0..50)
            .map(|n| json!({"secretRef": {"name": format!("own{n}")}}))
            .collect();
        json!({"name": n, "image": "none", "envFrom": own})
    };
    let containers: Value = names.iter().map(one).collect();
    let created = fixture
        .created(&fixture.pod(&json!({"env-from": names.join(",")}), &containers))
        .await;
    let expected: Vec<String> = names.iter().map(|name| format!("secret/{name}")).collect();
    for name in &names {
        assert_eq!(sources(find_container(&created, name))[..16], expected);
    }
}

/// A policy without its mutation, as after a mistake: the pod is refused, and does not run without its secrets.
#[tokio::test]
async fn pods_are_rejected_while_nothing_injects() {
    let cp = &ControlPlane::shared().await;
    let ns = cp.namespace("policy-off").await;
    let fixture = Fixture::new().await;
    let mut objects = testbed::objects::yaml(
        &policy_command(&["--exempt-namespaces", &fixture.ns.name])
            .expect_success()
            .stdout,
    );
    objects.truncate(2);
    for object in &mut objects {
        object["metadata"]["name"] = json!("without-mutation");
        if object["spec"]["policyName"].is_string() {
            object["spec"]["policyName"] = json!("without-mutation");
            object["spec"]["matchResources"] = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": ns.name}}});
        } else {
            // The sidecar list of the mutation is another one, so the container gets nothing from it.
            object["spec"]["variables"][2]["expression"] = json!("[0]");
        }
        cp.create(object).await.object();
    }
    let mut asks = pod(&ns.name, "p", &prefixed(&json!({"env-from": "db"})));
    asks["spec"]["containers"] =
        json!([{"name": "envoy", "image": "none"}, {"name": "main", "image": "none"}]);
    wait_for("the pod is refused by the container's name", || async {
        let response = cp.create_dry_run(&asks).await;
        response
            .message()
            .contains("would run without the secrets of secrets.floe.dev/env-from: envoy.")
            .then_some(())
    })
    .await;
}

#[test]
fn too_many_sidecar_entries_are_rejected() {
    let list: Vec<String> = (0..65).map(|n| format!("c{n}")).collect();
    let output = policy_command(&["--sidecar-containers", &list.join(",")]);
    assert_eq!(output.code, 2);
    assert!(
        output.stderr.contains("has 65 entries"),
        "{}",
        output.stderr
    );
    assert_eq!(output.stdout, "");
}
