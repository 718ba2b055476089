//! Values never leave the webhook. Canaries are planted in every place that can have a value, the programs run at their
//! most verbose level, and all of their output is searched.
#![cfg(feature = "test-util")]
#![expect(
    clippy::indexing_slicing,
    reason = "helpers of tests, which clippy does not recognise"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use floe_secrets_webhook::backend::kubernetes::fake_api::{ApiFault, CANARY, FakeApi};
use http::Method;
use serde_json::{Value, json};
use testbed::admission_client::{WebhookResponse, kubeconfig_for, pod, review};
use testbed::collector::Collector;
use testbed::control_plane::ControlPlane;
use testbed::objects::{ApiResponse, send};
use testbed::pki::Authority;
use testbed::process::Folder;
use testbed::trail::{ReplicaPod, Trail, admin_identity};
use testbed::wait_for;
use testbed::webhook::{
    Registration, controller_identity, limited_to_namespaces, webhook_identity,
};
use testbed::webhook_process::{Launch, WebhookProcess};

/// In a Secret's data.
const STORED: &str = "canary-stored-55d0";
/// In an environment variable that the pod's author wrote.
const LITERAL: &str = "canary-literal-8c31";
/// In another tool's annotation, and in kubectl's last applied configuration.
const FOREIGN: &str = "canary-foreign-e27a";
/// In an argument of the container's program.
const ARGUMENT: &str = "canary-argument-91bf";

/// Most verbose log filter that an operator can set, including libraries.
const MOST_VERBOSE_LOG: &str =
    "trace,kube_client=trace,kube_core=trace,hyper=trace,hyper_util=trace,rustls=trace,tower=trace";

/// Captured output, by source.
#[derive(Default)]
struct CapturedOutput(BTreeMap<String, String>);

impl CapturedOutput {
    fn capture(&mut self, place: &str, text: &str) {
        let text_of_source = self.0.entry(place.to_owned()).or_default();
        text_of_source.push_str(text);
        text_of_source.push('\n');
    }

    /// Captures the response to a review: each part by itself, and the whole.
    fn reply(&mut self, reply: &WebhookResponse) {
        self.capture("response body", &reply.text);
        self.capture("response headers", &format!("{:?}", reply.headers));
        if reply.status == 200 {
            let response = reply.response();
            self.capture("patch, decoded", &reply.patch());
            self.capture("warnings", &response["warnings"].to_string());
            self.capture(
                "audit annotations",
                &response["auditAnnotations"].to_string(),
            );
        }
    }

    /// Captures a rejection or the warnings of the API server: an admitted object contains what its author wrote.
    fn answer(&mut self, answer: &ApiResponse) {
        self.capture("warnings at the client", &answer.warnings.join("\n"));
        if !answer.is_accepted() {
            self.capture("refusals at the client", &answer.body.to_string());
        }
    }

    /// Captures what the program writes apart from responses. A new sink is a line here.
    fn program(&mut self, webhook: &WebhookProcess) {
        self.capture("log", &webhook.log());
        for path in ["/metrics", "/readyz?verbose", "/livez"] {
            let (_, text) = webhook.get(path).expect("the ops port responds");
            self.capture(path, &text);
        }
    }

    /// Captures the bytes of the audit trail while it is written: the spool, and the WAL of the store.
    fn trail(&mut self, trail: &Trail, webhook: &WebhookProcess) {
        let spool = Path::new(webhook.launch.value("--audit-spool"));
        for segment in std::fs::read_dir(spool).expect("the spool") {
            self.file("spool", &segment.expect("a file").path());
        }
        self.file("WAL", &trail.store.path.with_extension("db-wal"));
    }

    /// Captures the log of `admin`, and the store with all that was in the WAL, at its end.
    async fn admin(&mut self, trail: &Trail) {
        trail.admin.terminate();
        wait_for("the end of admin", || async { trail.admin.exit_status() }).await;
        self.capture("admin's log", &trail.admin.log());
        self.file("store", &trail.store.path);
    }

    fn file(&mut self, place: &str, file: &Path) {
        let bytes = std::fs::read(file).expect("a file");
        self.capture(place, &String::from_utf8_lossy(&bytes));
    }

