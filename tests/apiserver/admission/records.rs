//! Records of an admission, in the webhook's log and the cluster's audit log, and immediate visibility of new secrets.

use http::Method;
use serde_json::{Value, json};

use crate::asking;
use testbed::control_plane::{ControlPlane, Options};
use testbed::manifests::{container, find_container, job, pod, prefixed, sources};
use testbed::objects;
use testbed::process::Folder;
use testbed::shared_fixture::shared_fixture;
use testbed::webhook::{Registration, webhook_identity};
use testbed::webhook_process::Launch;
use testbed::{unique, wait_for};

#[tokio::test]
async fn dry_run_is_logged_and_stores_nothing() {
    let fixture = shared_fixture().await;
    let (cp, ns) = (fixture.cp, fixture.cp.namespace("dry").await);
    cp.secret(&ns.name, "db-creds", &["k"], "x").await;
    let name = unique("dry");
    let tried = pod(&ns.name, &name, &asking());
    let args = [
        "-n",
        &ns.name,
        "apply",
        "--dry-run=server",
        "-o",
        "json",
        "-f",
        "-",
    ];
    let shown = cp.kubectl(&args, &tried.to_string()).await.expect_success();
    let shown: Value = serde_json::from_str(&shown.stdout).expect("JSON");
    assert_eq!(sources(find_container(&shown, "main")), ["secret/db-creds"]);
    let refused = cp
        .kubectl(
            &["-n", &ns.name, "apply", "--dry-run=server", "-f", "-"],
            &pod(&ns.name, "no", &prefixed(&json!({"env-from": "absent"}))).to_string(),
        )
        .await;
    assert!(
        refused.stderr.starts_with("The request is invalid: "),
        "{refused:?}"
    );
    assert_eq!(
        cp.request(Method::GET, &objects::path(&tried), None)
            .await
            .status,
        404
    );
    cp.create(&tried).await.object();
    let lines = fixture.webhook.admissions("name", &name);
    let dry: Vec<&Value> = lines.iter().map(|line| &line["dry_run"]).collect();
    assert_eq!(dry, [&json!(true), &json!(false)]);
}

#[tokio::test]
async fn log_names_requester_owner_and_secret() {
    let fixture = shared_fixture().await;
    let (cp, ns) = (fixture.cp, fixture.cp.namespace("logged").await);
    cp.secret(&ns.name, "db-creds", &["k"], "x").await;
    let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["create"]}]);
    let author = cp.service_account(&ns.name, "author", &rules).await;
    let mut generated = pod(&ns.name, "", &asking());
    let stem = unique("generated") + "-";
    generated["metadata"] =
        json!({"generateName": stem, "namespace": ns.name, "annotations": asking()});
    cp.kubectl_as(
        &author.kubeconfig,
        &["-n", &ns.name, "create", "-f", "-"],
        &generated.to_string(),
    )
    .await
    .expect_success();
    let [line] = fixture
        .webhook
        .admissions("generate_name", &stem)
        .try_into()
        .expect("one call");
    for (field, value) in [
        ("level", json!("INFO")),
        ("surface", json!("pods")),
        ("operation", json!("create")),
        ("namespace", json!(ns.name)),
        ("name", json!("")),
        ("owner", json!("")),
        ("user", json!(author.username)),
        ("dry_run", json!(false)),
        ("decision", json!("injected")),
        ("reason", json!("ok")),
        ("secrets", json!("db-creds")),
    ] {
        assert_eq!(line[field], value, "{field}: {line}");
    }
    // A Job's pod is created by its controller; the log names the owner.
    let owner = unique("load");
    cp.kubectl_apply(&ns.name, &job(&owner, &asking(), &json!([container()])))
        .await
        .expect_success();
    cp.pod_of(&ns.name, &format!("app={owner}")).await;
    let [line] = fixture
        .webhook
        .admissions("owner", &format!("Job/{owner}"))
        .try_into()
        .expect("one call");
    assert_eq!(
        line["user"],
        "system:serviceaccount:kube-system:job-controller"
    );
}

