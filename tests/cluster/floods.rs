//! Creates of the API server succeed while another address floods the admission port, on a real API server that calls
//! the webhook by its Service.
//!
//! The API server is 127.0.0.1 here, and the flood comes from 127.0.0.2.

use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::future::join_all;
use http::Method;
use serde_json::json;
use testbed::control_plane::ControlPlane;
use testbed::flood::{FloodKind, Flooder};
use testbed::load::LoadGenerator;
use testbed::manifests::{pod, prefixed};
use testbed::webhook::{Registration, webhook_identity, with_max_timeout};
use testbed::webhook_process::Launch;
use testbed::{objects, wait_for};

const OTHER_PEER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Number of creates that must succeed under each flood.
const CREATES: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn creates_succeed_while_another_address_floods_the_port() {
    let cp = ControlPlane::shared().await;
    let webhook = Launch::serve(cp, &webhook_identity(cp).await).start().await;
    let _registered =
        Registration::exclusive(cp, &with_max_timeout(webhook.service_configuration())).await;
    let ns = cp.namespace("flooded").await;
    cp.secret(&ns.name, "db", &["k"], "v").await;
    let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["create"]}]);
    let loader = cp.service_account(&ns.name, "loader", &rules).await;
    let bundle = webhook.service_configuration()["webhooks"][0]["clientConfig"]["caBundle"].take();
    let ca = STANDARD
        .decode(bundle.as_str().expect("a CA"))
        .expect("base64");
    let server = (Ipv4Addr::LOCALHOST, webhook.launch.port).into();
    let other_peer = Flooder::new(OTHER_PEER, server, &ca);

    for kind in FloodKind::ALL {
        let (mut flood, done) = other_peer.start(kind);
        wait_for("the flood is under way", || async {
            (done.load(Ordering::Relaxed) >= kind.target_count()).then_some(())
        })
        .await;
        let stream = LoadGenerator::start(loader.client(), &ns.name, "db", 50);
        stream.wait_for_responses(CREATES).await;
        let report = stream.stop().await;
        println!("{kind:?}: {}", report.summary());
        report.injects_all();
        assert_eq!(webhook.get("/livez"), Some((200, "ok\n".to_owned())));
        flood.shutdown().await;
    }
    let shed =
        |reason: &str| webhook.counter_value("requests_shed", &[&format!("reason=\"{reason}\"")]);
    let (evicted, closed) = (shed("evicted"), shed("connections"));
    println!(
        "evicted {evicted}, closed {closed}, memory in KiB (now, most) {:?}",
        webhook.memory()
    );
    assert!(evicted > 0, "the silent ones were above their share");
    assert!(closed > 0, "the slow writers were above their share");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_hundred_concurrent_creates_of_one_api_server_are_injected() {
    let cp = ControlPlane::shared().await;
    let webhook = Launch::serve(cp, &webhook_identity(cp).await).start().await;
    let _registered =
        Registration::exclusive(cp, &with_max_timeout(webhook.service_configuration())).await;
    let ns = cp.namespace("at-once").await;
    cp.secret(&ns.name, "db", &["k"], "v").await;
    let client = cp.client();
    let creates = (0..400).map(|at| {
        let object = pod(
            &ns.name,
            &format!("pod-{at}"),
            &prefixed(&json!({"env-from": "db"})),
        );
        let path = format!("{}?dryRun=All", objects::collection(&object));
        let client = client.clone();
        async move { objects::send(&client, Method::POST, &path, Some(&object)).await }
    });
    let injected = join_all(creates).await;
    for response in &injected {
        assert!(response.is_accepted(), "{response:?}");
        assert_eq!(
            response.body["spec"]["containers"][0]["envFrom"][0]["secretRef"]["name"],
            "db"
        );
    }
    for reason in ["connections", "evicted"] {
        assert_eq!(
            webhook.counter_value("requests_shed", &[&format!("reason=\"{reason}\"")]),
            0,
            "{reason}"
        );
    }
}
