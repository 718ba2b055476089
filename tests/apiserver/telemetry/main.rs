//! Telemetry of the webhook: traces at a collector, log lines, and metrics.

#![cfg(feature = "test-util")]
#![expect(
    clippy::too_many_lines,
    reason = "a test of one sequence, or a table of cases"
)]
#![expect(
    clippy::indexing_slicing,
    reason = "serde_json values are indexed; a panic fails the test"
)]

mod documents;
mod faults;
mod traces;

use serde_json::json;
use testbed::collector::Collector;
use testbed::control_plane::{ControlPlane, Options};
use testbed::process::Folder;
use tokio::sync::OnceCell;

/// Control plane whose API server sends its own traces to the webhook's collector.
struct Fixture {
    cp: ControlPlane,
    collector: Collector,
    _folder: Folder,
}

/// Fixture of this test binary.
async fn fixture() -> &'static Fixture {
    static SHARED: OnceCell<Fixture> = OnceCell::const_new();
    let start = || async {
        let (folder, collector) = (Folder::new(), Collector::start());
        let config = json!({
            "apiVersion": "apiserver.config.k8s.io/v1beta1", "kind": "TracingConfiguration",
            "endpoint": format!("127.0.0.1:{}", collector.port), "samplingRatePerMillion": 1_000_000,
        });
        let file = folder.write("tracing.yaml", config.to_string());
        let apiserver_flags = vec![format!("--tracing-config-file={}", file.display())];
        let cp = ControlPlane::start(Options {
            apiserver_flags,
            ..Options::default()
        })
        .await;
        Fixture {
            cp,
            collector,
            _folder: folder,
        }
    };
    SHARED.get_or_init(start).await
}
