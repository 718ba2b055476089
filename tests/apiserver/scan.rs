//! `scan` on a real API server: objects that were created while the webhook was off or changed afterwards are found,
//! and nothing else, by a user who may read pods and workloads and no Secret.

#![expect(
    clippy::too_many_lines,
    reason = "a test of one sequence, or a table of cases"
)]
#![expect(clippy::indexing_slicing, reason = "a failing helper fails its test")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt as _};
use serde_json::{Value, json};
use testbed::audit::AuditLog;
use testbed::command_output::CommandOutput;
use testbed::control_plane::{ControlPlane, Options};
use testbed::manifests::{container, deployment, job, pod, prefixed, template};
use testbed::namespace::TestNamespace;
use testbed::wait_for;
use testbed::webhook::{Registration, limited_to_namespaces, webhook_identity, with_max_timeout};
use testbed::webhook_process::{Launch, WebhookProcess};

/// Permissions for scanning a namespace.
fn readers_rules() -> Value {
    json!([
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
        {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["get", "list"]},
        {"apiGroups": ["apps"], "resources": ["deployments", "statefulsets", "daemonsets"], "verbs": ["get", "list"]},
        {"apiGroups": ["batch"], "resources": ["jobs", "cronjobs"], "verbs": ["get", "list"]},
    ])
}

/// Additional permissions for comparing revisions.
fn revisions_rules() -> Value {
    let mut rules = readers_rules();
    let revisions = json!({
        "apiGroups": ["apps"], "resources": ["replicasets", "controllerrevisions"], "verbs": ["get", "list"],
    });
    rules.as_array_mut().expect("rules").push(revisions);
    rules
}

/// Output of `scan`, and its peak memory.
async fn scan(kubeconfig: &Path, args: &[&str]) -> (CommandOutput, u64) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_floe-secrets-webhook"));
    command
        .arg("scan")
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(args);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = command.spawn().expect("the program starts");
    let status = format!("/proc/{}/status", child.id());
    let watching = std::thread::spawn(move || {
        let mut peak = 0;
        while let Ok(status) = std::fs::read_to_string(&status) {
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let Some(kib) =
                line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok())
            else {
                break;
            };
            peak = kib.max(peak);
            std::thread::sleep(Duration::from_millis(2));
        }
        peak
    });
    tokio::task::spawn_blocking(move || {
        let output = child.wait_with_output().expect("the program ends");
        (
            CommandOutput::from(output),
            watching.join().expect("no panic"),
        )
    })
    .await
    .expect("no panic")
}

fn names(findings: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let each = |finding: &Value| format!("{}/{}", text(&finding["kind"]), text(&finding["name"]));
    findings["findings"]
        .as_array()
        .expect("findings")
        .iter()
        .map(each)
        .collect()
}

