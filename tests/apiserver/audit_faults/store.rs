//! Faults of the store's volume: full and then grown, and read-only.

use testbed::control_plane::ControlPlane;
use testbed::trail::Trail;
use testbed::volume::Volume;
use testbed::wait_for;

use crate::fixture::Fixture;

#[tokio::test]
async fn lines_wait_while_the_volume_is_full_and_until_it_grows() {
    let volume = Volume::mount("48m").await;
    let trail = Trail::start_on(ControlPlane::shared().await, &volume).await;
    let mut fixture = Fixture::with(trail, |launch| launch).await;
    fixture.admit(50).await;
    assert_eq!(fixture.settled().await, 0);

    // The store gives up its reserve first, which is filled, too, and then uses the room that its WAL has.
    let is_full = async |fixture: &Fixture| {
        volume.fill().await;
        fixture.waiting_lines() >= 100
    };
    fixture.admit_until("a store without space", is_full).await;
    assert!(fixture.rejected() > 0);
    let queried = fixture.trail.store.run("query", &["--since", "1h"]).await;
    queried.expect_success();

    volume.remount("size=96m").await;
    assert_eq!(fixture.settled().await, 0);
}

/// A store that cannot be written leaves `admin` alive and not ready, with the reason.
#[tokio::test]
async fn lines_wait_while_the_volume_is_read_only() {
    let volume = Volume::mount("48m").await;
    let trail = Trail::start_on(ControlPlane::shared().await, &volume).await;
    let mut fixture = Fixture::with(trail, |launch| launch).await;
    fixture.admit(50).await;
    assert_eq!(fixture.settled().await, 0);

    fixture.trail.admin.kill();
    volume.remount("ro").await;
    let mut fixture = fixture.respawn_admin();
    fixture.admit(100).await;
    fixture.lines_wait(100).await;
    let reason = wait_for("the reason at /readyz", || async {
        let (status, text) = fixture.trail.admin.get("/readyz?verbose")?;
        (status == 503).then_some(text)
    })
    .await;
    assert!(reason.contains("audit.db"), "{reason}");
    assert!(fixture.trail.admin.exit_status().is_none());

    volume.remount("rw").await;
    assert_eq!(fixture.settled().await, 0);
}
