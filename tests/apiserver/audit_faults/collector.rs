//! Faults of `admin`: stopped, killed, not able to check senders, and with another certificate.

use std::time::Duration;

use http::Method;
use testbed::control_plane::ControlPlane;
use testbed::objects;
use testbed::pki::Authority;
use testbed::trail::{ReplicaPod, Trail, own_admin_identity};
use testbed::wait_for;
use testbed::webhook_process::Launch;

use crate::fixture::{Fixture, or_long};

#[tokio::test]
async fn stopped_collector_gets_all_lines_when_it_goes_on() {
    let mut fixture = Fixture::start().await;
    fixture.admit(20).await;
    fixture.trail.admin.signal("STOP");
    fixture.admit(100).await;
    fixture.lines_wait(100).await;
    // How long the fault lasts. Admissions go on meanwhile.
    tokio::time::sleep(or_long(Duration::from_secs(1), Duration::from_secs(30))).await;
    fixture.admit(100).await;
    fixture.trail.admin.signal("CONT");
    assert_eq!(fixture.settled().await, 0);
}

#[tokio::test]
async fn killed_collector_gets_all_lines_after_its_start() {
    let mut fixture = Fixture::start().await;
    fixture.admit(20).await;
    fixture.trail.admin.kill();
    fixture.admit(100).await;
    fixture.shipping_fails().await;
    fixture.lines_wait(100).await;
    let mut fixture = fixture.restart_admin().await;
    fixture.admit(20).await;
    assert_eq!(fixture.settled().await, 0);
}

/// The API server does not let `admin` review tokens. A new connection is refused then, and its lines wait.
#[tokio::test]
async fn lines_wait_while_tokens_cannot_be_reviewed() {
    let cp = ControlPlane::shared().await;
    let (identity, binding) = own_admin_identity(cp).await;
    let trail = Trail::start_with(cp, Launch::admin(cp, &identity)).await;
    let mut fixture = Fixture::with(trail, |launch| launch).await;
    fixture.admit(20).await;
    assert_eq!(fixture.settled().await, 0);
    let path = objects::path(&binding);
    cp.request(Method::DELETE, &path, None).await.object();
    let mut fixture = fixture.restart_admin().await;
    fixture.admit(100).await;
    fixture.shipping_fails().await;
    fixture.lines_wait(100).await;
    cp.create(&binding).await.object();
    assert_eq!(fixture.settled().await, 0);
}

/// A certificate of another CA is refused until `serve` has that CA.
#[tokio::test]
async fn lines_wait_until_the_new_ca_of_the_collector_is_known() {
    let mut fixture = Fixture::start().await;
    fixture.admit(20).await;
    let authority = Authority::new("another-ca");
    let pair = authority.server(&["127.0.0.1", "localhost"]);
    pair.write(&fixture.trail.admin.launch.folder, "tls");
    let mut fixture = fixture.restart_admin().await;
    fixture.admit(100).await;
    fixture.shipping_fails().await;
    fixture.lines_wait(100).await;
    let folder = &fixture.webhook.launch.folder;
    folder.write("audit-ca.crt", authority.pem());
    assert_eq!(fixture.settled().await, 0);
}

/// A token of another pod is refused: a replica writes its own chain and no other.
#[tokio::test]
async fn lines_with_the_token_of_another_pod_wait_for_the_right_one() {
    let mut fixture = Fixture::start().await;
    fixture.admit(20).await;
    let other = ReplicaPod::create(fixture.cp).await;
    let token = other.token(fixture.cp).await;
    let folder = fixture.webhook.launch.folder.path().join("audit-token");
    std::fs::write(&folder, token).expect("the token's file");
    // The token is read again before a connection.
    let mut fixture = fixture.restart_admin().await;
    fixture.admit(50).await;
    wait_for("a refusal", || async {
        (fixture.rejected() > 0).then_some(())
    })
    .await;
    fixture.lines_wait(50).await;
    let token = fixture.replica.token(fixture.cp).await;
    std::fs::write(&folder, token).expect("the token's file");
    assert_eq!(fixture.settled().await, 0);
}