    /// Captures the controller's log and events of one complete scan.
    async fn controller(&mut self, cp: &'static ControlPlane, filter: &str) {
        let launch =
            Launch::controller(cp, &controller_identity(cp).await).with(&["--log", filter]);
        let controller = launch.start().await;
        wait_for("a scan of everything", || async {
            (controller.counter_value("drift_scans", &["complete"]) > 0).then_some(())
        })
        .await;
        self.capture("controller's log", &controller.log());
        for path in ["/metrics", "/readyz?verbose"] {
            let (_, text) = controller.get(path).expect("the ops port responds");
            self.capture(&format!("controller's {path}"), &text);
        }
        controller.stop().await;
    }

    /// Captures the commands' stdout and stderr, except for the manifest that `inject` prints as its author wrote it.
    fn commands(&mut self, cp: &ControlPlane, namespace: &str, pod: &Value) {
        let folder = Folder::new();
        let manifest = folder
            .write("pod.yaml", pod.to_string())
            .display()
            .to_string();
        let kubeconfig = cp.kubeconfig.display().to_string();
        let inject = [
            "inject",
            "-f",
            &manifest,
            "--cluster",
            "--explain",
            "-n",
            namespace,
        ];
        for args in [
            &["scan", "-A", "-o", "json"][..],
            &["doctor", "-o", "json"],
            &inject,
        ] {
            let ran = Command::new(env!("CARGO_BIN_EXE_floe-secrets-webhook"))
                .args(args)
                .env("KUBECONFIG", &kubeconfig)
                .output()
                .expect("the program runs");
            self.capture(args[0], &String::from_utf8_lossy(&ran.stderr));
            if args[0] != "inject" {
                self.capture(args[0], &String::from_utf8_lossy(&ran.stdout));
            }
        }
    }

    /// Captures the collector's data; the program must have exited, because spans would still be queued.
    fn traces(&mut self, collector: &Collector) {
        self.capture("traces", &collector.text());
        for name in ["admission", "backend.bind", "defaults.read"] {
            let text_of_source = collector
                .spans("floe-secrets-webhook")
                .iter()
                .any(|span| span.name == name);
            assert!(text_of_source, "no span {name}");
        }
    }

    /// Panics if a canary appears.
    fn contains_no_canary(&self, canaries: &[&str]) {
        for (place, text) in &self.0 {
            for canary in canaries {
                let leak = text.lines().find(|line| contains_canary(line, canary));
                assert_eq!(leak, None, "{canary} in {place}");
            }
        }
    }

    fn has_captured(&self, places: &[&str]) {
        for place in places {
            assert!(
                self.0
                    .get(*place)
                    .is_some_and(|text| !text.trim().is_empty()),
                "nothing was captured from {place}"
            );
        }
    }
}

/// Whether `line` contains the canary: plain, in base64 at any offset, in hexadecimal, or as a list of numbers.
fn contains_canary(line: &str, canary: &str) -> bool {
    let bytes = canary.as_bytes();
    let anywhere = (0..3).map(|before| {
        let padded = [&vec![0; before], bytes].concat();
        // The first and last characters also encode their neighbours.
        let encoded = STANDARD_NO_PAD.encode(&padded[..padded.len() / 3 * 3]);
        encoded[if before == 0 { 0 } else { 4 }..].to_owned()
    });
    let hexadecimal = hexadecimal(canary);
    let numbers = bytes.iter().map(ToString::to_string).collect::<Vec<_>>();
    let forms = [
        canary.to_owned(),
        hexadecimal,
        numbers.join(","),
        numbers.join(", "),
    ];
    forms
        .into_iter()
        .chain(anywhere)
        .any(|form| line.contains(&form))
}

fn hexadecimal(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut digits, byte| {
        write!(digits, "{byte:02x}").expect("writing to a String succeeds");
        digits
    })
}

#[test]
fn canary_is_recognised_in_every_encoding() {
    let complete = |text: &str| STANDARD.encode(text);
    for line in [
        format!("x {STORED} y"),
        complete(STORED),
        complete(&format!("x{STORED}y")),
        complete(&format!("{{\"password\":\"{STORED}\"}}")),
        format!("{:?}", STORED.as_bytes()),
        hexadecimal(STORED),
    ] {
        assert!(contains_canary(&line, STORED), "{line}");
    }
    assert!(!contains_canary(&complete(LITERAL), STORED));
}

