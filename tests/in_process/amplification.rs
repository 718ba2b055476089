//! Cost of reviews is bounded by their size: response, memory and CPU time of thousands of hostile ones, in this
//! process.
//!
//! The first test runs with all others. `make hostile` runs the other one with the optimisation of the release: only
//! there CPU time is meaningful.

#![cfg(feature = "test-util")]

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use floe_secrets_webhook::admission::caller::{Caller, Channel};
use floe_secrets_webhook::admission::policy::Policy;
use floe_secrets_webhook::admission::surface::Surface;
use floe_secrets_webhook::cli::SIDECARS;
use peak_alloc::PeakAlloc;
use testbed::cpu_time::{scaled_to_this_machine, thread_time};
use testbed::hostile::generator::Generator;
use testbed::hostile::{HostileReview, known_attacks};
use testbed::in_process::HandlerFixture;
use tokio::runtime::{Builder, Runtime};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Limit of every response.
const MAX_ANSWER: usize = 3 << 19;

/// Limit of memory for one review, without its own bytes. Together with an idle program and a body of maximum size, the
/// total stays below 64 MiB.
const MAX_MEMORY: usize = 40 << 20;

/// Limit of a rejection, which quotes a part of the request.
const MAX_REFUSAL: (usize, usize) = (4, 100 << 10);

/// Limit of a log line, escapes included.
const MAX_LINE: usize = 64 << 10;

/// CPU time of one review, on a machine as fast as [`scaled_to_this_machine`] assumes.
const MAX_TIME: Duration = Duration::from_millis(50);

/// Tries of a review that took too long: other work on the machine may have evicted its caches.
const MAX_TRIES: usize = 10;

/// Cost of a review.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    response: usize,
    memory: usize,
    line: usize,
    time: Duration,
}

impl Cost {
    fn max_of(self, other: Self) -> Self {
        Self {
            response: self.response.max(other.response),
            memory: self.memory.max(other.memory),
            line: self.line.max(other.line),
            time: self.time.max(other.time),
        }
    }
}

fn surface(path: &str) -> Surface {
    match path {
        "/admit/pods" => Surface::Pods,
        "/admit/defaults/pods" => Surface::DefaultsPods,
        "/admit/workloads" => Surface::Workloads,
        "/admit/defaults/workloads" => Surface::DefaultsWorkloads,
        "/admit/sources" => Surface::Sources,
        other => panic!("no surface at {other}"),
    }
}

/// Fixtures that a review is sent to: the operator's choices that make a difference.
struct Fixtures {
    runtime: Runtime,
    fixtures: Vec<HandlerFixture>,
}

impl Fixtures {
    fn new() -> Self {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let inside = runtime.enter();
        let fixtures = [(false, Channel::Unverified), (true, Channel::Declared)].map(
            |(inject_template, channel)| {
                let sidecars = SIDECARS
                    .split(',')
                    .map(|sidecar| sidecar.parse().expect("a sidecar"))
                    .collect();
                let mut fixture = HandlerFixture::new(Policy {
                    inject_template,
                    sidecars,
                    ..Policy::default()
                });
                fixture.caller = Caller {
                    channel,
                    ..Caller::TRUSTED
                };
                for number in 0..70 {
                    fixture.backend.put(
                        "jobs",
                        &format!("s-{number}"),
                        &[("value", "v"), ("password", "p")],
                    );
                }
                // Maximum number of keys of a Secret that is referenced key by key, with long names.
                let keys: Vec<String> = (0..1000)
                    .map(|number| format!("key-{number:04}-{}", "k".repeat(48)))
                    .collect();
                let data: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "v")).collect();
                for number in 0..70 {
                    fixture
                        .backend
                        .put("jobs", &format!("keys-{number}"), &data);
                }
                fixture
            },
        );
        drop(inside);
        Self {
            runtime,
            fixtures: fixtures.into(),
        }
    }

    fn cost(&self, fixture: &HandlerFixture, hostile: &HostileReview) -> Cost {
        let (path, query) = hostile
            .path
            .split_once('?')
            .map_or((&*hostile.path, None), |(p, q)| (p, Some(q)));
        fixture.longest_line();
        MEMORY.reset_peak_usage();
        let (before, began) = (MEMORY.current_usage(), thread_time());
        let response =
            self.runtime
                .block_on(fixture.bytes(surface(path), query, hostile.body.as_bytes()));
        let time = thread_time().saturating_sub(began);
        let memory = MEMORY.peak_usage().saturating_sub(before);
        Cost {
            response: response.as_ref().map_or(0, Vec::len),
            memory,
            line: fixture.longest_line(),
            time,
        }
        .checked(hostile, response.as_deref())
    }

    /// Sends a review to every fixture and checks the limits, with or without its CPU time.
    fn check(&self, hostile: &HostileReview, timed: bool) -> Cost {
        let costs = self.fixtures.iter().map(|fixture| {
            let mut cost = self.cost(fixture, hostile);
            let mut limit = MAX_TIME;
            for _ in 0..MAX_TRIES {
                if timed && cost.time > limit {
                    // Retried at once: the speed of a shared machine changes by the second.
                    cost.time = self.cost(fixture, hostile).time;
                    limit = scaled_to_this_machine(MAX_TIME);
                }
            }
            assert!(
                !timed || cost.time <= limit,
                "{}: {:?} of processor time, not {limit:?}",
                hostile.description,
                cost.time
            );
            cost
        });
        costs.fold(Cost::default(), Cost::max_of)
    }
}

