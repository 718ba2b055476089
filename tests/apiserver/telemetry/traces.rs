//! Spans in the real API server's trace, spans of the webhook's own work, and unsampled ones.

use floe_secrets_webhook::backend::kubernetes::fake_api::FakeApi;
use http::Method;
use serde_json::{Value, json};

use crate::fixture;
use testbed::admission_client::{self, kubeconfig_for, review};
use testbed::collector::Collector;
use testbed::manifests::{pod, prefixed};
use testbed::pki::Authority;
use testbed::process::Folder;
use testbed::wait_for;
use testbed::webhook::{
    CONFIGURATION, NAMESPACE, Registration, controller_identity, limited_to_namespaces,
    webhook_identity,
};
use testbed::webhook_process::{Launch, WebhookProcess};

const WEBHOOK: &str = "floe-secrets-webhook";
const CONTROLLER: &str = "floe-secrets-controller";

#[tokio::test]
async fn admission_joins_trace_of_api_server() {
    let fixture = fixture().await;
    let (cp, collector) = (&fixture.cp, &fixture.collector);
    let own = cp.namespace("traced").await;
    let namespace = own.name.clone();
    cp.secret(&namespace, "db", &["user"], "v").await;
    let launch = Launch::serve(cp, &webhook_identity(cp).await);
    let webhook = launch
        .with(&[
            "--otlp-endpoint",
            &collector.endpoint(),
            "--pod-name",
            "webhook-0",
        ])
        .start()
        .await;
    let _registered = Registration::shared(
        cp,
        &limited_to_namespaces(webhook.service_configuration(), &[&namespace]),
    )
    .await;
    cp.create(&pod(
        &namespace,
        "good",
        &prefixed(&json!({"env.A": "db/user"})),
    ))
    .await
    .object();
    let lines = webhook.admissions("namespace", &namespace);
    let line = lines.first().expect("the admission's line");

    let is_it = |span: &_| is_admission(span, "namespace", &namespace);
    let span = collector.span(WEBHOOK, is_it).await;
    let expected = json!({
        "uid": line["uid"], "surface": "pods", "operation": "create", "resource": "pods", "namespace": namespace,
        "name": "good", "secrets": line["secrets"], "decision": "injected", "reason": "ok", "code": 200,
        "dry_run": false, "peer": line["peer"], "channel": "declared",
    });
    assert_eq!(Value::from(span.attributes.clone()), expected);
    assert_eq!((span.kind, span.status), (2, 0));
    assert_eq!(line["trace_id"], span.trace_id);
    let resource = |key: &str| {
        span.resource
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    assert_eq!(resource("service.version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(resource("service.instance.id"), "webhook-0");
    assert_eq!(resource("k8s.pod.name"), "webhook-0");
    assert_eq!(resource("k8s.namespace.name"), NAMESPACE);

    // The API server's own span of its call to the webhook, in the same trace.
    let caller = collector
        .span("apiserver", |api_server_span| {
            api_server_span.span_id == span.parent_id
        })
        .await;
    assert_eq!(caller.trace_id, span.trace_id);

    let bind = collector
        .span(WEBHOOK, |child| child.parent_id == span.span_id)
        .await;
    assert_eq!(
        (bind.name.as_str(), bind.kind, bind.status),
        ("backend.bind", 3, 0)
    );
    assert_eq!(
        Value::from(bind.attributes),
        json!({"backend": "kubernetes", "secret": "db", "result": "ok"})
    );
    assert_eq!(bind.trace_id, span.trace_id);
}

fn is_admission(span: &testbed::collector::ReceivedSpan, key: &str, value: &str) -> bool {
    span.name == "admission" && span.attributes.get(key).is_some_and(|found| found == value)
}

#[tokio::test]
async fn refusal_span_has_reason_and_no_error() {
    let fixture = fixture().await;
    let (cp, collector) = (&fixture.cp, &fixture.collector);
    let labels = json!({"labels": {"secrets.floe.dev/inject": "enabled"}});
    let own = cp.namespace_with("refused", &labels).await;
    let namespace = own.name.clone();
    let launch = Launch::serve(cp, &webhook_identity(cp).await);
    let webhook = launch
        .with(&["--otlp-endpoint", &collector.endpoint()])
        .start()
        .await;
    let _registered = Registration::shared(
        cp,
        &limited_to_namespaces(webhook.service_configuration(), &[&namespace]),
    )
    .await;
    let asks = pod(&namespace, "bad", &prefixed(&json!({"env.A": "none/user"})));
    assert_eq!(cp.create(&asks).await.status, 422);

    let span = collector
        .span(WEBHOOK, |span| is_admission(span, "namespace", &namespace))
        .await;
    for (key, value) in [
        ("surface", json!("defaults.pods")),
        ("decision", json!("denied")),
        ("reason", json!("not_found")),
        ("code", json!(422)),
    ] {
        assert_eq!(span.attributes.get(key), Some(&value), "{key}");
    }
    assert_eq!(
        span.status, 0,
        "an author's mistake is not an error of the webhook"
    );
    for (name, result) in [("defaults.read", "ok"), ("backend.bind", "not_found")] {
        let child = collector
            .span(WEBHOOK, |child| {
                child.parent_id == span.span_id && child.name == name
            })
            .await;
        assert_eq!(
            (&child.attributes["result"], child.status),
            (&json!(result), 0),
            "{name}"
        );
    }
}

/// Webhook without a control plane, with a fake API server that has one secret.
async fn alone(args: &[&str]) -> (WebhookProcess, FakeApi, Folder) {
    let api = FakeApi::start(&["jobs"]).await;
    api.put("jobs", "db", &[("user", "v")]);
    let folder = Folder::new();
    let kubeconfig = kubeconfig_for(&folder, &api.url());
    (
        Launch::without_control_plane(&Authority::new("test-ca"), &kubeconfig)
            .with(args)
            .start()
            .await,
        api,
        folder,
    )
}

/// Sends a review with this uid, and a `traceparent`.
async fn send_with(webhook: &WebhookProcess, uid: &str, traceparent: Option<&str>) {
    let mut review = review(&admission_client::pod(&prefixed(
        &json!({"env.A": "db/user"}),
    )));
    review["request"]["uid"] = uid.into();
    let headers: Vec<_> = traceparent
        .map(|value| ("traceparent", value))
        .into_iter()
        .collect();
    let reply = webhook
        .request_with_headers(
            Method::POST,
            "/admit/pods?timeout=5s",
            &headers,
            review.to_string(),
        )
        .await;
    assert_eq!(reply.response()["allowed"], true);
}

#[tokio::test]
async fn caller_decides_sampling_and_ratio_applies_otherwise() {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    let wanted = format!("00-{TRACE}-b7ad6b7169203331-01");
    let unwanted = format!("00-{TRACE}-b7ad6b7169203331-00");
    for (ratio, sent) in [
        ("0", vec!["wanted"]),
        ("1", vec!["unsaid", "nonsense", "wanted"]),
    ] {
        let collector = Collector::start();
        let (webhook, _api, _folder) = alone(&[
            "--otlp-endpoint",
            &collector.endpoint(),
            "--trace-ratio",
            ratio,
            "--shutdown-delay",
            "0s",
        ])
        .await;
        send_with(&webhook, "unwanted", Some(&unwanted)).await;
        send_with(&webhook, "unsaid", None).await;
        send_with(&webhook, "nonsense", Some("00-zz-zz-01")).await;
        send_with(&webhook, "wanted", Some(&wanted)).await;
        // An unsampled admission has no trace id in the log.
        let fixture = |uid: &str| webhook.admissions("uid", uid)[0].get("trace_id").cloned();
        assert_eq!(fixture("wanted"), Some(TRACE.into()));
        assert_eq!(fixture("unwanted"), None);
        // On exit all queued spans are sent.
        assert!(webhook.stop().await.success());
        let spans = collector.spans(WEBHOOK);
        let admissions: Vec<_> = spans
            .iter()
            .filter(|span| span.name == "admission")
            .collect();
        let uids: Vec<&str> = admissions
            .iter()
            .filter_map(|span| span.attributes["uid"].as_str())
            .collect();
        assert_eq!(uids, sent, "ratio {ratio}");
        let last = admissions.last().expect("a span");
        assert_eq!(
            (last.trace_id.as_str(), last.parent_id.as_str()),
            (TRACE, "b7ad6b7169203331")
        );
        assert_eq!(spans.len(), 2 * sent.len(), "each has its bind");
    }
}

#[tokio::test]
async fn untrusted_attributes_are_truncated() {
    let collector = Collector::start();
    let (webhook, _api, _folder) = alone(&[
        "--otlp-endpoint",
        &collector.endpoint(),
        "--shutdown-delay",
        "0s",
    ])
    .await;
    let mut review = review(&admission_client::pod(&prefixed(
        &json!({"env.A": "db/user"}),
    )));
    review["request"]["object"]["metadata"]["generateName"] = "é".repeat(100_000).into();
    let reply = webhook
        .request_with_headers(
            Method::POST,
            "/admit/pods?timeout=5s",
            &[],
            review.to_string(),
        )
        .await;
    assert_eq!(reply.response()["allowed"], true);
    assert!(webhook.stop().await.success());
    let spans = collector.spans(WEBHOOK);
    let name = spans
        .iter()
        .find_map(|span| span.attributes.get("generate_name")?.as_str())
        .expect("the admission");
    assert_eq!(name, format!("{}…", "é".repeat(125)));
}

#[tokio::test]
async fn collector_certificate_is_verified_by_configured_ca() {
    let authority = Authority::new("collector-ca");
    let (collector, folder) = (Collector::start_tls(&authority), Folder::new());
    let ca = folder.write("ca.crt", authority.pem());
    let other = folder.write("other.crt", Authority::new("another-ca").pem());
    let args =
        |ca: &str| ["--otlp-endpoint", &collector.endpoint(), "--otlp-ca", ca].map(str::to_owned);
    for (ca, taken) in [(other, false), (ca, true)] {
        let args = args(&ca.display().to_string());
        let (webhook, _api, _folder) = alone(&args.each_ref().map(String::as_str)).await;
        send_with(&webhook, "over-tls", None).await;
        if taken {
            collector
                .span(WEBHOOK, |span| is_admission(span, "uid", "over-tls"))
                .await;
        } else {
            wait_for("the failure is logged", || async {
                webhook.log().contains("trace export failed").then_some(())
            })
            .await;
            assert_eq!(collector.spans(WEBHOOK).len(), 0);
        }
    }
}

#[tokio::test]
async fn controller_work_is_traced() {
    const SECRET: &str = "floe-secrets-webhook-tls";
    let fixture = fixture().await;
    let (cp, collector) = (&fixture.cp, &fixture.collector);
    let namespace = cp.namespace("worked").await;
    let webhook = Launch::serve(cp, &webhook_identity(cp).await).start().await;
    let identity = controller_identity(cp).await;
    cp.apply(&certificate_rights(SECRET)).await;
    let metadata = json!({"name": SECRET, "namespace": NAMESPACE});
    cp.create(&json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata}))
        .await
        .object();
    let _registered = Registration::shared(
        cp,
        &limited_to_namespaces(webhook.service_configuration(), &[&namespace.name]),
    )
    .await;
    let endpoint = collector.endpoint();
    let args = [
        "--otlp-endpoint",
        &endpoint,
        "--drift-interval",
        "1s",
        "--tls-secret",
        SECRET,
    ];
    // No configuration of that name: no client trusts the certificate, and none needs it here.
    let certificate = [
        "--tls-names",
        "localhost",
        "--webhook-configuration",
        "none",
    ];
    let _controller = Launch::controller(cp, &identity)
        .with(&args)
        .with(&certificate)
        .start()
        .await;
    let template = json!({"metadata": {"labels": {"app": "late"}, "annotations": prefixed(&json!({"env.A": "late/k"}))},
        "spec": {"containers": [{"name": "main", "image": "none"}]}});
    let late = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": namespace.named("late"),
        "spec": {"selector": {"matchLabels": {"app": "late"}}, "template": template}});
    cp.create(&late).await.object();

    let scan = collector
        .span(CONTROLLER, |span| span.name == "drift.scan")
        .await;
    assert_eq!(scan.attributes["result"], "complete");
    assert_eq!(scan.resource["k8s.namespace.name"], NAMESPACE);
    let renewed = collector
        .span(CONTROLLER, |span| span.name == "certificate.renew")
        .await;
    assert_eq!(renewed.attributes["result"], "rotated");
    let retry = |result: &'static str| {
        let namespace = namespace.name.clone();
        collector.span(CONTROLLER, move |span| {
            let attribute = |key: &str| {
                span.attributes
                    .get(key)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned()
            };
            span.name == "retry"
                && attribute("result") == result
                && attribute("namespace") == namespace
        })
    };
    let awaits = retry("awaits").await;
    assert_eq!(awaits.attributes["kind"], "ReplicaSet");
    let bind = collector
        .span(CONTROLLER, |span| {
            span.parent_id == awaits.span_id && span.name == "backend.bind"
        })
        .await;
    assert_eq!(bind.attributes["result"], "not_found");
}

