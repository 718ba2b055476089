//! `explain` on a real API server: every reason for what a container got or did not get, by a user who may read the
//! namespace and metadata of its Secrets.

#![expect(clippy::indexing_slicing, reason = "a failing helper fails its test")]

use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::{Value, json};
use testbed::command_output::CommandOutput;
use testbed::control_plane::ControlPlane;
use testbed::manifests::{container, container_named, deployment, job, pod, prefixed};
use testbed::namespace::{Identity, TestNamespace};
use testbed::stub_server::Stub;
use testbed::webhook::{Registration, limited_to_namespaces, webhook_identity, with_max_timeout};
use testbed::webhook_process::{Launch, WebhookProcess};
use testbed::{unique, wait_for};

/// Permissions for explaining the objects of a namespace.
fn readers_rules() -> Value {
    let read = json!(["get", "list"]);
    json!([
        {"apiGroups": [""], "resources": ["pods", "serviceaccounts"], "verbs": read},
        {"apiGroups": [""], "resources": ["secrets", "namespaces"], "verbs": ["get"]},
        {"apiGroups": ["apps"], "resources": ["deployments", "statefulsets", "daemonsets", "replicasets"], "verbs": read},
        {"apiGroups": ["batch"], "resources": ["jobs", "cronjobs"], "verbs": read},
    ])
}

async fn explain_as(kubeconfig: &Path, args: &[&str]) -> CommandOutput {
    let mut command = Command::new(env!("CARGO_BIN_EXE_floe-secrets-webhook"));
    command
        .arg("explain")
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(args);
    CommandOutput::run_async(command, "").await
}

/// Namespace that the webhook serves while `registration` exists.
struct Fixture<'c> {
    cp: &'c ControlPlane,
    ns: TestNamespace,
    user: Identity,
    webhook: WebhookProcess,
    registration: Option<Registration>,
}

impl<'c> Fixture<'c> {
    async fn new(cp: &'c ControlPlane, metadata: &Value) -> Self {
        let identity = webhook_identity(cp).await;
        let webhook = Launch::serve(cp, &identity).start().await;
        let ns = cp.namespace_with("explain", metadata).await;
        cp.secret(&ns.name, "db", &["password", "user"], "v").await;
        let user = cp
            .service_account(&ns.name, "reader", &readers_rules())
            .await;
        let configuration = limited_to_namespaces(webhook.url_configuration(), &[&ns.name]);
        let configuration = with_max_timeout(configuration);
        let registration = Registration::shared(cp, &configuration).await;
        Self {
            cp,
            ns,
            user,
            webhook,
            registration: Some(registration),
        }
    }

    /// Explanation by the administrator, who may also read the webhook's configuration.
    async fn explain(&self, target: &str) -> (i32, Value) {
        self.explain_with(&self.cp.kubeconfig, target).await
    }

    async fn explain_with(&self, kubeconfig: &Path, target: &str) -> (i32, Value) {
        let args = [target, "-n", &self.ns.name, "-o", "json"];
        let output = explain_as(kubeconfig, &args).await;
        let explained =
            serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        (output.code, explained)
    }

    async fn create(&self, name: &str, annotations: &Value) {
        let annotations = prefixed(annotations);
        self.cp
            .create(&pod(&self.ns.name, name, &annotations))
            .await
            .object();
    }

    async fn kubectl(&self, args: &[&str]) {
        let args = [&["-n", &self.ns.name][..], args].concat();
        self.cp.kubectl(&args, "").await.expect_success();
    }

    /// User of the namespace who lacks the permissions for these resources.
    async fn user_without(&self, name: &str, resources: &[&str]) -> Identity {
        let mut rules = readers_rules();
        for rule in rules.as_array_mut().expect("rules") {
            let allowed = rule["resources"].as_array_mut().expect("resources");
            allowed.retain(|resource| !resources.iter().any(|denied| resource == denied));
        }
        self.cp.service_account(&self.ns.name, name, &rules).await
    }