#[tokio::test]
async fn pods_without_their_secrets_are_found_and_nothing_else() {
    let cp = ControlPlane::shared().await;
    let ns = cp.namespace("scan").await;
    let user = cp
        .service_account(&ns.name, "reader", &readers_rules())
        .await;
    let n = ns.name.as_str();
    let asks = prefixed(&json!({"env-from": "db"}));

    // The webhook is off: these are not reviewed.
    for (name, annotations) in [
        ("bare", asks.clone()),
        ("plain", json!({})),
        (
            "opted-out",
            prefixed(&json!({"env-from": "db", "inject": "false"})),
        ),
        ("mistaken", prefixed(&json!({"env_from": "db"}))),
        (
            "forged",
            prefixed(
                &json!({"env-from": "db", "injected": r#"{"containers":{"main":{"envFrom":["db"]}}}"#}),
            ),
        ),
        ("later", json!({})),
    ] {
        cp.create(&pod(n, name, &annotations)).await.object();
    }
    let mut complete = pod(n, "complete", &asks);
    complete["spec"]["containers"][0]["envFrom"] = json!([{"secretRef": {"name": "db"}}]);
    cp.create(&complete).await.object();
    // Another webhook, or a person, adds the annotation too late.
    cp.kubectl(
        &[
            "-n",
            n,
            "annotate",
            "pod",
            "later",
            "secrets.floe.dev/refs=db/password",
        ],
        "",
    )
    .await
    .expect_success();
    // Job whose pod has annotations, and workloads whose own annotations reach no pod.
    let containers = json!([container()]);
    cp.kubectl_apply(n, &job("load", &asks, &containers))
        .await
        .expect_success();
    cp.pod_of(n, "app=load").await;
    let mut lost = deployment("lost", &json!({}), &containers);
    lost["spec"]["replicas"] = 0.into();
    lost["metadata"]["annotations"] = asks.clone();
    cp.kubectl_apply(n, &lost).await.expect_success();
    let mut nightly = json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "nightly"},
        "spec": {"schedule": "0 0 30 2 *", "jobTemplate": {"spec": job("x", &json!({}), &containers)["spec"]}},
    });
    nightly["spec"]["jobTemplate"]["metadata"] = json!({"annotations": asks});
    cp.kubectl_apply(n, &nightly).await.expect_success();

    let (json, _) = scan(&user.kubeconfig, &["-n", n, "-o", "json"]).await;
    assert_eq!(json.code, 1, "{json:?}");
    let found: Value = serde_json::from_str(&json.stdout).expect("JSON");
    let all = names(&found);
    let fixed: Vec<&str> = all
        .iter()
        .map(String::as_str)
        .filter(|name| !name.starts_with("Pod/load-"))
        .collect();
    assert_eq!(
        fixed,
        [
            "CronJob/nightly",
            "Deployment/lost",
            "Pod/bare",
            "Pod/forged",
            "Pod/later",
            "Pod/mistaken"
        ],
        "{found:#}"
    );
    assert_eq!(all.len(), fixed.len() + 1, "and the Job's pod");
    let of = |name: &str| {
        found["findings"]
            .as_array()
            .unwrap()
            .iter()
            .find(|f| f["name"] == name)
            .unwrap()
            .clone()
    };
    let uid = of("bare")["uid"].clone();
    let bare = json!({
        "apiVersion": "v1", "kind": "Pod", "namespace": n, "name": "bare", "uid": uid,
        "problems": ["container \"main\" runs without secret \"db\""],
    });
    assert_eq!(of("bare"), bare, "what programs read");
    assert_eq!(
        found["looked"],
        json!({"objects": 11, "read": 7, "found": 7, "ineffective": 0, "lost": 0, "skipped": 0})
    );
    let jobs_pod = found["findings"]
        .as_array()
        .unwrap()
        .iter()
        .find(|f| f["owner"] == "Job/load");
    assert!(jobs_pod.is_some(), "{found:#}");

    let (table, _) = scan(&user.kubeconfig, &["-n", n]).await;
    assert_eq!(table.code, 1, "{table:?}");
    println!("{}{}", table.stdout, table.stderr);
    assert!(table.stdout.starts_with("NAMESPACE"), "{table:?}");
    let row = table
        .stdout
        .lines()
        .find(|line| line.contains(" bare "))
        .expect("a row");
    let cells: Vec<&str> = row
        .split("   ")
        .map(str::trim)
        .filter(|cell| !cell.is_empty())
        .collect();
    assert_eq!(
        cells,
        [
            n,
            "Pod",
            "bare",
            "-",
            "container \"main\" runs without secret \"db\""
        ]
    );
    assert!(
        table.stderr.contains("7 run without what they ask for"),
        "{table:?}"
    );

    // Permissions: this user can read this namespace alone.
    let (refused, _) = scan(&user.kubeconfig, &["-A"]).await;
    assert_eq!(
        (refused.code, refused.stdout.as_str()),
        (2, ""),
        "{refused:?}"
    );
    assert!(
        refused
            .stderr
            .contains("cannot list resource \"namespaces\""),
        "{refused:?}"
    );
    let (usage, _) = scan(&user.kubeconfig, &["-A", "-n", n]).await;
    assert_eq!(usage.code, 2);
}