/// A secret counts from the moment that it exists, even if it was missing a moment ago.
#[tokio::test]
async fn new_secret_is_found_immediately() {
    let fixture = shared_fixture().await;
    let (cp, ns) = (fixture.cp, fixture.cp.namespace("fresh").await);
    for n in 0..25 {
        let name = format!("fresh-{n}");
        let asks = pod(
            &ns.name,
            &name,
            &prefixed(&json!({"env-from": name, "env.KEY": format!("{name}/k")})),
        );
        assert_eq!(cp.create_dry_run(&asks).await.status, 422);
        cp.secret(&ns.name, &name, &[], "x").await;
        assert_eq!(
            cp.create_dry_run(&asks).await.status,
            422,
            "the key is still missing"
        );
        let path = format!("/api/v1/namespaces/{}/secrets/{name}", ns.name);
        cp.request(
            Method::PATCH,
            &path,
            Some(&json!({"stringData": {"k": "x"}})),
        )
        .await
        .object();
        cp.create_dry_run(&asks).await.object();
    }
}

/// The cluster's audit log and the webhook's log can be joined by event.
#[tokio::test]
async fn audit_log_joins_webhook_log() {
    let files = Folder::new();
    let policy = json!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
        "rules": [{"level": "Metadata", "resources": [{"group": "", "resources": ["pods", "namespaces"]}]}]});
    let policy = files.write("policy.yaml", policy.to_string());
    let log = files.path().join("audit.log");
    let flags = vec![
        format!("--audit-policy-file={}", policy.display()),
        format!("--audit-log-path={}", log.display()),
    ];
    let cp = ControlPlane::start(Options {
        controller_manager: false,
        apiserver_flags: flags,
    })
    .await;
    let webhook = Launch::serve(&cp, &webhook_identity(&cp).await)
        .with(&["--log", "debug"])
        .start()
        .await;
    let _registered = Registration::shared(&cp, &webhook.service_configuration()).await;
    let (ns, labels) = (
        cp.namespace("audited").await,
        json!({"labels": {"secrets.floe.dev/inject": "enabled"}}),
    );
    let defaults = cp.namespace_with("audited-defaults", &labels).await;
    cp.secret(&ns.name, "db-creds", &["k"], "x").await;
    cp.create(&pod(&ns.name, "injected", &asking()))
        .await
        .object();
    let warned = prefixed(&json!({"env-from": "db-creds,absent", "on-missing": "warn"}));
    cp.create(&pod(&ns.name, "warned", &warned)).await.object();
    assert_eq!(
        cp.create(&pod(
            &ns.name,
            "refused",
            &prefixed(&json!({"env-from": "absent"}))
        ))
        .await
        .status,
        422
    );
    cp.create(&pod(&defaults.name, "skipped", &json!({})))
        .await
        .object();

    let warning = format!(
        "secret \"absent\" not found in namespace \"{}\"; the pod waits until it exists",
        ns.name
    );
    for (name, entry, annotations) in [
        ("injected", "pods", json!({"secrets": "db-creds"})),
        (
            "warned",
            "pods",
            json!({"secrets": "absent,db-creds", "warnings": warning}),
        ),
        ("refused", "pods", json!({"refused": "not_found"})),
        (
            "skipped",
            "defaults.pods",
            json!({"skipped": "not_requested"}),
        ),
    ] {
        let event = wait_for(&format!("the audit event of {name}"), || async {
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            let mut events = log
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok());
            events.find(|event| event["objectRef"]["name"] == name && event["verb"] == "create")
        })
        .await;
        let [line] = webhook
            .admissions("name", name)
            .try_into()
            .expect("one admission");
        let prefix = format!("{entry}.secrets.floe.dev/");
        let webhook_annotations: serde_json::Map<String, Value> = event["annotations"]
            .as_object()
            .expect("annotations")
            .iter()
            .filter_map(|(key, value)| Some((key.strip_prefix(&prefix)?.to_owned(), value.clone())))
            .collect();
        let mut expected = annotations.clone();
        expected["event-id"] = line["uid"].clone();
        assert_eq!(
            Value::from(webhook_annotations),
            expected,
            "{name}: {event}"
        );
        assert_eq!(event["user"]["username"], line["user"], "{name}");
    }
}