    /// Takes the webhook away: its configuration is deleted.
    fn unregister(&mut self) {
        self.registration = None;
    }
}

/// Waits for the next second of the clock, because times in metadata have whole seconds.
async fn next_second() {
    let began = jiff::Timestamp::now().as_second();
    wait_for("the next second", || async {
        (jiff::Timestamp::now().as_second() > began).then_some(())
    })
    .await;
}

/// Sentences of one group.
fn lines(explained: &Value, group: &str) -> String {
    let lines = explained[group]
        .as_array()
        .unwrap_or_else(|| panic!("no {group}: {explained:#}"));
    let texts: Vec<&str> = lines.iter().filter_map(Value::as_str).collect();
    texts.join("\n")
}

fn container_lines(explained: &Value, name: &str) -> String {
    let containers = explained["containers"].as_array().expect("containers");
    let found = containers
        .iter()
        .find(|container| container["name"] == name);
    found
        .map(|container| lines(container, "lines"))
        .unwrap_or_default()
}

#[track_caller]
fn assert_has(explained: &Value, group: &str, expected: &str) {
    let lines = lines(explained, group);
    assert!(
        lines.contains(expected),
        "{group} has no {expected:?}: {explained:#}"
    );
}

#[tokio::test]
async fn injected_pod_is_explained_with_annotation_secrets_and_restart() {
    let cp = ControlPlane::shared().await;
    let fixture = Fixture::new(cp, &json!({})).await;
    let n = fixture.ns.name.as_str();
    let requesting =
        prefixed(&json!({"env-from": "db", "env.TOKEN": "db/password", "containers": "main"}));
    let mut served = pod(n, "served", &requesting);
    served["spec"]["containers"] = json!([container(), container_named("helper")]);
    served["spec"]["initContainers"] = json!([container_named("setup")]);
    cp.create(&served).await.object();
    let (code, explained) = fixture.explain("pod/served").await;
    assert_eq!(
        (code, lines(&explained, "problems")),
        (0, String::new()),
        "{explained:#}"
    );
    assert_has(&explained, "webhook", "by entry pods.secrets.floe.dev");
    assert_has(
        &explained,
        "annotations",
        "secrets.floe.dev/env-from of the pod itself decides",
    );
    let main = container_lines(&explained, "main");
    assert!(
        main.contains("takes every key of secret \"db\" (annotation secrets.floe.dev/env-from)"),
        "{main}"
    );
    assert!(
        main.contains("takes TOKEN from key \"password\" of secret \"db\""),
        "{main}"
    );
    let helper = container_lines(&explained, "helper");
    assert!(
        helper.contains("annotation secrets.floe.dev/containers does not select it"),
        "{helper}"
    );
    let setup = container_lines(&explained, "setup");
    assert!(
        setup.contains("init containers get nothing unless"),
        "{setup}"
    );
    assert_has(
        &explained,
        "secrets",
        "secret \"db\" exists and has the key \"password\"",
    );
    assert_has(
        &explained,
        "restart",
        "a pod without an owner is restarted by nothing",
    );

    // The Secret loses the key, then everything.
    let remove = json!({"data": {"password": null}});
    let path = format!("/api/v1/namespaces/{n}/secrets/db");
    cp.request(Method::PATCH, &path, Some(&remove))
        .await
        .object();
    let (code, explained) = fixture.explain("pod/served").await;
    assert_eq!(code, 1, "{explained:#}");
    assert_has(
        &explained,
        "problems",
        "secret \"db\" exists and has no key \"password\"; it has \"user\"",
    );
    cp.request(Method::DELETE, &path, None).await.object();
    let (_, explained) = fixture.explain("pod/served").await;
    assert_has(
        &explained,
        "problems",
        &format!("secret \"db\" does not exist in namespace \"{n}\""),
    );

    let text = explain_as(&fixture.user.kubeconfig, &["pod/served", "-n", n]).await;
    testbed::print_line(&text.stdout);
    assert!(
        text.stdout
            .contains("\nNot checked:\n  the webhook's entry was not checked"),
        "{text:?}"
    );
}

