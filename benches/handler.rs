//! An admission in this process, from the review's bytes to the answer's: what is added to the pure path by the review
//! around the pod, the cache, the metrics and the log line.

mod review;

use divan::{Bencher, black_box};
use floe_secrets_webhook::telemetry::logs::{self, LogFormat};

fn main() {
    // A log line is part of what an admission costs.
    logs::init(LogFormat::Json, "info", std::io::sink).expect("a valid filter");
    divan::main();
}

/// A pod of 6 kB that asks for three secrets, all of them cached.
#[divan::bench(min_time = 1)]
fn injected(bencher: Bencher<'_, '_>) {
    answered(bencher, &review::asking());
}

/// The same pod without our annotations.
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
    bencher.bench_local(|| runtime.block_on(review::answer(&handler, black_box(body))));
}
