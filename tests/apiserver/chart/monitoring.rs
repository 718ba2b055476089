//! Alerts and dashboard: well formed, firing when they should, and with metrics that exist.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;

use http::Method;
use serde_json::{Value, json};

use crate::{existing, merged};
use testbed::control_plane::ControlPlane;
use testbed::helm::{Helm, NAME, find_object};
use testbed::manifests::{pod, prefixed};
use testbed::process::Folder;
use testbed::tools::{program_paths, project_root};
use testbed::trail::{ReplicaPod, Trail};
use testbed::webhook::{Registration, SERVICE_HOST, controller_identity, webhook_identity};
use testbed::webhook_process::{Launch, WebhookProcess};
use testbed::{WAIT_TIMEOUT, poll, unique, wait_for};

fn monitored() -> Vec<Value> {
    let metrics = json!({"metrics": {"prometheusRule": {"enabled": true}, "grafanaDashboard": {"enabled": true}}});
    let values = merged(existing(), &crate::recorded());
    Helm::V4.objects(NAME, &merged(values, &metrics))
}

/// Rules, as Prometheus reads them.
fn rules() -> Value {
    find_object(&monitored(), "PrometheusRule", NAME)["spec"].clone()
}

fn alerts(rules: &Value) -> Vec<Value> {
    rules["groups"][0]["rules"]
        .as_array()
        .expect("rules")
        .clone()
}

/// Every expression of the dashboard's panels.
fn queries() -> Vec<String> {
    let objects = monitored();
    let map = find_object(&objects, "ConfigMap", "floe-secrets-webhook-dashboard");
    let text = map["data"]["floe-secrets-webhook.json"]
        .as_str()
        .expect("the dashboard");
    let dashboard: Value = serde_json::from_str(text).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    targets
        .map(|target| target["expr"].as_str().expect("a query").to_owned())
        .collect()
}

fn promtool(args: &[&str]) {
    let [program] = program_paths(["promtool"]);
    let output = Command::new(program)
        .args(args)
        .output()
        .expect("promtool runs");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "promtool {args:?}: {printed}");
}

#[test]
fn promtool_accepts_the_rules_and_every_query_of_the_dashboard() {
    let folder = Folder::new();
    let rules = folder.write("rules.yaml", rules().to_string());
    promtool(&[
        "check",
        "rules",
        "--lint=all",
        "--lint-fatal",
        &rules.display().to_string(),
    ]);
    // A query is checked as the expression of a rule; Grafana replaces its own variables first.
    let queries = queries();
    assert!(queries.len() > 20, "{queries:?}");
    let recorded = queries.iter().enumerate().map(|(number, query)| {
        let expr = query
            .replace("$__rate_interval", "5m")
            .replace("$namespace", NAME);
        json!({"record": format!("query:{number}"), "expr": expr})
    });
    let group = json!({"groups": [{"name": "dashboard", "rules": recorded.collect::<Vec<_>>()}]});
    let file = folder.write("dashboard.yaml", group.to_string());
    promtool(&["check", "rules", &file.display().to_string()]);
}