#[tokio::test]
async fn reasons_for_missing_secrets_are_distinguished() {
    let cp = ControlPlane::shared().await;
    let mut fixture = Fixture::new(cp, &json!({})).await;
    let n = fixture.ns.name.clone();
    fixture.create("plain", &json!({})).await;
    fixture
        .create("opted-out", &json!({"env-from": "db", "inject": "false"}))
        .await;
    fixture.create("later", &json!({})).await;
    fixture.create("injected", &json!({"env-from": "db"})).await;
    // An annotation on a running pod changes nothing. Times have whole seconds.
    next_second().await;
    fixture
        .kubectl(&[
            "annotate",
            "pod",
            "later",
            "secrets.floe.dev/refs=db/password",
        ])
        .await;

    let (code, explained) = fixture.explain("pod/plain").await;
    assert_eq!(code, 0);
    assert_has(
        &explained,
        "annotations",
        "none of its annotations asks for a secret",
    );
    let (code, explained) = fixture.explain("pod/opted-out").await;
    assert_eq!(code, 0);
    assert_has(&explained, "annotations", "it opts out");
    let (code, explained) = fixture.explain("pod/later").await;
    assert_eq!(code, 1);
    assert_has(
        &explained,
        "problems",
        "container \"main\" runs without secret \"db\"",
    );
    assert_has(&explained, "problems", "was added to the pod at");
    let main = container_lines(&explained, "main");
    assert!(
        main.contains("MISSING: container \"main\" takes FLOE_SECRET_DB_PASSWORD"),
        "{main}"
    );

    // A pod with the record of another one, as a copy of its manifest has it, but without the entries.
    fixture.unregister();
    let injected = cp
        .request(
            Method::GET,
            &format!("/api/v1/namespaces/{n}/pods/injected"),
            None,
        )
        .await
        .object();
    let annotations = injected["metadata"]["annotations"].clone();
    cp.create(&pod(&n, "replaced", &annotations)).await.object();
    let mut late = pod(&n, "late-container", &annotations);
    late["spec"] = json!({"containers": [injected["spec"]["containers"][0].clone(), container_named("sidecar")]});
    late["spec"]["containers"][0]["volumeMounts"] = json!([]);
    cp.create(&late).await.object();
    fixture.create("unserved", &json!({"env-from": "db"})).await;
    fixture.create("mistaken", &json!({"env_from": "db"})).await;
    let other = limited_to_namespaces(fixture.webhook.url_configuration(), &["elsewhere"]);
    {
        let _other = Registration::shared(cp, &other).await;
        let (_, explained) = fixture.explain("pod/unserved").await;
        assert_has(&explained, "problems", "no webhook entry for namespace");
    }

    // The configuration is back, and was created after the pods.
    next_second().await;
    let configuration = limited_to_namespaces(fixture.webhook.url_configuration(), &[&n]);
    fixture.registration = Some(Registration::shared(cp, &with_max_timeout(configuration)).await);
    let (_, explained) = fixture.explain("pod/mistaken").await;
    assert_has(
        &explained,
        "problems",
        "the webhook would refuse it: annotation secrets.floe.dev/env_from",
    );
    let (code, explained) = fixture.explain("pod/late-container").await;
    assert_eq!(code, 0, "{explained:#}");
    let sidecar = container_lines(&explained, "sidecar");
    assert!(
        sidecar.contains("it came after the secrets had been injected"),
        "{sidecar}"
    );
    let (_, explained) = fixture.explain("pod/replaced").await;
    assert_has(
        &explained,
        "problems",
        "container \"main\" runs without secret \"db\"",
    );
    assert_has(
        &explained,
        "problems",
        "before MutatingWebhookConfiguration",
    );
    // Without the configuration, the webhook's absence and its selectors are possible causes.
    let user = fixture.user.kubeconfig.clone();
    let (_, explained) = fixture.explain_with(&user, "pod/unserved").await;
    assert_has(
        &explained,
        "problems",
        "the webhook was away when it was created, or the pod was not sent to it",
    );
}

