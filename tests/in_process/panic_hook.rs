//! Panic hook, in a process of its own, because it is global.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, which clippy does not recognise"
)]

use std::io::Write;
use std::sync::{Arc, Mutex};

use floe_secrets_webhook::server::panics::install_hook;
use floe_secrets_webhook::telemetry::logs::{self, LogFormat};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn panic_logs_one_json_line_with_location_without_payload() {
    let lines = Lines::default();
    let writer = lines.clone();
    logs::init(LogFormat::Json, "info", move || writer.clone()).unwrap();
    install_hook();
    let payload = "canary";
    std::panic::catch_unwind(|| {
        let _span = tracing::info_span!("admission", request.uid = "u-1").entered();
        panic!("the password is {payload}");
    })
    .unwrap_err();
    drop(std::panic::take_hook());
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let line: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&line["level"], &line["message"]),
        (&"ERROR".into(), &"panicked".into())
    );
    assert!(
        line["location"]
            .as_str()
            .unwrap()
            .starts_with("tests/in_process/panic_hook.rs:"),
        "{line}"
    );
    assert_eq!(line["span"]["request.uid"], "u-1");
    assert!(!text.contains("canary"), "{text}");
}
