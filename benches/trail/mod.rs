//! Recorder of the audit trail for benchmarks.

use floe_secrets_webhook::audit::record::Service;
use floe_secrets_webhook::audit::text::Text;
use floe_secrets_webhook::clock::Clock;
use floe_secrets_webhook::recorder::{AuditRecorder, RecorderSettings, chain_of_process};
use floe_secrets_webhook::telemetry::metrics::PREFIX;
use jiff::Timestamp;
use prometheus_client::registry::Registry;

/// Recorder of `serve`, whose lines are discarded.
///
/// # Panics
/// If its threads cannot be started.
#[must_use]
pub fn recorder() -> AuditRecorder {
    let settings = RecorderSettings {
        cluster: Text::new("production"),
        service: Service {
            name: "serve",
            replica: Text::new("floe-secrets-webhook-5b9c7d7d9c-x2x7d"),
            version: "0.1.0",
        },
        chain: chain_of_process(
            Some("0f6f5c1e-6f1c-4ad2-b1d9-3c7ec6c0ef7b"),
            Timestamp::UNIX_EPOCH,
        ),
    };
    let mut registry = Registry::with_prefix(PREFIX);
    AuditRecorder::start(settings, std::io::sink(), Clock::system(), &mut registry)
        .expect("threads")
}