impl Cost {
    fn checked(self, hostile: &HostileReview, response: Option<&[u8]>) -> Self {
        let what = &hostile.description;
        assert!(
            self.response <= MAX_ANSWER,
            "{what}: a response of {} bytes",
            self.response
        );
        assert!(
            self.memory <= MAX_MEMORY,
            "{what}: {} bytes of memory",
            self.memory
        );
        assert!(
            self.line <= MAX_LINE,
            "{what}: a log line of {} bytes",
            self.line
        );
        let refused = response.is_some_and(|response| {
            response
                .windows(15)
                .any(|window| window == br#""allowed":false"#)
        });
        let (factor, more) = MAX_REFUSAL;
        assert!(
            !refused || self.response <= factor * hostile.body.len() + more,
            "{what}: refused in {} bytes",
            self.response
        );
        self
    }
}

fn print_cost(what: &str, cost: Cost) {
    let Cost {
        response,
        memory,
        line,
        time,
    } = cost;
    writeln!(
        std::io::stderr(),
        "{what}: answer at most {response} bytes, memory {} KiB, log line {line} bytes, processor {time:.1?}",
        memory >> 10
    )
    .ok();
}

#[test]
fn hostile_reviews_stay_within_limits() {
    let fixtures = Fixtures::new();
    for hostile in known_attacks() {
        fixtures.check(&hostile, false);
    }
    let mut generator = Generator::new(1);
    for _ in 0..300 {
        fixtures.check(&generator.next_review(), false);
    }
}

/// Number of generated reviews, by the variable `HOSTILE_REVIEWS`.
#[expect(
    clippy::disallowed_methods,
    reason = "the caller decides how long the test runs"
)]
fn reviews() -> usize {
    let number = std::env::var("HOSTILE_REVIEWS").ok();
    number.map_or(10_000, |number| {
        number.parse().expect("a number of reviews")
    })
}

#[test]
#[ignore = "meaningful for optimised code only: make hostile"]
fn many_hostile_reviews_stay_within_limits() {
    let reviews = reviews();
    let fixtures = Fixtures::new();
    for hostile in known_attacks() {
        let cost = fixtures.check(&hostile, true);
        print_cost(&hostile.description, cost);
    }
    let (mut generator, mut highest, mut worst) =
        (Generator::new(2), Cost::default(), String::new());
    for number in 0..reviews {
        let hostile = generator.next_review();
        let cost = fixtures.check(&hostile, true);
        if cost.time > highest.time {
            worst.clear();
            write!(worst, "number {number}, {}", hostile.description).ok();
        }
        highest = highest.max_of(cost);
    }
    print_cost(
        &format!("{reviews} reviews, each twice; the slowest was {worst}"),
        highest,
    );
}
