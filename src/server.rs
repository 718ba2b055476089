//! Listeners, TLS, drain: what stands between a socket and a router.
//!
//! [`listener`] accepts and drains, [`connection`] serves one connection, `activity` watches it, [`tls`] keeps the
//! certificate, [`limits`] bounds bodies, [`ops`] answers the kubelet and Prometheus, [`shutdown`] hears signals and
//! [`panics`] keeps a panic from ending more than its request.

pub mod activity;
pub mod connection;
pub mod limits;
pub mod listener;
pub mod ops;
pub mod panics;
pub mod shutdown;
pub mod tls;

use std::sync::Arc;

/// Tells what time it is. Passed in, so that tests can set it; `main` passes `jiff::Timestamp::now`.
pub type Clock = Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>;