/// Webhook that replaces the container, and is called after the one under test.
async fn replaces_container(cp: &ControlPlane, namespace: &str) -> (Stub, Registration) {
    let stub = Stub::start_with(&cp.authority, |_| {
        let patch = json!([{"op": "replace", "path": "/spec/containers/0", "value": container()}]);
        json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(patch.to_string())})
    })
    .await;
    let mut configuration = limited_to_namespaces(stub.url_configuration(), &[namespace]);
    configuration["metadata"]["name"] = unique("zzz-replacing").into();
    let entries = configuration["webhooks"].as_array_mut().expect("entries");
    entries.truncate(1);
    for entry in entries {
        entry["name"] = "replacing.tests.floe.dev".into();
        entry["reinvocationPolicy"] = "Never".into();
        entry
            .as_object_mut()
            .expect("an entry")
            .remove("matchConditions");
    }
    let registration = Registration::shared(cp, &configuration).await;
    (stub, registration)
}

#[tokio::test]
async fn container_that_another_webhook_replaced_is_recognised() {
    let cp = ControlPlane::shared().await;
    let mut fixture = Fixture::new(cp, &json!({})).await;
    let n = fixture.ns.name.clone();
    // The webhook would be called again, and inject into the other container.
    let mut once = limited_to_namespaces(fixture.webhook.url_configuration(), &[&n]);
    for entry in once["webhooks"].as_array_mut().expect("entries") {
        entry["reinvocationPolicy"] = "Never".into();
    }
    fixture.unregister();
    fixture.registration = Some(Registration::shared(cp, &with_max_timeout(once)).await);
    let (_stub, _registration) = replaces_container(cp, &n).await;
    next_second().await;
    fixture.create("replaced", &json!({"env-from": "db"})).await;
    let (code, explained) = fixture.explain("pod/replaced").await;
    assert_eq!(code, 1, "{explained:#}");
    assert_has(
        &explained,
        "problems",
        "another webhook added or replaced the container later",
    );
}

#[tokio::test]
async fn defaults_from_after_the_creation_and_large_ones_are_reported() {
    let cp = ControlPlane::shared().await;
    let metadata = json!({"annotations": {"secrets.floe.dev/env-from": "db"}});
    let mut fixture = Fixture::new(cp, &metadata).await;
    let n = &fixture.ns.name.clone();
    next_second().await;
    fixture.create("before", &json!({})).await;
    next_second().await;
    let enabled = "secrets.floe.dev/inject=enabled";
    fixture.kubectl(&["label", "namespace", n, enabled]).await;
    let (code, explained) = fixture.explain("pod/before").await;
    assert_eq!(code, 1, "{explained:#}");
    assert_has(
        &explained,
        "problems",
        &format!("label secrets.floe.dev/inject of namespace \"{n}\" was last written at"),
    );
    // The API server does not keep the times of this service account.
    fixture.create("since", &json!({})).await;
    let default = "secrets.floe.dev/refs=db/user";
    fixture
        .kubectl(&["annotate", "serviceaccount", "default", default])
        .await;
    let (_, explained) = fixture.explain("pod/since").await;
    assert_has(
        &explained,
        "problems",
        "annotation secrets.floe.dev/refs of service account \"default\" may be newer than the pod",
    );
    next_second().await;
    let default = "secrets.floe.dev/env.TOKEN=db/password";
    fixture
        .kubectl(&["annotate", "namespace", n, default])
        .await;
    let (_, explained) = fixture.explain("pod/since").await;
    assert_has(
        &explained,
        "problems",
        &format!("annotation secrets.floe.dev/env.TOKEN of namespace \"{n}\" was last written at"),
    );

    fixture
        .create("opted-out", &json!({"inject": "false"}))
        .await;
    // The webhook would refuse the change.
    fixture.unregister();
    let long = vec!["db/user"; 9_000].join(",");
    let change = json!({"metadata": {"annotations": {"secrets.floe.dev/refs": long}}});
    let account = format!("/api/v1/namespaces/{n}/serviceaccounts/default");
    cp.request(Method::PATCH, &account, Some(&change))
        .await
        .object();
    let sentence = "the webhook would refuse it: annotation secrets.floe.dev/refs of service account \"default\": together the defaults";
    cp.kubectl_apply(n, &job("large", &json!({}), &json!([container()])))
        .await
        .expect_success();
    for target in ["pod/before", "job/large"] {
        let (code, explained) = fixture.explain(target).await;
        assert_eq!(code, 1, "{explained:#}");
        assert_has(&explained, "problems", sentence);
    }
    let (code, explained) = fixture.explain("pod/opted-out").await;
    assert_eq!(code, 0, "{explained:#}");
}