/// Pod full of values, with these annotations.
fn laden(annotations: &Value) -> Value {
    let mut pod = pod(annotations);
    let foreign = json!({
        "vault.hashicorp.com/agent-inject-template-db": FOREIGN,
        "kubectl.kubernetes.io/last-applied-configuration": format!("{{\"env\":\"{FOREIGN}\"}}"),
    });
    let own = pod["metadata"]["annotations"]
        .as_object_mut()
        .expect("annotations");
    own.extend(foreign.as_object().cloned().expect("annotations"));
    pod["spec"] = json!({"containers": [{
        "name": "main", "image": "none", "args": ["--password", ARGUMENT],
        "env": [
            {"name": "FLOE_SECRET_DB_USER", "value": LITERAL},
            {"name": "TOKEN", "value": LITERAL},
            {"name": "URL", "value": format!("$(TOKEN)@{LITERAL}")},
        ],
    }]});
    pod
}

/// Paths of the admission port, and the objects that are sent to each.
const POD_PATHS: [&str; 3] = ["/admit/pods", "/admit/defaults/pods", "/admit/sources"];
const WORKLOAD_PATHS: [&str; 2] = ["/admit/workloads", "/admit/defaults/workloads"];

/// Reviews of a Deployment with that pod as its template and its annotations on the metadata too: new, unchanged, with
/// another image, and with other annotations than before.
fn workload_reviews(pod: &Value, namespace: &str) -> Vec<Value> {
    let deployment = |pod: &Value| {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "laden", "annotations": pod["metadata"]["annotations"]},
            "spec": {"template": {"metadata": {"annotations": pod["metadata"]["annotations"]}, "spec": pod["spec"]}},
        })
    };
    let now = deployment(pod);
    let (mut image, mut annotations) = (now.clone(), now.clone());
    image["spec"]["template"]["spec"]["containers"][0]["image"] = "older".into();
    annotations["metadata"]["annotations"]["secrets.floe.dev/reload"] = "off".into();
    let olds = [Value::Null, now.clone(), image, annotations];
    let review_of = |old: Value| {
        let mut review = review(&now);
        review["request"]["resource"] =
            json!({"group": "apps", "version": "v1", "resource": "deployments"});
        review["request"]["namespace"] = namespace.into();
        if !old.is_null() {
            review["request"]["operation"] = "UPDATE".into();
            review["request"]["oldObject"] = old;
        }
        review
    };
    olds.into_iter().map(review_of).collect()
}

/// Valid and invalid annotations.
fn annotations() -> Vec<Value> {
    let send_review = |key: &str, value: &str| json!({format!("secrets.floe.dev/{key}"): value});
    vec![
        json!({}),
        send_review("env-from", "db"),
        send_review("env-from", "db, twin"),
        send_review("refs", "db/user"),
        send_review("refs", "db/*"),
        send_review("env.TOKEN", "db/password"),
        send_review("env.DBT_PASSWORD", "db/password"),
        send_review("refs", "db/usr"),
        send_review("refs", "db"),
        send_review("env-from", "bd"),
        send_review("env-form", "db"),
        json!({"secrets.floe.dev/env-from": "gone", "secrets.floe.dev/on-missing": "warn"}),
        json!({"secrets.floe.dev/env-from": "db", "secrets.floe.dev/containers": "worker"}),
    ]
}

