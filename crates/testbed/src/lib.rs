//! Test bed of the integration tests: a real control plane, real kubectl, a webhook server that records its calls, and
//! the webhook as a child process.
//!
//! ```ignore
//! let cp = ControlPlane::shared().await;               // etcd, API server, controller manager: once per binary
//! let ns = cp.namespace("orders").await;               // deleted on drop
//! let stub = Stub::start(&cp.authority).await;         // responds "allowed", records each call
//! let _registered = Registration::exclusive(cp, &stub.by_service()).await;
//! let response = cp.create(&json!({...})).await;       // status, body, warnings
//! ```
//!
//! Nothing is skipped if a program is missing: the tests fail with the command that builds it.

#![expect(
    clippy::missing_panics_doc,
    clippy::missing_errors_doc,
    clippy::must_use_candidate,
    clippy::return_self_not_must_use,
    clippy::new_without_default,
    reason = "helpers of tests panic as the tests do"
)]
#![allow(
    clippy::indexing_slicing,
    reason = "serde_json values are indexed; a panic fails the test"
)]

pub mod admission_client;
pub mod audit;
pub mod backends;
pub mod balancer;
pub mod cert_manager;
pub mod cluster;
pub mod collector;
pub mod command_output;
pub mod control_plane;
pub mod cpu_time;
pub mod flood;
pub mod helm;
pub mod hostile;
pub mod in_process;
pub mod keycloak;
mod kubeconfig;
pub mod kubectl;
pub mod load;
pub mod manifests;
pub mod namespace;
pub mod objects;
pub mod pki;
pub mod postgres;
pub mod process;
pub mod process_metrics;
pub mod proxy;
pub mod reloader;
pub mod reloader_model;
pub mod reloader_rules;
pub mod shared_fixture;
pub mod soak;
pub mod sockets;
pub mod stub_server;
pub mod tools;
pub mod trail;
pub mod volume;
pub mod webhook;
pub mod webhook_process;

use std::fs::File;
use std::io::Write as _;
use std::net::TcpListener;
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Time limit of anything that usually takes a moment: tests share the machine with builds.
pub const WAIT_TIMEOUT: Duration = Duration::from_mins(2);

/// Polls `probe` until it returns a value; panics with `what` after [`WAIT_TIMEOUT`].
pub async fn wait_for<T, F: Future<Output = Option<T>>>(what: &str, probe: impl FnMut() -> F) -> T {
    wait_within(WAIT_TIMEOUT, what, probe).await
}

/// [`wait_for`] with another deadline.
pub async fn wait_within<T, F>(deadline: Duration, what: &str, probe: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    poll(deadline, probe)
        .await
        .unwrap_or_else(|| panic!("not within {deadline:?}: {what}"))
}

/// Polls `probe` until it returns a value or the deadline is over.
pub async fn poll<T, F>(deadline: Duration, mut probe: impl FnMut() -> F) -> Option<T>
where
    F: Future<Output = Option<T>>,
{
    let end = Instant::now() + deadline;
    let mut pause = Duration::from_millis(10);
    loop {
        if let Some(response) = probe().await {
            return Some(response);
        }
        if Instant::now() >= end {
            return None;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}

/// Unused ports, never returned twice. They are below the ports of outgoing connections: a burst of those would take
/// one before it is listened on.
pub fn free_ports<const N: usize>() -> [u16; N] {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let range = ports();
    let free = |_| {
        range.clone().find_map(|_| {
            let place = TAKEN.fetch_add(1, Ordering::Relaxed) % (range.end - range.start);
            let port = u16::try_from(range.start + place).expect("within the range");
            TcpListener::bind(("127.0.0.1", port))
                .is_ok()
                .then_some(port)
        })
    };
    std::array::from_fn(free).map(|port| port.expect("a free port"))
}

/// Ports of this process alone: no other test binary may take one between the check and its use.
fn ports() -> Range<u32> {
    const FIRST: u32 = 12_000;
    const SHARE: u32 = 1_000;
    const SHARES: u32 = 20;
    // The lock ends with the process, however it ends.
    static MINE: OnceLock<(File, u32)> = OnceLock::new();
    let claim = |share: u32| {
        let path = std::env::temp_dir().join(format!("floe-test-ports-{share}"));
        // Another user's file can be locked too, but not created again.
        let file = File::create(&path).or_else(|_| File::open(&path)).ok()?;
        file.try_lock().is_ok().then_some((file, share))
    };
    let (_, share) = MINE.get_or_init(|| {
        (0..SHARES)
            .find_map(claim)
            .expect("fewer test binaries than port ranges")
    });
    let first = FIRST + share * SHARE;
    first..first + SHARE
}

/// Prints a line even if all tests pass: the output of print macros is captured then.
pub fn print_line(line: &str) {
    writeln!(std::io::stderr(), "{line}").ok();
}

/// Name that no other test and no other run uses.
pub fn unique(stem: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!(
        "{stem}-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

/// Runs the future in a thread of its own and waits for it, as `Drop` needs it inside or outside of a runtime.
pub fn block_on_new_thread(work: impl Future<Output = ()> + Send + 'static) {
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime
            .expect("a runtime")
            .block_on(async { tokio::time::timeout(WAIT_TIMEOUT, work).await.ok() });
    });
    // A panic in the thread must not abort a test that is already failing.
    drop(thread.join());
}
