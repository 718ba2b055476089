//! CPU time, and the current speed of this machine.
//!
//! A bound in milliseconds holds on one machine only, and on a shared one it changes by the minute. A review that takes
//! longer than its bound is therefore compared with a fixed amount of work that is done in the same minute.

use std::time::Duration;

use serde_json::Value;

/// Time of [`reference_work`] on the machine that the bounds are written for: one core of a cloud server whose other
/// hyperthread is idle.
const REFERENCE_TIME: Duration = Duration::from_millis(24);

/// CPU time of this thread so far.
pub fn thread_time() -> Duration {
    // The kernel updates the count when it schedules another thread.
    std::thread::yield_now();
    let schedstat =
        std::fs::read_to_string("/proc/thread-self/schedstat").expect("schedstat is enabled");
    let nanoseconds = schedstat
        .split(' ')
        .next()
        .and_then(|field| field.parse().ok());
    Duration::from_nanos(nanoseconds.expect("a number"))
}

/// Reads a megabyte of JSON into objects and drops it: allocations and copies, as in the work of a review.
fn reference_work() -> Duration {
    let item = r#"{"name":"container","env":[{"name":"VARIABLE","value":"of some length"}],"args":["a","b"]},"#;
    let text = format!("[{}null]", item.repeat((1 << 20) / item.len()));
    let started = thread_time();
    let value: Value = serde_json::from_str(&text).expect("JSON");
    drop(value);
    thread_time().saturating_sub(started)
}

/// Scales a bound to the current speed of this machine; never less than `time`.
pub fn scaled_to_this_machine(time: Duration) -> Duration {
    let mut times: [Duration; 5] = std::array::from_fn(|_| reference_work());
    times.sort();
    let [_, _, median, _, _] = times;
    time.max(time.mul_f64(median.as_secs_f64() / REFERENCE_TIME.as_secs_f64()))
}