#[rstest::rstest]
#[case::json("json", "trace")]
#[case::pretty("pretty", MOST_VERBOSE_LOG)]
#[tokio::test]
async fn values_never_leave_a_real_cluster(#[case] format: &str, #[case] filter: &str) {
    let cp = ControlPlane::shared().await;
    let ns = cp.namespace("canary").await;
    let identity = webhook_identity(cp).await;
    let collector = Collector::start();
    let traced = [
        "--otlp-endpoint",
        &collector.endpoint(),
        "--shutdown-delay",
        "0s",
    ];
    let admin = Launch::admin(cp, &admin_identity(cp).await);
    let admin = admin.with(&["--log", filter, "--log-format", format]);
    let trail = Trail::start_with(cp, admin).await;
    let replica = ReplicaPod::create(cp).await;
    let launch = Launch::serve(cp, &identity)
        .with(&["--log", filter, "--log-format", format])
        .with(&traced);
    let webhook = trail.sent_by(launch, &replica).await.start().await;
    let registration = Registration::shared(
        cp,
        &limited_to_namespaces(webhook.service_configuration(), &[&ns.name]),
    )
    .await;
    let mut captured = CapturedOutput::default();

    for name in ["db", "twin"] {
        let data = json!({"user": STORED, "password": format!("x{STORED}"), "json": format!("{{\"k\":\"{STORED}\"}}")});
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": ns.named(name), "stringData": data});
        cp.create(&secret).await.object();
    }
    for annotations in annotations() {
        let mut pod = laden(&annotations);
        let mut sent_review = review(&pod);
        sent_review["request"]["namespace"] = ns.name.clone().into();
        for path in POD_PATHS {
            captured.reply(
                &webhook
                    .post(&format!("{path}?timeout=5s"), sent_review.to_string())
                    .await,
            );
        }
        for review in workload_reviews(&pod, &ns.name) {
            for path in WORKLOAD_PATHS {
                captured.reply(
                    &webhook
                        .post(&format!("{path}?timeout=5s"), review.to_string())
                        .await,
                );
            }
        }
        pod["metadata"]["namespace"] = ns.name.clone().into();
        captured.answer(&cp.create(&pod).await);
    }

    // Text that controllers and users see of a rejection.
    let template = laden(&json!({"secrets.floe.dev/refs": "db/usr"}));
    let mut spec = template["spec"].clone();
    spec["restartPolicy"] = "Never".into();
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": ns.named("refused"),
        "spec": {"template": {"metadata": {"annotations": template["metadata"]["annotations"]}, "spec": spec}},
    });
    cp.create(&job).await.object();
    let events = wait_for("the event about the refusal", || async {
        let path = format!("/api/v1/namespaces/{}/events", ns.name);
        let events = send(&cp.client(), Method::GET, &path, None)
            .await
            .object()
            .to_string();
        events.contains("secrets.floe.dev/refs").then_some(events)
    })
    .await;
    captured.capture("events", &events);
    let pod = laden(&json!({"secrets.floe.dev/env-from": "gone"})).to_string();
    let kubectl = cp
        .kubectl(&["-n", &ns.name, "create", "-f", "-"], &pod)
        .await;
    captured.capture("kubectl", &format!("{}{}", kubectl.stdout, kubectl.stderr));

    captured.controller(cp, filter).await;
    captured.commands(
        cp,
        &ns.name,
        &laden(&json!({"secrets.floe.dev/refs": "db/usr"})),
    );
    captured.program(&webhook);
    drop(registration);
    for word in [
        "admission",
        "did you mean",
        // A record of the audit trail, between the lines of the log.
        "\"class\":\"injection\"",
        if filter == MOST_VERBOSE_LOG {
            "TRACE hyper"
        } else {
            "DEBUG"
        },
    ] {
        assert!(
            captured.0["log"]
                .to_lowercase()
                .contains(&word.to_lowercase()),
            "{word}: {}",
            captured.0["log"]
        );
    }
    wait_for("lines of the trail in the store", || async {
        let stored = trail.store.export().await.uses().len();
        (stored > 0).then_some(())
    })
    .await;
    captured.trail(&trail, &webhook);
    let audit_token = std::fs::read_to_string(webhook.launch.value("--audit-token"));
    let audit_token = audit_token.expect("the token's file");
    webhook.stop().await;
    captured.admin(&trail).await;
    captured.traces(&collector);
    for place in ["store", "WAL", "spool"] {
        let has_records = captured.0[place].contains("pod.admit");
        assert!(has_records, "no record in the bytes of {place}");
    }
    let places = [
        "patch, decoded",
        "warnings",
        "audit annotations",
        "refusals at the client",
        "events",
        "kubectl",
    ];
    captured.has_captured(&[
        "controller's log",
        "controller's /metrics",
        "scan",
        "doctor",
        "inject",
        "admin's log",
    ]);
    captured.has_captured(&places);
    let kubeconfig =
        std::fs::read_to_string(&identity.kubeconfig).expect("the webhook's kubeconfig");
    let kubeconfig: Value = serde_json::from_str(&kubeconfig).expect("JSON");
    let token = kubeconfig["users"][0]["user"]["token"]
        .as_str()
        .expect("a token");
    captured.contains_no_canary(&[STORED, LITERAL, FOREIGN, ARGUMENT, token, &audit_token]);
}