#[tokio::test]
async fn defaults_apply_to_pods_in_labelled_namespaces() {
    let cp = ControlPlane::shared().await;
    let labelled = json!({
        "labels": {"secrets.floe.dev/inject": "enabled"},
        "annotations": {"secrets.floe.dev/env-from": "db"},
    });
    let ns = cp.namespace_with("scan-defaults", &labelled).await;
    let user = cp
        .service_account(&ns.name, "reader", &readers_rules())
        .await;
    cp.create(&pod(&ns.name, "governed", &json!({})))
        .await
        .object();
    cp.create(&pod(
        &ns.name,
        "free",
        &prefixed(&json!({"inject": "false"})),
    ))
    .await
    .object();
    let (json, _) = scan(&user.kubeconfig, &["-n", &ns.name, "-o", "json"]).await;
    assert_eq!(json.code, 1, "{json:?}");
    assert_eq!(
        names(&serde_json::from_str(&json.stdout).expect("JSON")),
        ["Pod/governed"]
    );
}

/// Problems of each object, by kind and name, without those of pods that run without their secrets.
fn problems(findings: &Value) -> Vec<(String, Vec<String>)> {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let of = |finding: &Value| {
        finding["problems"]
            .as_array()
            .expect("problems")
            .iter()
            .map(text)
            .collect()
    };
    names(findings)
        .into_iter()
        .zip(
            findings["findings"]
                .as_array()
                .expect("findings")
                .iter()
                .map(of),
        )
        .collect()
}

#[tokio::test]
async fn annotations_and_labels_without_effect_are_found() {
    let cp = ControlPlane::shared().await;
    let slip = json!({
        "labels": {"secrets.floe.dev/inject": "Enabled"}, "annotations": {"secrets.floe.dev/env-from": "db"},
    });
    let ns = cp.namespace_with("no-effect", &slip).await;
    let n = ns.name.as_str();
    let user = cp.service_account(n, "reader", &readers_rules()).await;
    cp.kubectl(
        &[
            "-n",
            n,
            "annotate",
            "serviceaccount",
            "reader",
            "secrets.floe.dev/refs=db/user",
        ],
        "",
    )
    .await
    .expect_success();
    let mut near = deployment(
        "near",
        &json!({"secret.floe.dev/env-from": "db"}),
        &json!([container()]),
    );
    near["spec"]["replicas"] = 3.into();
    near["metadata"]["labels"] = json!({"secrets.floe.dev/env-from": "db"});
    cp.kubectl_apply(n, &near).await.expect_success();
    wait_for("the pods are there", || async {
        let pods = cp
            .kubectl(
                &["-n", n, "get", "pods", "-l", "app=near", "-o", "name"],
                "",
            )
            .await
            .expect_success()
            .stdout;
        (pods.lines().count() == 3).then_some(())
    })
    .await;

    let label = format!(
        ", because the label says \"Enabled\": kubectl label --overwrite namespace {n} secrets.floe.dev/inject=enabled"
    );
    let (json, _) = scan(&user.kubeconfig, &["-n", n, "-o", "json"]).await;
    assert_eq!(json.code, 1, "{json:?}");
    let found: Value = serde_json::from_str(&json.stdout).expect("JSON");
    let idle =
        |whose: &str| format!("the secrets.floe.dev/ annotations of {whose} have no effect{label}");
    let mut all = problems(&found);
    let pods: Vec<_> = all
        .extract_if(.., |(name, _)| name.starts_with("Pod/near-"))
        .collect();
    assert_eq!(
        all,
        [
            (
                "Deployment/near".to_owned(),
                vec![
                    "label \"secrets.floe.dev/env-from\" has no effect; make it an annotation"
                        .to_owned()
                ]
            ),
            (
                format!("Namespace/{n}"),
                vec![idle(&format!("namespace \"{n}\""))]
            ),
            (
                "ServiceAccount/reader".to_owned(),
                vec![idle("service account \"reader\"")]
            ),
        ]
    );
    let meant = "annotation \"secret.floe.dev/env-from\" is read by nobody; did you mean secrets.floe.dev/env-from?";
    assert_eq!(
        pods.iter()
            .map(|(_, problems)| problems.as_slice())
            .collect::<Vec<_>>(),
        [[meant]],
        "one of three"
    );
    assert_eq!(found["looked"]["ineffective"], 4, "{found:#}");
    let (table, _) = scan(&user.kubeconfig, &["-n", n]).await;
    assert!(
        table
            .stderr
            .contains("4 have annotations or labels without effect"),
        "{table:?}"
    );

    // Without the permission to list ServiceAccounts, the output says so and has everything else.
    let rules = readers_rules();
    let fewer: Vec<&Value> = rules
        .as_array()
        .unwrap()
        .iter()
        .filter(|rule| rule["resources"] != json!(["serviceaccounts"]))
        .collect();
    let narrow = cp.service_account(n, "narrow", &json!(fewer)).await;
    let (table, _) = scan(&narrow.kubeconfig, &["-n", n]).await;
    assert_eq!(table.code, 1, "{table:?}");
    assert!(
        table
            .stderr
            .contains("3 have annotations or labels without effect"),
        "{table:?}"
    );
    assert!(
        table.stderr.contains("ServiceAccounts were not looked at"),
        "{table:?}"
    );

    cp.kubectl(
        &[
            "label",
            "--overwrite",
            "namespace",
            n,
            "secrets.floe.dev/inject=enabled",
        ],
        "",
    )
    .await
    .expect_success();
    let (json, _) = scan(&user.kubeconfig, &["-n", n, "-o", "json"]).await;
    let left = problems(&serde_json::from_str(&json.stdout).expect("JSON"));
    assert!(
        left.iter().all(
            |(name, _)| !name.starts_with("Namespace/") && !name.starts_with("ServiceAccount/")
        ),
        "{left:?}"
    );
}

