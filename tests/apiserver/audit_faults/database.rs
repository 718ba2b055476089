//! Faults of the database: killed and restarted, replaced by an empty one, and away at the start of `admin`.

use std::collections::BTreeSet;

use serde_json::Value;
use testbed::control_plane::ControlPlane;
use testbed::pki::Authority;
use testbed::postgres::{PASSWORD, Postgres};
use testbed::trail::Trail;
use testbed::wait_for;

use crate::fixture::{Fixture, or_long};

async fn start() -> (Postgres, Fixture) {
    let server = Postgres::start(&Authority::new("database")).await;
    let trail = Trail::start_in(ControlPlane::shared().await, &server).await;
    let fixture = Fixture::with(trail, |launch| launch).await;
    (server, fixture)
}

/// Waits until `admin` is not ready for this reason.
async fn reports_not_ready(fixture: &Fixture, reason: &str) {
    wait_for(reason, || async {
        let (status, text) = fixture.trail.admin.get("/readyz?verbose")?;
        (status == 503 && text.contains(reason)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn lines_wait_while_the_database_is_killed() {
    let (mut server, mut fixture) = start().await;
    for _ in 0..or_long(2, 20) {
        fixture.admit(50).await;
        server.kill();
        fixture.admit(100).await;
        fixture.lines_wait(100).await;
        server.restart().await;
        fixture.admit(20).await;
        assert_eq!(fixture.settled().await, 0);
    }
    assert!(fixture.rejected() > 0);
    let log = fixture.trail.admin.log();
    assert!(log.contains("cannot be used now"), "{log}");
    assert!(!log.contains(PASSWORD), "{log}");
}

#[tokio::test]
async fn empty_database_in_its_place_gets_no_line() {
    let (mut server, mut fixture) = start().await;
    fixture.admit(50).await;
    assert_eq!(fixture.settled().await, 0);
    server.fail_over_to_empty().await;
    fixture.admit(100).await;
    wait_for("a refusal by name", || async {
        let log = fixture.trail.admin.log();
        log.contains("has no store in place of the one")
            .then_some(())
    })
    .await;
    fixture.lines_wait(100).await;
    server.fail_back().await;
    assert_eq!(fixture.settled().await, 0);
}

#[tokio::test]
async fn admin_waits_for_the_database_at_its_start() {
    let (mut server, fixture) = start().await;
    fixture.trail.admin.kill();
    server.kill();
    let mut fixture = fixture.respawn_admin();
    // Until it was asked once, the store is being opened.
    reports_not_ready(&fixture, "cannot be used now").await;
    fixture.admit(100).await;
    fixture.lines_wait(100).await;
    assert!(fixture.trail.admin.exit_status().is_none());
    server.restart().await;
    assert_eq!(fixture.settled().await, 0);
}

#[tokio::test]
async fn two_admins_write_one_trail() {
    let (_server, mut fixture) = start().await;
    let other = fixture.trail.another_admin().await;
    fixture.admit(100).await;
    assert_eq!(fixture.settled().await, 0);
    // Both sign what both have stored.
    let signed = |records: &[Value]| {
        let checkpoints = records.iter();
        let checkpoints = checkpoints.filter(|record| record["action"] == "system.checkpoint");
        let chains = checkpoints.map(|record| record["chain"]["id"].to_string());
        chains.collect::<BTreeSet<_>>().len()
    };
    other.stop().await;
    fixture.admit(100).await;
    assert_eq!(fixture.settled().await, 0);
    let fixture = fixture.restart_admin().await;
    assert_eq!(fixture.settled().await, 0);
    let trail = fixture.trail.store.export().await;
    assert!(signed(&trail.records) >= 2, "{:?}", trail.records);
    trail.is_intact().await;
}
