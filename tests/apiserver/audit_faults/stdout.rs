//! Standard output that is not read.

use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use testbed::control_plane::ControlPlane;
use testbed::process::Folder;
use testbed::trail::Trail;
use testbed::webhook_process::program;

use crate::fixture::{Fixture, or_long};

/// Admissions go on, and their records reach the collector, whether anybody reads standard output or not.
#[tokio::test]
async fn reader_of_standard_output_that_stops_holds_up_nothing() {
    let folder = Folder::new();
    let pipe = folder.path().join("stdout");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo runs").success());
    // Open for both, so that neither side waits for the other to open it.
    let reader = OpenOptions::new().read(true).write(true).open(&pipe);
    let mut reader = reader.expect("the pipe");
    let script = format!(
        "#!/bin/sh\nexec '{}' \"$@\" >'{}'\n",
        program().display(),
        pipe.display()
    );
    let script = folder.write("serve", script);
    let executable = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(&script, executable).expect("the script");

    let trail = Trail::start(ControlPlane::shared().await).await;
    let mut fixture = Fixture::with(trail, |launch| launch.running(script)).await;
    // More than a pipe takes, and by `make audit-faults` more than the buffer behind it.
    fixture.admit(or_long(400, 6_000)).await;
    assert_eq!(fixture.settled().await, 0);
    let mut begin = [0; 1];
    reader.read_exact(&mut begin).expect("the log");
    assert_eq!(&begin, b"{");
}