/// Permissions of self-managed certificates beyond the shipped ones.
fn certificate_rights(secret: &str) -> String {
    let subjects = json!([{"kind": "ServiceAccount", "name": "floe-secrets-controller", "namespace": NAMESPACE}]);
    let (group, name) = ("rbac.authorization.k8s.io", "floe-secrets-controller-tls");
    let object = |kind: &str, namespace: Option<&str>, more: &Value| {
        let metadata = json!({"name": name, "namespace": namespace});
        let mut object =
            json!({"apiVersion": format!("{group}/v1"), "kind": kind, "metadata": metadata});
        json_patch::merge(&mut object, more);
        object.to_string()
    };
    let rule = |group: &str, resource: &str, name: &str| json!({"rules": [{"apiGroups": [group], "resources": [resource], "resourceNames": [name], "verbs": ["get", "patch"]}]});
    let binds = |kind: &str| json!({"roleRef": {"apiGroup": group, "kind": kind, "name": name}, "subjects": subjects});
    let webhooks = "mutatingwebhookconfigurations";
    let cluster = json!({"rules": [{"apiGroups": ["admissionregistration.k8s.io"], "resources": [webhooks],
        "resourceNames": [CONFIGURATION, "none"], "verbs": ["get", "patch"]}]});
    [
        object("Role", Some(NAMESPACE), &rule("", "secrets", secret)),
        object("RoleBinding", Some(NAMESPACE), &binds("Role")),
        object("ClusterRole", None, &cluster),
        object("ClusterRoleBinding", None, &binds("ClusterRole")),
    ]
    .join("\n---\n")
}