#[test]
fn alerts_fire_exactly_when_they_should() {
    let folder = Folder::new();
    folder.write("rules.yaml", rules().to_string());
    let series = |name: &str, labels: &str, values: &str| json!({"series": format!("floe_secrets_webhook_{name}{{namespace=\"{NAME}\"{labels}}}"), "values": values});
    let leads = series("leader", ",pod=\"c\"", "1x120");
    let valid = |pod: &str, until: i64| {
        series(
            "tls_certificate_not_after_seconds",
            &format!(",pod=\"{pod}\",instance=\"{pod}:8080\""),
            &format!("{until}x120"),
        )
    };
    // The pod of `admin`, whose certificate is not that of the webhook.
    let ready = |value: u8| {
        series(
            "audit_store_ready",
            ",pod=\"m\",instance=\"m:8080\"",
            &format!("{value}x120"),
        )
    };
    let stored = |bytes: u64| series("audit_store_bytes", ",pod=\"m\"", &format!("{bytes}x120"));
    let checkpoint = |values: &str| series("audit_checkpoint_time_seconds", ",pod=\"m\"", values);
    let waits = |seconds: u32| {
        series(
            "audit_oldest_unshipped_seconds",
            ",pod=\"a\"",
            &format!("{seconds}x120"),
        )
    };
    let (two, year) = (["a", "b"], 365 * 86400);
    // Healthy state, including the controller's zero.
    let well = || {
        let mut all: Vec<Value> = two.iter().map(|pod| valid(pod, year)).collect();
        all.extend([
            valid("c", 0),
            leads.clone(),
            series("leader", ",pod=\"d\"", "0x120"),
        ]);
        all.push(series(
            "admission_requests_total",
            ",reason=\"ok\",decision=\"injected\"",
            "0+10x120",
        ));
        all.extend([
            valid("m", year),
            ready(1),
            stored(700),
            series("audit_store_max_bytes", ",pod=\"m\"", "1000x120"),
            checkpoint("0+60x120"),
            waits(1),
        ]);
        all
    };
    let certificates = "tls_certificate_not_after_seconds";
    let bucket = |le: &str, values: &str| {
        series(
            "admission_duration_seconds_bucket",
            &format!(",le=\"{le}\""),
            values,
        )
    };
    let admissions = |reason: &str| {
        vec![series(
            "admission_requests_total",
            &format!(",reason=\"{reason}\",decision=\"denied\""),
            "0+5x120",
        )]
    };
    let unreachable = "apiserver_admission_webhook_rejection_count{name=\"pods.secrets.floe.dev\",error_type=\"calling_webhook_error\"}";
    // name | series added to the healthy ones | series removed by name | alerts
    let rows: [(&str, Vec<Value>, &str, &[&str]); 26] = [
        ("all is well", vec![], "", &[]),
        (
            "no replica",
            vec![valid("c", 0), valid("m", year)],
            certificates,
            &["FloeSecretsWebhookDown"],
        ),
        (
            "one replica",
            vec![valid("a", year), valid("m", year)],
            certificates,
            &["FloeSecretsWebhookSingleReplica"],
        ),
        (
            "ten days",
            vec![valid("a", 10 * 86400), valid("b", 10 * 86400)],
            certificates,
            &["FloeSecretsCertificateExpiresSoon"],
        ),
        (
            "hours",
            vec![valid("a", 80000), valid("b", 80000)],
            certificates,
            &[
                "FloeSecretsCertificateExpiresSoon",
                "FloeSecretsCertificateExpiresNow",
            ],
        ),
        (
            "a bad pair",
            vec![series("tls_reloads_total", ",result=\"kept\"", "0+1x120")],
            "",
            &["FloeSecretsCertificateRefused"],
        ),
        (
            "handshakes",
            vec![series(
                "tls_handshake_failures_total",
                ",port=\"admission\"",
                "0+60x120",
            )],
            "",
            &["FloeSecretsHandshakesFail"],
        ),
        (
            "a dead backend",
            admissions("unavailable"),
            "",
            &["FloeSecretsBackendFails"],
        ),
        (
            "missing rights",
            admissions("permission_denied"),
            "",
            &["FloeSecretsPermissionDenied"],
        ),
        (
            "missing secrets are people's affair",
            admissions("not_found"),
            "",
            &[],
        ),
        (
            "slow",
            vec![
                bucket("1", "0x120"),
                bucket("2.5", "0+60x120"),
                bucket("+Inf", "0+60x120"),
            ],
            "",
            &["FloeSecretsAdmissionSlow"],
        ),
        (
            "shed",
            vec![series(
                "requests_shed_total",
                ",reason=\"connections\"",
                "0+1x120",
            )],
            "",
            &["FloeSecretsRequestsShed"],
        ),
        (
            "panics",
            vec![series("panics_total", "", "0+1x120")],
            "",
            &["FloeSecretsPanic"],
        ),
        (
            "unreachable",
            vec![json!({"series": unreachable, "values": "0+1x120"})],
            "",
            &["FloeSecretsWebhookUnreachable"],
        ),
        (
            "nobody leads",
            vec![series("leader", ",pod=\"d\"", "0x120")],
            "leader",
            &["FloeSecretsNoLeader"],
        ),
        (
            "drift, and scans that fail",
            vec![
                series("uninjected", ",kind=\"pod\"", "3x120"),
                series("drift_scans_total", ",result=\"failed\"", "0+1x120"),
            ],
            "",
            &["FloeSecretsUninjected", "FloeSecretsScanFails"],
        ),
        (
            "records wait",
            vec![waits(90)],
            "oldest_unshipped",
            &["FloeSecretsAuditNotShipped"],
        ),
        (
            "records dropped",
            vec![series(
                "audit_records_dropped_total",
                ",pod=\"a\"",
                "0+1x120",
            )],
            "",
            &["FloeSecretsAuditRecordsDropped"],
        ),
        (
            "a store that is not ready",
            vec![ready(0)],
            "store_ready",
            &["FloeSecretsAuditStoreUnavailable"],
        ),
        (
            "no admin",
            vec![],
            "m:8080",
            &["FloeSecretsAuditStoreUnavailable"],
        ),
        (
            "two histories",
            vec![series(
                "audit_chain_conflicts_total",
                ",pod=\"m\"",
                "0+1x120",
            )],
            "",
            &["FloeSecretsAuditChainConflict"],
        ),
        (
            "a store that fills up",
            vec![stored(850)],
            "store_bytes",
            &["FloeSecretsAuditStoreFillsUp"],
        ),
        (
            "a full store",
            vec![stored(1000)],
            "store_bytes",
            &["FloeSecretsAuditStoreFillsUp", "FloeSecretsAuditStoreFull"],
        ),
        (
            "nothing that may be deleted",
            vec![series("audit_retention_blocked", ",pod=\"m\"", "1x120")],
            "",
            &["FloeSecretsAuditStoreFull"],
        ),
        (
            "an old checkpoint",
            vec![checkpoint("2400x120")],
            "checkpoint_time",
            &["FloeSecretsAuditCheckpointOld"],
        ),
        (
            "ten days of the collector's certificate",
            vec![valid("m", 10 * 86400)],
            "seconds{namespace=\"floe-secrets-webhook\",pod=\"m\"",
            &["FloeSecretsAuditCertificateExpiresSoon"],
        ),
    ];
    let alerts = alerts(&rules());
    let names: Vec<&str> = alerts
        .iter()
        .map(|alert| alert["alert"].as_str().expect("a name"))
        .collect();
    let fired: BTreeSet<&str> = rows.iter().flat_map(|row| row.3).copied().collect();
    assert_eq!(
        fired,
        names.iter().copied().collect(),
        "every alert has a row"
    );
    let tests: Vec<Value> = rows
        .into_iter()
        .map(|(what, more, without, fires)| {
            let mut input: Vec<Value> = well();
            if !without.is_empty() {
                input.retain(|series| !series["series"].as_str().expect("text").contains(without));
            }
            input.extend(more);
            let expected = names.iter().map(|name| {
                let samples = if fires.contains(name) { json!([{"labels": "{}", "value": 1}]) } else { json!([]) };
                let expr = format!("count(ALERTS{{alertname=\"{name}\",alertstate=\"firing\"}})");
                json!({"expr": expr, "eval_time": "75m", "exp_samples": samples})
            });
            let expected: Vec<Value> = expected.collect();
            json!({"name": what, "interval": "1m", "input_series": input, "promql_expr_test": expected})
        })
        .collect();
    let file = json!({"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests});
    let file = folder.write("tests.yaml", file.to_string());
    promtool(&["test", "rules", &file.display().to_string()]);
}

#[test]
fn alert_links_to_its_runbook_section() {
    let runbook = std::fs::read_to_string(project_root().join("docs/operations/RUNBOOK.md"))
        .expect("the runbook");
    let anchors: BTreeSet<String> = runbook
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            line.trim_start_matches('#')
                .trim()
                .to_lowercase()
                .replace(' ', "-")
        })
        .collect();
    for alert in alerts(&rules()) {
        let url = alert["annotations"]["runbook_url"]
            .as_str()
            .expect("a link");
        let (page, anchor) = url.split_once('#').expect("an anchor");
        assert!(
            page == "docs/operations/RUNBOOK.md" && anchors.contains(anchor),
            "{url}: {anchors:?}"
        );
    }
}