/// Reviews that are damaged in the middle of a value.
fn spoilt() -> Vec<String> {
    let complete = review(&laden(&json!({"secrets.floe.dev/env-from": "db"}))).to_string();
    let cut = |after: &str| {
        complete[..complete.find(after).expect("it is in there") + after.len()].to_owned()
    };
    vec![
        cut(LITERAL),
        cut(ARGUMENT),
        cut(FOREIGN),
        complete.replace("admission.k8s.io/v1", "admission.k8s.io/v1beta1"),
        complete.replace(
            "\"containers\":[",
            &format!("\"containers\":[\"{LITERAL}\","),
        ),
        complete.replace(
            "\"name\":\"main\"",
            &format!("\"name\":{{\"{LITERAL}\":1}}"),
        ),
        complete.replace(
            "\"operation\":\"CREATE\"",
            &format!("\"operation\":\"{LITERAL}\""),
        ),
        complete.replace("\"uid\":\"", &format!("\"uid\":7,\"x\":\"{LITERAL}")),
        format!("{LITERAL}{complete}"),
        format!("\"{LITERAL}\""),
        String::new(),
    ]
}

#[tokio::test]
async fn output_of_broken_backend_and_invalid_reviews_is_never_repeated() {
    let faults = [
        ApiFault::Status(400),
        ApiFault::Status(401),
        ApiFault::Status(403),
        ApiFault::Status(404),
        ApiFault::Status(409),
        ApiFault::PageNotFound,
        ApiFault::TooManyRequests(60),
        ApiFault::Garbage,
        ApiFault::Truncated,
        ApiFault::OtherObject,
        ApiFault::BrokenOff,
        ApiFault::Status(500),
    ];
    let api = FakeApi::start(&["jobs"]).await;
    api.put("jobs", "db", &[("user", CANARY), ("password", CANARY)]);
    let folder = Folder::new();
    let kubeconfig = kubeconfig_for(&folder, &api.url());
    for policy in ["deny", "admit"] {
        let collector = Collector::start();
        let endpoint = collector.endpoint();
        let args = [
            "--log",
            MOST_VERBOSE_LOG,
            "--on-unavailable",
            policy,
            "--otlp-endpoint",
            &endpoint,
            "--shutdown-delay",
            "0s",
        ];
        let webhook = Launch::without_control_plane(&Authority::new("test-ca"), &kubeconfig)
            .with(&args)
            .start()
            .await;
        let mut captured = CapturedOutput::default();
        for (at, fault) in faults.into_iter().enumerate() {
            api.always(Some(fault));
            for key in ["env-from", "refs", "env.PASSWORD"] {
                let secret = format!(
                    "secret-{at}{}",
                    if key.starts_with("env.") {
                        "/password"
                    } else {
                        ""
                    }
                );
                let asking = laden(&json!({format!("secrets.floe.dev/{key}"): secret}));
                captured.reply(&webhook.admit(&asking, "1s").await);
                let body = review(&asking).to_string();
                captured.reply(&webhook.post("/admit/defaults/pods?timeout=1s", body).await);
                for (review, path) in workload_reviews(&asking, "jobs")
                    .iter()
                    .zip(WORKLOAD_PATHS.into_iter().cycle())
                {
                    captured.reply(
                        &webhook
                            .post(&format!("{path}?timeout=1s"), review.to_string())
                            .await,
                    );
                }
            }
        }
        api.always(None);
        for body in spoilt() {
            for path in POD_PATHS
                .into_iter()
                .chain(WORKLOAD_PATHS)
                .chain(["/nowhere"])
            {
                captured.reply(
                    &webhook
                        .post(&format!("{path}?timeout=1s"), body.clone())
                        .await,
                );
            }
        }
        captured.program(&webhook);
        webhook.stop().await;
        captured.traces(&collector);
        captured.has_captured(&["response body", "log", "/metrics", "traces"]);
        captured.contains_no_canary(&[CANARY, LITERAL, FOREIGN, ARGUMENT]);
    }
}
