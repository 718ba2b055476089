//! Admission in this process, from the review's bytes to the response's: adds to the pure path the review around the
//! pod, the cache, the metrics and the log line.

mod review;

use divan::{Bencher, black_box};
use floe_secrets_webhook::telemetry::logs::{self, LogFormat};

fn main() {
    // A log line is part of the cost of an admission.
    logs::init(LogFormat::Json, "info", std::io::sink).expect("a valid filter");
    divan::main();
}

/// Pod of 6 kB that requests three secrets, all of them cached.
#[divan::bench(min_time = 1)]
fn injected(bencher: Bencher<'_, '_>) {
    answered(bencher, &review::asking());
}

/// Same pod without annotations of the webhook.
#[divan::bench(min_time = 1)]
fn nothing_to_do(bencher: Bencher<'_, '_>) {
    answered(bencher, &review::indifferent());
}

fn answered(bencher: Bencher<'_, '_>, body: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let handler = runtime.block_on(review::handler());
    bencher.bench_local(|| runtime.block_on(review::respond(&handler, black_box(body))));
}
