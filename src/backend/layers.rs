//! Layers around a backend: caching, sharing reads, giving up on a stalled backend, retries, a circuit breaker, metrics.
//!
//! [`super::registry`] says in which order they wrap a backend.

pub mod cached;
pub mod circuit_breaker;
pub mod metered;
pub mod retry;
pub mod single_flight;
pub mod stall_guard;
