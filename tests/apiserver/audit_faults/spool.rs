//! Faults of the spool: full at its limit, and on a volume that is full or read-only.
//!
//! Records that the spool does not take are on standard output alone. They count as lost, and can be imported.

use floe_secrets_webhook::recorder::spool::MAX_SPOOL_BYTES;
use testbed::control_plane::ControlPlane;
use testbed::trail::Trail;
use testbed::volume::Volume;
use testbed::webhook_process::Launch;

use crate::fixture::Fixture;

/// Puts the spool on a volume.
fn on(volume: &Volume) -> impl FnOnce(Launch) -> Launch + '_ {
    let spool = volume.path().join("spool").display().to_string();
    move |launch| launch.set("--audit-spool", &spool).inside(volume)
}

/// Number of records that `serve` has counted as dropped.
fn dropped(fixture: &Fixture) -> u64 {
    fixture.webhook.counter_value("audit_records_dropped", &[])
}

/// Sends reviews until the spool takes their records again: it is tried every second. Returns the number of records that
/// were dropped until then.
async fn lost_until_written(fixture: &mut Fixture) -> u64 {
    let mut before = 0;
    let is_written = async |fixture: &Fixture| {
        let is_same = dropped(fixture) == before;
        before = dropped(fixture);
        is_same
    };
    fixture
        .admit_until("a spool that can be written", is_written)
        .await;
    dropped(fixture)
}

#[tokio::test]
async fn records_without_space_for_the_spool_are_counted_and_reported() {
    let volume = Volume::mount("256k").await;
    let trail = Trail::start(ControlPlane::shared().await).await;
    let mut fixture = Fixture::with(trail, on(&volume)).await;
    fixture.admit(20).await;
    assert_eq!(fixture.settled().await, 0);
    fixture.trail.admin.kill();
    // About 1 KiB each, and more than the volume takes.
    fixture.admit(600).await;
    let lost = dropped(&fixture);
    assert!((1..600).contains(&lost), "{lost} of 600 records dropped");

    volume.remount("size=8m").await;
    let mut fixture = fixture.restart_admin().await;
    let lost = lost_until_written(&mut fixture).await;
    fixture.admit(20).await;
    assert_eq!(fixture.settled().await, lost);
    fixture.import_completes().await;
}

#[tokio::test]
async fn records_are_counted_while_the_folder_of_the_spool_is_read_only() {
    let volume = Volume::mount("8m").await;
    volume.remount("ro").await;
    let trail = Trail::start(ControlPlane::shared().await).await;
    let mut fixture = Fixture::with(trail, on(&volume)).await;
    fixture.admit(20).await;
    assert_eq!(dropped(&fixture), 20);

    volume.remount("rw").await;
    let lost = lost_until_written(&mut fixture).await;
    fixture.admit(20).await;
    assert_eq!(fixture.settled().await, lost);
    fixture.import_completes().await;
}

/// Names of Secrets that fill a line of the trail.
fn long_names() -> Vec<String> {
    let name = |number| format!("{number}-{}", "x".repeat(200));
    (0..20).map(name).collect()
}

#[tokio::test]
#[ignore = "minutes: make audit-faults"]
async fn records_beyond_the_limit_of_the_spool_are_counted_and_reported() {
    let mut fixture = Fixture::start().await;
    let names = long_names();
    for name in &names {
        let namespace = &fixture.namespace.name;
        fixture.cp.secret(namespace, name, &["user"], "x").await;
    }
    fixture.ask_for(&names.join(","));
    fixture.admit(20).await;
    assert_eq!(fixture.settled().await, 0);
    fixture.trail.admin.kill();
    while dropped(&fixture) == 0 {
        fixture.admit(400).await;
        let bytes = fixture.webhook.counter_value("audit_spool_bytes", &[]);
        assert!(bytes <= MAX_SPOOL_BYTES, "{bytes} bytes in the spool");
    }
    fixture.admit(400).await;
    let lost = dropped(&fixture);
    let mut fixture = fixture.restart_admin().await;
    assert_eq!(fixture.settled().await, lost);
    fixture.admit(20).await;
    assert_eq!(fixture.settled().await, lost);
    fixture.import_completes().await;
}