#[tokio::test]
async fn unreadable_objects_are_notes() {
    let cp = ControlPlane::shared().await;
    let metadata = json!({"labels": {"secrets.floe.dev/inject": "enabled"},
        "annotations": {"secrets.floe.dev/env-from": "db"}});
    let fixture = Fixture::new(cp, &metadata).await;
    let n = fixture.ns.name.as_str();
    let quiet = deployment("quiet", &json!({}), &json!([container()]));
    cp.kubectl_apply(n, &quiet).await.expect_success();
    let pod = cp.pod_of(n, "app=quiet").await;
    let pod = format!("pod/{}", pod["metadata"]["name"].as_str().expect("a name"));
    for (name, denied) in [
        ("without-namespaces", "namespaces"),
        ("without-accounts", "serviceaccounts"),
    ] {
        let user = fixture.user_without(name, &[denied]).await;
        for target in [&pod, "deployment/quiet"] {
            let (code, explained) = fixture.explain_with(&user.kubeconfig, target).await;
            assert_eq!(code, 0, "{explained:#}");
            assert_has(&explained, "annotations", "is not known");
            assert_has(&explained, "notes", "defaults were not checked");
            assert_has(&explained, "notes", denied);
        }
    }
    // The pods may be listed, and none of them read.
    let rules = json!([
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
        {"apiGroups": ["apps"], "resources": ["deployments", "replicasets"], "verbs": ["get", "list"]},
    ]);
    let user = cp.service_account(n, "lister", &rules).await;
    let (code, explained) = fixture
        .explain_with(&user.kubeconfig, "deployment/quiet")
        .await;
    assert_eq!(code, 0, "{explained:#}");
    assert_has(&explained, "notes", "its pods were listed, and not read");
    // The object itself is enough.
    let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]);
    let user = cp.service_account(n, "getter", &rules).await;
    let (code, explained) = fixture.explain_with(&user.kubeconfig, &pod).await;
    assert_eq!(code, 0, "{explained:#}");
    assert_has(&explained, "annotations", "is not known");
    assert_has(
        &explained,
        "notes",
        "owners of ReplicaSets or Jobs were not read",
    );
}

#[tokio::test]
async fn pod_created_while_the_webhook_was_away_is_recognised() {
    let cp = ControlPlane::shared().await;
    let fixture = Fixture::new(cp, &json!({})).await;
    let n = fixture.ns.name.as_str();
    // The entry fails open, and nothing listens where it points to.
    let mut away = limited_to_namespaces(fixture.webhook.url_configuration(), &[n]);
    for entry in away["webhooks"].as_array_mut().expect("entries") {
        entry["failurePolicy"] = "Ignore".into();
        entry["clientConfig"]["url"] = "https://127.0.0.1:1/".into();
    }
    let mut fixture = fixture;
    fixture.unregister();
    fixture.registration = Some(Registration::shared(cp, &away).await);
    next_second().await;
    fixture.create("missed", &json!({"env-from": "db"})).await;
    let (code, explained) = fixture.explain("pod/missed").await;
    assert_eq!(code, 1);
    assert_has(
        &explained,
        "problems",
        "the pod was created while the webhook was away",
    );
    assert_has(&explained, "webhook", "are created without their secrets");
}