#[tokio::test]
async fn plain_pods_are_paged_and_never_read() {
    let audit = AuditLog::new();
    let cp = ControlPlane::start(audit.options(false)).await;
    let ns = cp.namespace("many").await;
    let began = Instant::now();
    let client = cp.client();
    let path = format!("/api/v1/namespaces/{}/pods", ns.name);
    stream::iter(0..1200)
        .for_each_concurrent(16, |number| {
            let (client, path) = (client.clone(), path.clone());
            let pod = pod(&ns.name, &format!("plain-{number}"), &json!({}));
            async move {
                testbed::objects::send(&client, http::Method::POST, &path, Some(&pod))
                    .await
                    .object();
            }
        })
        .await;
    println!("1200 pods created in {:?}", began.elapsed());

    let (few, few_peak) = scan(&cp.kubeconfig, &["-n", "default", "-o", "json"]).await;
    assert_eq!(few.code, 0, "{few:?}");
    let began = Instant::now();
    let (many, many_peak) = scan(&cp.kubeconfig, &["-n", &ns.name, "-o", "json"]).await;
    println!(
        "1200 pods scanned in {:?}; at most {many_peak} kB resident, {few_peak} kB with none",
        began.elapsed()
    );
    assert_eq!(many.code, 0, "{many:?}");
    let read_counts = serde_json::from_str::<Value>(&many.stdout).expect("JSON")["looked"].clone();
    assert_eq!(
        read_counts,
        json!({"objects": 1200, "read": 0, "found": 0, "ineffective": 0, "lost": 0, "skipped": 0})
    );
    let pods = format!("/api/v1/namespaces/{}/pods", ns.name);
    let read = wait_for("the scan is in the audit log", || async {
        let mut requests = audit.requests_by("floe-admin");
        requests.retain(|request| {
            matches!(request.verb.as_str(), "get" | "list") && request.uri.starts_with(&pods)
        });
        (requests.len() >= 3).then_some(requests)
    })
    .await;
    let token = |uri: &str| uri.contains("&continue=");
    let pages: Vec<(bool, bool)> = read
        .iter()
        .map(|request| {
            (
                request.uri.starts_with(&format!("{pods}?limit=500")),
                token(&request.uri),
            )
        })
        .collect();
    assert_eq!(
        pages,
        [(true, false), (true, true), (true, true)],
        "{read:?}"
    );
    assert!(
        many_peak < few_peak + 24 * 1024,
        "memory is a page's, whatever the cluster holds"
    );
    let (clean, _) = scan(&cp.kubeconfig, &["-n", &ns.name]).await;
    assert_eq!((clean.code, clean.stdout.as_str()), (0, ""));
}

