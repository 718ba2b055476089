//! Ten of the worst reviews concurrently, every second for a minute, next to honest creates of a real API server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use http::Method;
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};

use testbed::control_plane::ControlPlane;
use testbed::hostile::generator::Generator;
use testbed::hostile::{HostileReview, known_attacks};
use testbed::load::LoadGenerator;
use testbed::print_line;
use testbed::webhook::{Registration, webhook_identity};
use testbed::webhook_process::{Launch, WebhookProcess};

/// Duration in seconds.
const DURATION_SECONDS: usize = 60;
const CONCURRENT_REVIEWS: usize = 10;
/// Honest creates per second.
const RATE: u32 = 50;
/// Memory limit of the chart for a replica, in KiB.
const LIMIT: u64 = 128 << 10;

/// Checks that the liveness probe succeeds all the time; it is sent more often than by a kubelet.
async fn watch_liveness(webhook: &WebhookProcess, stop: &AtomicBool) -> usize {
    let (mut tick, mut responses) = (interval(Duration::from_millis(500)), 0);
    while !stop.load(Ordering::Relaxed) {
        tick.tick().await;
        let response = webhook.get("/livez");
        assert_eq!(
            response.map(|(status, _)| status),
            Some(200),
            "after {responses} answers"
        );
        responses += 1;
    }
    responses
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "meaningful for optimised code only: make hostile"]
async fn honest_creates_succeed_with_ten_hostile_reviews_per_second() {
    let cp = ControlPlane::shared().await;
    let tenant = cp.namespace("honest").await;
    cp.secret(&tenant.name, "db", &["password"], "v").await;
    let identity = cp
        .service_account(
            &tenant.name,
            "author",
            &json!([
                {"apiGroups": [""], "resources": ["pods"], "verbs": ["create"]},
            ]),
        )
        .await;
    let webhook = Launch::serve(cp, &webhook_identity(cp).await)
        .with_open_port()
        .start()
        .await;
    let _registration = Registration::exclusive(cp, &webhook.service_configuration()).await;
    // The slowest, the largest, and some of each kind.
    let mut generator = Generator::new(4);
    let mut worst: Vec<HostileReview> = (0..200).map(|_| generator.next_review()).collect();
    worst.sort_by_key(|hostile| std::cmp::Reverse(hostile.body.len()));
    worst.truncate(CONCURRENT_REVIEWS * 2);
    worst.extend(known_attacks());

    let honest = LoadGenerator::start(identity.client(), &tenant.name, "db", RATE);
    let stop = Arc::new(AtomicBool::new(false));
    let attack = async {
        let mut tick = interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut statuses = std::collections::BTreeMap::new();
        for second in 0..DURATION_SECONDS {
            tick.tick().await;
            let these = worst
                .iter()
                .cycle()
                .skip(second * CONCURRENT_REVIEWS % worst.len())
                .take(CONCURRENT_REVIEWS);
            for (status, _) in
                join_all(these.map(|h| webhook.send(Method::POST, &h.path, h.body.clone()))).await
            {
                *statuses.entry(status).or_insert(0_usize) += 1;
            }
        }
        stop.store(true, Ordering::Relaxed);
        statuses
    };
    let (statuses, alive) = tokio::join!(attack, watch_liveness(&webhook, &stop));
    let report = honest.stop().await;
    let (_, most) = webhook.memory();
    print_line(&format!(
        "beside {CONCURRENT_REVIEWS} hostile reviews at once, every second for {DURATION_SECONDS} s (HTTP {statuses:?}): {}; {alive} times alive; memory at most {most} KiB",
        report.summary()
    ));
    report.injects_all();
    assert!(
        most <= LIMIT,
        "a replica would have been killed: {most} KiB"
    );
    assert_eq!(webhook.exit_status(), None);
}