/// Names of the webhook's and the API server's metrics in an expression.
fn metrics_of(expression: &str) -> BTreeSet<String> {
    let names = regex::Regex::new(r"\b(floe_secrets_webhook|apiserver)_[a-z_]+")
        .expect("a regular expression");
    names
        .find_iter(expression)
        .map(|found| found.as_str().to_owned())
        .collect()
}

/// Names in an exposition, including the parts of histograms.
fn served_names(exposition: &str) -> BTreeSet<String> {
    let lines = exposition.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.split(['{', ' ']).next())
        .map(str::to_owned)
        .collect()
}

/// Client that does not send TLS.
fn bad_handshake(webhook: &WebhookProcess) {
    let mut stream =
        TcpStream::connect((Ipv4Addr::LOCALHOST, webhook.launch.port)).expect("the port is open");
    stream
        .write_all(b"GET / HTTP/1.1\r\n\r\n")
        .expect("written");
    stream.read_to_end(&mut Vec::new()).ok();
}

#[tokio::test]
async fn query_uses_only_served_metrics() {
    let cp = ControlPlane::shared().await;
    let namespace = cp.namespace("metrics").await;
    let poll_often = ["--tls-poll", "1s"];
    let trail = Trail::start(cp).await;
    let launch = Launch::serve(cp, &webhook_identity(cp).await).with(&poll_often);
    let replica = ReplicaPod::create(cp).await;
    let webhook = trail.sent_by(launch, &replica).await.start().await;
    let controller = Launch::controller(cp, &controller_identity(cp).await)
        .with(&["--drift-interval", "1s"])
        .start()
        .await;
    let registered = Registration::exclusive(cp, &webhook.url_configuration()).await;
    // Causes one of each counted event.
    cp.secret(&namespace.name, "db", &["k"], "v").await;
    let asks = |name: &str, secret: &str| {
        pod(
            &namespace.name,
            name,
            &prefixed(&json!({"env.A": format!("{secret}/k")})),
        )
    };
    cp.create(&asks("good", "db")).await.object();
    assert_eq!(cp.create_dry_run(&asks("bad", "none")).await.status, 422);
    bad_handshake(&webhook);
    let (status, _) = webhook
        .send(Method::POST, "/admit/pods", vec![b' '; 9 << 20])
        .await;
    assert_eq!(status, 413);
    let template = json!({"metadata": {"labels": {"app": "late"}, "annotations": prefixed(&json!({"env.A": "late/k"}))},
        "spec": {"containers": [{"name": "main", "image": "none"}]}});
    let late = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": namespace.named("late"),
        "spec": {"selector": {"matchLabels": {"app": "late"}}, "template": template}});
    cp.create(&late).await.object();
    wait_for("the controller waits for the secret", || async {
        let (_, text) = controller.get("/metrics")?;
        text.lines()
            .any(|line| line == "floe_secrets_webhook_retry_pending_owners 1")
            .then_some(())
    })
    .await;
    cp.secret(&namespace.name, "late", &["k"], "v").await;

    let used: BTreeSet<String> = queries()
        .iter()
        .cloned()
        .chain(
            alerts(&rules())
                .iter()
                .map(|alert| alert["expr"].as_str().expect("an expression").to_owned()),
        )
        .flat_map(|expression| metrics_of(&expression))
        .collect();
    assert!(used.len() > 15, "{used:?}");
    // Metrics of the API server for calls without a response.
    webhook.kill();
    assert_eq!(
        cp.create_dry_run(&asks(&unique("lost"), "db")).await.status,
        500
    );
    let webhook = webhook.restart().await;
    cp.create_dry_run(&asks("again", "db")).await.object();
    let (status, _) = webhook
        .send(Method::POST, "/admit/pods", vec![b' '; 9 << 20])
        .await;
    assert_eq!(status, 413);
    bad_handshake(&webhook);
    cp.authority
        .server(&["127.0.0.1", SERVICE_HOST])
        .write(&webhook.launch.folder, "tls");

    // A batch that finds no collector, and one without a token.
    trail.admin.kill();
    cp.create(&asks("unsent", "db")).await.object();
    wait_for("a failure of shipping", || async {
        let (_, text) = webhook.get("/metrics")?;
        text.contains("audit_shipping_failures_total{")
            .then_some(())
    })
    .await;
    let trail = trail.restart_admin().await;
    let (status, _) = trail.admin.send(Method::POST, "/v1/lines", "").await;
    assert_eq!(status, 401);

    let missing = RefCell::new(BTreeSet::new());
    let all = poll(WAIT_TIMEOUT, || async {
        let apiserver = cp
            .kubectl(&["get", "--raw", "/metrics"], "")
            .await
            .expect_success()
            .stdout;
        let texts = [
            webhook.get("/metrics")?.1,
            controller.get("/metrics")?.1,
            trail.admin.get("/metrics")?.1,
            apiserver,
        ];
        let served: BTreeSet<String> = texts.iter().flat_map(|text| served_names(text)).collect();
        *missing.borrow_mut() = used.difference(&served).cloned().collect();
        missing.borrow().is_empty().then_some(())
    })
    .await;
    assert!(all.is_some(), "not served: {missing:?}");
    drop(registered);
}