/// Scans everything, and returns the findings.
async fn scan_all(cp: &ControlPlane) -> (CommandOutput, Value, u64) {
    let (scanned, peak) = scan(&cp.kubeconfig, &["-A", "-o", "json"]).await;
    let found = serde_json::from_str(&scanned.stdout).expect("JSON");
    (scanned, found, peak)
}

#[tokio::test]
async fn large_objects_of_one_tenant_hide_no_drift_of_others() {
    let cp = ControlPlane::start(Options {
        controller_manager: false,
        ..Options::default()
    })
    .await;
    let (large, other) = (cp.namespace("large").await, cp.namespace("other").await);
    let asks = prefixed(&json!({"env-from": "db"}));
    cp.create(&pod(&other.name, "bare", &asks)).await.object();
    let (_, _, few) = scan_all(&cp).await;
    // 35 MB of metadata, between other objects.
    let client = cp.client();
    let path = format!("/apis/batch/v1/namespaces/{}/jobs", large.name);
    stream::iter(0..140)
        .for_each_concurrent(8, |number| {
            let (client, path) = (client.clone(), path.clone());
            let mut job = job(
                &format!("large-{number}"),
                &json!({}),
                &json!([container()]),
            );
            job["metadata"]["annotations"] = json!({"filler": "x".repeat(250_000)});
            job["spec"]["suspend"] = true.into();
            async move {
                testbed::objects::send(&client, http::Method::POST, &path, Some(&job))
                    .await
                    .object();
            }
        })
        .await;
    let mut lost = job("lost", &json!({}), &json!([container()]));
    lost["metadata"]["namespace"] = other.name.as_str().into();
    lost["metadata"]["annotations"] = asks.clone();
    cp.create(&lost).await.object();
    let (scanned, found, peak) = scan_all(&cp).await;
    println!("140 objects of 250 kB scanned; at most {peak} kB resident, {few} kB with none");
    assert_eq!(scanned.code, 1, "{scanned:?}");
    assert_eq!(names(&found), ["Job/lost", "Pod/bare"]);
    assert_eq!(
        found["looked"],
        json!({"objects": 142, "read": 2, "found": 2, "ineffective": 0, "lost": 0, "skipped": 0})
    );
    assert!(
        peak < few + 32 * 1024,
        "a page is bounded by its bytes: {peak} kB"
    );

    // Objects that are too large by themselves: one that has to be read whole, and one in a list of whole objects. The
    // API server writes six bytes for each of these characters.
    let mut huge = pod(&large.name, "huge", &asks);
    huge["spec"]["containers"][0]["env"] = json!([{"name": "HUGE", "value": "<".repeat(500_000)}]);
    cp.create(&huge).await.object();
    let mut template = job("x", &json!({}), &json!([container()]))["spec"].take();
    template["template"]["spec"]["containers"][0]["env"] =
        json!([{"name": "HUGE", "value": "<".repeat(1_450_000)}]);
    let nightly = json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": large.named("huge"),
        "spec": {"schedule": "0 0 30 2 *", "jobTemplate": {"spec": template}},
    });
    cp.create(&nightly).await.object();
    let (scanned, found, _) = scan_all(&cp).await;
    assert_eq!(scanned.code, 2, "the scan is incomplete");
    assert_eq!(names(&found), ["Job/lost", "Pod/bare"], "and all else was");
    assert_eq!(found["looked"]["skipped"], 2);
    let sentence = format!(
        "error: not everything was looked at: too large to be read: 2 objects, among them pods {0}/huge, cronjobs {0}/huge",
        large.name
    );
    assert!(scanned.stderr.contains(&sentence), "{}", scanned.stderr);
}

