//! A full table of open files stops accepting for as long as it is full, and no longer.

mod sockets;

use std::fs::File;
use std::process::Command;

use axum::Router;
use axum::routing::get;
use floe_secrets_webhook::metrics;
use floe_secrets_webhook::server::listener::ListenerSettings;
use tokio::net::TcpStream;

/// The limit belongs to a process, so the test runs in one of its own, whose limit its shell sets.
#[test]
fn a_full_table_of_open_files_is_waited_out() {
    let run = "ulimit -n 64 && exec \"$0\" --exact --ignored --nocapture with_few_files";
    let test = std::env::current_exe().unwrap();
    let output = Command::new("sh").args(["-c", run]).arg(test).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
#[ignore = "run by the test above, under a limit"]
async fn with_few_files() {
    let (_, metrics) = metrics::registry();
    let router = Router::new().route("/", get(async || "ok"));
    let server = sockets::serve(router, ListenerSettings::default(), &metrics, None).await;
    let mut files = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        files.push(file);
    }
    // One place, which the client's end takes: the server's end finds none.
    files.pop();
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let early = tokio::time::timeout(std::time::Duration::from_millis(200), sockets::get(&mut stream, "/")).await;
    assert!(early.is_err(), "it was served without a file: {early:?}");
    files.clear();
    assert_eq!(sockets::answer(&mut stream).await.unwrap().body, "ok");
    assert!(!server.ended.is_finished());
}
