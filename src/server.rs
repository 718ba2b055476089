//! Listeners, TLS, drain: what stands between a socket and a router.
//!
//! [`listener`] accepts and drains, `table` shares its places out, [`connection`] serves one connection, `activity`
//! watches it, [`tls`] keeps the certificate, [`limits`] and `budget` bound bodies and answers, [`open_files`] raises the system's limit for them, [`ops`] answers the kubelet and Prometheus, [`shutdown`] hears signals and
//! [`panics`] keeps a panic from ending more than its request.

pub mod activity;
mod budget;
pub mod cert_store;
pub mod connection;
pub mod limits;
pub mod listener;
pub mod metrics;
pub mod open_files;
pub mod ops;
pub mod panics;
pub mod shutdown;
mod table;

use std::sync::Arc;

/// Tells what time it is. Passed in, so that tests can set it; `main` passes `jiff::Timestamp::now`.
pub type Clock = Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>;
