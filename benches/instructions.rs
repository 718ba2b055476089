//! Runs the pure path, or the complete work of the handler for a review, as often as its argument says.
//! `hack/instructions.sh` counts the instructions.
//!
//! usage: instructions <CASE> <times>

mod review;
mod trail;

use std::hint::black_box;
use std::process::ExitCode;
use std::time::Duration;

use floe_secrets_webhook::admission::policy::OnAuditFailure;
use floe_secrets_webhook::audit::digest::Digest;
use floe_secrets_webhook::telemetry::logs::{LogFormat, subscriber};
use review::pod;
use tokio::runtime::Builder;

/// Bytes of the record of the review.
const RECORD_BYTES: usize = 1_290;

/// Time limit of the last record.
const STOP_TIMEOUT: Duration = Duration::from_mins(1);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let (case, times) = match arguments.as_slice() {
        // Runs without counting, as under `cargo bench`.
        [] => return ExitCode::SUCCESS,
        [case, times] => (case.as_str(), times.parse::<u32>()),
        _ => return ExitCode::from(2),
    };
    let (world, asking, indifferent) = (pod::World::default(), pod::asking(), pod::indifferent());
    match (case, times) {
        ("injected", Ok(times)) => {
            for _ in 0..times {
                black_box(pod::admit(black_box(&asking), &world));
            }
        }
        ("skipped", Ok(times)) => {
            for _ in 0..times {
                black_box(pod::skips(black_box(&indifferent)));
            }
        }
        ("handler-injected", Ok(times)) => handle_reviews(&review::asking(), times, false),
        ("handler-skipped", Ok(times)) => handle_reviews(&review::indifferent(), times, false),
        ("handler-recorded", Ok(times)) => handle_reviews(&review::asking(), times, true),
        ("record-hash", Ok(times)) => {
            for _ in 0..times {
                black_box(Digest::of(black_box(&[b'x'; RECORD_BYTES])));
            }
        }
        _ => return ExitCode::from(2),
    }
    ExitCode::SUCCESS
}

/// Handles a review, with the log line that `serve` writes by default, discarded. `has_trail`: with the audit trail, whose
/// lines are discarded as well.
fn handle_reviews(review: &[u8], times: u32, has_trail: bool) {
    let subscriber = subscriber(LogFormat::Json, "info", std::io::sink).expect("a filter");
    tracing::subscriber::set_global_default(subscriber).expect("the first global subscriber");
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let handler = review::handler().await;
        let (handler, recorder) = if has_trail {
            let recorder = trail::recorder();
            let handler = handler.recorded_by(recorder.clone(), OnAuditFailure::Ignore);
            (handler, Some(recorder))
        } else {
            (handler, None)
        };
        for _ in 0..times {
            black_box(review::respond(&handler, black_box(review)).await);
        }
        if let Some(recorder) = recorder {
            recorder.stop(STOP_TIMEOUT).await;
        }
    });
}
