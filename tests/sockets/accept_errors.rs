//! Exhausted file descriptors stop accepting only as long as they are exhausted; and the limit is raised to the
//! maximum.

use std::fs::File;
use std::process::Command;

use axum::Router;
use axum::routing::get;
use floe_secrets_webhook::server::listener::ListenerSettings;
use floe_secrets_webhook::server::metrics::ServerMetrics;
use floe_secrets_webhook::server::open_files::raise_limit;
use tokio::net::TcpStream;

#[test]
fn exhausted_file_descriptors_are_waited_out() {
    run_limited("ulimit -n 64", "child_with_few_files");
}

#[test]
fn open_file_limit_is_raised_to_maximum() {
    run_limited("ulimit -Sn 64 && ulimit -Hn 300", "child_with_low_limit");
}

/// The limit belongs to a process, so the test runs in a process of its own, whose limit its shell sets.
fn run_limited(limit: &str, name: &str) {
    let run = format!("{limit} && exec \"$0\" --exact --ignored --nocapture {name}");
    let test = std::env::current_exe().expect("this program");
    let output = Command::new("sh")
        .args(["-c", &run])
        .arg(test)
        .output()
        .expect("a shell");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
#[ignore = "run by the test above, under a limit"]
fn child_with_low_limit() {
    let open = || {
        std::iter::from_fn(|| File::open("/dev/null").ok())
            .take(1000)
            .collect::<Vec<_>>()
            .len()
    };
    let low = open();
    assert!(low < 64, "{low} files");
    raise_limit();
    let high = open();
    assert!((250..300).contains(&high), "{high} files");
}

#[tokio::test]
#[ignore = "run by the test above, under a limit"]
async fn child_with_few_files() {
    let metrics = ServerMetrics::default();
    let router = Router::new().route("/", get(async || "ok"));
    let server = testbed::sockets::serve(router, ListenerSettings::default(), &metrics, None).await;
    let mut files = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        files.push(file);
    }
    // One free descriptor, which the client's end takes: the server's end finds none.
    files.pop();
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let early = tokio::time::timeout(
        std::time::Duration::from_millis(200),
        testbed::sockets::get(&mut stream, "/"),
    )
    .await;
    assert!(early.is_err(), "it was served without a file: {early:?}");
    files.clear();
    assert_eq!(
        testbed::sockets::read_response(&mut stream)
            .await
            .unwrap()
            .body,
        "ok"
    );
    assert!(!server.ended.is_finished());
}
