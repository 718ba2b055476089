//! Processor time, and how fast this machine is at the moment.
//!
//! A bound in milliseconds says something on one machine alone, and on a shared one it says something else each minute. So
//! a review that takes longer than its bound is held against work that everybody knows, done in the same minute.

use std::time::Duration;

use serde_json::Value;

/// What [`reference`] takes on the machine that the bounds are written for: a processor of a cloud's server, of which
/// nobody else uses the other half.
const REFERENCE: Duration = Duration::from_millis(24);

/// The processor time of this thread so far.
pub fn thread_time() -> Duration {
    // The kernel brings the figure up to date when it looks for another thread to run.
    std::thread::yield_now();
    let figures =
        std::fs::read_to_string("/proc/thread-self/schedstat").expect("the kernel counts");
    let nanoseconds = figures
        .split(' ')
        .next()
        .and_then(|figure| figure.parse().ok());
    Duration::from_nanos(nanoseconds.expect("a number"))
}

/// Reads a megabyte of JSON into objects and forgets it: allocations and copies, as in the work of a review.
fn reference() -> Duration {
    let item = r#"{"name":"container","env":[{"name":"VARIABLE","value":"of some length"}],"args":["a","b"]},"#;
    let text = format!("[{}null]", item.repeat((1 << 20) / item.len()));
    let began = thread_time();
    let value: Value = serde_json::from_str(&text).expect("JSON");
    drop(value);
    thread_time().saturating_sub(began)
}

/// The bound of `time` on this machine in this minute: never less than `time`.
pub fn at_this_pace(time: Duration) -> Duration {
    let mut times: [Duration; 5] = std::array::from_fn(|_| reference());
    times.sort();
    let [_, _, middle, _, _] = times;
    time.max(time.mul_f64(middle.as_secs_f64() / REFERENCE.as_secs_f64()))
}
