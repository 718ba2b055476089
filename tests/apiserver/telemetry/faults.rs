//! Collectors that are unreachable, reject or hang cost traces, and nothing else.

use std::time::{Duration, Instant};

use bytes::Bytes;
use floe_secrets_webhook::backend::kubernetes::fake_api::FakeApi;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::json;

use testbed::admission_client::{kubeconfig_for, pod, review};
use testbed::collector::{Collector, CollectorMode};
use testbed::manifests::prefixed;
use testbed::pki::Authority;
use testbed::process::Folder;
use testbed::webhook::SERVICE_HOST;
use testbed::webhook_process::{Launch, WebhookProcess};
use testbed::{free_ports, wait_for};

const WEBHOOK: &str = "floe-secrets-webhook";

/// Limit of spans in the queue and in the request in flight.
const MAX_HELD_SPANS: usize = 2048 + 512 + 512;

/// Webhook without a control plane, with a fake API server that has one secret.
async fn alone(endpoint: &str, args: &[&str]) -> (WebhookProcess, FakeApi, Folder) {
    let api = FakeApi::start(&["jobs"]).await;
    api.put("jobs", "db", &[("user", "v")]);
    let folder = Folder::new();
    let kubeconfig = kubeconfig_for(&folder, &api.url());
    let launch = Launch::without_control_plane(&Authority::new("test-ca"), &kubeconfig)
        .with(&["--shutdown-delay", "0s"]);
    (
        launch
            .with(&["--otlp-endpoint", endpoint])
            .with(args)
            .start()
            .await,
        api,
        folder,
    )
}

/// Sends this many admissions on one connection, each of which has to succeed.
async fn admit(webhook: &WebhookProcess, times: usize) {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(webhook.connect_tls().await))
            .await
            .expect("HTTP");
    let connection = tokio::spawn(connection);
    let body = Bytes::from(review(&pod(&prefixed(&json!({"env.A": "db/user"})))).to_string());
    for _ in 0..times {
        let request = Request::post("/admit/pods?timeout=5s").header("host", SERVICE_HOST);
        let request = request.body(Full::new(body.clone())).expect("a request");
        let response = sender.send_request(request).await.expect("a response");
        assert_eq!(response.status(), 200);
        let text = response
            .into_body()
            .collect()
            .await
            .expect("a complete response")
            .to_bytes();
        assert!(
            String::from_utf8_lossy(&text).contains("\"allowed\":true"),
            "{text:?}"
        );
    }
    connection.abort();
}

/// Number of spans by outcome.
fn counted(webhook: &WebhookProcess, result: &str) -> usize {
    let (_, text) = webhook.get("/metrics").expect("the ops port responds");
    let name = format!("floe_secrets_webhook_trace_spans_total{{result=\"{result}\"}} ");
    text.lines()
        .find_map(|line| line.strip_prefix(&name)?.parse().ok())
        .unwrap_or_default()
}

async fn wait_for_count(webhook: &WebhookProcess, result: &str, at_least: usize) {
    let what = format!("{at_least} spans {result}");
    wait_for(&what, || async {
        (counted(webhook, result) >= at_least).then_some(())
    })
    .await;
}

fn times_logged(webhook: &WebhookProcess, sentence: &str) -> usize {
    webhook.log().matches(sentence).count()
}

const EXPORT_FAILED: &str = "trace export failed; spans are lost until it succeeds";
const EXPORT_SUCCEEDED: &str = "trace export succeeded again";

#[tokio::test]
async fn unreachable_collector_is_logged_once_and_used_when_it_returns() {
    let [port] = free_ports();
    let (webhook, _api, _folder) = alone(&format!("http://127.0.0.1:{port}"), &[]).await;
    // Each batch fails by itself.
    for batch in 1..=3 {
        admit(&webhook, 1).await;
        wait_for_count(&webhook, "failed", 2 * batch).await;
    }
    assert_eq!(
        (
            times_logged(&webhook, EXPORT_FAILED),
            times_logged(&webhook, EXPORT_SUCCEEDED)
        ),
        (1, 0),
        "{}",
        webhook.log()
    );
    let collector = Collector::start_on(port);
    admit(&webhook, 1).await;
    wait_for_count(&webhook, "exported", 2).await;
    assert_eq!(collector.spans(WEBHOOK).len(), 2);
    assert_eq!(
        (
            times_logged(&webhook, EXPORT_FAILED),
            times_logged(&webhook, EXPORT_SUCCEEDED)
        ),
        (1, 1)
    );
    assert_eq!(counted(&webhook, "dropped"), 0);
}

#[tokio::test]
async fn rejecting_collector_is_logged_once() {
    let collector = Collector::start();
    collector.set_mode(CollectorMode::Rejects);
    let (webhook, _api, _folder) = alone(&collector.endpoint(), &[]).await;
    for batch in 1..=2 {
        admit(&webhook, 1).await;
        wait_for_count(&webhook, "failed", 2 * batch).await;
    }
    assert_eq!(
        times_logged(&webhook, EXPORT_FAILED),
        1,
        "{}",
        webhook.log()
    );
    assert!(webhook.log().contains("400"), "{}", webhook.log());
}

#[tokio::test]
async fn hanging_collector_blocks_no_admission_and_bounds_spans() {
    let collector = Collector::start();
    collector.set_mode(CollectorMode::Hangs);
    let (webhook, _api, _folder) = alone(&collector.endpoint(), &[]).await;
    let admissions = 3 * MAX_HELD_SPANS / 2;
    admit(&webhook, admissions).await;
    // Two spans each.
    let dropped = counted(&webhook, "dropped");
    let failed = counted(&webhook, "failed");
    assert!(
        dropped + failed + MAX_HELD_SPANS >= 2 * admissions,
        "{dropped} dropped, {failed} failed"
    );
    wait_for("the log message", || async {
        webhook.log().contains("trace queue is full").then_some(())
    })
    .await;
    assert_eq!(
        times_logged(&webhook, "trace queue is full"),
        1,
        "{}",
        webhook.log()
    );
}

#[tokio::test]
async fn last_traces_are_flushed_within_drain_timeout() {
    let collector = Collector::start();
    let (webhook, _api, _folder) = alone(&collector.endpoint(), &[]).await;
    admit(&webhook, 5).await;
    assert!(webhook.stop().await.success());
    assert_eq!(
        collector
            .spans(WEBHOOK)
            .iter()
            .filter(|span| span.name == "admission")
            .count(),
        5
    );

    collector.set_mode(CollectorMode::Hangs);
    let (webhook, _api, _folder) = alone(&collector.endpoint(), &["--drain-timeout", "2s"]).await;
    admit(&webhook, 1).await;
    let began = Instant::now();
    webhook.terminate();
    let ended = wait_for("the end", || async { webhook.exit_status() }).await;
    assert!(
        ended.success() && began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
    assert!(
        webhook
            .log()
            .contains("trace export timed out at shutdown; the last spans are lost")
    );
}