#[tokio::test]
async fn excluded_objects_are_not_found() {
    let cp = ControlPlane::shared().await;
    let ns = cp
        .namespace_with("left-out", &json!({"labels": {"team": "a"}}))
        .await;
    let user = cp
        .service_account(&ns.name, "reader", &readers_rules())
        .await;
    for tier in ["web", "batch"] {
        let mut pod = pod(&ns.name, tier, &prefixed(&json!({"env-from": "db"})));
        pod["metadata"]["labels"] = json!({"tier": tier});
        cp.create(&pod).await.object();
    }
    let found = async |selectors: &[&str]| {
        let (scanned, _) = scan(
            &user.kubeconfig,
            &[&["-n", &ns.name, "-o", "json"], selectors].concat(),
        )
        .await;
        names(&serde_json::from_str(&scanned.stdout).expect("JSON"))
    };
    assert_eq!(
        found(&["--object-selector", "tier notin (batch)"]).await,
        ["Pod/web"]
    );
    assert_eq!(
        found(&["--namespace-selector", "team in (a,b)"]).await,
        ["Pod/batch", "Pod/web"]
    );
    assert_eq!(found(&["--namespace-selector", "!team"]).await, [""; 0]);
}

/// Namespace with a Secret `db` and a webhook of its own.
struct Fixture {
    // Dropped in this order: no calls to a webhook that is gone.
    _registered: Registration,
    _webhook: WebhookProcess,
    ns: TestNamespace,
    cp: &'static ControlPlane,
}

impl Fixture {
    async fn new(stem: &str, metadata: &Value, args: &[&str]) -> Self {
        // One at a time: all of them apply the same manifests.
        static LOCK: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        let cp = ControlPlane::shared().await;
        let ns = cp.namespace_with(stem, metadata).await;
        cp.secret(&ns.name, "db", &["k"], "x").await;
        let _turn = LOCK.lock().await;
        let identity = webhook_identity(cp).await;
        let webhook = Launch::serve(cp, &identity).with(args).start().await;
        let configuration = with_max_timeout(limited_to_namespaces(
            webhook.service_configuration(),
            &[&ns.name],
        ));
        let registered = Registration::shared(cp, &configuration).await;
        Self {
            _registered: registered,
            _webhook: webhook,
            ns,
            cp,
        }
    }

    async fn kubectl(&self, args: &[&str], stdin: &str) -> CommandOutput {
        self.cp
            .kubectl(&[&["-n", &self.ns.name], args].concat(), stdin)
            .await
            .expect_success()
    }

    /// Creates a workload that requests the Secret `db` on its own metadata.
    async fn create(&self, kind: &str, name: &str) {
        let mut spec = json!({
            "selector": {"matchLabels": {"app": name}}, "template": template(name, &json!({}), &json!([container()])),
        });
        if kind == "StatefulSet" {
            spec["serviceName"] = name.into();
        }
        let mut metadata = self.ns.named(name);
        metadata["annotations"] = prefixed(&json!({"env-from": "db"}));
        let workload =
            json!({"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": spec});
        self.cp.create(&workload).await.object();
        self.revisions(name, 1).await;
    }

    /// Waits until the controller has stored this many revisions.
    async fn revisions(&self, name: &str, count: usize) {
        let selector = format!("app={name}");
        let args = [
            "get",
            "replicasets,controllerrevisions",
            "-o",
            "name",
            "-l",
            &selector,
        ];
        wait_for(&format!("{count} revisions of {name}"), || async {
            (self.kubectl(&args, "").await.stdout.lines().count() == count).then_some(())
        })
        .await;
    }

    async fn get(&self, what: &str) -> Value {
        serde_json::from_str(&self.kubectl(&["get", what, "-o", "json"], "").await.stdout)
            .expect("JSON")
    }

    /// Removes the annotation by a JSON patch, which leaves no information about the author of an entry.
    async fn remove_annotation(&self, what: &str) -> CommandOutput {
        let patch =
            r#"[{"op": "remove", "path": "/metadata/annotations/secrets.floe.dev~1env-from"}]"#;
        self.kubectl(&["patch", what, "--type", "json", "-p", patch], "")
            .await
    }

    /// Findings of a scan of the namespace, by kind and name.
    async fn lost(&self, kubeconfig: &Path) -> Vec<(String, Vec<String>)> {
        let (json, _) = scan(kubeconfig, &["-n", &self.ns.name, "-o", "json"]).await;
        let found: Value = serde_json::from_str(&json.stdout).expect("JSON");
        let problems = problems(&found);
        assert_eq!(found["looked"]["lost"], problems.len(), "{found:#}");
        assert_eq!(json.code, i32::from(!problems.is_empty()), "{json:?}");
        problems
    }
}

