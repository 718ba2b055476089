//! Leader election, and the loss of the leader.

use std::sync::atomic::{AtomicUsize, Ordering};

use http::Method;
use serde_json::{Value, json};

use crate::{metric, metric_is};
use testbed::control_plane::{ControlPlane, Options};
use testbed::manifests::{pod, prefixed, sources};
use testbed::wait_for;
use testbed::webhook::{NAMESPACE, Registration, controller_identity, webhook_identity};
use testbed::webhook_process::Launch;

/// Log message of a replica that waited for the lease to expire.
const SILENT: &str = "the leader lease expired; taking over";

async fn lease(cp: &ControlPlane) -> Value {
    let path = format!(
        "/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/floe-secrets-controller"
    );
    cp.request(Method::GET, &path, None).await.body
}

#[tokio::test]
async fn leader_change_does_not_affect_admission() {
    let cp = ControlPlane::start(Options {
        controller_manager: false,
        ..Options::default()
    })
    .await;
    let ns = cp.namespace("lead").await;
    let asks = prefixed(&json!({"env-from": "db"}));
    // Before the webhook is registered, so that the gauge is not 0.
    cp.create(&pod(&ns.name, "bare", &asks)).await.object();
    cp.secret(&ns.name, "db", &["k"], "x").await;
    let webhook = Launch::serve(&cp, &webhook_identity(&cp).await)
        .start()
        .await;
    let _registered = Registration::shared(&cp, &webhook.service_configuration()).await;
    let identity = controller_identity(&cp).await;
    let launch = || Launch::controller(&cp, &identity).with(&["--drift-interval", "2s"]);

    let first = launch().start().await;
    metric_is(&first, "leader", 1).await;
    metric_is(&first, "uninjected{kind=\"pod\"}", 1).await;

    // A second replica is ready, and waits.
    let second = launch().start().await;
    let holder = lease(&cp).await["spec"]["holderIdentity"].clone();
    let renewed = async || lease(&cp).await["spec"]["renewTime"].clone();
    for _ in 0..4 {
        let before = renewed().await;
        wait_for("the first renews the lease", || async {
            (renewed().await != before).then_some(())
        })
        .await;
    }
    assert_eq!(
        (metric(&first, "leader"), metric(&second, "leader")),
        (Some(1), Some(0))
    );
    assert_eq!(
        metric(&second, "uninjected{kind=\"pod\"}"),
        Some(0),
        "only the leader reports the gauge"
    );
    assert_eq!(lease(&cp).await["spec"]["holderIdentity"], holder);

    // A crash: the lease is not released. Until it expires there is no leader, and pods are injected.
    let transitions = async || {
        lease(&cp).await["spec"]["leaseTransitions"]
            .as_i64()
            .expect("a number")
    };
    let before = transitions().await;
    first.kill();
    let (served, asks, admin) = (AtomicUsize::new(0), &asks, &cp);
    wait_for("the second takes over", || async {
        let number = served.fetch_add(1, Ordering::Relaxed);
        let created = admin
            .create(&pod(&ns.name, &format!("served-{number}"), asks))
            .await
            .object();
        assert_eq!(sources(&created["spec"]["containers"][0]), ["secret/db"]);
        (metric(&second, "leader") == Some(1)).then_some(())
    })
    .await;
    println!("{served:?} pods were injected between kill -9 and the next leader");
    assert!(
        second.log().contains(SILENT),
        "it waited until the lease had run out"
    );
    assert_ne!(lease(&cp).await["spec"]["holderIdentity"], holder);
    assert_eq!(transitions().await, before + 1);
    metric_is(&second, "uninjected{kind=\"pod\"}", 1).await;

    // Released on shutdown: the next one need not wait.
    let third = launch().start().await;
    let status = second.stop().await;
    assert!(status.success(), "{status}");
    metric_is(&third, "leader", 1).await;
    assert!(
        !third.log().contains(SILENT),
        "the lease was free: nobody had to wait for it to run out"
    );
    let status = third.stop().await;
    assert!(status.success(), "{status}");
    assert!(
        lease(&cp).await["spec"].get("holderIdentity").is_none(),
        "given up"
    );
}