#[tokio::test]
async fn places_of_annotations_are_named() {
    let cp = ControlPlane::shared().await;
    let metadata = json!({"annotations": {"secrets.floe.dev/env-from": "db"}});
    let fixture = Fixture::new(cp, &metadata).await;
    let n = fixture.ns.name.as_str();
    fixture.create("unlabelled", &json!({})).await;
    let (code, explained) = fixture.explain("pod/unlabelled").await;
    assert_eq!(code, 0);
    assert_has(
        &explained,
        "annotations",
        &format!("kubectl label namespace {n} secrets.floe.dev/inject=enabled"),
    );

    fixture
        .kubectl(&["label", "namespace", n, "secrets.floe.dev/inject=enabled"])
        .await;
    fixture
        .kubectl(&[
            "annotate",
            "serviceaccount",
            "default",
            "secrets.floe.dev/refs=db/user",
        ])
        .await;
    let mut owned = deployment("owned", &json!({}), &json!([container()]));
    owned["metadata"]["annotations"] = prefixed(&json!({"refs": "db/password"}));
    cp.kubectl_apply(n, &owned).await.expect_success();
    let pod = cp.pod_of(n, "app=owned").await;
    let name = pod["metadata"]["name"].as_str().expect("a name");
    let (code, explained) = fixture.explain(&format!("pod/{name}")).await;
    assert_eq!(code, 0, "{explained:#}");
    assert_has(
        &explained,
        "webhook",
        "by entry defaults.pods.secrets.floe.dev",
    );
    assert_has(
        &explained,
        "annotations",
        &format!("secrets.floe.dev/env-from of namespace \"{n}\" decides"),
    );
    assert_has(
        &explained,
        "annotations",
        "secrets.floe.dev/refs of the workload's own metadata, which the template inherits decides, and overrides that of service account \"default\"",
    );
    assert_has(
        &explained,
        "restart",
        "Reloader restarts Deployment \"owned\" (secret.reloader.stakater.com/reload)",
    );

    let (code, explained) = fixture.explain("deployment/owned").await;
    assert_eq!(code, 0, "{explained:#}");
    assert_has(
        &explained,
        "pods",
        &format!("pod \"{name}\" has everything"),
    );
    let main = container_lines(&explained, "main");
    assert!(
        main.contains("takes FLOE_SECRET_DB_PASSWORD from key \"password\""),
        "{main}"
    );
}

#[tokio::test]
async fn workloads_and_exempt_namespaces_are_explained() {
    let cp = ControlPlane::shared().await;
    let fixture = Fixture::new(cp, &json!({})).await;
    let n = fixture.ns.name.as_str();
    let refused = job(
        "refused",
        &prefixed(&json!({"refs": "nothing/key"})),
        &json!([container()]),
    );
    cp.kubectl_apply(n, &refused).await.expect_success();
    let (code, explained) = fixture.explain("job/refused").await;
    assert_eq!(code, 1);
    assert_has(
        &explained,
        "problems",
        "its pods are refused: secret \"nothing\" not found",
    );
    assert_has(&explained, "pods", "it has no pods now");
    let exempt = explain_as(
        &cp.kubeconfig,
        &["job/refused", "-n", n, "--exempt-namespaces", n],
    )
    .await;
    assert!(
        exempt.code == 0 && exempt.stdout.contains("is exempt"),
        "{exempt:?}"
    );
    let nothing = explain_as(&fixture.user.kubeconfig, &["pod/none", "-n", n]).await;
    assert!(
        nothing.code == 2
            && nothing
                .stderr
                .contains("Pod \"none\" not found in namespace"),
        "{nothing:?}"
    );
    let usage = explain_as(&fixture.user.kubeconfig, &["secret/db"]).await;
    assert!(
        usage.code == 2 && usage.stderr.contains("cannot be explained"),
        "{usage:?}"
    );
}