fn sentence(kind: &str, name: &str) -> (String, Vec<String>) {
    let sentence = format!(
        "container \"main\" lost secret \"db\" in revision 2 of {kind} \"{name}\", which no longer has the annotation secrets.floe.dev/env-from. Restore the annotation, or write the references into the pod template. If they are not needed, do nothing: only the latest revision is compared, and the next one ends this finding"
    );
    (format!("{kind}/{name}"), vec![sentence])
}

#[tokio::test]
async fn references_lost_with_an_annotation_are_found_until_the_next_revision() {
    let fixture = Fixture::new("lost", &json!({}), &["--workloads-inject-template"]).await;
    let n = fixture.ns.name.as_str();
    let user = fixture
        .cp
        .service_account(n, "reader", &revisions_rules())
        .await;
    let workloads = [
        ("DaemonSet", "each"),
        ("Deployment", "kept"),
        ("Deployment", "web"),
        ("StatefulSet", "store"),
    ];
    for (kind, name) in workloads {
        fixture.create(kind, name).await;
    }
    assert_eq!(
        fixture.lost(&user.kubeconfig).await,
        [],
        "nothing was removed"
    );
    let own = json!([{"secretRef": {"name": "db"}}]);
    let live = fixture.get("deployment/web").await;
    assert_eq!(
        live["spec"]["template"]["spec"]["containers"][0]["envFrom"], own,
        "injected into the template"
    );

    // JSON patch, replace by the object that was read before, merge patch.
    let patched = fixture.remove_annotation("deployment/web").await;
    assert!(
        patched.stderr.contains("Warning: "),
        "it warns, which a pipeline overlooks: {patched:?}"
    );
    let mut read = fixture.get("statefulset/store").await;
    read["metadata"]["annotations"]
        .as_object_mut()
        .expect("annotations")
        .remove("secrets.floe.dev/env-from");
    fixture
        .kubectl(&["replace", "-f", "-"], &read.to_string())
        .await;
    fixture
        .kubectl(
            &["annotate", "daemonset/each", "secrets.floe.dev/env-from-"],
            "",
        )
        .await;
    // Author who adopts the reference, by a manifest.
    let mut taken_over = deployment("kept", &json!({}), &json!([container()]));
    taken_over["spec"]["template"]["spec"]["containers"][0]["envFrom"] = own.clone();
    fixture
        .kubectl(&["replace", "-f", "-"], &taken_over.to_string())
        .await;
    for (_, name) in workloads {
        fixture.revisions(name, 2).await;
    }
    let found = [
        sentence("DaemonSet", "each"),
        sentence("Deployment", "web"),
        sentence("StatefulSet", "store"),
    ];
    assert_eq!(fixture.lost(&user.kubeconfig).await, found);
    let (table, _) = scan(&user.kubeconfig, &["-n", n]).await;
    assert_eq!(table.code, 1, "{table:?}");
    assert!(
        table
            .stderr
            .contains("3 lost references to secrets in their latest revision"),
        "{table:?}"
    );
    assert!(!table.stderr.contains("not looked at"), "{table:?}");
    let scaled = fixture
        .kubectl(&["scale", "deployment/web", "--replicas=0"], "")
        .await;
    assert_eq!(scaled.code, 0);
    assert_eq!(
        fixture.lost(&user.kubeconfig).await,
        found,
        "the next replica has no secret either"
    );

    let (left_out, _) = scan(
        &user.kubeconfig,
        &["-n", n, "--object-selector", "tier=web"],
    )
    .await;
    assert_eq!(
        (left_out.code, left_out.stdout.as_str()),
        (0, ""),
        "{left_out:?}"
    );

    // Without the permission to read revisions, the output says so and has everything else.
    let narrow = fixture
        .cp
        .service_account(n, "narrow", &readers_rules())
        .await;
    let (table, _) = scan(&narrow.kubeconfig, &["-n", n]).await;
    assert_eq!((table.code, table.stdout.as_str()), (0, ""), "{table:?}");
    for kind in ["ReplicaSets", "ControllerRevisions"] {
        let note =
            format!("{kind} were not looked at for lost references: you may not list them\n");
        assert!(table.stderr.contains(&note), "{table:?}");
    }
    let mut rules = revisions_rules();
    rules
        .as_array_mut()
        .expect("rules")
        .last_mut()
        .expect("a rule")["verbs"] = json!(["list"]);
    let lister = fixture.cp.service_account(n, "lister", &rules).await;
    let (table, _) = scan(&lister.kubeconfig, &["-n", n]).await;
    assert_eq!(table.code, 0, "{table:?}");
    assert!(
        table
            .stderr
            .contains("ReplicaSets were not looked at for lost references: you may not get them")
    );

    // Next revision, for any reason, and the annotation again.
    fixture
        .kubectl(&["set", "image", "deployment/web", "main=next"], "")
        .await;
    fixture
        .kubectl(&["set", "image", "statefulset/store", "main=next"], "")
        .await;
    fixture.revisions("web", 3).await;
    fixture.revisions("store", 3).await;
    assert_eq!(
        fixture.lost(&user.kubeconfig).await,
        [sentence("DaemonSet", "each")]
    );
    fixture
        .kubectl(
            &["annotate", "daemonset/each", "secrets.floe.dev/env-from=db"],
            "",
        )
        .await;
    assert_eq!(fixture.lost(&user.kubeconfig).await, []);
}

#[tokio::test]
async fn references_that_only_pods_had_are_found_unless_a_default_asks_for_them() {
    let labelled = json!({"labels": {"secrets.floe.dev/inject": "enabled"}});
    let fixture = Fixture::new("lost-pods", &labelled, &[]).await;
    let user = fixture
        .cp
        .service_account(&fixture.ns.name, "reader", &revisions_rules())
        .await;
    for (kind, name) in [("Deployment", "web"), ("StatefulSet", "store")] {
        fixture.create(kind, name).await;
        fixture.remove_annotation(&format!("{kind}/{name}")).await;
        fixture.revisions(name, 2).await;
    }
    let found = [
        sentence("Deployment", "web"),
        sentence("StatefulSet", "store"),
    ];
    assert_eq!(fixture.lost(&user.kubeconfig).await, found);
    let default = [
        "annotate",
        "namespace",
        &fixture.ns.name,
        "secrets.floe.dev/refs=db/k",
    ];
    fixture.cp.kubectl(&default, "").await.expect_success();
    let (json, _) = scan(&user.kubeconfig, &["-n", &fixture.ns.name, "-o", "json"]).await;
    let found: Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(found["looked"]["lost"], 0, "{found:#}");
}

#[tokio::test]
async fn references_of_a_rollout_are_compared_by_its_own_replica_sets() {
    let cp = ControlPlane::shared().await;
    cp.install_rollouts().await;
    let ns = cp.namespace("lost-rollout").await;
    let template = |annotations: &Value| template("web", annotations, &json!([container()]));
    let rollout = json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "metadata": ns.named("web"),
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template(&json!({}))},
    });
    let rollout = cp.create(&rollout).await.object();
    let asks = json!({"secrets.floe.dev/inherited": r#"{"env-from":"db"}"#});
    for (number, annotations) in [(1, asks), (2, json!({}))] {
        let mut metadata = ns.named(&format!("web-{number}"));
        metadata["annotations"] = json!({"rollout.argoproj.io/revision": number.to_string()});
        metadata["ownerReferences"] = json!([{
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "name": "web", "uid": rollout["metadata"]["uid"],
            "controller": true,
        }]);
        let set = json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": metadata,
            "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "web"}}, "template": template(&annotations)},
        });
        cp.create(&set).await.object();
    }
    let (json, _) = scan(&cp.kubeconfig, &["-n", &ns.name, "-o", "json"]).await;
    assert_eq!(json.code, 1, "{json:?}");
    assert_eq!(
        problems(&serde_json::from_str(&json.stdout).expect("JSON")),
        [sentence("Rollout", "web")]
    );
}
